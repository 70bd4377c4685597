"""Boolean attention of one sentence in one call: signs of q, k, v to the byte codes of sign(context).

A key counts iff its dot product of signs with the query is > 0; the context is the sum of the value signs of the keys
that count. Both are the same operation, a row of signs against 64 columns of signs, so one tile serves both
(`nibble_tile.py`):

              row                  i runs over        lanes
    scores    signs of a query     values of a head   64 keys
    context   1 for chosen keys    keys               64 values of a head
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from bebert_kernels.attention.layout import BOOLEAN_QUERIES, CODE_WORDS, COLUMNS, NIBBLES, PLANE_WORDS
from bebert_kernels.attention.nibble_planes import (
    code_word,
    key_planes,
    value_planes,
)
from bebert_kernels.attention.nibble_tile import compare
from bebert_kernels.attention.sentence import Sentence
from bebert_kernels.emit.emitter import Emitter, Value, aligned, vector_code
from bebert_kernels.emit.vectors import I1, I8, I64, fill
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import WORD_BITS, Words

Bytes = NDArray[np.uint8]

_BITS, _BYTES = (ir.VectorType(kind, COLUMNS) for kind in (I1, I8))


class Signs(NamedTuple):
    """Packed signs of all rows of a batch, head by head, Wd = ceil(D / 64).

    words    : uint64[R, H * Wd], bit 1 = negative, and 0 where the value is 0
    nonzero  : uint64[R, H * Wd], bit 0 = the value is 0
    no_zeros : uint8[R], 1 = no zero in this row: its non-zero words are not read
    """

    words: Words
    nonzero: Words
    no_zeros: Bytes


def _emit_put_codes(
    e: Emitter, positive: Value, negative: Value, count: Value, out: Any, row: Value, column: Value
) -> None:
    b = e.builder
    above, below = (b.bitcast(word, _BITS) for word in (positive, negative))
    codes = b.select(above, fill(_BYTES, 0), b.select(below, fill(_BYTES, 3), fill(_BYTES, 2)))
    place = e.place(column, row, e.size(out))
    with b.if_else(b.icmp_signed("==", count, I64(COLUMNS))) as (whole, part):
        with whole:
            e.store(codes, out.data, place)
        with part:
            with b.if_else(b.icmp_signed("==", count, I64(COLUMNS // 2))) as (half, ragged):
                with half:
                    e.store(e.shuffle(codes, codes, list(range(COLUMNS // 2))), out.data, place)
                with ragged:
                    octets = b.bitcast(e.variable(codes), I8.as_pointer())
                    with e.loop(I64(0), count) as (i, _):
                        b.store(b.load(b.gep(octets, [i])), b.gep(out.data, [b.add(place, i)]))


@vector_code(_emit_put_codes)
def put_codes(positive: np.uint64, negative: np.uint64, count: int, out: Bytes, row: int, column: int) -> None:
    """Byte codes of `count` signs at out[row, column]: 0 where positive, 3 where negative, else 2."""
    bits = [(int(positive) >> d & 1, int(negative) >> d & 1) for d in range(count)]
    out[row, column : column + count] = [0 if above else 2 + below for above, below in bits]


@kernel
def _inside(count: int, word: int) -> np.uint64:
    """Ones for those of `count` bits that lie in this word."""
    return np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(max(0, (word + 1) * WORD_BITS - count))


@kernel
def _column(
    signs: Signs, part: int, sentence: Sentence, place: int, inside: np.uint64, scratch: Words, column: int
) -> None:
    """One word of all keys: the negative bits (part 0), or the positive ones where there are zeros (part 1)."""
    for t in range(sentence.key_last - sentence.key_first):
        row = sentence.key_first + t
        word = signs.words[row, place]
        if part == 1:
            word = ~word & (inside if signs.no_zeros[row] else signs.nonzero[row, place])
        scratch[column + t] = word


@kernel
def _has_zeros(signs: Signs, sentence: Sentence) -> int:
    """1 if any sign of the keys is 0, else 0."""
    for t in range(sentence.key_first, sentence.key_last):
        if not signs.no_zeros[t]:
            return 1
    return 0


@kernel
def _code_queries(q: Signs, first: int, rows: int, head: int, size: int, scratch: Words, to: int) -> None:
    """Places of the tables of some rows of queries."""
    words = (size + WORD_BITS - 1) // WORD_BITS
    for i in range(rows):
        for w in range(words):
            m, place = first + i, head * words + w
            nonzero = _inside(size, w) if q.no_zeros[m] else q.nonzero[m, place]
            code_word(q.words[m, place] & nonzero, nonzero, scratch, to + (i * words + w) * CODE_WORDS)


@kernel
def boolean_attention(
    q: Signs, k: Signs, v: Signs, sentence: Sentence, heads: int, scratch: Words, out: Bytes, out_no_zeros: Bytes
) -> None:
    """Byte codes of sign(context) for some query rows of one sentence.

    context[m, h, d] = sum over keys t with q[m, h] . k[t, h] > 0 of v[t, h, d]

    sentence     : its rows; at most 2**15 - 1 keys
    heads        : H
    scratch      : uint64[layout.boolean_words(keys, D)] or longer, of the caller's thread
    out          : uint8[last - first, H * D], written in full: 0 for +1, 2 for 0, 3 for -1
    out_no_zeros : uint8[last - first], 1 = no zero in this row of out

    Source: BiBERT attention, bool(sign(Q) sign(K)^T) sign(V), and the sign quantizer of its context.
    """
    first, last, key_first, key_last = sentence
    size = out.shape[1] // heads
    words = (size + WORD_BITS - 1) // WORD_BITS
    keys = key_last - key_first
    blocks = (keys + COLUMNS - 1) // COLUMNS
    word_planes = NIBBLES * PLANE_WORDS
    planes = blocks * words * word_planes
    k_planes = aligned(scratch)  # the parts of the scratch, one after another
    v_planes = k_planes + 2 * planes
    column = v_planes + 2 * planes
    query_codes = column + blocks * COLUMNS
    key_codes = query_codes + BOOLEAN_QUERIES * CODE_WORDS * words
    result = key_codes + BOOLEAN_QUERIES * CODE_WORDS * blocks
    k_zeros, v_zeros = _has_zeros(k, sentence), _has_zeros(v, sentence)
    for m in range(last - first):
        out_no_zeros[m] = 1
    for h in range(heads):
        for w in range(words):
            place, inside = h * words + w, _inside(size, w)
            for part in range(1 + k_zeros):
                _column(k, part, sentence, place, inside, scratch, column)
                key_planes(scratch, column, blocks, k_planes + part * planes + w * word_planes, words * word_planes)
            for part in range(1 + v_zeros):
                _column(v, part, sentence, place, inside, scratch, column)
                value_planes(scratch, column, (keys + 15) // 16, v_planes + part * planes + w * blocks * word_planes)
        for start in range(first, last, BOOLEAN_QUERIES):
            rows = min(BOOLEAN_QUERIES, last - start)
            _code_queries(q, start, rows, h, size, scratch, query_codes)
            for block in range(blocks):
                to = k_planes + block * words * word_planes
                compare(scratch, rows, query_codes, words, (size + 15) // 16, to, planes * k_zeros, result)
                inside = _inside(keys, block)
                for i in range(rows):
                    chosen = scratch[result + 2 * i] & inside
                    code_word(np.uint64(0), chosen, scratch, key_codes + (i * blocks + block) * CODE_WORDS)
            for w in range(words):
                to = v_planes + w * blocks * word_planes
                compare(scratch, rows, key_codes, blocks, (keys + 15) // 16, to, planes * v_zeros, result)
                inside, count = _inside(size, w), min(WORD_BITS, size - w * WORD_BITS)
                for i in range(rows):
                    positive, negative = scratch[result + 2 * i], scratch[result + 2 * i + 1]
                    m = start + i - first
                    out_no_zeros[m] &= np.uint8((positive | negative) & inside == inside)
                    put_codes(positive, negative, count, out, m, h * size + w * WORD_BITS)
