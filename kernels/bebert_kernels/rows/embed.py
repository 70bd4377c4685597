"""The embedding of one token: two packed word rows, a position row and a token-type row, in one pass."""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from bebert_kernels.emit.emitter import Emitter, Value, vector_code
from bebert_kernels.emit.vectors import F32, FLOAT_LANES, FLOATS, I1, I8, I16, I64, fill
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import WORD_BITS, Words, unpack_bits

Floats = NDArray[np.float32]

_MASK = ir.VectorType(I1, FLOAT_LANES)


class EmbeddingTables(NamedTuple):
    """What tokens are looked up in.

    words          : 1 or 2 word tables; with 1 the second one repeats the first
    signs0, signs1 : uint64[V, ceil(C / 64)], bit 1 = negative      scale0, scale1 : float32[V]
    positions      : float32[P, C]                                  types          : float32[S, C]
    """

    words: int
    signs0: Words
    scale0: Floats
    signs1: Words
    scale1: Floats
    positions: Floats
    types: Floats


def _emit_embed(e: Emitter, identifier: Value, position: Value, kind: Value, tables: Any, out: Any) -> None:
    b, size = e.builder, e.size(out)
    row_words = b.sdiv(b.add(size, I64(WORD_BITS - 1)), I64(WORD_BITS))
    # A second scale of 0 changes nothing: the sum so far is never -0.
    second = b.select(b.icmp_signed("==", tables.words, I64(2)), e.load(tables.scale1.data, identifier, F32), F32(0.0))
    given = []
    for signs, scale in ((tables.signs0, e.load(tables.scale0.data, identifier, F32)), (tables.signs1, second)):
        # Sixteen signs are two bytes of a word: words are kept with the low byte first on all CPUs that we know.
        row = e.pointer(signs.data, b.mul(identifier, row_words), I8)
        given.append((row, e.repeat(b.fneg(scale), FLOAT_LANES), e.repeat(scale, FLOAT_LANES)))
    rows = ((tables.positions, position), (tables.types, kind))
    inputs = [b.gep(table.data, [b.mul(number, size)]) for table, number in rows]

    def body(i: Value, vectors: list[Value], inside: Value | None) -> list[Value]:
        total: Value = fill(FLOATS, 0.0)
        for row, negative, positive in given:
            mask = b.bitcast(e.load(row, b.lshr(i, I64(3)), I16), _MASK)
            total = b.fadd(total, b.select(mask, negative, positive))
        return [b.fadd(b.fadd(total, vectors[0]), vectors[1])]

    e.for_blocks(size, inputs, [out.data], body)


@vector_code(_emit_embed)
def _embed(identifier: int, position: int, kind: int, tables: EmbeddingTables, out: Floats) -> None:
    total = np.zeros(out.size, np.float32)
    for signs, scale in ((tables.signs0, tables.scale0), (tables.signs1, tables.scale1))[: tables.words]:
        total = total + np.where(unpack_bits(signs[identifier], out.size), -scale[identifier], scale[identifier])
    out[:] = (total + tables.positions[position]) + tables.types[kind]


@kernel
def embed_row(identifier: int, position: int, kind: int, tables: EmbeddingTables, out: Floats) -> None:
    """Embedding of one token: ((±scale0 ± scale1) + position) + token type; equals `reference.embed`.

    identifier, position, kind : rows of the word tables, the position table and the type table; not checked
    out                        : float32[C], written in full

    Source: BinaryBERT (two branches of binary word embeddings), BiBERT and BiT (one).
    """
    _embed(identifier, position, kind, tables, out)
