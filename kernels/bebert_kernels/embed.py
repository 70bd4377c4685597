"""Embedding look-up: rows of signs times their scale, and rows of float tables, added into the output."""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import WORD_BITS, Words

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@kernel
def add_signs(ids: Rows, signs: Words, scales: Floats, out: Floats) -> None:
    """out[m, i] += -scales[id] where bit i of signs[id] is 1, else scales[id]; id = ids[m]."""
    rows, width = out.shape
    for m in range(rows):
        scale = scales[ids[m]]
        for w in range(signs.shape[1]):
            word = signs[ids[m], w]
            start = w * WORD_BITS
            for j in range(min(WORD_BITS, width - start)):
                negative = (word >> np.uint64(j)) & np.uint64(1)
                out[m, start + j] = out[m, start + j] + (-scale if negative else scale)


@kernel
def add_rows(rows: Rows, table: Floats, out: Floats) -> None:
    """out[m] += table[rows[m]]."""
    for m in range(out.shape[0]):
        row = rows[m]
        for i in range(out.shape[1]):
            out[m, i] = out[m, i] + table[row, i]
