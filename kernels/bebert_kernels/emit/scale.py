"""What follows an integer product: integers of one row to floats, scaled, with an addend; emitted as vectors."""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from bebert_kernels.abi.memory import array, as_float32
from bebert_kernels.jit.kernel import kernel

LANES = 16

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_WHOLE, _REAL = ir.VectorType(_I32, LANES), ir.VectorType(ir.FloatType(), LANES)


@kernel
def add_rows(place: int, other: int, lanes: int) -> None:
    """Add float32[lanes] to others, both given by address."""
    y, x = array(as_float32(place), (lanes,)), array(as_float32(other), (lanes,))
    for n in range(lanes):
        y[n] = y[n] + x[n]


def make_scale(count: int) -> Any:
    """Intrinsic for `count` outputs, a multiple of 16; all arguments are int64, addresses but for factor and base.

    out[n] = float32(factor * sums[n] + base + offset[n]) * scale[n] + add[n]

    sums, offset : int32[count]      scale, add, out : float32[count]; out may be add
    """

    @intrinsic
    def scale_sums(typing_context, sums, factor, base, offset, scale, add, out):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            sums, factor, base, offset, scale, add, out = arguments
            factors, bases = (_repeat(builder, builder.trunc(value, _I32)) for value in (factor, base))
            for place in range(0, 4 * count, 4 * LANES):
                dots = builder.add(builder.mul(_load(builder, sums, place, _WHOLE), factors), bases)
                dots = builder.add(dots, _load(builder, offset, place, _WHOLE))
                product = builder.fmul(builder.sitofp(dots, _REAL), _load(builder, scale, place, _REAL))
                value = builder.fadd(product, _load(builder, add, place, _REAL))
                builder.store(value, _pointer(builder, out, place, _REAL), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), generate

    return scale_sums


def _repeat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    one = builder.insert_element(ir.Constant(_WHOLE, ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(_WHOLE, [0] * LANES))


def _pointer(builder: ir.IRBuilder, address: ir.Value, place: int, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(builder.add(address, _I64(place)), kind.as_pointer())


def _load(builder: ir.IRBuilder, address: ir.Value, place: int, kind: ir.Type) -> ir.Value:
    return builder.load(_pointer(builder, address, place, kind), align=4)
