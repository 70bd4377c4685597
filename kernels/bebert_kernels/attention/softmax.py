"""Attention on integer codes of one sentence in one call: int8 products, softmax, codes, int8 products.

Both products (`code_product.py`) are sums over groups of 4 bytes, the unit of the scratch (int32):

              row                  lanes                group of 4 bytes
    scores    codes of a query     16 keys              byte product: 4 inputs, row unsigned (q + 128, so that base is
    context   attention codes      16 values of a head      -128 * sum k), panel signed; else 2 inputs as int16

Between them each row of scores becomes attention codes (`softmax_codes.py`).
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.attention.panels import key_panel, row_units, stage, value_panel
from bebert_kernels.attention.product import Floats, product_once
from bebert_kernels.attention.softmax_codes import softmax_codes
from bebert_kernels.attention.units import GROUP, Units
from bebert_kernels.emit.emitter import aligned
from bebert_kernels.emit.vectors import LANES
from bebert_kernels.jit.kernel import kernel

QUERIES = 16  # rows that go through all steps together


def scratch_units(keys: int, size: int) -> int:
    """Elements of scratch that `softmax_attention` needs for a sentence of `keys` keys and heads of `size` values."""
    padded, depth = -(-keys // LANES) * LANES, -(-size // LANES) * LANES
    panels = 2 * padded * depth // GROUP + padded + depth
    rows = QUERIES * (depth // GROUP + padded + padded // GROUP + depth + 1)
    return LANES + panels + rows + max(padded, QUERIES) * depth // 4


@kernel
def _take(floats: Floats, place: int, depth: int, rows: int, size: int, out: Floats, first: int, column: int) -> None:
    """Copy the context of one head without its padding."""
    for i in range(rows):
        for d in range(size):
            out[first + i, column + d] = floats[place + i * depth + d]


@kernel
def softmax_attention(  # noqa: C901
    q: NDArray[np.int8],
    k: NDArray[np.int8],
    v: NDArray[np.int8],
    first: int,
    last: int,
    key_first: int,
    key_last: int,
    heads: int,
    score_scale: np.float32,
    step: np.float32,
    low: np.float32,
    high: np.float32,
    out_scale: np.float32,
    scratch: Units,
    out: Floats,
) -> None:
    """Context of some query rows of one sentence.

    scores[h, m, t] = float32(q[m, h] . k[t, h]) * score_scale
    codes           = clamp(rne(softmax(scores) / step), low, high)
    out[m, h, d]    = float32(sum_t codes[h, m, t] * v[t, h, d]) * out_scale + 0

    q, k, v             : int8[R, H * D], all rows of the batch
    first, last         : query rows, absolute
    key_first, key_last : rows of the keys, at least one
    heads               : H
    step                : not 0; may be negative
    low, high           : 0, and a whole number up to 255
    scratch             : int32[scratch_units(keys, D)] or longer, of the caller's thread
    out                 : float32[last - first, H * D], written in full

    Source: BinaryBERT and BiT attention on quantized Q, K, V and probabilities.
    """
    width = q.shape[1]
    size = width // heads
    chunks = (size + LANES - 1) // LANES
    depth = chunks * LANES
    keys = key_last - key_first
    blocks = (keys + LANES - 1) // LANES
    padded = blocks * LANES
    k_panel = 2 * aligned(scratch)  # the parts of the scratch, one after another
    v_panel = k_panel + padded * depth // GROUP
    base = v_panel + padded * depth // GROUP
    zeros = base + padded
    scores = zeros + depth
    context = scores + QUERIES * padded
    queries = context + QUERIES * depth
    codes = queries + QUERIES * depth // GROUP
    kept = codes + QUERIES * padded // GROUP
    staged = 4 * (kept + QUERIES)  # in bytes
    inside = np.int64(1)  # of the scratch; a variable, because kernels are compiled anew for each literal
    odd = np.int64(size != depth)  # heads that must be padded in the scratch
    stride = depth if odd else width
    floats = scratch.view(np.float32)
    # Estimates are safe where they are not negative and neither 1 / step nor a product of it leaves the normal numbers.
    usual = step > np.float32(1e-15) and step < np.float32(1e15)
    bound = np.float32(0.5) - (high + np.float32(1)) * np.float32(1e-6) if usual else np.float32(-1)
    inverse = np.float32(1) / step
    for d in range(depth):
        scratch[zeros + d] = 0
    for h in range(heads):
        column = h * size
        start = key_first * width + column
        if odd:
            stage(scratch, k, start, width, keys, size, staged)
        key_panel(scratch, k, odd, staged if odd else start, stride, keys, chunks, k_panel, base)
        if odd:
            stage(scratch, v, start, width, keys, size, staged)
        value_panel(scratch, v, odd, staged if odd else start, stride, keys, chunks, v_panel)
        for m in range(first, last, QUERIES):
            rows = min(QUERIES, last - m)
            start = m * width + column
            if odd:
                stage(scratch, q, start, width, rows, size, staged)
                start = staged
            for i in range(rows):
                row_units(scratch, q, odd, start + i * stride, chunks, queries + i * depth // GROUP)
            product_once(
                scratch, rows, blocks, out, inside, queries, k_panel, depth // GROUP, base, score_scale, scores, padded
            )
            for i in range(rows):
                for t in range(keys, padded):
                    floats[scores + i * padded + t] = np.float32(-np.inf)
            softmax_codes(scratch, scores, rows, blocks, step, inverse, low, high, bound, codes, kept)
            to = context if odd else (m - first) * width + column
            product_once(scratch, rows, chunks, out, odd, codes, v_panel, padded // GROUP, zeros, out_scale, to, stride)
            if odd:
                _take(floats, context, depth, rows, size, out, m - first, column)
