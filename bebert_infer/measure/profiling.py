"""Where the time of one forward pass goes: nanoseconds of every instruction, taken inside the native program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import InputError

if TYPE_CHECKING:  # loads the kernels
    from bebert_infer.native.engine import NativeEngine, NativeMember

PRODUCTS = ("query, key, value", "attention output", "intermediate", "output", "pooler")


@dataclass(frozen=True)
class Stage:
    """All operations of one kind in one pass of one member, on one thread.

    calls : how many        ms    : medians, added up      share  : of the pass
    macs  : multiply-adds   tmacs : 10**12 of them a second   bound : what full adders allow; None without products,
    and for look-up products (`bebert_kernels/tuning/autotune.py`), which add no planes
    """

    operation: str
    calls: int
    ms: float
    share: float
    macs: int
    tmacs: float | None
    bound: float | None


@dataclass(frozen=True)
class Passes:
    """Passes of one member, on one random sentence and one thread.

    ms : medians of each instruction of its program      adders : full adders a second, measured beside them
    """

    member: "NativeMember"
    tokens: int
    ms: NDArray[np.float64]
    adders: float

    def rows(self, instruction: int) -> int:
        """Of an instruction: the last block works for the first token only."""
        return 1 if self.member.program.instruction_info[instruction].sentences else self.tokens


def profile(ensemble: Ensemble, tokens: int = 128, rounds: int = 20, member: int = 0) -> list[Stage]:
    """Run one member on one random sentence, on one thread, and return its operations, products first.

    tokens : T      rounds : passes; medians are taken of each operation

    Raises InputError for the reference, which has no stages to time.
    """
    return stages(time_passes(ensemble, tokens, rounds, member))


def time_passes(
    ensemble: Ensemble, tokens: int, rounds: int, member: int, beside: Callable[[], None] | None = None
) -> Passes:
    """As `profile`, before instructions are put together. beside : called before each pass."""
    from bebert_infer.model.batch import ragged_batch
    from bebert_kernels.tuning.roofline import adders_per_second

    native, ids = native_engine(ensemble).members[member], random_sentence(ensemble, tokens)
    batch = ragged_batch(ids, np.ones(ids.shape, bool), np.zeros_like(ids))
    spent = np.zeros((rounds + 1, len(native.program.instruction_info)), np.int64)
    adders = 0.0
    for times in spent:
        adders = max(adders, adders_per_second(rounds=1))  # beside each pass: on a busy machine both are slow at times
        if beside is not None:
            beside()
            native.forward(batch)  # as after another pass: what `beside` has used is in the cache instead
        native.forward(batch, times=times)
    return Passes(native, tokens, np.median(spent[1:], axis=0) / 1e6, adders)


def stages(passes: Passes) -> list[Stage]:
    """Instructions of one name together, products first."""
    from bebert_kernels.tuning.roofline import bound

    infos, found = passes.member.program.instruction_info, []
    names = dict.fromkeys(info.name for info in infos)
    for name in sorted(names, key=lambda name: name not in PRODUCTS):
        here = [i for i, info in enumerate(infos) if info.name == name]
        ms = float(passes.ms[here].sum())
        macs = sum(infos[i].macs * passes.rows(i) for i in here)
        planes = {0 if passes.rows(i) <= infos[i].few else infos[i].adders for i in here}
        tmacs = macs / ms / 1e9 if macs and ms else None
        limit = bound(max(planes), passes.adders) / 1e12 if all(planes) else None
        found.append(Stage(name, len(here), ms, ms / float(passes.ms.sum()), macs, tmacs, limit))
    return found


def native_engine(ensemble: Ensemble) -> "NativeEngine":
    """The engine, if it has stages to time. Raises InputError for the reference."""
    if ensemble.backend == "reference":
        raise InputError('the reference has no profile; load the model with backend="native"')
    from bebert_infer.native.engine import NativeEngine

    assert isinstance(ensemble.engine, NativeEngine)
    return ensemble.engine


def random_sentence(ensemble: Ensemble, tokens: int) -> NDArray[np.int64]:
    """Ids int64[1, tokens]. Raises InputError for more tokens than the model takes."""
    limits = ensemble.limits
    if not 1 <= tokens <= limits.positions:
        raise InputError(f"tokens is {tokens}; this model accepts 1 to {limits.positions}")
    return np.random.default_rng(0).integers(0, limits.vocabulary, (1, tokens))
