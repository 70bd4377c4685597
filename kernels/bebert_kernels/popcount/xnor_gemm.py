"""Dot products of sign rows with weight sign rows: XOR and popcount on packed words."""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.jit.kernel import kernel, popcount
from bebert_kernels.packing import Words
from bebert_kernels.popcount.rows_tile import ROWS, popcount_rows


@kernel
def xnor_gemm(a: Words, nonzero: Words, weights: Words, depth: int, out: NDArray[np.int32]) -> None:
    """Dot product of every row of signs with every row of weight signs, eight rows at a time.

    out[m, n] = depth - 2 * popcount(a[m] ^ weights[n])                                 where nonzero is empty
    out[m, n] = popcount(nonzero[m]) - 2 * popcount((a[m] ^ weights[n]) & nonzero[m])   elsewhere

    a       : uint64[M, W]            bit 1 = -1, W = ceil(depth / 64)
    nonzero : uint64[M, W] or [0, W]  bit 0 = the value is 0
    weights : uint64[N, W]            bit 1 = -1
    depth   : values per row before padding; padding bits are 0
    out     : int32[M, N]             written in full

    Source: XNOR-popcount product of BiBERT and BiT. Exact for depth < 2**30.
    """
    rows, words = a.shape
    values = np.zeros((words, ROWS), np.uint64)
    masks = np.full((1, words, ROWS), ~np.uint64(0), np.uint64)
    factors = np.full(1, -2, np.int32)
    base = np.full(ROWS, depth, np.int32)
    for first in range(0, rows, ROWS):
        count = min(ROWS, rows - first)
        for i in range(count):
            for w in range(words):
                values[w, i] = a[first + i, w]
        if nonzero.shape[0] > 0:
            for i in range(count):
                total = np.int64(0)
                for w in range(words):
                    masks[0, w, i] = nonzero[first + i, w]
                    total += popcount(nonzero[first + i, w])
                base[i] = total
        popcount_rows(values, masks, weights, factors, base, first, out)
