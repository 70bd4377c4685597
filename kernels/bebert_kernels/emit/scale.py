"""What follows an integer product: integers of one row to floats, scaled, with an addend."""

from typing import Any

from llvmlite import ir

from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import FLOAT_LANES, FLOATS, I32

_WHOLE = ir.VectorType(I32, FLOAT_LANES)


def make_scale(outputs: int) -> Any:
    """Intrinsic for a multiple of 16 outputs; all arguments are int64, addresses but for factor and base.

    out[n] = float32(factor * sums[n] + base + offset[n]) * scale[n] + add[n]

    sums, offset : int32[outputs]      scale, add, out : float32[outputs]; out may be add
    """

    @emitted()
    def scale_sums(
        e: Emitter, sums: Value, factor: Value, base: Value, offset: Value, scale: Value, add: Value, out: Value
    ) -> None:
        b = e.builder
        factors, bases = (e.repeat(b.trunc(value, I32), FLOAT_LANES) for value in (factor, base))
        for place in range(0, 4 * outputs, 4 * FLOAT_LANES):
            dots = b.add(b.mul(e.load(sums, place, _WHOLE, 4), factors), bases)
            dots = b.add(dots, e.load(offset, place, _WHOLE, 4))
            product = b.fmul(b.sitofp(dots, FLOATS), e.load(scale, place, FLOATS, 4))
            e.store(b.fadd(product, e.load(add, place, FLOATS, 4)), out, place, 4)

    return scale_sums


def make_add(outputs: int) -> Any:
    """Intrinsic that adds float32[outputs], a multiple of 16, to others: int64 addresses of the sum and the addend."""

    @emitted()
    def add_row(e: Emitter, out: Value, add: Value) -> None:
        for place in range(0, 4 * outputs, 4 * FLOAT_LANES):
            total = e.builder.fadd(e.load(out, place, FLOATS, 4), e.load(add, place, FLOATS, 4))
            e.store(total, out, place, 4)

    return add_row
