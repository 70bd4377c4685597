"""Boolean attention of one sentence in one call: signs of q, k, v to the byte codes of sign(context).

A key counts iff its dot product of signs with the query is > 0; the context is the sum of the value signs of the keys
that count. Both are the same operation, a row of signs against 64 columns of signs, so one tile serves both
(`nibble_tile.py`):

              row                  i runs over        lanes
    scores    signs of a query     values of a head   64 keys
    context   1 for chosen keys    keys               64 values of a head
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from bebert_kernels.attention.nibble_planes import (
    CODE_WORDS,
    LANES,
    NIBBLES,
    PLANE_WORDS,
    code_word,
    key_planes,
    value_planes,
)
from bebert_kernels.attention.nibble_tile import compare_once
from bebert_kernels.emit.emitter import Emitter, aligned, vector_code
from bebert_kernels.emit.vectors import I1, I8, I64, fill
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import WORD_BITS, Words

QUERIES = 32  # rows that go through both products together

Bytes = NDArray[np.uint8]

_BITS, _BYTES = (ir.VectorType(kind, LANES) for kind in (I1, I8))


def scratch_words(keys: int, size: int) -> int:
    """Words of scratch that `boolean_attention` needs for a sentence of `keys` keys and heads of `size` values."""
    blocks, words = -(-keys // LANES), -(-size // WORD_BITS)
    planes = 4 * blocks * words * NIBBLES * PLANE_WORDS
    return PLANE_WORDS + planes + blocks * LANES + QUERIES * (CODE_WORDS * (words + blocks) + 2)


def _emit_put_codes(e: Emitter, positive: Any, negative: Any, count: Any, out: Any, row: Any, column: Any) -> None:
    b = e.builder
    above, below = (b.bitcast(word, _BITS) for word in (positive, negative))
    codes = b.select(above, fill(_BYTES, 0), b.select(below, fill(_BYTES, 3), fill(_BYTES, 2)))
    place = e.place(column, row, b.extract_value(out.shape, 1))
    with b.if_else(b.icmp_signed("==", count, I64(LANES))) as (whole, part):
        with whole:
            e.store(codes, out.data, place, align=1)
        with part:
            with b.if_else(b.icmp_signed("==", count, I64(LANES // 2))) as (half, ragged):
                with half:
                    e.store(e.shuffle(codes, codes, list(range(LANES // 2))), out.data, place, align=1)
                with ragged:
                    kept = cgutils.alloca_once(b, _BYTES)
                    b.store(codes, kept)
                    octets = b.bitcast(kept, I8.as_pointer())
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
def _planes(
    signs: Words,
    nonzero: Words,
    plain: Bytes,
    first: int,
    keys: int,
    place: int,
    inside: np.uint64,
    parts: int,
    scratch: Words,
    column: int,
    to: int,
    stride: int,
    further: int,
    by_key: int,
) -> None:
    """Planes of one word of all keys: of the negative bits, and where there are zeros of the positive ones.

    by_key : 1 = keys in the lanes (`key_planes`), 0 = values in the lanes (`value_planes`)
    """
    blocks = (keys + LANES - 1) // LANES
    for part in range(parts):
        for t in range(keys):
            word = signs[first + t, place]
            if part == 1:
                word = ~word & (inside if plain[first + t] else nonzero[first + t, place])
            scratch[column + t] = word
        if by_key:
            key_planes(scratch, column, blocks, to + part * further, stride)
        else:
            value_planes(scratch, column, (keys + 15) // 16, to + part * further)


@kernel
def boolean_attention(
    q: Words,
    q_nonzero: Words,
    k: Words,
    k_nonzero: Words,
    v: Words,
    v_nonzero: Words,
    plain: Bytes,
    first: int,
    last: int,
    key_first: int,
    key_last: int,
    heads: int,
    size: int,
    scratch: Words,
    out: Bytes,
    out_plain: Bytes,
) -> None:
    """Byte codes of sign(context) for some query rows of one sentence.

    context[m, h, d] = sum over keys t with q[m, h] . k[t, h] > 0 of v[t, h, d]

    q .. v_nonzero      : uint64[R, H * Wd], Wd = ceil(D / 64), head by head; bit 1 of a sign word = negative, and 0
                          where the value is 0; bit 0 of a non-zero word = the value is 0
    plain               : uint8[3, R], 1 = no zero in this row of q, k, v: its non-zero words are not read
    first, last         : query rows, absolute
    key_first, key_last : rows of the keys, at least one and at most 2**15 - 1
    heads, size         : H, D
    scratch             : uint64[scratch_words(keys, D)] or longer, of the caller's thread
    out                 : uint8[last - first, H * D], written in full: 0 for +1, 2 for 0, 3 for -1
    out_plain           : uint8[last - first], 1 = no zero in this row of out

    Source: BiBERT attention, bool(sign(Q) sign(K)^T) sign(V), and the sign quantizer of its context.
    """
    words = (size + WORD_BITS - 1) // WORD_BITS
    keys = key_last - key_first
    blocks = (keys + LANES - 1) // LANES
    word_planes = NIBBLES * PLANE_WORDS
    planes = blocks * words * word_planes
    k_planes = aligned(scratch)  # the parts of the scratch, one after another
    v_planes = k_planes + 2 * planes
    column = v_planes + 2 * planes
    query_codes = column + blocks * LANES
    key_codes = query_codes + QUERIES * CODE_WORDS * words
    result = key_codes + QUERIES * CODE_WORDS * blocks
    k_zeros, v_zeros = np.int64(0), np.int64(0)
    by_key, by_value = np.int64(1), np.int64(0)  # variables, because kernels are compiled anew for each literal
    none = np.int64(0)
    for t in range(key_first, key_last):
        k_zeros |= 1 - plain[1, t]
        v_zeros |= 1 - plain[2, t]
    for m in range(last - first):
        out_plain[m] = 1
    for h in range(heads):
        for w in range(words):
            place, inside = h * words + w, _inside(size, w)
            to, stride = k_planes + w * word_planes, words * word_planes
            _planes(
                k, k_nonzero, plain[1], key_first, keys, place, inside, 1 + k_zeros,
                scratch, column, to, stride, planes, by_key,
            )  # fmt: skip
            to = v_planes + w * blocks * word_planes
            _planes(
                v, v_nonzero, plain[2], key_first, keys, place, inside, 1 + v_zeros,
                scratch, column, to, none, planes, by_value,
            )  # fmt: skip
        for start in range(first, last, QUERIES):
            rows = min(QUERIES, last - start)
            for i in range(rows):
                for w in range(words):
                    m, place = start + i, h * words + w
                    nonzero = _inside(size, w) if plain[0, m] else q_nonzero[m, place]
                    code_word(q[m, place] & nonzero, nonzero, scratch, query_codes + (i * words + w) * CODE_WORDS)
            for block in range(blocks):
                to = k_planes + block * words * word_planes
                compare_once(scratch, rows, query_codes, words, (size + 15) // 16, to, planes, k_zeros, result)
                inside = _inside(keys, block)
                for i in range(rows):
                    chosen = scratch[result + 2 * i] & inside
                    code_word(np.uint64(0), chosen, scratch, key_codes + (i * blocks + block) * CODE_WORDS)
            for w in range(words):
                to = v_planes + w * blocks * word_planes
                compare_once(scratch, rows, key_codes, blocks, (keys + 15) // 16, to, planes, v_zeros, result)
                inside, count = _inside(size, w), min(WORD_BITS, size - w * WORD_BITS)
                for i in range(rows):
                    positive, negative = scratch[result + 2 * i], scratch[result + 2 * i + 1]
                    m = start + i - first
                    out_plain[m] &= np.uint8((positive | negative) & inside == inside)
                    put_codes(positive, negative, count, out, m, h * size + w * WORD_BITS)
