"""Float kernels that sum along a row: layer normalization, softmax, a small linear layer.

Each works on a scratch row padded to a multiple of 16, so that no lane sum has a tail: padding adds 0.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.jit.kernel import kernel
from bebert_kernels.lanes import LANES, lane_max, lane_sum
from bebert_kernels.reference.floats import EXP_LOWEST, EXP_TERMS, LN2_HIGH, LN2_LOW, LOG2_E

Floats = NDArray[np.float32]

C0, C1, C2, C3, C4, C5 = EXP_TERMS


@kernel
def layer_norm(x: Floats, residual: Floats, gamma: Floats, beta: Floats, eps: np.float32, out: Floats) -> None:
    """Normalized rows of h = x + residual.

    out[m] = d * (1 / sqrt(lane_sum(d * d) / C + eps)) * gamma + beta,   d = h - lane_sum(h) / C
    """
    rows, width = x.shape
    count = np.float32(width)
    h = np.zeros(-(-width // LANES) * LANES, np.float32)
    squares = np.zeros_like(h)
    for m in range(rows):
        for i in range(width):
            h[i] = x[m, i] + residual[m, i]
        mean = lane_sum(h) / count
        for i in range(width):
            h[i] = h[i] - mean
            squares[i] = h[i] * h[i]
        inverse = np.float32(1) / np.sqrt(lane_sum(squares) / count + eps)
        for i in range(width):
            out[m, i] = h[i] * inverse * gamma[i] + beta[i]


@kernel
def exp_below(x: Floats, top: np.float32) -> None:
    """Replace every x[i] <= top by exp(x[i] - top), exactly 0 below EXP_LOWEST.

    exp(y) = 2**n * exp(r) with n = rne(y / ln2); 2**n is made from exponent bits.
    """
    for i in range(x.size):
        y = x[i] - top
        bounded = y if y > EXP_LOWEST else EXP_LOWEST
        n = np.rint(bounded * LOG2_E)
        r = (bounded - n * LN2_HIGH) - n * LN2_LOW
        p = ((((C0 * r + C1) * r + C2) * r + C3) * r + C4) * r + C5
        p = (p * (r * r) + r) + np.float32(1)
        power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
        x[i] = p * power if y >= EXP_LOWEST else np.float32(0)


@kernel
def softmax(scores: Floats, out: Floats) -> None:
    """out[h, m] = e / lane_sum(e), e = exp(scores[h, m] - max); padding holds -inf, whose e is 0."""
    heads, queries, keys = scores.shape
    e = np.empty(-(-keys // LANES) * LANES, np.float32)
    for h in range(heads):
        for m in range(queries):
            for t in range(keys):
                e[t] = scores[h, m, t]
            for t in range(keys, e.size):
                e[t] = np.float32(-np.inf)
            exp_below(e, lane_max(e))
            total = lane_sum(e)
            for t in range(keys):
                out[h, m, t] = e[t] / total


@kernel
def dense(x: Floats, weight: Floats, bias: Floats, out: Floats) -> None:
    """out[m, n] = lane_sum(x[m] * weight[n]) + bias[n]."""
    depth = x.shape[1]
    products = np.zeros(-(-depth // LANES) * LANES, np.float32)
    for m in range(out.shape[0]):
        for n in range(out.shape[1]):
            for k in range(depth):
                products[k] = x[m, k] * weight[n, k]
            out[m, n] = lane_sum(products) + bias[n]
