"""Arrays on memory whose address is known: what lets a compiled program name its buffers by number.

Nothing here owns or checks memory. Whoever makes an address keeps the array alive and its size right.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from bebert_kernels.abi import slot
from bebert_kernels.jit.kernel import kernel


def _pointer(kind: Any) -> Any:
    """Intrinsic: int64 address -> pointer to `kind`."""

    @intrinsic
    def pointer(typing_context, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer())

        return types.CPointer(kind)(types.int64), generate

    return pointer


as_float32 = _pointer(types.float32)
as_int16 = _pointer(types.int16)
as_int32 = _pointer(types.int32)
as_int64 = _pointer(types.int64)
as_int8 = _pointer(types.int8)
as_uint8 = _pointer(types.uint8)
as_uint64 = _pointer(types.uint64)

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


@intrinsic
def now(typing_context):  # type: ignore[no-untyped-def]
    """Monotonic time in nanoseconds, int64, by the C library's clock_gettime."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word = ir.IntType(64)
        place = builder.alloca(ir.ArrayType(word, 2))
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), place.type])
        function = builder.module.globals.get("clock_gettime") or ir.Function(builder.module, kind, "clock_gettime")
        builder.call(function, [ir.IntType(32)(1), place])
        seconds, rest = (builder.load(builder.gep(place, [word(0), word(i)])) for i in (0, 1))
        return builder.add(builder.mul(seconds, word(1_000_000_000)), rest)

    return types.int64(), generate


@intrinsic
def atomic_add(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Add to the int64 at an address, seen by all threads; returns the value before."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def sched_yield(typing_context):  # type: ignore[no-untyped-def]
    """Let another thread run: sched_yield."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.IntType(32), [])
        function = builder.module.globals.get("sched_yield") or ir.Function(builder.module, kind, "sched_yield")
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def atomic_load(typing_context, address):  # type: ignore[no-untyped-def]
    """The int64 at an address as another thread left it."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def prefetch(typing_context, address):  # type: ignore[no-untyped-def]
    """Ask for the cache line at an address, which need not exist, into the second-level cache."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        place = builder.inttoptr(arguments[0], pointer)
        builder.call(function, [place, *(ir.Constant(number, value) for value in (0, 2, 1))])
        return context.get_dummy_value()

    return types.void(types.int64), generate
