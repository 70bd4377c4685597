"""Sum and maximum of a float32 row in 16 lanes, emitted as vector code.

A loop that adds into 16 separate sums is unrolled into scalar code by LLVM before its vectorizer sees it, so
the vectors are written out here. Lane j holds elements j, j + 16, j + 32, ... in this order; then lanes are
joined in pairs 8, 4, 2, 1 apart: the order of `reference_float.lane_sum`, on every machine.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

LANES = 16

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_F32 = ir.FloatType()
_VECTOR = ir.VectorType(_F32, LANES)


def lane_sum(row: NDArray[np.float32]) -> np.float32:
    """Sum of float32[16 * n], n > 0; pad shorter rows with 0."""
    lanes = np.zeros(LANES, np.float32)
    for part in row.reshape(-1, LANES):
        lanes = lanes + part
    return _join(lanes, np.add)


def lane_max(row: NDArray[np.float32]) -> np.float32:
    """Maximum of float32[16 * n], n > 0; pad shorter rows with -inf."""
    return _join(row.reshape(-1, LANES).max(axis=0), np.maximum)


def _join(lanes: NDArray[np.float32], combine: np.ufunc) -> np.float32:
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = combine(lanes[:half], lanes[half:])
    return lanes[0]


def _emit_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fadd(a, b)


def _emit_max(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _reduction(emit: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value], start: float) -> Any:
    """Intrinsic that combines the 16-wide blocks of a contiguous row in order, then the lanes in pairs."""

    @intrinsic
    def reduce(typing_context, row):  # type: ignore[no-untyped-def]  # numba inspects the signature
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            array = make_array(row)(context, builder, arguments[0])
            size = builder.extract_value(array.shape, 0)
            total = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [start] * LANES))
            with cgutils.for_range_slice(builder, _I64(0), size, _I64(LANES), _I64) as (i, _):
                place = builder.bitcast(builder.gep(array.data, [i]), _VECTOR.as_pointer())
                block = builder.load(place, align=4)
                builder.store(emit(builder, builder.load(total), block), total)
            lanes = builder.load(total)
            while lanes.type.count > 1:
                half = lanes.type.count // 2
                low, high = (
                    builder.shuffle_vector(
                        lanes, lanes, ir.Constant(ir.VectorType(_I32, half), list(range(first, first + half)))
                    )
                    for first in (0, half)
                )
                lanes = emit(builder, low, high)
            return builder.extract_element(lanes, _I32(0))

        return types.float32(row), generate

    return reduce


_lane_sum = _reduction(_emit_add, 0.0)
_lane_max = _reduction(_emit_max, -np.inf)


@overload(lane_sum)
def _lane_sum_overload(row):  # type: ignore[no-untyped-def]
    return lambda row: _lane_sum(row)


@overload(lane_max)
def _lane_max_overload(row):  # type: ignore[no-untyped-def]
    return lambda row: _lane_max(row)
