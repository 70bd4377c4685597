"""Attention on integer codes of one sentence in one call: int8 products, softmax, codes, int8 products.

Both products (`product.py`) are sums over groups of 4 bytes, the unit of the scratch (int32):

              row                  lanes                group of 4 bytes
    scores    codes of a query     16 keys              byte product: 4 inputs, row unsigned (q + 128, so that base is
    context   attention codes      16 values of a head      -128 * sum k), panel signed; else 2 inputs as int16

Between them each row of scores becomes attention codes (`softmax_codes.py`).
"""

import numpy as np

from bebert_kernels.abi.rule import SoftmaxNumbers
from bebert_kernels.attention.layout import SOFTMAX_QUERIES, UNIT_INPUTS
from bebert_kernels.attention.panels import key_panel, pad_head, row_units, value_panel
from bebert_kernels.attention.product import Factors, Floats, product
from bebert_kernels.attention.sentence import Sentence
from bebert_kernels.attention.softmax_codes import Rounding, softmax_codes
from bebert_kernels.attention.units import Codes, Rows, Units
from bebert_kernels.emit.emitter import aligned
from bebert_kernels.emit.vectors import FLOAT_LANES
from bebert_kernels.jit.kernel import kernel


@kernel
def _head(scratch: Units, codes: Codes, first: int, column: int, count: int, size: int, staged: int) -> Rows:
    """One head of some rows: in the array, or at byte `staged` of the scratch where it must be padded."""
    width = codes.shape[1]
    there = Rows(np.int64(0), first * width + column, width)
    if size % FLOAT_LANES == 0:
        return there
    pad_head(scratch, codes, there, count, size, staged)
    return Rows(np.int64(1), staged, (size + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES)


@kernel
def softmax_attention(
    q: Codes,
    k: Codes,
    v: Codes,
    sentence: Sentence,
    heads: int,
    numbers: SoftmaxNumbers,
    scratch: Units,
    out: Floats,
) -> None:
    """Context of some query rows of one sentence.

    scores[h, m, t] = float32(q[m, h] . k[t, h]) * score_scale
    codes           = clamp(rne(softmax(scores) / step), low, high)
    out[m, h, d]    = float32(sum_t codes[h, m, t] * v[t, h, d]) * context_scale + 0

    q, k, v  : int8[R, H * D], all rows of the batch
    sentence : its rows
    heads    : H
    numbers  : float32; step is not 0 and may be negative; low is 0, high a whole number up to 255
    scratch  : int32[layout.softmax_units(keys, D)] or longer, of the caller's thread
    out      : float32[last - first, H * D], written in full

    Source: BinaryBERT and BiT attention on quantized Q, K, V and probabilities.
    """
    first, last, key_first, key_last = sentence
    width = q.shape[1]
    size = width // heads
    chunks = (size + FLOAT_LANES - 1) // FLOAT_LANES
    depth = chunks * FLOAT_LANES
    keys = key_last - key_first
    blocks = (keys + FLOAT_LANES - 1) // FLOAT_LANES
    padded = blocks * FLOAT_LANES
    k_panel = 2 * aligned(scratch)  # the parts of the scratch, one after another
    v_panel = k_panel + padded * depth // UNIT_INPUTS
    base = v_panel + padded * depth // UNIT_INPUTS
    zeros = base + padded
    scores = zeros + depth
    context = scores + SOFTMAX_QUERIES * padded
    queries = context + SOFTMAX_QUERIES * depth
    codes = queries + SOFTMAX_QUERIES * depth // UNIT_INPUTS
    kept = codes + SOFTMAX_QUERIES * padded // UNIT_INPUTS
    staged = 4 * (kept + SOFTMAX_QUERIES)  # in bytes
    score_factors = Factors(queries, k_panel, depth // UNIT_INPUTS, base)
    context_factors = Factors(codes, v_panel, padded // UNIT_INPUTS, zeros)
    floats = scratch.view(np.float32)
    # Estimates are safe where they are not negative and neither 1 / step nor a product of it leaves the normal numbers.
    usual = numbers.step > np.float32(1e-15) and numbers.step < np.float32(1e15)
    bound = np.float32(0.5) - (numbers.high + np.float32(1)) * np.float32(1e-6) if usual else np.float32(-1)
    rounding = Rounding(numbers.step, np.float32(1) / numbers.step, numbers.low, numbers.high, bound)
    one = np.int64(1)  # a variable, because kernels are compiled anew for each literal
    for d in range(depth):
        scratch[zeros + d] = 0
    for h in range(heads):
        column = h * size
        key_panel(scratch, k, _head(scratch, k, key_first, column, keys, size, staged), keys, chunks, k_panel, base)
        value_panel(scratch, v, _head(scratch, v, key_first, column, keys, size, staged), keys, chunks, v_panel)
        for m in range(first, last, SOFTMAX_QUERIES):
            rows = min(SOFTMAX_QUERIES, last - m)
            head = _head(scratch, q, m, column, rows, size, staged)
            for i in range(rows):
                row_units(scratch, q, head, i, chunks, queries + i * depth // UNIT_INPUTS)
            to_scores = Rows(one, scores, padded)
            product(scratch, rows, blocks, score_factors, numbers.score_scale, out, to_scores)
            for i in range(rows):
                for t in range(keys, padded):
                    floats[scores + i * padded + t] = np.float32(-np.inf)
            softmax_codes(scratch, scores, rows, blocks, rounding, codes, kept)
            target = Rows(1 - one, (m - first) * width + column, width)
            if size != depth:
                target = Rows(one, context, depth)
            product(scratch, rows, chunks, context_factors, numbers.context_scale, out, target)
            if size != depth:  # the context without its padding
                for i in range(rows):
                    for d in range(size):
                        out[m - first + i, column + d] = floats[context + i * depth + d]
