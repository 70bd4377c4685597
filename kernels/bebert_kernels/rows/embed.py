"""The embedding of one token: two packed word rows, a position row and a token-type row, in one pass."""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from bebert_kernels.emit.vectors import FLOATS, I1, I8, I16, I64, LANES, data_of, fill, for_blocks, load, size_of, splat
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import WORD_BITS, Words, unpack_bits

Floats = NDArray[np.float32]


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


@kernel
def embed_row(identifier: int, position: int, kind: int, tables: EmbeddingTables, out: Floats) -> None:
    """Embedding of one token: ((±scale0 ± scale1) + position) + token type; equals `reference.embed`.

    identifier, position, kind : rows of the word tables, the position table and the type table; not checked
    out                        : float32[C], written in full

    Source: BinaryBERT (two branches of binary word embeddings), BiBERT and BiT (one).
    """
    # A second scale of 0 changes nothing: the sum so far is never -0.
    second = tables.scale1[identifier] if tables.words == 2 else np.float32(0)
    embed_sum(identifier, position, kind, tables, second, out)


def embed_sum(
    identifier: int, position: int, kind: int, tables: EmbeddingTables, second: np.float32, out: Floats
) -> None:
    """`embed_row` with the scale of this token in the second table."""
    total = np.zeros(out.size, np.float32)
    for signs, scale in ((tables.signs0, tables.scale0[identifier]), (tables.signs1, second)):
        total = total + np.where(unpack_bits(signs[identifier], out.size), -scale, scale)
    out[:] = (total + tables.positions[position]) + tables.types[kind]


@intrinsic
def _embed_sum(  # type: ignore[no-untyped-def]  # numba inspects the signature
    typing_context, identifier, position, kind, signs0, scale0, signs1, scale1, position_table, type_table, out
):
    kinds = (signs0, signs1, position_table, type_table, out)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        word, place, token, packed0, number0, packed1, number1, *tables = arguments
        data = data_of(context, builder, kinds, (packed0, packed1, *tables))
        size = size_of(context, builder, out, tables[-1])
        words = builder.sdiv(builder.add(size, I64(WORD_BITS - 1)), I64(WORD_BITS))
        # Sixteen signs are two bytes of a word: words are kept with the low byte first on all CPUs that we know.
        signs = [builder.bitcast(builder.gep(row, [builder.mul(word, words)]), I8.as_pointer()) for row in data[:2]]
        scales = [(splat(builder, builder.fneg(number)), splat(builder, number)) for number in (number0, number1)]
        inputs = [
            builder.gep(table, [builder.mul(row, size)]) for table, row in zip(data[2:4], (place, token), strict=True)
        ]

        def body(i: ir.Value, vectors: list[ir.Value], inside: ir.Value | None) -> list[ir.Value]:
            total: ir.Value = fill(FLOATS, 0.0)
            for row, (negative, positive) in zip(signs, scales, strict=True):
                bits = load(builder, row, builder.lshr(i, I64(3)), I16)
                mask = builder.bitcast(bits, ir.VectorType(I1, LANES))
                total = builder.fadd(total, builder.select(mask, negative, positive))
            return [builder.fadd(builder.fadd(total, vectors[0]), vectors[1])]

        for_blocks(builder, size, inputs, data[4:], body)
        return context.get_dummy_value()

    places = (types.int64,) * 3
    scalar = types.float32
    return types.void(*places, signs0, scalar, signs1, scalar, position_table, type_table, out), generate


@overload(embed_sum)
def _embed_sum_overload(identifier, position, kind, tables, second, out):  # type: ignore[no-untyped-def]
    def emit(identifier, position, kind, tables, second, out):  # type: ignore[no-untyped-def]
        first = tables.scale0[identifier]
        _embed_sum(  # type: ignore[call-arg]  # numba adds the first
            identifier, position, kind, tables.signs0, first, tables.signs1, second, tables.positions, tables.types, out
        )

    return emit
