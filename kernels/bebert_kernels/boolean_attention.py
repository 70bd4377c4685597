"""Attention without softmax: a key counts iff its dot product of signs is > 0, and value signs are summed."""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.flags import flag_word
from bebert_kernels.jit.kernel import kernel, popcount
from bebert_kernels.packing import WORD_BITS, Words


@kernel
def score_bits(q: Words, q_nonzero: Words, k: Words, k_nonzero: Words, out: Words) -> None:
    """Boolean attention weights, 64 keys to a word.

    bit t of out[h, m] = 1 iff popcount(both) - 2 * popcount((q[m, h] ^ k[t, h]) & both) > 0,
    both = q_nonzero[m, h] & k_nonzero[t, h]

    q, q_nonzero : uint64[Tq, H, Wd]
    k, k_nonzero : uint64[Tk, H, Wd]
    out          : uint64[H, Tq, ceil(Tk / 64)]   written in full, padding bits 0

    Source: BiBERT attention with the strict threshold of the published code.
    """
    queries, heads, words = q.shape
    keys = k.shape[0]
    signs = np.empty((words, keys), np.uint64)  # keys side by side, so that the loops over keys vectorize
    nonzero = np.empty((words, keys), np.uint64)
    dots = np.empty(keys, np.int64)
    positive = np.zeros(out.shape[2] * WORD_BITS, np.uint8)
    for h in range(heads):
        for t in range(keys):
            for w in range(words):
                signs[w, t] = k[t, h, w]
                nonzero[w, t] = k_nonzero[t, h, w]
        for m in range(queries):
            for t in range(keys):
                dots[t] = 0
            for w in range(words):
                sign = q[m, h, w]
                mask = q_nonzero[m, h, w]
                for t in range(keys):
                    both = mask & nonzero[w, t]
                    dots[t] += popcount(both) - 2 * popcount((sign ^ signs[w, t]) & both)
            for t in range(keys):
                positive[t] = dots[t] > 0
            for block in range(out.shape[2]):
                out[h, m, block] = flag_word(positive, block)


@kernel
def bit_context(bits: Words, v: Words, v_nonzero: Words, out: NDArray[np.int32]) -> None:
    """Sums of the value signs of the keys whose bit is 1.

    out[m, h, d] = sum_w popcount(chosen & nonzero[w, d]) - 2 * popcount(chosen & negative[w, d])

    where chosen = bits[h, m, w], and both planes are those of the values with keys along the bits.

    bits         : uint64[H, Tq, ceil(Tk / 64)]
    v, v_nonzero : uint64[Tk, H, ceil(D / 64)]
    out          : int32[Tq, H, D]   written in full

    Source: BiBERT attention, context = bool(A) sign(V).
    """
    heads, queries, blocks = bits.shape
    keys = v.shape[0]
    size = out.shape[2]
    nonzero = np.empty((blocks, size), np.uint64)
    negative = np.empty((blocks, size), np.uint64)
    column = np.empty(WORD_BITS, np.uint64)
    column_nonzero = np.empty(WORD_BITS, np.uint64)
    sums = np.empty(size, np.int64)
    for h in range(heads):
        for block in range(blocks):
            start = block * WORD_BITS
            count = min(WORD_BITS, keys - start)
            for w in range(v.shape[2]):
                for j in range(count):
                    column_nonzero[j] = v_nonzero[start + j, h, w]
                    column[j] = v[start + j, h, w] & column_nonzero[j]
                for d in range(w * WORD_BITS, min(size, (w + 1) * WORD_BITS)):
                    place = np.uint64(d % WORD_BITS)
                    nonzero[block, d] = _gather(column_nonzero, count, place)
                    negative[block, d] = _gather(column, count, place)
        for m in range(queries):
            for d in range(size):
                sums[d] = 0
            for block in range(blocks):
                chosen = bits[h, m, block]
                for d in range(size):
                    sums[d] += popcount(chosen & nonzero[block, d]) - 2 * popcount(chosen & negative[block, d])
            for d in range(size):
                out[m, h, d] = sums[d]


@kernel
def _gather(column: Words, count: int, place: np.uint64) -> np.uint64:
    """Bit `place` of the first `count` words, as the bits of one word."""
    word = np.uint64(0)
    for j in range(count):
        word |= ((column[j] >> place) & np.uint64(1)) << np.uint64(j)
    return word
