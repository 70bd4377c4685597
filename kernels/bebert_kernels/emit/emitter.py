"""Vector code inside kernels: a decorator that puts LLVM vectors in the place of a Python function, and an emitter.

`row_vectors.py` walks one row of floats; this is for code that finds its own way through a scratch of many parts
(`nibble_*.py`, `code_*.py`). Under NUMBA_DISABLE_JIT the Python function runs, which says what the vectors compute.
"""

import inspect
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from bebert_kernels.emit.vectors import I32, I64, call

_config: Any = numba.config


class Emitter:
    """Pieces of vector code; a place counts elements of the array that it belongs to."""

    def __init__(self, builder: ir.IRBuilder, features: list[str]) -> None:
        self.builder, self.features = builder, features

    def place(self, base: ir.Value, offset: ir.Value | int, step: ir.Value | int = 1) -> ir.Value:
        """Return base + offset * step."""
        offset, step = (I64(value) if isinstance(value, int) else value for value in (offset, step))
        return self.builder.add(base, self.builder.mul(offset, step))

    def pointer(self, data: ir.Value, place: ir.Value, kind: ir.Type) -> ir.Value:
        """Return the address of element `place` as a pointer to another kind."""
        return self.builder.bitcast(self.builder.gep(data, [place]), kind.as_pointer())

    def load(self, data: ir.Value, place: ir.Value, kind: ir.Type, align: int = 8) -> ir.Value:
        """Return the value of some kind at element `place`."""
        return self.builder.load(self.pointer(data, place, kind), align=align)

    def store(self, value: ir.Value, data: ir.Value, place: ir.Value, align: int = 8) -> None:
        """Write the value at element `place`."""
        self.builder.store(value, self.pointer(data, place, value.type), align=align)

    def shuffle(self, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
        """Return the chosen elements of a followed by b."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), order))

    def repeat(self, value: ir.Value, count: int) -> ir.Value:
        """Return a vector that holds the scalar, or the shorter vector, several times."""
        if not isinstance(value.type, ir.VectorType):
            value = self.builder.insert_element(ir.Constant(ir.VectorType(value.type, 1), ir.Undefined), value, I32(0))
        return self.shuffle(value, value, [i % value.type.count for i in range(count)])

    def split(self, vector: ir.Value, count: int) -> list[ir.Value]:
        """Return the consecutive parts of `count` elements."""
        starts = range(0, vector.type.count, count)
        return [self.shuffle(vector, vector, list(range(start, start + count))) for start in starts]

    def join(self, parts: list[ir.Value]) -> ir.Value:
        """Return a power of two of equal vectors as one."""
        while len(parts) > 1:
            order = list(range(2 * parts[0].type.count))
            parts = [self.shuffle(parts[i], parts[i + 1], order) for i in range(0, len(parts), 2)]
        return parts[0]

    def call(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        """Return the result of an LLVM intrinsic."""
        return call(self.builder, name, result, *arguments)

    def loop(self, start: ir.Value, stop: ir.Value, step: int = 1) -> Any:
        """Return a context that emits its body once for each start, start + step, ... below stop."""
        return cgutils.for_range_slice(self.builder, start, stop, I64(step), I64)


def vector_code(emit: Any, result: Any = types.void) -> Any:
    """Decorator: kernels run `emit(emitter, *arguments)` in place of the Python function; arrays come as structures."""

    def decorate(function: Any) -> Any:
        if _config.DISABLE_JIT:
            return function

        def build(typing_context, *kinds):  # type: ignore[no-untyped-def]
            wide = [types.int64 if isinstance(kind, types.Integer) and kind != types.uint64 else kind for kind in kinds]
            if not all(kind.layout == "C" for kind in kinds if isinstance(kind, types.Array)):
                return None

            def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
                values = [
                    make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
                    for kind, value in zip(wide, arguments, strict=True)
                ]
                value = emit(Emitter(builder, context.codegen().magic_tuple()[2].split(",")), *values)
                return context.get_dummy_value() if value is None else value

            return result(*wide), generate

        own = inspect.signature(function)
        first = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [item.replace(annotation=inspect.Parameter.empty) for item in own.parameters.values()]
        build.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
        build.__name__ = function.__name__
        return intrinsic(build)

    return decorate


def _emit_aligned(e: Emitter, scratch: Any) -> ir.Value:
    b = e.builder
    return b.lshr(b.and_(b.neg(b.ptrtoint(scratch.data, I64)), I64(63)), I64(3))


@vector_code(_emit_aligned, types.int64)
def aligned(scratch: NDArray[Any]) -> int:
    """Index of the first element that starts a cache line of 64 bytes."""
    return -scratch.ctypes.data % 64 // 8
