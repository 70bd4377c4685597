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

from collections.abc import Callable, Iterable
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils

CHUNK = 256  # steps before 16-bit sums are emptied: 256 * 240 < 2**16
_QUARTER = 16  # bytes in which the shuffles of 16 entries stay
_TAIL = 32  # bytes of a buffer for the last codes of a row

_I8, _I16, _I32, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)


class Shape(NamedTuple):
    """A way to look up: the shuffle, its vector, and the block that fits into the registers.

    shuffle : key of SHUFFLES
    lanes   : bytes of a vector, one for each output
    inputs  : codes in a table, 4 or 6
    rows    : rows of a block, 4 or 8
    vectors : vectors of outputs of a block
    """

    shuffle: str
    lanes: int
    inputs: int
    rows: int
    vectors: int

    @property
    def panel(self) -> int:
        """Outputs of a panel."""
        return self.lanes * self.vectors

    @property
    def tables(self) -> int:
        """Tables of a step."""
        return 4 if self.inputs == 4 else 2

    @property
    def step(self) -> int:
        """Codes of a step."""
        return self.tables * self.inputs

    @property
    def step_bytes(self) -> int:
        """Bytes that the tables of a step take for one row."""
        return self.tables << self.inputs


Emit = Callable[[ir.IRBuilder, Shape, ir.Value, ir.Value], ir.Value]


def best_shape(features: Iterable[str]) -> Shape:
    """The shape for a CPU with these features (names as in `jit.cpu_features`)."""
    features = set(features)
    for feature, shape in SHAPES.items():
        if feature in features:
            return shape
    return PORTABLE


def _call(name: str) -> Emit:
    """A shuffle that is one instruction: LLVM's name of it, table first, indices second."""

    def emit(builder: ir.IRBuilder, shape: Shape, table: ir.Value, index: ir.Value) -> ir.Value:
        kind = ir.FunctionType(table.type, [table.type, index.type])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [table, index])

    return emit


def _emulate(builder: ir.IRBuilder, shape: Shape, table: ir.Value, index: ir.Value) -> ir.Value:
    """The same byte by byte: an index from 128 gives 0, if tables have 16 entries."""
    places = [cgutils.alloca_once(builder, table.type) for _ in range(3)]
    builder.store(table, places[0])
    builder.store(index, places[1])
    entries, indices, out = (builder.bitcast(place, _I8.as_pointer()) for place in places)
    with cgutils.for_range(builder, _I64(shape.lanes), intp=_I64) as loop:
        found = builder.load(builder.gep(indices, [loop.index]))
        entry = builder.zext(builder.and_(found, _I8((1 << shape.inputs) - 1)), _I64)
        if shape.inputs == 4:  # each quarter has its own table
            entry = builder.or_(entry, builder.and_(loop.index, _I64(-_QUARTER)))
        value = builder.load(builder.gep(entries, [entry]))
        if shape.inputs == 4:
            value = builder.select(builder.icmp_signed("<", found, _I8(0)), _I8(0), value)
        builder.store(value, builder.gep(out, [loop.index]))
    return builder.load(places[2])


SHUFFLES: dict[str, Emit] = {
    "vpermb": _call("llvm.x86.avx512.permvar.qi.512"),
    "vpshufb 512": _call("llvm.x86.avx512.pshuf.b.512"),
    "vpshufb 256": _call("llvm.x86.avx2.pshuf.b"),
    "pshufb 128": _call("llvm.x86.ssse3.pshuf.b.128"),
    "tbl": _call("llvm.aarch64.neon.tbl1.v16i8"),
    "portable": _emulate,
}

SHAPES = {  # feature of the CPU: shape, the best first
    "avx512vbmi": Shape("vpermb", 64, 6, 4, 2),
    "avx512bw": Shape("vpshufb 512", 64, 4, 4, 2),
    "avx2": Shape("vpshufb 256", 32, 4, 4, 1),
    "ssse3": Shape("pshufb 128", 16, 4, 4, 1),
    "neon": Shape("tbl", 16, 4, 4, 1),  # two vectors of outputs need more than 32 registers: a fifth was copies
}
PORTABLE = Shape("portable", 16, 4, 4, 1)


class _Block:
    """What both blocks emit: vectors of bytes and their shuffle."""

    def __init__(self, builder: ir.IRBuilder, shape: Shape) -> None:
        self.builder, self.shape = builder, shape
        self.bytes = ir.VectorType(_I8, shape.lanes)

    def _load(self, data: ir.Value, place: ir.Value, kind: ir.VectorType) -> ir.Value:
        return self.builder.load(self.builder.bitcast(self.builder.gep(data, [place]), kind.as_pointer()), align=1)

    def _store(self, value: ir.Value, data: ir.Value, place: ir.Value) -> None:
        pointer = self.builder.bitcast(self.builder.gep(data, [place]), value.type.as_pointer())
        self.builder.store(value, pointer, align=1)

    def _quarters(self, data: ir.Value, place: ir.Value, fill: bool = True) -> ir.Value:
        """16 bytes of memory in every quarter of a vector, or in the first alone and zeros behind."""
        kind = ir.VectorType(_I8, _QUARTER)
        quarter = self._load(data, place, kind)
        order = [j % _QUARTER if fill or j < _QUARTER else _QUARTER for j in range(self.shape.lanes)]
        places = ir.Constant(ir.VectorType(_I32, self.shape.lanes), order)
        return self.builder.shuffle_vector(quarter, ir.Constant(kind, [0] * _QUARTER), places)

    def _look_up(self, table: ir.Value, index: ir.Value) -> ir.Value:
        return SHUFFLES[self.shape.shuffle](self.builder, self.shape, table, index)

    def _sum(self, values: list[ir.Value]) -> ir.Value:
        """Sum in pairs, so that no addition waits long for another."""
        while len(values) > 1:
            values = [
                self.builder.add(*values[i : i + 2]) if i + 1 < len(values) else values[i]
                for i in range(0, len(values), 2)
            ]
        return values[0]


class TablesBlock(_Block):
    """Emits the tables of one row, from address `out` on, a step every rows * step_bytes."""

    def __init__(self, builder: ir.IRBuilder, shape: Shape, out: ir.Value) -> None:
        super().__init__(builder, shape)
        self.out = out

    def emit(self, codes: ir.Value, depth: ir.Value) -> None:
        """Steps that can be read from the row itself, and the others from a copy of its end: nothing beyond is read."""
        b, step = self.builder, self.shape.step
        room = b.sub(depth, _I64(_QUARTER - step))
        whole = b.select(b.icmp_signed("<", room, _I64(step)), _I64(0), b.sdiv(room, _I64(step)))
        with cgutils.for_range(b, whole, intp=_I64) as loop:
            self._step(codes, b.mul(loop.index, _I64(step)), loop.index)
        end = cgutils.alloca_once(b, ir.ArrayType(_I8, _TAIL))
        b.store(ir.Constant(ir.ArrayType(_I8, _TAIL), None), end)
        end, used = b.bitcast(end, _I8.as_pointer()), b.mul(whole, _I64(step))
        rest = b.sub(depth, used)
        with cgutils.for_range(b, rest, intp=_I64) as loop:
            b.store(b.load(b.gep(codes, [b.add(used, loop.index)])), b.gep(end, [loop.index]))
        with cgutils.for_range(b, b.sdiv(b.add(rest, _I64(step - 1)), _I64(step)), intp=_I64) as loop:
            self._step(end, b.mul(loop.index, _I64(step)), b.add(whole, loop.index))

    def _step(self, codes: ir.Value, first: ir.Value, step: ir.Value) -> None:
        vectors = self._sixteen(codes, first) if self.shape.inputs == 4 else self._sixty_four(codes, first)
        place = self.builder.mul(step, _I64(self.shape.rows * self.shape.step_bytes))
        for i, vector in enumerate(vectors):
            self._store(vector, self.out, self.builder.add(place, _I64(i * self.shape.lanes)))

    def _sixteen(self, codes: ir.Value, first: ir.Value) -> list[ir.Value]:
        """Four tables, as many in a vector as it has quarters: entry j adds code i if bit i of j is set."""
        source, vectors = self._quarters(codes, first), []
        for start in range(0, 4 * _QUARTER, self.shape.lanes):
            parts = []
            for i in range(4):
                order = [j // 16 * 4 + i if j >> i & 1 else 128 for j in range(start, start + self.shape.lanes)]
                parts.append(self._look_up(source, ir.Constant(self.bytes, order)))
            vectors.append(self._sum(parts))
        return vectors

    def _sixty_four(self, codes: ir.Value, first: ir.Value) -> list[ir.Value]:
        """Two tables: first the four sums of each pair of codes, then entries as sums of three of these."""
        source, nothing = self._quarters(codes, first, fill=False), _QUARTER  # byte 16 is 0
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

    def __init__(
        self, builder: ir.IRBuilder, shape: Shape, rows: int, tables: ir.Value, panel: ir.Value, sums: ir.Value
    ) -> None:
        super().__init__(builder, shape)
        self.rows, self.tables, self.panel, self.sums = rows, tables, panel, sums
        self.halves = ir.VectorType(_I16, shape.lanes // 2)
        self.cells = [(r, v) for r in range(rows) for v in range(shape.vectors)]

    def emit(self, steps: ir.Value) -> None:
        """All steps, and the sums from 16 to 32 bits now and then."""
        b, chunk = self.builder, _I64(CHUNK)
        both = [cgutils.alloca_once(b, self.halves) for _ in self.cells]
        high = [cgutils.alloca_once(b, self.halves) for _ in self.cells]
        zero, wide = ir.Constant(self.halves, None), ir.VectorType(_I32, self.shape.lanes // 2)
        for cell in range(2 * len(self.cells)):
            self._store(ir.Constant(wide, None), self.sums, _I64(cell * wide.count))
        with cgutils.for_range_slice(b, _I64(0), steps, chunk, _I64) as (start, _):
            for place in both + high:
                b.store(zero, place)
            left = b.sub(steps, start)
            count = b.select(b.icmp_signed("<", left, chunk), left, chunk)
            with cgutils.for_range(b, count, intp=_I64) as loop:
                self._step(b.add(start, loop.index), both, high)
            for i, (total, odd) in enumerate(zip(both, high, strict=True)):
                odd_sums = b.load(odd)
                even_sums = b.sub(b.load(total), b.shl(odd_sums, ir.Constant(self.halves, [8] * self.halves.count)))
                for half, found in enumerate((even_sums, odd_sums)):
                    place = _I64((2 * i + half) * wide.count)
                    self._store(b.add(self._load(self.sums, place, wide), b.zext(found, wide)), self.sums, place)

    def _step(self, step: ir.Value, both: list[ir.Value], high: list[ir.Value]) -> None:
        b, shape = self.builder, self.shape
        eight = ir.Constant(self.halves, [8] * self.halves.count)
        place = b.mul(step, _I64(2 * shape.panel))
        indices = [self._indices(b.add(place, _I64(2 * v * shape.lanes))) for v in range(shape.vectors)]
        for r in range(self.rows):
            place = b.add(b.mul(step, _I64(shape.rows * shape.step_bytes)), _I64(r * shape.step_bytes))
            tables = [self._table(b.add(place, _I64(g << shape.inputs))) for g in range(shape.tables)]
            for v, index in enumerate(indices):
                found = self._sum([self._look_up(*pair) for pair in zip(tables, index, strict=True)])
                cell, found = r * shape.vectors + v, b.bitcast(found, self.halves)
                b.store(b.add(b.load(both[cell]), found), both[cell])
                b.store(b.add(b.load(high[cell]), b.lshr(found, eight)), high[cell])

    def _indices(self, place: ir.Value) -> list[ir.Value]:
        """Indices of the tables of a step: a byte each if they have six bits, else two in a byte."""
        b, lanes = self.builder, self.shape.lanes
        packed = [self._load(self.panel, b.add(place, _I64(i * lanes)), self.bytes) for i in (0, 1)]
        if self.shape.inputs == 6:
            return packed
        low, four = (ir.Constant(self.bytes, [value] * lanes) for value in (15, 4))
        return [index for both in packed for index in (b.and_(both, low), b.lshr(both, four))]

    def _table(self, place: ir.Value) -> ir.Value:
        return (
            self._load(self.tables, place, self.bytes) if self.shape.inputs == 6 else self._quarters(self.tables, place)
        )
