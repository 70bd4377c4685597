"""Vector code inside kernels: what emits it, and two decorators that let kernels call it. All rooms emit this way.

Loops left to the vectorizer stop at half width on some CPUs or keep a scalar tail. Here bodies are written once for
whole vectors, which LLVM cuts into registers. A function that emits takes an `Emitter` and the values of its arguments:

    @emitted(types.int64)                          there is no form without JIT
    def atomic_load(e, address): ...

    @vector_code(_emit_aligned, types.int64)       under NUMBA_DISABLE_JIT this Python function runs; else it says
    def aligned(scratch): ...                      what the vectors compute

Integers arrive as int64 (uint64 as they are), floats as float32, arrays as structures with `data` and `shape`, named
tuples as such.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from bebert_kernels.emit.vectors import F32, FLOAT_LANES, I8, I32, I64, fill

_config: Any = numba.config

Value: TypeAlias = ir.Value
Body = Callable[[Value, list[Value], Value | None], list[Value]]
"""body(first element, loaded vectors, mask of the lanes inside the row or None for all) -> vectors to store"""


class Emitter:
    """Pieces of vector code; a place counts elements of the array that it belongs to, or bytes behind an address."""

    def __init__(self, builder: ir.IRBuilder, features: Sequence[str] = ()) -> None:
        self.builder, self.features = builder, features

    def place(self, base: Value, offset: Value | int, step: Value | int = 1) -> Value:
        """Return base + offset * step."""
        offset, step = (I64(value) if isinstance(value, int) else value for value in (offset, step))
        return self.builder.add(base, self.builder.mul(offset, step))

    def size(self, array: Any) -> Value:
        """Return the length of the last axis of an array."""
        return self.builder.extract_value(array.shape, len(array.shape.type.elements) - 1)

    def pointer(self, data: Value, place: Value | int, kind: ir.Type) -> Value:
        """Return the place behind a pointer to elements, or behind an address (int64), as a pointer to some kind."""
        b, place = self.builder, I64(place) if isinstance(place, int) else place
        if isinstance(data.type, ir.IntType):
            return b.inttoptr(b.add(data, place), kind.as_pointer())
        return b.bitcast(b.gep(data, [place]), kind.as_pointer())

    def load(self, data: Value, place: Value | int, kind: ir.Type, align: int = 1) -> Value:
        """Return the value of some kind at a place."""
        return self.builder.load(self.pointer(data, place, kind), align=align)

    def store(self, value: Value, data: Value, place: Value | int, align: int = 1) -> None:
        """Write the value at a place."""
        self.builder.store(value, self.pointer(data, place, value.type), align=align)

    def variable(self, value: Value) -> Value:
        """Return a place on the stack that holds a value; LLVM keeps it in a register where it can."""
        return cgutils.alloca_once_value(self.builder, value)

    def shuffle(self, a: Value, b: Value, order: list[int]) -> Value:
        """Return the chosen elements of a followed by b."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), order))

    def repeat(self, value: Value, count: int) -> Value:
        """Return a vector that holds the scalar, or the shorter vector, several times."""
        if not isinstance(value.type, ir.VectorType):
            value = self.builder.insert_element(ir.Constant(ir.VectorType(value.type, 1), ir.Undefined), value, I32(0))
        return self.shuffle(value, value, [i % value.type.count for i in range(count)])

    def split(self, vector: Value, count: int) -> list[Value]:
        """Return the consecutive parts of `count` elements."""
        starts = range(0, vector.type.count, count)
        return [self.shuffle(vector, vector, list(range(start, start + count))) for start in starts]

    def join(self, parts: list[Value]) -> Value:
        """Return a power of two of equal vectors as one."""
        while len(parts) > 1:
            order = list(range(2 * parts[0].type.count))
            parts = [self.shuffle(parts[i], parts[i + 1], order) for i in range(0, len(parts), 2)]
        return parts[0]

    def fold(self, lanes: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """Return all lanes combined in pairs 8, 4, 2, 1 apart: of sums the end of `reference.floats.lane_sum`."""
        while lanes.type.count > 1:
            lanes = combine(*self.split(lanes, lanes.type.count // 2))
        return self.builder.extract_element(lanes, I32(0))

    def below(self, count: Value, lanes: int) -> Value:
        """Return the mask of the lanes whose number is below `count`, an int64 of at most 127."""
        numbers = ir.Constant(ir.VectorType(I8, lanes), list(range(lanes)))
        return self.builder.icmp_signed("<", numbers, self.repeat(self.builder.trunc(count, I8), lanes))

    def call(self, name: str, result: ir.Type, *arguments: Value) -> Value:
        """Return the result of an LLVM intrinsic, or of a function of the C library."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def prefetch(self, address: Value) -> None:
        """Ask for the cache line at an address, which need not exist, into the second-level cache."""
        pointer = self.builder.inttoptr(address, I8.as_pointer())
        self.call("llvm.prefetch.p0", ir.VoidType(), pointer, I32(0), I32(2), I32(1))

    def loop(self, start: Value, stop: Value, step: int = 1) -> Any:
        """Return a context that emits its body once for each start, start + step, ... below stop."""
        return cgutils.for_range_slice(self.builder, start, stop, I64(step), I64)

    def for_blocks(
        self, size: Value, inputs: Sequence[Value], outputs: Sequence[Value], body: Body, lanes: int = FLOAT_LANES
    ) -> None:
        """Emit body for `lanes` elements of rows at a time: load the inputs (float32), store what it returns.

        The last, partial block goes through a buffer on the stack, padded with 0, so that no byte outside a row is
        read or written. An output may be one of the inputs.
        """
        b, kind = self.builder, ir.VectorType(F32, lanes)
        whole = b.and_(size, I64(-lanes))
        with self.loop(I64(0), whole, lanes) as (i, _):
            results = body(i, [self.load(data, i, kind) for data in inputs], None)
            for data, result in zip(outputs, results, strict=True):
                self.store(result, data, i)
        rest = b.sub(size, whole)
        with b.if_then(b.icmp_signed("!=", rest, I64(0)), likely=False):
            vectors = []
            for data in inputs:
                buffer = cgutils.alloca_once(b, kind)
                b.store(fill(kind, 0.0), buffer)
                cgutils.raw_memcpy(b, b.bitcast(buffer, F32.as_pointer()), b.gep(data, [whole]), rest, 4, align=1)
                vectors.append(b.load(buffer))
            results = body(whole, vectors, self.below(rest, lanes))
            for data, result in zip(outputs, results, strict=True):
                buffer, element = cgutils.alloca_once(b, result.type), result.type.element
                b.store(result, buffer)
                octets, source = 4 if element == F32 else 1, b.bitcast(buffer, element.as_pointer())
                cgutils.raw_memcpy(b, b.gep(data, [whole]), source, rest, octets, align=1)


def emitted(result: Any = types.void) -> Callable[[Callable[..., Any]], Any]:
    """Decorator of a function that emits: kernels call it without its first argument, the emitter.

    result : Numba's type of what it returns; several values for a tuple
    """

    def decorate(emit: Callable[..., Any]) -> Any:
        return _intrinsic(emit, emit, list(inspect.signature(emit).parameters.values())[1:], result)

    return decorate


def vector_code(emit: Callable[..., Any], result: Any = types.void) -> Callable[[Callable[..., Any]], Any]:
    """Decorator of a Python function in whose place kernels run what emit(emitter, *arguments) emits."""

    def decorate(function: Callable[..., Any]) -> Any:
        if _config.DISABLE_JIT:
            return function
        return _intrinsic(emit, function, inspect.signature(function).parameters.values(), result)

    return decorate


def _intrinsic(
    emit: Callable[..., Any], function: Callable[..., Any], parameters: Iterable[inspect.Parameter], result: Any
) -> Any:
    def build(typing_context: Any, *kinds: Any) -> Any:
        wide = [_wide(kind) for kind in kinds]
        if not all(kind.layout == "C" for kind in kinds if isinstance(kind, types.Array)):
            return None

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
            values = [_given(context, builder, *pair) for pair in zip(wide, arguments, strict=True)]
            found = emit(Emitter(builder, context.codegen().magic_tuple()[2].split(",")), *values)
            if isinstance(found, list):
                return context.make_tuple(builder, signature.return_type, found)
            return context.get_dummy_value() if found is None else found

        return result(*wide), generate

    first = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named: Any = build
    named.__signature__ = inspect.Signature([first, *parameters])
    named.__name__, named.__doc__ = function.__name__, function.__doc__
    return intrinsic(named)


def _is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, types.BaseNamedTuple)


def _wide(kind: Any) -> Any:
    if _is_named_tuple(kind):
        return types.BaseTuple.from_types([_wide(item) for item in kind.types], kind.instance_class)
    if isinstance(kind, types.Float):
        return types.float32
    return types.int64 if isinstance(kind, types.Integer) and kind != types.uint64 else kind


def _given(context: Any, builder: ir.IRBuilder, kind: Any, value: Value) -> Any:
    if _is_named_tuple(kind):
        items = zip(kind.types, cgutils.unpack_tuple(builder, value), strict=True)
        return kind.instance_class(*(_given(context, builder, *item) for item in items))
    return make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value


def _emit_aligned(e: Emitter, scratch: Any) -> Value:
    b = e.builder
    return b.lshr(b.and_(b.neg(b.ptrtoint(scratch.data, I64)), I64(63)), I64(3))


@vector_code(_emit_aligned, types.int64)
def aligned(scratch: NDArray[Any]) -> int:
    """Index of the first element that starts a cache line of 64 bytes."""
    return -scratch.ctypes.data % 64 // 8
