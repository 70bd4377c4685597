"""The register block of the look-up product: tables of the sums that small codes can make, indexed by weight signs.

    sums[m, n] = sum_k u[m, k] * negative[n, k]          u: codes 0..15,  negative: 1 where the weight is -1

A few neighbouring codes of a row have few possible sums: four codes make 16, all of them at most 60. They are written
into a table of 16 bytes once, and the four sign bits of an output say which entry it wants. One byte shuffle looks up
as many outputs as the vector has bytes, four multiply-adds each:

    codes  u0 u1 u2 u3  -->  table |0|u0|u1|u0+u1|u2|...|u0+u1+u2+u3|      16 bytes, in every quarter of the vector
    signs of 64 outputs -->  index |5|15|0|9|...|                          64 times four bits
    shuffle(table, index)          |u0+u2|u0+u1+u2+u3|0|u0+u3|...|         added to 64 sums

`vpermb` (AVX-512 VBMI) has 64 entries: six codes, at most 90. Four look-ups of the first kind (240) or two of the
second (180) fit into a byte and are added there. That is a *step*: 16 or 12 codes, two bytes of indices an output, one
byte of sum. A second step would overflow the bytes, so they are added to 16-bit sums, twice: as they are, and shifted
right by 8. The latter are the sums of the odd bytes; the former, less 256 times the latter, those of the even ones:
three instructions for all outputs of a vector, and nothing is widened. After 256 steps they go to 32-bit sums.

Panels put output i of the lower half of a vector into byte 2*i and output i of the upper half into byte 2*i + 1, so
that even and odd bytes are neighbours in memory once widened. The tables of a step lie side by side for a block of
rows, so that a block reads one stream, whatever the depth.

`Shape` says all that differs between CPUs. The shuffle is one function of it, and a form that needs no instruction of
its own takes its place in tests and on CPUs that have none. Measured: 80 to 90 % of what the instruction counts allow
(one thread of Cascade Lake; per 16 codes 10 instructions a row and vector, and 6 for the indices of all rows).
"""

from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils

from bebert_kernels.emit.emitter import Emitter, Value
from bebert_kernels.emit.vectors import I8, I16, I32, I64, fill
from bebert_kernels.lookup.layout import Shape

CHUNK_STEPS = 256  # before 16-bit sums are emptied: 256 * 240 < 2**16
_QUARTER = 16  # bytes in which the shuffles of 16 entries stay
_TAIL = 32  # bytes of a buffer for the last codes of a row


Shuffle = Callable[[Emitter, Shape, Value, Value], Value]


def _call(name: str) -> Shuffle:
    """A shuffle that is one instruction: LLVM's name of it, table first, indices second."""
    return lambda e, shape, table, index: e.call(name, table.type, table, index)


def _emulate(e: Emitter, shape: Shape, table: Value, index: Value) -> Value:
    """The same byte by byte: an index from 128 gives 0, if tables have 16 entries."""
    b, places = e.builder, [e.variable(table), e.variable(index), cgutils.alloca_once(e.builder, table.type)]
    entries, indices, out = (b.bitcast(place, I8.as_pointer()) for place in places)
    with e.loop(I64(0), I64(shape.lanes)) as (i, _):
        found = b.load(b.gep(indices, [i]))
        entry = b.zext(b.and_(found, I8((1 << shape.inputs) - 1)), I64)
        if shape.inputs == 4:  # each quarter has its own table
            entry = b.or_(entry, b.and_(i, I64(-_QUARTER)))
        value = b.load(b.gep(entries, [entry]))
        if shape.inputs == 4:
            value = b.select(b.icmp_signed("<", found, I8(0)), I8(0), value)
        b.store(value, b.gep(out, [i]))
    return b.load(places[2])


SHUFFLES: dict[str, Shuffle] = {
    "vpermb": _call("llvm.x86.avx512.permvar.qi.512"),
    "vpshufb 512": _call("llvm.x86.avx512.pshuf.b.512"),
    "vpshufb 256": _call("llvm.x86.avx2.pshuf.b"),
    "pshufb 128": _call("llvm.x86.ssse3.pshuf.b.128"),
    "tbl": _call("llvm.aarch64.neon.tbl1.v16i8"),
    "portable": _emulate,
}


class _Block:
    """What both blocks emit: vectors of bytes and their shuffle."""

    def __init__(self, e: Emitter, shape: Shape) -> None:
        self.e, self.shape = e, shape
        self.bytes = ir.VectorType(I8, shape.lanes)

    def _quarters(self, data: Value, place: Value, everywhere: bool = True) -> Value:
        """16 bytes of memory in every quarter of a vector, or in the first alone and zeros behind."""
        kind = ir.VectorType(I8, _QUARTER)
        order = [j % _QUARTER if everywhere or j < _QUARTER else _QUARTER for j in range(self.shape.lanes)]
        return self.e.shuffle(self.e.load(data, place, kind), fill(kind, 0), order)

    def _look_up(self, table: Value, index: Value) -> Value:
        return SHUFFLES[self.shape.shuffle](self.e, self.shape, table, index)

    def _sum(self, values: list[Value]) -> Value:
        """Sum in pairs, so that no addition waits long for another."""
        while len(values) > 1:
            values = [
                self.e.builder.add(*values[i : i + 2]) if i + 1 < len(values) else values[i]
                for i in range(0, len(values), 2)
            ]
        return values[0]


class TablesBlock(_Block):
    """Emits the tables of one row, from pointer `out` on, a step every rows * step_bytes."""

    def __init__(self, e: Emitter, shape: Shape, out: Value) -> None:
        super().__init__(e, shape)
        self.out = out

    def emit(self, codes: Value, depth: Value) -> None:
        """Steps that can be read from the row itself, and the others from a copy of its end: nothing beyond is read."""
        e, b, step = self.e, self.e.builder, self.shape.step
        room = b.sub(depth, I64(_QUARTER - step))
        whole = b.select(b.icmp_signed("<", room, I64(step)), I64(0), b.sdiv(room, I64(step)))
        with e.loop(I64(0), whole) as (i, _):
            self._step(codes, b.mul(i, I64(step)), i)
        end = b.bitcast(e.variable(ir.Constant(ir.ArrayType(I8, _TAIL), None)), I8.as_pointer())
        used = b.mul(whole, I64(step))
        rest = b.sub(depth, used)
        with e.loop(I64(0), rest) as (i, _):
            b.store(b.load(b.gep(codes, [b.add(used, i)])), b.gep(end, [i]))
        with e.loop(I64(0), b.sdiv(b.add(rest, I64(step - 1)), I64(step))) as (i, _):
            self._step(end, b.mul(i, I64(step)), b.add(whole, i))

    def _step(self, codes: Value, first: Value, step: Value) -> None:
        vectors = self._sixteen(codes, first) if self.shape.inputs == 4 else self._sixty_four(codes, first)
        place = self.e.builder.mul(step, I64(self.shape.rows * self.shape.step_bytes))
        for i, vector in enumerate(vectors):
            self.e.store(vector, self.out, self.e.place(place, i, self.shape.lanes))

    def _sixteen(self, codes: Value, first: Value) -> list[Value]:
        """Four tables, as many in a vector as it has quarters: entry j adds code i if bit i of j is set."""
        source, vectors = self._quarters(codes, first), []
        for start in range(0, 4 * _QUARTER, self.shape.lanes):
            parts = []
            for i in range(4):
                order = [j // 16 * 4 + i if j >> i & 1 else 128 for j in range(start, start + self.shape.lanes)]
                parts.append(self._look_up(source, ir.Constant(self.bytes, order)))
            vectors.append(self._sum(parts))
        return vectors

    def _sixty_four(self, codes: Value, first: Value) -> list[Value]:
        """Two tables: first the four sums of each pair of codes, then entries as sums of three of these."""
        source, nothing = self._quarters(codes, first, everywhere=False), _QUARTER  # byte 16 is 0
        pairs = [[j // 4 * 2 + i if j >> i & 1 else nothing for j in range(self.shape.lanes)] for i in (0, 1)]
        pairs = [[place % self.shape.lanes for place in order] for order in pairs]
        sums = self._sum([self._look_up(source, ir.Constant(self.bytes, order)) for order in pairs])
        vectors = []
        for table in (0, 1):
            orders = [[4 * (3 * table + i) + (j >> 2 * i & 3) for j in range(64)] for i in range(3)]
            vectors.append(self._sum([self._look_up(sums, ir.Constant(self.bytes, order)) for order in orders]))
        return vectors


class PanelBlock(_Block):
    """Emits the sums of some rows and one panel; `tables` and `sums` are those of the first row."""

    def __init__(self, e: Emitter, shape: Shape, rows: int, tables: Value, panel: Value, sums: Value) -> None:
        super().__init__(e, shape)
        self.rows, self.tables, self.panel, self.sums = rows, tables, panel, sums
        self.halves = ir.VectorType(I16, shape.lanes // 2)
        self.cells = [(r, v) for r in range(rows) for v in range(shape.vectors)]

    def emit(self, steps: Value) -> None:
        """All steps, and the sums from 16 to 32 bits now and then: of a usual depth once, at the end."""
        e, b = self.e, self.e.builder
        with e.loop(I64(0), steps, CHUNK_STEPS) as (start, _):
            left = b.sub(steps, start)
            count = b.select(b.icmp_signed("<", left, I64(CHUNK_STEPS)), left, I64(CHUNK_STEPS))
            found = self._chunk(start, count)
            with b.if_else(b.icmp_signed("==", start, I64(0)), likely=True) as (first, later):
                with first:
                    for place, sums in found:
                        e.store(sums, self.sums, place)
                with later:
                    for place, sums in found:
                        e.store(b.add(e.load(self.sums, place, sums.type), sums), self.sums, place)

    def _chunk(self, start: Value, count: Value) -> list[tuple[int, Value]]:
        """So many steps from one on: places in `sums`, and what they add to the 32-bit integers there."""
        e, b = self.e, self.e.builder
        both, high = ([e.variable(fill(self.halves, 0)) for _ in self.cells] for _ in range(2))
        for place in both + high:
            b.store(fill(self.halves, 0), place)
        with e.loop(I64(0), count) as (i, _):
            self._step(b.add(start, i), both, high)
        wide, found = ir.VectorType(I32, self.shape.lanes // 2), []
        for i, (total, odd) in enumerate(zip(both, high, strict=True)):
            odd_sums = b.load(odd)
            even_sums = b.sub(b.load(total), b.shl(odd_sums, fill(self.halves, 8)))
            for half, sums in enumerate((even_sums, odd_sums)):
                found.append(((2 * i + half) * wide.count, b.zext(sums, wide)))
        return found

    def _step(self, step: Value, both: list[Value], high: list[Value]) -> None:
        b, shape = self.e.builder, self.shape
        place = b.mul(step, I64(2 * shape.panel))
        indices = [self._indices(b.add(place, I64(2 * v * shape.lanes))) for v in range(shape.vectors)]
        for r in range(self.rows):
            place = b.add(b.mul(step, I64(shape.rows * shape.step_bytes)), I64(r * shape.step_bytes))
            tables = [self._table(b.add(place, I64(g << shape.inputs))) for g in range(shape.tables)]
            for v, index in enumerate(indices):
                found = self._sum([self._look_up(*pair) for pair in zip(tables, index, strict=True)])
                cell, found = r * shape.vectors + v, b.bitcast(found, self.halves)
                b.store(b.add(b.load(both[cell]), found), both[cell])
                b.store(b.add(b.load(high[cell]), b.lshr(found, fill(self.halves, 8))), high[cell])

    def _indices(self, place: Value) -> list[Value]:
        """Indices of the tables of a step: a byte each if they have six bits, else two in a byte."""
        b, lanes = self.e.builder, self.shape.lanes
        packed = [self.e.load(self.panel, b.add(place, I64(i * lanes)), self.bytes) for i in (0, 1)]
        if self.shape.inputs == 6:
            return packed
        low, four = fill(self.bytes, 15), fill(self.bytes, 4)
        return [index for both in packed for index in (b.and_(both, low), b.lshr(both, four))]

    def _table(self, place: Value) -> Value:
        if self.shape.inputs == 6:
            return self.e.load(self.tables, place, self.bytes)
        return self._quarters(self.tables, place)
