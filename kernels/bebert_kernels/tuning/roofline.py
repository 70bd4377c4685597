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

from bebert_kernels.bitsliced.tile import (
    BIT_SELECT,
    PANEL_OUTPUTS,
    PLANE,
    TERNARY,
    full_add,
    load_plane,
    opaque,
    store_plane,
)
from bebert_kernels.bitsliced.triples import aligned
from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import I64
from bebert_kernels.jit.kernel import kernel

MANY_REGISTERS = TERNARY or BIT_SELECT  # 32 instead of 16
CHAINS = 8 if MANY_REGISTERS else 5  # independent adders, so that the latency of one does not count
ROUNDS = 20_000


@emitted()
def _add(e: Emitter, count: Value, memory: Value) -> None:
    """Do CHAINS * count full adders in registers, which start from and end in 2 * CHAINS planes at an address."""
    b = e.builder
    inputs = [load_plane(e, memory, PLANE * i) for i in range(2 * CHAINS)]
    places = [e.variable(plane) for plane in inputs]
    with e.loop(I64(0), count):
        for i in range(CHAINS):
            total, carry = b.load(places[i]), b.load(places[CHAINS + i])
            x = inputs[i]
            if not MANY_REGISTERS:  # one input for all, and LLVM must not mix the adders: else they spill
                x, total = inputs[0], opaque(e, total)
            total, carry = full_add(e, total, x, carry)
            b.store(total, places[i])
            b.store(carry, places[CHAINS + i])
    for i, place in enumerate(places):
        store_plane(e, b.load(place), memory, PLANE * i)


@kernel
def _run(count: int, memory: int) -> None:
    _add(count, memory)


def adders_per_second(rounds: int) -> float:
    """Full adders of PANEL_OUTPUTS bits a second of one thread here: the best of `rounds` (about 0.05 ms each)."""
    memory = aligned((2 * CHAINS * PLANE,), np.uint8)
    memory[:] = 0x5A
    _run(1, memory.ctypes.data)
    best = 0.0
    for _ in range(rounds):
        started = time.perf_counter()
        _run(ROUNDS, memory.ctypes.data)
        best = max(best, CHAINS * ROUNDS / (time.perf_counter() - started))
    return best


def bound(planes: int, adders: float) -> float:
    """Multiply-adds a second that no product of codes of `planes` planes can exceed on one thread."""
    return adders * 2 * PANEL_OUTPUTS / planes
