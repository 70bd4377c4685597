"""Byte look-ups: one instruction for as many outputs as a vector has bytes, or a form that needs none of its own."""

from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils

from bebert_kernels.emit.emitter import Emitter, Value
from bebert_kernels.emit.vectors import I8, I64
from bebert_kernels.lookup.layout import Shape

QUARTER = 16  # bytes in which the shuffles stay: each quarter of a vector has a table of its own


Shuffle = Callable[[Emitter, Shape, Value, Value], Value]


def _call(name: str) -> Shuffle:
    """A shuffle that is one instruction: LLVM's name of it, table first, indices second."""
    return lambda e, shape, table, index: e.call(name, table.type, table, index)


def _emulate(e: Emitter, shape: Shape, table: Value, index: Value) -> Value:
    """The same byte by byte: an index from 128 gives 0."""
    b, places = e.builder, [e.variable(table), e.variable(index), cgutils.alloca_once(e.builder, table.type)]
    entries, indices, out = (b.bitcast(place, I8.as_pointer()) for place in places)
    with e.loop(I64(0), I64(shape.lanes)) as (i, _):
        found = b.load(b.gep(indices, [i]))
        entry = b.or_(b.zext(b.and_(found, I8(QUARTER - 1)), I64), b.and_(i, I64(-QUARTER)))
        value = b.select(b.icmp_signed("<", found, I8(0)), I8(0), b.load(b.gep(entries, [entry])))
        b.store(value, b.gep(out, [i]))
    return b.load(places[2])


SHUFFLES: dict[str, Shuffle] = {
    "vpshufb 512": _call("llvm.x86.avx512.pshuf.b.512"),
    "vpshufb 256": _call("llvm.x86.avx2.pshuf.b"),
    "pshufb 128": _call("llvm.x86.ssse3.pshuf.b.128"),
    "tbl": _call("llvm.aarch64.neon.tbl1.v16i8"),
    "portable": _emulate,
}


class Lookups:
    """Vectors of bytes of one shape, and how they are looked up."""

    def __init__(self, e: Emitter, shape: Shape) -> None:
        self.e, self.shape = e, shape
        self.bytes = ir.VectorType(I8, shape.lanes)

    def quarters(self, data: Value, place: Value | int) -> Value:
        """16 bytes of memory in every quarter of a vector."""
        part = self.e.load(data, place, ir.VectorType(I8, QUARTER))
        return self.e.repeat(part, self.shape.lanes) if self.shape.lanes > QUARTER else part

    def look_up(self, table: Value, index: Value) -> Value:
        """table[index] for all bytes, in each quarter; an index from 128 gives 0."""
        return SHUFFLES[self.shape.shuffle](self.e, self.shape, table, index)

    def chosen(self, table: Value, orders: list[list[int]]) -> Value:
        """The sum of the bytes of a table that constant orders choose, each a place for every byte."""
        parts = [self.look_up(table, ir.Constant(self.bytes, order)) for order in orders]
        found = parts[0]
        for part in parts[1:]:
            found = self.e.builder.add(found, part)
        return found
