"""The clock of this core, measured: operations of which each waits for the one before take a cycle each, on every CPU.

Where the system lets nobody read cycle counters, as in most virtual machines, this is how times become cycles.
"""

import time

import numpy as np

from bebert_kernels.abi.stage import Stage

PAIRS = 8  # an addition and an exclusive or, two cycles, so often before the loop begins anew
ROUNDS = 10_000  # 0.05 ms at 3 GHz


def cycles_per_second(rounds: int) -> float:
    """Cycles a second of the core that this thread runs on: the best of `rounds`, for others may interrupt."""
    values = np.array([1, 3, 5], np.int64)
    chain, best = Stage.named("add_in_turn"), 0.0
    chain(1, values.ctypes.data, 0, 0, 0, 0)
    for _ in range(rounds):
        started = time.perf_counter()
        chain(ROUNDS, values.ctypes.data, 0, 0, 0, 0)
        best = max(best, 2 * PAIRS * ROUNDS / (time.perf_counter() - started))
    return best
