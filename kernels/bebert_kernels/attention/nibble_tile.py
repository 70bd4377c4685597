"""The sums of rows of signs with 64 columns of signs, by tables of four products (`boolean.py` says for what).

    sum[lane] = sum_i row[i] * column[i, lane]          row: -1, 0, +1;   column: -1 or +1

Four values of i are one nibble. What a nibble of the row does to the 16 possible nibbles of a column is a table of 16
bytes, and a byte shuffle looks 64 columns up at once: two instructions for 64 times 4 products.

Where columns have zeros, the sum over the negative bits minus the sum over the positive bits is twice the result, and
only its sign is wanted. Byte sums are widened after 64 values, so nothing overflows below 2**15 values.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from bebert_kernels.attention.layout import CODE_WORDS, COLUMNS, PLANE_WORDS
from bebert_kernels.emit.emitter import Emitter, Value, vector_code
from bebert_kernels.emit.vectors import I8, I16, I32, I64, fill
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import Words

TILE_ROWS = 4

_BYTES, _SHORTS = (ir.VectorType(kind, COLUMNS) for kind in (I8, I16))
_TABLE = ir.VectorType(I8, 16)


def _tables() -> NDArray[np.uint8]:
    """Table (nonzero, sign) of a row's nibble: uint8[16 * 16, 16], sums of four products as int8."""
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    signs = 1 - 2 * bits
    rows = bits[:, None, :] * signs[None, :, :]
    return (rows.reshape(-1, 4) @ signs.T).astype(np.int8).view(np.uint8)


TABLES = _tables()


def _look_up(e: Emitter, table: Value, plane: Value) -> Value:
    """Byte of the table (16 bytes) for each of 64 nibbles."""
    b = e.builder
    if "+avx512bw" in e.features:
        return e.call("llvm.x86.avx512.pshuf.b.512", _BYTES, e.repeat(table, COLUMNS), plane)
    if "+avx2" in e.features:
        name, width = "llvm.x86.avx2.pshuf.b", 32
    elif "+ssse3" in e.features:
        name, width = "llvm.x86.ssse3.pshuf.b.128", 16
    elif "+neon" in e.features:
        name, width = "llvm.aarch64.neon.tbl1.v16i8", 16
    else:  # a table is linear: entry 0, and what each bit adds to it
        zero = e.repeat(b.extract_element(table, I32(0)), COLUMNS)
        value = zero
        for i in range(4):
            bit = fill(_BYTES, 1 << i)
            step = b.sub(e.repeat(b.extract_element(table, I32(1 << i)), COLUMNS), zero)
            hit = b.sext(b.icmp_unsigned("==", b.and_(plane, bit), bit), _BYTES)
            value = b.add(value, b.and_(hit, step))
        return value
    kind = ir.VectorType(I8, width)
    return e.join([e.call(name, kind, e.repeat(table, width), part) for part in e.split(plane, width)])


class _Tile:
    """Emits the sums of some rows with 64 columns."""

    def __init__(self, e: Emitter, scratch: Any, *arguments: Value) -> None:
        self.e, self.data = e, scratch.data
        self.codes, self.code_words, self.quads, self.planes, self.positive_planes, self.result = arguments
        self.stride = e.builder.mul(self.code_words, I64(CODE_WORDS))
        kind = ir.ArrayType(I8, TABLES.size)
        tables = cgutils.global_constant(e.builder.module, "bebert_nibbles", kind(bytearray(TABLES.tobytes())))
        tables.align = 64
        self.tables = e.builder.bitcast(tables, I8.as_pointer())

    def emit(self, row: Value, count: int) -> None:
        """Rows row .. row + count - 1: minus the sums over the positive planes, plus those over the negative ones."""
        e, b = self.e, self.e.builder
        totals = [e.variable(fill(_SHORTS, 0)) for _ in range(count)]
        sums_once = b.zext(b.icmp_signed("==", self.positive_planes, I64(0)), I64)
        with e.loop(sums_once, I64(2)) as (part, _):
            start = e.place(self.planes, b.sub(I64(1), part), self.positive_planes)
            for total in totals:
                b.store(b.neg(b.load(total)), total)
            with e.loop(I64(0), self.quads, 4) as (quad, _):
                for total, partial in zip(totals, self._word(row, start, quad, count), strict=True):
                    b.store(b.add(b.load(total), b.sext(partial, _SHORTS)), total)
        for i, total in enumerate(totals):
            for side, order in enumerate((">", "<")):
                bits = b.bitcast(b.icmp_signed(order, b.load(total), fill(_SHORTS, 0)), I64)
                e.store(bits, self.data, b.add(e.place(self.result, b.add(row, I64(i)), 2), I64(side)))

    def _word(self, row: Value, start: Value, quad: Value, count: int) -> list[Value]:
        """Sums over at most 64 values, which fit into bytes."""
        e, b = self.e, self.e.builder
        sums = [cgutils.alloca_once(b, _BYTES) for _ in range(count)]
        for total in sums:
            b.store(fill(_BYTES, 0), total)
        left = b.sub(self.quads, quad)
        end = b.add(quad, b.select(b.icmp_signed("<", left, I64(4)), left, I64(4)))
        with e.loop(quad, end) as (inner, _):
            for step in range(4):
                nibble = e.place(I64(step), inner, 4)
                plane = e.load(self.data, e.place(start, nibble, PLANE_WORDS), _BYTES, align=64)
                for i, total in enumerate(sums):
                    place = e.place(self.codes, b.add(row, I64(i)), self.stride)
                    codes = b.bitcast(b.gep(self.data, [place]), I16.as_pointer())
                    code = b.zext(b.load(b.gep(codes, [nibble])), I64)
                    table = e.load(self.tables, code, _TABLE, align=16)
                    b.store(b.add(b.load(total), _look_up(e, table, plane)), total)
        return [b.load(total) for total in sums]


def _emit_compare(e: Emitter, scratch: Any, rows: Value, *arguments: Value) -> None:
    tile, whole = _Tile(e, scratch, *arguments), e.builder.and_(rows, I64(-TILE_ROWS))
    with e.loop(I64(0), whole, TILE_ROWS) as (row, _):
        tile.emit(row, TILE_ROWS)
    with e.loop(whole, rows) as (row, _):
        tile.emit(row, 1)


@vector_code(_emit_compare)
def _compare(
    scratch: Words, rows: int, codes: int, code_words: int, quads: int, planes: int, positive_planes: int, result: int
) -> None:
    octets, shorts = scratch.view(np.uint8), scratch.view(np.uint16)
    for i in range(rows):
        total = np.zeros(COLUMNS, np.int64)
        for j in range(4 * quads):
            table = TABLES[shorts[4 * (codes + i * code_words * CODE_WORDS) + j] >> 4].view(np.int8)
            place = 8 * (planes + j * PLANE_WORDS)
            total += table[octets[place : place + COLUMNS] & 15]
            if positive_planes:
                place += 8 * positive_planes
                total -= table[octets[place : place + COLUMNS] & 15]
        for side, flags in enumerate((total > 0, total < 0)):
            scratch[result + 2 * i + side] = np.packbits(flags, bitorder="little").view(np.uint64)[0]


@kernel
def compare(
    scratch: Words, rows: int, codes: int, code_words: int, quads: int, planes: int, positive_planes: int, result: int
) -> None:
    """Signs of the sums of rows with 64 columns: words scratch[result + 2 * i + (0, 1)], positive and negative.

    codes           : place of the codes, `code_words` words of signs for each row
    quads           : groups of four nibbles that are used
    planes          : place of the negative planes
    positive_planes : how much further those of the positive bits lie, 0 where the columns have no zeros
    """
    _compare(scratch, rows, codes, code_words, quads, planes, positive_planes, result)  # compiled once for both uses
