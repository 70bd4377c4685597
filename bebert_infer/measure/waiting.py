"""One call of a whole ensemble on all its threads: how long each thread computes, and how long it does not.

    waits      a thread while the engine runs and it does not compute: until all is ready and it is woken, at barriers
               between phases, and for the others at the end
    outside    the rest of the call: ids to a batch, members to scores

Computing is the time of the instructions, taken inside the native program; the rest of the time is the clock's.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebert_infer.ensemble import Ensemble
from bebert_infer.measure.profiling import native_engine, random_sentence
from bebert_infer.model.batch import Batch
from bebert_infer.model.noise import Noise
from bebert_infer.native.engine import NativeEngine


@dataclass(frozen=True)
class CallProfile:
    """The call of median length, in milliseconds.

    ms : of all, engine and outside      computes_ms, waits_ms : of each thread, together the engine's
    """

    ms: float
    outside_ms: float
    computes_ms: list[float]
    waits_ms: list[float]


def profile_call(ensemble: Ensemble, tokens: int = 128, rounds: int = 50) -> CallProfile:
    """Let the ensemble answer one random sentence; nobody else may ask it meanwhile.

    Raises InputError for the reference.
    """
    engine, ids = native_engine(ensemble), random_sentence(ensemble, tokens)
    timed, calls = _Timed(engine), []
    ensemble.engine = timed
    try:
        for _ in range(rounds + 1):
            started = time.perf_counter()
            ensemble.logits(ids)
            ms = 1e3 * (time.perf_counter() - started)
            calls.append(CallProfile(ms, ms - timed.ms, timed.computes, [timed.ms - one for one in timed.computes]))
    finally:
        ensemble.engine = engine
    return sorted(calls[1:], key=lambda call: call.ms)[rounds // 2]  # the first call starts threads


class _Timed(NativeEngine):
    """The same engine, which remembers the times of its last call: its own, and those in which threads compute."""

    def __init__(self, engine: NativeEngine):
        self.__dict__.update(engine.__dict__)
        self.ms, self.computes = 0.0, [0.0]

    def member_logits(
        self, batch: Batch, noise: list[Noise] | None = None, *, times: Sequence[NDArray[np.int64]] | None = None
    ) -> NDArray[np.float32]:
        sizes = [len(member.program.instruction_info) for member in self.members]
        times = times or [np.zeros((self.threads, size), np.int64) for size in sizes]
        started = time.perf_counter()
        logits = super().member_logits(batch, noise, times=times)
        self.ms = 1e3 * (time.perf_counter() - started)
        self.computes = (np.sum([spent.sum(axis=1) for spent in times], axis=0) / 1e6).tolist()
        return logits
