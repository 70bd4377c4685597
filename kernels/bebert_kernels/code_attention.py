"""Attention on integer codes: scaled dot products of queries and keys, and code-weighted sums of values.

Codes are widened to int16 once for each head, where vector units multiply pairs and add them into int32.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.jit.kernel import kernel


@kernel
def code_scores(q: NDArray[np.int8], k: NDArray[np.int8], scale: np.float32, out: NDArray[np.float32]) -> None:
    """Scaled dot products of codes.

    out[h, m, t] = float32(sum_d q[m, h, d] * k[t, h, d]) * scale

    q     : int8[Tq, H, D]
    k     : int8[Tk, H, D]
    out   : float32[H, Tq, Tk]   written in full

    Source: BinaryBERT and BiT attention on quantized Q and K. Exact for D < 2**16.
    """
    heads, queries, keys = out.shape
    size = q.shape[2]
    query = np.empty(size, np.int16)
    wide = np.empty((keys, size), np.int16)
    for h in range(heads):
        for t in range(keys):
            for d in range(size):
                wide[t, d] = k[t, h, d]
        for m in range(queries):
            for d in range(size):
                query[d] = q[m, h, d]
            for t in range(keys):
                dot = np.int32(0)
                for d in range(size):
                    # int32 at every step: numba's default int64 sum would not vectorize
                    dot = np.int32(dot + np.int32(query[d]) * np.int32(wide[t, d]))
                out[h, m, t] = np.float32(dot) * scale


@kernel
def code_context(probs: NDArray[np.uint8], v: NDArray[np.int8], out: NDArray[np.int32]) -> None:
    """Sums of value codes weighted by attention codes.

    out[m, h, d] = sum_t probs[h, m, t] * v[t, h, d]

    probs : int8[H, Tq, Tk] or uint8[H, Tq, Tk]
    v     : int8[Tk, H, D]
    out   : int32[Tq, H, D]   written in full

    Source: BinaryBERT and BiT attention on quantized probabilities and V. Exact for Tk < 2**16.
    """
    heads, queries, keys = probs.shape
    size = v.shape[2]
    row = np.empty(keys, np.int16)
    wide = np.empty((size, keys), np.int16)  # keys along the row, so that both factors are contiguous
    for h in range(heads):
        for t in range(keys):
            for d in range(size):
                wide[d, t] = v[t, h, d]
        for m in range(queries):
            for t in range(keys):
                row[t] = probs[h, m, t]
            for d in range(size):
                dot = np.int32(0)
                for t in range(keys):
                    dot = np.int32(dot + np.int32(row[t]) * np.int32(wide[d, t]))
                out[m, h, d] = dot
