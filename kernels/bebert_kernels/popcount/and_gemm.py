"""Dot products of rows of small codes with weight sign rows: AND and popcount, one pass for each bitplane."""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import Words
from bebert_kernels.popcount.rows_tile import ROWS, popcount_rows


@kernel
def and_gemm(planes: Words, sums: NDArray[np.int32], weights: Words, signed: bool, out: NDArray[np.int32]) -> None:
    """Dot product of every row of codes with every row of weight signs, eight rows at a time.

    out[m, n] = sums[m] - 2 * sum_p c_p * popcount(planes[p, m] & weights[n]),   c_p = 2**p,
    and c_{P-1} = -2**(P-1) where signed: a weight of -1 takes away twice the code that the sum counted once.

    planes  : uint64[P, M, W]   bit p of each code
    sums    : int32[M]          sum of the codes of each row
    weights : uint64[N, W]      bit 1 = -1
    signed  : whether the top plane is the sign of a two's complement number
    out     : int32[M, N]       written in full

    Source: bit-serial product of LSQ codes and binary weights (BinaryBERT 1-1-4). Exact for K < 2**22.
    """
    count, rows, words = planes.shape
    values = np.zeros((words, ROWS), np.uint64)
    masks = np.zeros((count, words, ROWS), np.uint64)
    factors = np.empty(count, np.int32)
    for p in range(count):
        factors[p] = -(2 << p)
    if signed:
        factors[count - 1] = 2 << (count - 1)
    base = np.zeros(ROWS, np.int32)
    for first in range(0, rows, ROWS):
        here = min(ROWS, rows - first)
        for i in range(here):
            base[i] = sums[first + i]
            for p in range(count):
                for w in range(words):
                    masks[p, w, i] = planes[p, first + i, w]
        popcount_rows(values, masks, weights, factors, base, first, out)
