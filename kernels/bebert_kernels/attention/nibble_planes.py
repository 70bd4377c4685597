"""What the tile of `nibble_tile.py` reads: rows as places of tables, columns as planes of nibbles.

    codes  uint16[nibbles]      place of the row's table in TABLES
    plane  uint8[64]            nibble of each column, bit 1 = negative; one plane for each nibble

The words of 64 columns come in two ways: a word for each key (scores), or a word for each four values of i (context).
"""

from typing import Any

import numpy as np
from llvmlite import ir

from bebert_kernels.attention.layout import COLUMNS, NIBBLES, PLANE_WORDS
from bebert_kernels.emit.emitter import Emitter, vector_code
from bebert_kernels.emit.vectors import I1, I8, I16, I64, fill
from bebert_kernels.packing import Words

_BITS, _BYTES = (ir.VectorType(kind, COLUMNS) for kind in (I1, I8))


def _emit_key_planes(e: Emitter, scratch: Any, column: Any, blocks: Any, to: Any, stride: Any) -> None:
    """Transpose 8 x 8 bytes inside each vector of eight words, then eight vectors of eight words, then split bytes."""
    b, eight = e.builder, ir.VectorType(I64, 8)
    order = [8 * i + j for j in range(8) for i in range(8)]
    with e.loop(I64(0), blocks) as (block, _):
        vectors = []
        for i in range(8):
            octets = e.load(scratch.data, e.place(e.place(column, block, COLUMNS), 8 * i), _BYTES)
            vectors.append(b.bitcast(e.shuffle(octets, octets, order), eight))
        for step in (4, 2, 1):  # rows that are `step` apart exchange the words that are `step` apart
            low = [i if not i & step else i - step + 8 for i in range(8)]
            high = [i + step if not i & step else i + 8 for i in range(8)]
            for i in (i for i in range(8) if not i & step):
                pair = vectors[i], vectors[i + step]
                vectors[i], vectors[i + step] = e.shuffle(*pair, low), e.shuffle(*pair, high)
        start = e.place(to, block, stride)
        for i, vector in enumerate(vectors):
            octets = b.bitcast(vector, _BYTES)
            low_nibbles = b.and_(octets, fill(_BYTES, 15))
            e.store(low_nibbles, scratch.data, e.place(start, 2 * i, PLANE_WORDS), align=64)
            high_nibbles = b.lshr(octets, fill(_BYTES, 4))
            e.store(high_nibbles, scratch.data, e.place(start, 2 * i + 1, PLANE_WORDS), align=64)


@vector_code(_emit_key_planes)
def key_planes(scratch: Words, column: int, blocks: int, to: int, stride: int) -> None:
    """Byte t of plane j = nibble j of column word t, 64 rows a block.

    column : place of the words
    to     : place of the planes; each block is `stride` words further
    """
    octets = scratch.view(np.uint8)
    for t in range(blocks * COLUMNS):
        word = int(scratch[column + t])
        for j in range(NIBBLES):
            octets[8 * (to + t // COLUMNS * stride + j * PLANE_WORDS) + t % COLUMNS] = (word >> (4 * j)) & 15


def _emit_value_planes(e: Emitter, scratch: Any, column: Any, quads: Any, to: Any) -> None:
    """The bits of a word, spread to bytes."""
    b = e.builder
    with e.loop(I64(0), b.mul(quads, I64(4))) as (j, _):
        plane = fill(_BYTES, 0)
        for i in range(4):
            bits = b.bitcast(e.load(scratch.data, e.place(b.add(column, I64(i)), j, 4), I64), _BITS)
            plane = b.or_(plane, b.select(bits, fill(_BYTES, 1 << i), fill(_BYTES, 0)))
        e.store(plane, scratch.data, e.place(to, j, PLANE_WORDS), align=64)


@vector_code(_emit_value_planes)
def value_planes(scratch: Words, column: int, quads: int, to: int) -> None:
    """Bit i of byte d of plane j = bit d of column word 4 * j + i, for 16 * quads words."""
    octets = scratch.view(np.uint8)
    for j in range(4 * quads):
        four = [int(word) for word in scratch[column + 4 * j : column + 4 * j + 4]]
        for d in range(COLUMNS):
            octets[8 * (to + j * PLANE_WORDS) + d] = sum(((word >> d) & 1) << i for i, word in enumerate(four))


def _emit_code_word(e: Emitter, sign: Any, nonzero: Any, scratch: Any, to: Any) -> None:
    b, eight, wide = e.builder, ir.VectorType(I8, 8), ir.VectorType(I16, NIBBLES)
    order = [i // 2 + 8 * (i % 2) for i in range(NIBBLES)]
    spread = []
    for word in (sign, nonzero):
        octets = b.bitcast(word, eight)
        halves = b.and_(octets, fill(eight, 15)), b.lshr(octets, fill(eight, 4))
        spread.append(b.zext(e.shuffle(*halves, order), wide))
    e.store(b.or_(b.shl(spread[0], fill(wide, 4)), b.shl(spread[1], fill(wide, 8))), scratch.data, to)


@vector_code(_emit_code_word)
def code_word(sign: np.uint64, nonzero: np.uint64, scratch: Words, to: int) -> None:
    """Places of the tables of 16 nibbles: uint16[16] at scratch[to]; signs lie within nonzero."""
    pairs = [((int(nonzero) >> 4 * j & 15) << 8) | ((int(sign) >> 4 * j & 15) << 4) for j in range(NIBBLES)]
    scratch.view(np.uint16)[4 * to : 4 * to + NIBBLES] = pairs
