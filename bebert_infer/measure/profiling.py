"""Where the time of one forward pass goes: nanoseconds of every instruction, taken inside the native program."""

from dataclasses import dataclass

import numpy as np

from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import InputError
from bebert_infer.model.batch import ragged_batch

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


def profile(ensemble: Ensemble, tokens: int = 128, rounds: int = 20, member: int = 0) -> list[Stage]:
    """Run one member on one random sentence, on one thread, and return its operations, products first.

    tokens : T      rounds : passes; medians are taken of each operation

    Raises InputError for the reference, which has no stages to time.
    """
    if ensemble.backend == "reference":
        raise InputError('the reference has no profile; load the model with backend="native"')
    from bebert_infer.native.engine import NativeEngine
    from bebert_kernels.tuning.roofline import adders_per_second, bound

    assert isinstance(ensemble.engine, NativeEngine)
    native = ensemble.engine.members[member]
    limits = ensemble.limits
    if not 1 <= tokens <= limits.positions:
        raise InputError(f"tokens is {tokens}; this model accepts 1 to {limits.positions}")
    ids = np.random.default_rng(0).integers(0, limits.vocabulary, (1, tokens))
    batch = ragged_batch(ids, np.ones(ids.shape, bool), np.zeros_like(ids))
    infos = native.program.instruction_info
    spent = np.zeros((rounds + 1, len(infos)), np.int64)
    adders = 0.0
    for times in spent:
        adders = max(adders, adders_per_second(rounds=1))  # beside each pass: on a busy machine both are slow at times
        native.forward(batch, times=times)
    medians = np.median(spent[1:], axis=0) / 1e6
    found = []
    names = dict.fromkeys(info.name for info in infos)
    for name in sorted(names, key=lambda name: name not in PRODUCTS):
        here = [i for i, info in enumerate(infos) if info.name == name]
        ms = float(medians[here].sum())
        # The last block works for the first token only.
        macs = sum(infos[i].macs * (1 if infos[i].sentences else tokens) for i in here)
        planes = {0 if (1 if infos[i].sentences else tokens) <= infos[i].few else infos[i].adders for i in here}
        tmacs = macs / ms / 1e9 if macs and ms else None
        limit = bound(max(planes), adders) / 1e12 if all(planes) else None
        found.append(Stage(name, len(here), ms, ms / float(medians.sum()), macs, tmacs, limit))
    return found
