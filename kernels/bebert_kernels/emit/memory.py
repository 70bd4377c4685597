"""Arrays on memory whose address is known: what lets a compiled program name its buffers by number.

Nothing here owns or checks memory. Whoever makes an address keeps the array alive and its size right.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from bebert_kernels.abi import slot
from bebert_kernels.abi.stage import COUNT
from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import F32, I8, I16, I32, I64
from bebert_kernels.jit.kernel import kernel


def _pointer(kind: Any, element: ir.Type) -> Any:
    """Intrinsic: int64 address -> pointer to `kind`."""

    @emitted(types.CPointer(kind))
    def pointer(e: Emitter, address: Value) -> Value:
        return e.builder.inttoptr(address, element.as_pointer())

    return pointer


as_float32 = _pointer(types.float32, F32)
as_int16 = _pointer(types.int16, I16)
as_int32 = _pointer(types.int32, I32)
as_int64 = _pointer(types.int64, I64)
as_int8 = _pointer(types.int8, I8)
as_uint8 = _pointer(types.uint8, I8)
as_uint64 = _pointer(types.uint64, I64)

array = numba.carray  # array(as_float32(address), (rows, columns)) inside a kernel


@kernel
def slots_at(address: int) -> NDArray[np.int64]:
    """The slots of a thread."""
    return array(as_int64(address), (slot.COUNT,))


@kernel
def row_of(place: int, first: int) -> int:
    """Row of the memory of a slot at which a block stands that begins with row `first` of the batch."""
    if place >= slot.LOCAL:
        return 0
    return first


@kernel
def floats_at(slots: NDArray[np.int64], place: int, first: int, rows: int, width: int) -> NDArray[np.float32]:
    """The rows of a block in the float32[any, width] of a slot."""
    return array(as_float32(slots[place] + 4 * row_of(place, first) * width), (rows, width))


@emitted()
def prefetch(e: Emitter, address: Value) -> None:
    """Ask for the cache line at an address, which need not exist, into the second-level cache."""
    e.prefetch(address)


@emitted()
def call(e: Emitter, address: Value, a: Value, b: Value, c: Value, d: Value, f: Value, g: Value) -> None:
    """Call the stage at an address."""
    kind = ir.FunctionType(ir.VoidType(), [I64] * COUNT)
    e.builder.call(e.builder.inttoptr(address, kind.as_pointer()), [a, b, c, d, f, g])
