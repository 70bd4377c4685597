"""The product by table look-up: rows of tables times a block of outputs, from indices to scaled floats.

    sums[n] = sum_k c[k] * negative[n, k]                c: codes of a few bits, negative: 1 where the weight is -1
    dot[n]  = total - 2 * sums[n]                        total = sum_k c[k]

A few neighbouring codes of a row, a *group*, have few possible sums: four codes make 16. `encode.py` writes them into a
table of 16 bytes, and the four sign bits of an output say which entry it wants. One byte shuffle looks up as many
outputs as the vector has bytes, four multiply-adds each:

    codes  c0 c1 c2 c3  -->  table |0|c0|c1|c0+c1|c2|...|c0+c1+c2+c3|      16 bytes, in every quarter of the vector
    signs of 64 outputs -->  index |5|15|0|9|...|                          64 times four bits
    shuffle(table, index)          |c0+c2|c0+c1+c2+c3|0|c0+c3|...|         added to 64 sums

Two instructions a look-up and nothing else, as long as the sums stay bytes. How long that is depends on the codes, and
most are small: the encoder cuts each row into *windows* of groups whose sums fit whatever the weights are, about
twenty groups of four in a usual row where the largest codes would allow four. It lists the groups to look up; those
whose codes are all 0, half of them after a ReLU, are not in the list. At the end of a window the bytes go to 16-bit
sums, twice: as they are, and shifted right by 8. The latter are the sums of the odd bytes; the former, less 256 times
the latter, those of the even ones: three instructions for all outputs of a vector. Bytes count from a bias, so that
sums below 0 stay bytes too. Integers wrap around and come right in the end, for a row's sums span less than 2**16
(`layout.DEEPEST`).

One row at a time: its sums stay in registers from the first group to the scaled floats, and one row costs what each of
many costs. What rows share is the indices of a block of outputs. Two of them lie in a byte of the weights; they are
unpacked once for all rows, into a scratch that the first-level cache holds. `Shape` says all that differs between CPUs.
"""

from typing import Any

from llvmlite import ir

from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import F32, FLOAT_LANES, I8, I16, I32, I64, fill
from bebert_kernels.lookup.layout import (
    BASE,
    BIAS,
    ENTRIES,
    LINE,
    NEAR,
    SPAN,
    TOGETHER,
    TOTAL,
    UNIT,
    WINDOWS,
    EncodedRows,
    Shape,
)
from bebert_kernels.lookup.shuffles import Lookups


class RowBlock(Lookups):
    """Emits the outputs of one row and one block of `width` vectors. Everything that is passed is an address."""

    def __init__(self, e: Emitter, shape: Shape, width: int, row: Value, layout: "Rows", indices: Value) -> None:
        super().__init__(e, shape)
        self.width, self.row, self.layout, self.indices = width, row, layout, indices
        self.halves = ir.VectorType(I16, shape.lanes // 2)

    def emit(self, scale: Value, add: Value, out: Value) -> None:
        """float32[width * lanes]: out = float(dot) * scale + add; out may be add."""
        sums = self._windows()
        e, b, row = self.e, self.e.builder, self.row
        lanes = min(FLOAT_LANES, self.halves.count)
        floats = ir.VectorType(F32, lanes)
        base, total = (e.load(row, place, kind, 2) for place, kind in ((BASE, I16), (TOTAL, F32)))
        base, total = e.repeat(base, self.halves.count), e.repeat(total, lanes)
        place = 0
        for half in sums:
            for part in e.split(b.sub(half, base), lanes):
                found = b.sitofp(b.sext(part, ir.VectorType(I32, lanes)), floats)
                # Whole numbers below 2**24: exact, in one step or two.
                dots = e.call(f"llvm.fmuladd.v{lanes}f32", floats, found, fill(floats, -2.0), total)
                product = b.fmul(dots, e.load(scale, place, floats, 4))
                e.store(b.fadd(product, e.load(add, place, floats, 4)), out, place, 4)
                place += 4 * lanes

    def _windows(self) -> list[Value]:
        """All windows: 16-bit sums of the lower and the upper half of each vector, as `layout.lut_weights` says."""
        e, b, row = self.e, self.e.builder, self.row
        bias = e.repeat(e.load(row, BIAS, I8), self.shape.lanes)
        both, high = ([e.variable(fill(self.halves, 0)) for _ in range(self.width)] for _ in range(2))
        bytes_ = [e.variable(bias) for _ in range(self.width)]
        begin = e.variable(I64(0))
        with e.loop(I64(0), b.zext(e.load(row, WINDOWS, I16, 2), I64)) as (window, _):
            end = b.zext(e.load(b.add(row, self.layout.windows), b.mul(window, I64(2)), I16, 2), I64)
            with e.loop(b.load(begin), end) as (i, _):
                self._group(i, bytes_)
            b.store(end, begin)
            for place, total, odd in zip(bytes_, both, high, strict=True):
                found = b.bitcast(b.load(place), self.halves)
                b.store(bias, place)
                b.store(b.add(b.load(total), found), total)
                b.store(b.add(b.load(odd), b.lshr(found, fill(self.halves, 8))), odd)
        sums = []
        for total, odd in zip(both, high, strict=True):
            odd_sums = b.load(odd)
            sums += [b.sub(b.load(total), b.shl(odd_sums, fill(self.halves, 8))), odd_sums]
        return sums

    def _group(self, i: Value, bytes_: list[Value]) -> None:
        """Look up entry i of the list for all vectors."""
        e, b, lanes = self.e, self.e.builder, self.shape.lanes
        place = b.zext(e.load(b.add(self.row, self.layout.list), b.mul(i, I64(2)), I16, 2), I64)
        table = self.quarters(b.add(self.row, self.layout.tables), place)
        index = b.add(self.indices, b.mul(place, I64(self.width * lanes // ENTRIES)))
        for v, sums in enumerate(bytes_):
            found = self.look_up(table, e.load(index, v * lanes, self.bytes))
            b.store(b.add(b.load(sums), found), sums)


class Rows:
    """Values of the layout of encoded rows (`layout.row_layout`), for a depth that is known when code runs."""

    def __init__(self, e: Emitter, depth: Value) -> None:
        b = e.builder

        def lines(size: Value) -> Value:
            return b.and_(b.add(size, I64(LINE - 1)), I64(-LINE))

        self.groups = b.mul(b.udiv(b.add(depth, I64(SPAN - 1)), I64(SPAN)), I64(TOGETHER))
        self.windows = I64(LINE)
        self.list = b.add(self.windows, lines(b.add(b.mul(b.udiv(self.groups, I64(UNIT)), I64(2)), I64(2))))
        self.tables = b.add(self.list, lines(b.mul(b.add(self.groups, I64(TOGETHER)), I64(2))))
        self.size = b.add(self.tables, b.mul(self.groups, I64(ENTRIES)))


def make_multiply(shape: Shape) -> Any:
    """Intrinsic: all rows of a block times some vectors of outputs, the widest blocks first, as `layout.runs`.

    All arguments are int64, addresses but for the counts and the stride:

    rows       : `layout.EncodedRows`
    weights    : of the first of `vectors` vectors of outputs       scratch : uint8[shape.index_bytes(depth)]
    scale, out : float32[vectors * lanes], out one for each row, PANEL_OUTPUTS floats apart
    add        : the addend of the first row                        stride  : bytes to that of the next row
    """

    @emitted()
    def multiply(
        e: Emitter,
        rows: EncodedRows,
        weights: Value,
        vectors: Value,
        scratch: Value,
        scale: Value,
        add: Value,
        stride: Value,
        out: Value,
    ) -> None:
        b, layout, lanes = e.builder, Rows(e, rows.depth), shape.lanes
        size = b.mul(layout.groups, I64(lanes // 2))  # bytes of the weights of a vector
        next_vector = e.variable(I64(0))
        for width in shape.widths:
            blocks = b.udiv(b.sub(vectors, b.load(next_vector)), I64(width))
            if width > 2:  # of deep rows the indices would not fit into the cache, `Shape.widest`
                fits = b.icmp_unsigned("<=", b.mul(layout.groups, I64(lanes * width)), I64(NEAR))
                blocks = b.select(fits, blocks, I64(0))
            with e.loop(I64(0), blocks):
                vector = b.load(next_vector)
                b.store(b.add(vector, I64(width)), next_vector)
                _unpack(e, shape, b.add(weights, b.mul(vector, size)), scratch, width, layout.groups)
                place = b.mul(vector, I64(4 * lanes))
                next_weights = b.add(weights, b.mul(b.load(next_vector), size))
                lines = b.udiv(b.mul(size, I64(width)), I64(LINE))
                with e.loop(I64(0), rows.number) as (r, _):
                    first, last = (b.udiv(b.mul(lines, number), rows.number) for number in (r, b.add(r, I64(1))))
                    _prefetch(e, next_weights, first, last)
                    row, to = b.add(rows.address, b.mul(r, layout.size)), b.add(place, b.mul(r, I64(4 * PANEL_OUTPUTS)))
                    block = RowBlock(e, shape, width, row, layout, scratch)
                    addend = b.add(b.add(add, place), b.mul(r, stride))
                    block.emit(b.add(scale, place), addend, b.add(out, to))

    return multiply


def _prefetch(e: Emitter, address: Value, first: Value, last: Value) -> None:
    """Ask for some lines behind an address, which need not exist, while rows are computed."""
    with e.loop(first, last) as (line, _):
        e.prefetch(e.place(address, line, LINE))


def _unpack(e: Emitter, shape: Shape, weights: Value, scratch: Value, width: int, groups: Value) -> None:
    """Emit the indices of all groups of a block, a byte each."""
    b, lanes, kind = e.builder, shape.lanes, ir.VectorType(I8, shape.lanes)
    with e.loop(I64(0), b.lshr(groups, I64(1))) as (pair, _):
        source, target = (b.mul(pair, I64(size * width * lanes)) for size in (1, 2))
        for v in range(width):
            both = e.load(weights, b.add(source, I64(v * lanes)), kind)
            for half, index in enumerate((b.and_(both, fill(kind, 15)), b.lshr(both, fill(kind, 4)))):
                e.store(index, scratch, b.add(target, I64((half * width + v) * lanes)))
