"""The instruction bound of the fast product, measured on this machine: how many full adders a thread does a second.

The product cannot be faster than its full adders, one for two inputs, PANEL_OUTPUTS outputs and a plane of the codes:

    bound [multiply-adds / s] = adders / s * 2 * PANEL_OUTPUTS / planes

| instruction set | instructions of an adder | a cycle | bound of one plane, multiply-adds a cycle |
|---|---|---|---|
| AVX-512 | 2 ternary logic | 2 | 1024 |
| AVX2 | 5 (two xor, and, and-not, or) | 3 (AMD Zen: 4) | 307 (410) |
| NEON | 3 (two eor, bit select) | 2 | 171 |

XOR and a popcount instruction are bound by 341 on AVX-512 with VPOPCNTDQ, by about 300 with full adders without it.
"""

import time

import numpy as np

from bebert_kernels.abi.stage import Stage
from bebert_kernels.bitsliced.layout import BIT_SELECT, PANEL_OUTPUTS, PLANE, TERNARY
from bebert_kernels.bitsliced.triples import aligned

MANY_REGISTERS = TERNARY or BIT_SELECT  # 32 instead of 16
CHAINS = 8 if MANY_REGISTERS else 5  # independent adders, so that the latency of one does not count
ROUNDS = 20_000


def adders_per_second(rounds: int) -> float:
    """Full adders of PANEL_OUTPUTS bits a second of one thread here: the best of `rounds` (about 0.05 ms each)."""
    memory = aligned((2 * CHAINS * PLANE,), np.uint8)
    memory[:] = 0x5A
    add = Stage.named("add_planes")
    add(1, memory.ctypes.data, 0, 0, 0, 0)
    best = 0.0
    for _ in range(rounds):
        started = time.perf_counter()
        add(ROUNDS, memory.ctypes.data, 0, 0, 0, 0)
        best = max(best, CHAINS * ROUNDS / (time.perf_counter() - started))
    return best


def bound(planes: int, adders: float) -> float:
    """Multiply-adds a second that no product of codes of `planes` planes can exceed on one thread."""
    return adders * 2 * PANEL_OUTPUTS / planes
