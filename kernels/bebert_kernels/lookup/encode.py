"""A row of codes to what `tile.py` reads: a table for each group, the list of groups, and the windows of the list.

A window is a run of groups whose sums fit into a byte, from a bias on, whatever the weights: its codes above 0 add up
to at most 255 - bias, those below 0 to at most bias. Four groups, a *unit*, always fit, since codes are at most 15
apart. A window takes unit after unit as long as they fit, four to six of usual rows.

Eight groups are encoded at a time. Tables are built in two steps, the four sums of every pair of codes first, and every
entry as a sum of two of those.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import F32, I8, I16, I32, I64, fill
from bebert_kernels.lookup.layout import BASE, BIAS, ENTRIES, HIGHEST, SPAN, TOGETHER, TOTAL, UNIT, WINDOWS, Shape
from bebert_kernels.lookup.shuffles import QUARTER, Lookups
from bebert_kernels.lookup.tile import Rows

_NONE = 128  # an index that gives 0 where tables have 16 entries
_PAIR = 4  # sums of two codes: 0, a, b, a + b
_FIELD = 32  # bits of the sums of codes above 0 in a word; those of codes below 0 follow
_LIMIT = 1 << 15  # the bit of a field that tells of too much


def make_encode(shape: Shape) -> Any:
    """Intrinsic that encodes rows of bytes; all arguments are int64, codes and out addresses.

    codes : uint8[rows, depth], at most 15; a code is its byte plus `low`      bias : that of `layout.bias_of`
    out   : rows of `layout.row_layout`
    """

    @emitted()
    def encode(e: Emitter, codes: Value, rows: Value, depth: Value, low: Value, bias: Value, out: Value) -> None:
        b, size = e.builder, Rows(e, depth).size
        with e.loop(I64(0), rows) as (r, _):
            row = _Row(e, shape, depth, low, bias, b.add(out, b.mul(r, size)))
            row.emit(b.add(codes, b.mul(r, depth)))

    return encode


class _Row(Lookups):
    def __init__(self, e: Emitter, shape: Shape, depth: Value, low: Value, bias: Value, row: Value) -> None:
        super().__init__(e, shape)
        b = e.builder
        self.depth, self.low, self.bias, self.row, self.layout = depth, low, bias, row, Rows(e, depth)
        self.codes = ir.VectorType(I8, SPAN)
        self.lows = e.repeat(b.trunc(low, I8), SPAN)
        self.list, self.tables = (b.add(row, place) for place in (self.layout.list, self.layout.tables))
        # Of a word of sums: what a field lacks to reach _LIMIT when its sum is one too many.
        rooms = b.sub(I64(255), bias), bias
        lacks = [b.sub(I64(_LIMIT - 1), room) for room in rooms]
        self.lack = b.or_(lacks[0], b.shl(lacks[1], I64(_FIELD)))
        self.listed, self.windows, self.sums = (e.variable(I64(0)) for _ in range(3))
        self.words = ir.VectorType(I64, SPAN // 8)  # each the sums of eight bytes
        self.all = e.variable(fill(self.words, 0))
        self.chosen_groups = _numbers_of_bits(e)

    def emit(self, codes: Value) -> None:
        e, b = self.e, self.e.builder
        whole = b.udiv(self.depth, I64(SPAN))
        with e.loop(I64(0), whole) as (i, _):
            self._eight_groups(e.load(codes, b.mul(i, I64(SPAN)), self.codes), i)
        rest = b.sub(self.depth, b.mul(whole, I64(SPAN)))
        with b.if_then(b.icmp_unsigned("!=", rest, I64(0)), likely=False):
            end = e.variable(b.sub(fill(self.codes, 0), self.lows))  # code 0 behind the last one
            source = e.pointer(codes, b.mul(whole, I64(SPAN)), I8)
            cgutils.raw_memcpy(b, b.bitcast(end, I8.as_pointer()), source, rest, 1, align=1)
            self._eight_groups(b.load(end), whole)
        self._end_of_window(b.load(self.listed))
        b.store(b.add(b.load(self.windows), I64(1)), self.windows)
        self._header()

    def _eight_groups(self, codes: Value, number: Value) -> None:
        """Everything about the codes of eight groups: the number of the eight tells which."""
        e, b = self.e, self.e.builder
        codes = b.add(codes, self.lows)
        first = b.mul(number, I64(TOGETHER))
        self._write_tables(codes, b.add(self.tables, b.mul(first, I64(ENTRIES))))
        listed, kind = b.load(self.listed), ir.VectorType(ir.IntType(8 * codes.type.count // TOGETHER), TOGETHER)
        used = b.bitcast(b.icmp_unsigned("!=", b.bitcast(codes, kind), fill(kind, 0)), I8)
        above = self._at_least_0(codes)
        sums = self._sums_of_halves(above, b.sub(above, codes))
        used_by_half = b.zext(b.and_(used, I8(15)), I64), b.zext(b.lshr(used, I8(UNIT)), I64)
        place = listed
        for half, bits in zip(sums, used_by_half, strict=True):
            self._add_to_window(half, place)
            place = b.add(place, e.call("llvm.ctpop.i64", I64, bits))
        numbers = e.load(self.chosen_groups, b.mul(b.zext(used, I64), I64(TOGETHER)), ir.VectorType(I16, TOGETHER), 2)
        base = e.repeat(b.trunc(b.mul(first, I64(ENTRIES)), I16), TOGETHER)
        e.store(b.add(numbers, base), self.list, b.mul(listed, I64(2)), 2)
        b.store(place, self.listed)

    def _at_least_0(self, codes: Value) -> Value:
        return self.e.builder.select(
            self.e.builder.icmp_signed(">", codes, fill(codes.type, 0)), codes, fill(codes.type, 0)
        )

    def _sums_of_halves(self, above: Value, below: Value) -> list[Value]:
        """Of each four groups a word: the sum of what is above 0, and 2**32 times that of what is below, negated."""
        e, b, kind = self.e, self.e.builder, self.words
        words = b.add(self._eights(above, kind), b.shl(self._eights(below, kind), fill(kind, _FIELD)))
        b.store(b.add(b.load(self.all), words), self.all)
        found = []
        for half in e.split(words, kind.count // 2):
            lanes = [b.extract_element(half, I32(i)) for i in range(half.type.count)]
            while len(lanes) > 1:
                lanes = [b.add(*lanes[i : i + 2]) for i in range(0, len(lanes), 2)]
            found += lanes
        return found

    def _eights(self, values: Value, kind: ir.VectorType) -> Value:
        """Sums of eight bytes each, none above 31."""
        e, b = self.e, self.e.builder
        name = "llvm.x86.avx2.psad.bw" if self.shape.shuffle.startswith("vpshufb") else ""
        if name:
            return e.call(name, kind, values, fill(values.type, 0))
        words, odd = b.bitcast(values, kind), fill(kind, 0x00FF00FF00FF00FF)
        fours = b.add(b.and_(words, odd), b.and_(b.lshr(words, fill(kind, 8)), odd))
        twos = b.add(fours, b.lshr(fours, fill(kind, 32)))
        return b.and_(b.add(twos, b.lshr(twos, fill(kind, 16))), fill(kind, 0xFFFF))

    def _add_to_window(self, sums: Value, place: Value) -> None:
        """Begin a window at a place of the list if these sums do not fit into the present one."""
        b = self.e.builder
        flags = I64(_LIMIT | _LIMIT << _FIELD)
        together = b.add(b.load(self.sums), sums)
        full = b.zext(b.icmp_unsigned("!=", b.and_(b.add(together, self.lack), flags), I64(0)), I64)
        self._end_of_window(place)
        b.store(b.add(b.load(self.windows), full), self.windows)
        # No branch: nobody can foresee where windows end.
        kept = b.and_(b.load(self.sums), b.sub(full, I64(1)))
        b.store(b.add(kept, sums), self.sums)

    def _end_of_window(self, place: Value) -> None:
        """Write the end of the present window; it counts once the number of windows does."""
        b = self.e.builder
        where = b.add(self.layout.windows, b.mul(b.load(self.windows), I64(2)))
        self.e.store(b.trunc(place, I16), self.row, where, 2)

    def _header(self) -> None:
        """Total and base such that dot = total - 2 * (16-bit sums - base), which lie in -2**15 .. 2**15 - 1."""
        e, b, field = self.e, self.e.builder, I64((1 << _FIELD) - 1)
        every, windows = e.fold(b.load(self.all), b.add), b.load(self.windows)
        total = b.sub(b.and_(every, field), b.lshr(every, I64(_FIELD)))
        # The sums lie between low * depth and (low + 15) * depth: their middle. Rounded up, as there is one number more
        # below 0 than above.
        ends = b.mul(self.depth, b.add(b.mul(self.low, I64(2)), I64(HIGHEST)))
        middle = b.ashr(b.add(ends, I64(1)), I64(1))
        base = b.add(b.mul(self.bias, windows), middle)
        e.store(b.sitofp(b.sub(total, b.mul(middle, I64(2))), F32), self.row, TOTAL, 4)
        e.store(b.trunc(base, I16), self.row, BASE, 2)
        e.store(b.trunc(windows, I16), self.row, WINDOWS, 2)
        e.store(b.trunc(self.bias, I8), self.row, BIAS)

    def _write_tables(self, codes: Value, place: Value) -> None:
        """Tables of eight groups, one behind the other."""
        for half, part in enumerate(self.e.split(codes, SPAN // 2)):
            self._four_tables(part, self.e.place(place, half, UNIT * ENTRIES))

    def _four_tables(self, codes: Value, place: Value) -> None:
        """Tables of four groups, as many in a vector as it has quarters."""
        quarters, lanes = self.shape.lanes // QUARTER, self.shape.lanes
        source, vectors, pairs = self.e.repeat(codes, lanes), UNIT // quarters, []
        for first in range(0, vectors, 2):  # the pairs of two tables fill a quarter, eight bytes each
            orders: list[list[int]] = [[], []]
            for j in range(lanes):
                vector, pair, sums = first + j % QUARTER // 8, j % 8 // _PAIR, j % _PAIR
                group = vector * quarters + j // QUARTER
                for code, order in enumerate(orders):
                    wanted = vector < vectors and sums >> code & 1
                    order.append(4 * group + 2 * pair + code if wanted else _NONE)
            pairs.append(self.chosen(source, orders))
        for vector in range(vectors):
            at = [8 * (vector % 2) + _PAIR * pair for pair in (0, 1)]
            orders = [[at[pair] + (j >> 2 * pair & 3) for j in range(lanes)] for pair in (0, 1)]
            self.e.store(self.chosen(pairs[vector // 2], orders), place, vector * lanes)


def _numbers_of_bits(e: Emitter) -> Value:
    """uint16[256, 8]: of each byte the numbers of its bits, times ENTRIES, in order."""
    rows = [[i * ENTRIES for i in range(TOGETHER) if byte >> i & 1] for byte in range(256)]
    values = [number for row in rows for number in row + [0] * (TOGETHER - len(row))]
    kind = ir.ArrayType(I16, len(values))
    table = cgutils.global_constant(e.builder.module, "numbers_of_bits", ir.Constant(kind, values))
    return e.builder.bitcast(table, I16.as_pointer())
