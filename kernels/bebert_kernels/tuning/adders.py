"""The full adders of the bitsliced product and nothing else, as a stage: what `roofline.py` times."""

from bebert_kernels.abi.stage import stage
from bebert_kernels.bitsliced.layout import PLANE
from bebert_kernels.bitsliced.tile import full_add, load_plane, opaque, store_plane
from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import I64
from bebert_kernels.tuning.roofline import CHAINS, MANY_REGISTERS


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


@stage
def add_planes(count: int, memory: int, c: int, d: int, f: int, g: int) -> None:
    """CHAINS * count full adders, from and to 2 * CHAINS planes at an address; the other arguments are not read."""
    _add(count, memory)
