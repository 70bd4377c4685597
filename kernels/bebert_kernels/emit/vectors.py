"""Building blocks of the row kernels: a row of float32 walked in vectors of 16 or 64 lanes, emitted as LLVM vectors.

Loops left to the vectorizer stop at half width on some CPUs or keep a scalar tail. Here the body of a loop is
written once for whole vectors, which LLVM cuts into registers, and the last values of a row go through a small
buffer on the stack, padded with 0, so that no byte outside a row is read or written.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.np.arrayobj import make_array

LANES = 16

I1 = ir.IntType(1)
I8 = ir.IntType(8)
I16 = ir.IntType(16)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
F32 = ir.FloatType()
FLOATS = ir.VectorType(F32, LANES)
BYTES = ir.VectorType(I8, LANES)

Body = Callable[[ir.Value, list[ir.Value], ir.Value | None], list[ir.Value]]
"""body(first element, loaded vectors, mask of the lanes inside the row or None for all) -> vectors to store"""


def data_of(context: Any, builder: ir.IRBuilder, kinds: Sequence[Any], values: Sequence[ir.Value]) -> list[ir.Value]:
    """Pointers to the first element of arrays."""
    return [make_array(kind)(context, builder, value).data for kind, value in zip(kinds, values, strict=True)]


def size_of(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value) -> ir.Value:
    """Length of the last axis of an array."""
    return builder.extract_value(make_array(kind)(context, builder, value).shape, kind.ndim - 1)


def load(builder: ir.IRBuilder, data: ir.Value, place: ir.Value, kind: ir.Type) -> ir.Value:
    """Vector of type `kind` at element `place`, of any alignment."""
    return builder.load(builder.bitcast(builder.gep(data, [place]), kind.as_pointer()), align=1)


def store(builder: ir.IRBuilder, vector: ir.Value, data: ir.Value, place: ir.Value) -> None:
    """Put a vector at element `place`, of any alignment."""
    builder.store(vector, builder.bitcast(builder.gep(data, [place]), vector.type.as_pointer()), align=1)


def splat(builder: ir.IRBuilder, scalar: ir.Value, lanes: int = LANES) -> ir.Value:
    """Vector that holds a scalar in every lane."""
    kind = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def fill(kind: ir.VectorType, value: float) -> ir.Constant:
    """Constant vector of equal lanes."""
    return ir.Constant(kind, [value] * kind.count)


def below(builder: ir.IRBuilder, count: ir.Value, lanes: int = LANES) -> ir.Value:
    """Mask of the lanes whose number is below `count`, an int64 of at most 127."""
    numbers = ir.Constant(ir.VectorType(I8, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, splat(builder, builder.trunc(count, I8), lanes))


def accumulator(builder: ir.IRBuilder, kind: ir.VectorType, value: float = 0) -> ir.Value:
    """Place of a running vector, set to `value`; LLVM keeps it in a register."""
    return cgutils.alloca_once_value(builder, fill(kind, value))


def part(builder: ir.IRBuilder, vector: ir.Value, first: int, lanes: int) -> ir.Value:
    """Lanes first .. first + lanes - 1 of a vector."""
    order = ir.Constant(ir.VectorType(I32, lanes), list(range(first, first + lanes)))
    return builder.shuffle_vector(vector, vector, order)


def join(builder: ir.IRBuilder, lanes: ir.Value) -> ir.Value:
    """Sum of 16 lanes in pairs 8, 4, 2, 1 apart: the end of `reference_float.lane_sum`."""
    while lanes.type.count > 1:
        half = lanes.type.count // 2
        lanes = builder.fadd(part(builder, lanes, 0, half), part(builder, lanes, half, half))
    return builder.extract_element(lanes, I32(0))


def call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Call of an LLVM intrinsic."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def for_blocks(
    builder: ir.IRBuilder,
    size: ir.Value,
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    body: Body,
    lanes: int = LANES,
) -> None:
    """Emit body for `lanes` elements at a time: load the inputs (float32), store what it returns to the outputs.

    Inputs of the last, partial block are padded with 0. An output may be one of the inputs.
    """
    kind = ir.VectorType(F32, lanes)
    whole = builder.and_(size, I64(-lanes))
    with cgutils.for_range_slice(builder, I64(0), whole, I64(lanes), I64) as (i, _):
        results = body(i, [load(builder, data, i, kind) for data in inputs], None)
        for data, result in zip(outputs, results, strict=True):
            store(builder, result, data, i)
    rest = builder.sub(size, whole)
    with builder.if_then(builder.icmp_signed("!=", rest, I64(0)), likely=False):
        vectors = [_load_part(builder, data, whole, rest, kind) for data in inputs]
        results = body(whole, vectors, below(builder, rest, lanes))
        for data, result in zip(outputs, results, strict=True):
            _store_part(builder, result, data, whole, rest)


def _load_part(
    builder: ir.IRBuilder, data: ir.Value, place: ir.Value, count: ir.Value, kind: ir.VectorType
) -> ir.Value:
    buffer = cgutils.alloca_once(builder, kind)
    builder.store(fill(kind, 0.0), buffer)
    target = builder.bitcast(buffer, F32.as_pointer())
    cgutils.raw_memcpy(builder, target, builder.gep(data, [place]), count, 4, align=1)
    return builder.load(buffer)


def _store_part(builder: ir.IRBuilder, vector: ir.Value, data: ir.Value, place: ir.Value, count: ir.Value) -> None:
    buffer = cgutils.alloca_once(builder, vector.type)
    builder.store(vector, buffer)
    source = builder.bitcast(buffer, vector.type.element.as_pointer())
    size = 4 if vector.type.element == F32 else 1
    cgutils.raw_memcpy(builder, builder.gep(data, [place]), source, count, size, align=1)
