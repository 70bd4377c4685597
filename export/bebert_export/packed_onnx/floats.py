"""The float operations of the engine in ONNX, in its own order (`bebert_kernels/reference/floats.py`): the same bits.

A float sum depends on its order, and the operators that sum (ReduceSum, LayerNormalization, Softmax) leave theirs open.
So a lane sum is made of what cannot choose: CumSum adds along an axis one by one, and a product with a matrix that has
two ones a column is one addition. The exponential is the engine's polynomial. Only erf and tanh are the operators'.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bebert_export.packed_onnx.graph import Graph, Value, cast, float32, int64s
from bebert_kernels.reference import floats


def lane_sum(graph: Graph, x: str, rank: int, width: int | None) -> str:
    """Sum over the last of `rank` axes, which is kept with size 1.

    width : of that axis, or None: a multiple of 16
    """
    if width is not None and width % floats.LANES:
        x = graph("Pad", x, int64s(*[0] * (2 * rank - 1), -width % floats.LANES))
    axis = rank - 1
    rows = -1 if width is None else -(-width // floats.LANES)
    lanes = graph("Reshape", x, int64s(*[0] * axis, rows, floats.LANES))
    total = graph("Gather", graph("CumSum", lanes, np.array(axis)), np.array(-1), axis=axis)
    half = floats.LANES // 2
    while half > 1:  # whatever order it adds in: all but two of the products are 0
        total = graph("MatMul", total, np.vstack([np.eye(half, dtype=np.float32)] * 2))
        half //= 2
    return graph("ReduceSum", total, int64s(axis), keepdims=1)  # ONNX Runtime would merge a MatMul with what follows


def layer_norm(graph: Graph, h: str, gamma: NDArray[np.float32], beta: NDArray[np.float32], eps: float) -> str:
    """LayerNorm of each row of h float32[B, T, C]: d * (1 / sqrt(var + eps)) * gamma + beta."""
    width = len(gamma)
    d = graph("Sub", h, graph("Div", lane_sum(graph, h, 3, width), float32(width)))
    variance = graph("Div", lane_sum(graph, graph("Mul", d, d), 3, width), float32(width))
    # ONNX Runtime would compute y / x in place of 1 / x * y, which rounds once less. So both factors are negative.
    inverse = graph("Div", float32(-1), graph("Sqrt", graph("Add", variance, float32(eps))))
    return graph("Add", graph("Mul", graph("Mul", d, inverse), -gamma), beta)


def exp(graph: Graph, x: str) -> str:
    """Exponential of x <= 0, float32 of any shape; 1.2e-38 where the engine has 0, below -87.3."""
    bounded = graph("Max", x, floats.EXP_LOWEST)
    n = graph("Round", graph("Mul", bounded, floats.LOG2_E))
    r = graph("Sub", bounded, graph("Mul", n, floats.LN2_HIGH))
    r = graph("Sub", r, graph("Mul", n, floats.LN2_LOW))
    p: Value = np.array(floats.EXP_TERMS[0])
    for term in floats.EXP_TERMS[1:]:
        p = graph("Add", graph("Mul", p, r), term)
    e = graph("Add", graph("Add", graph("Mul", p, graph("Mul", r, r)), r), float32(1))
    # 2 ** n from what any Exp makes of n * ln 2: the difference keeps one bit of it, and so rounds it to a power of two
    # (Veltkamp's splitting).
    near = graph("Exp", graph("Mul", n, float32(math.log(2))))
    split = graph("Mul", near, float32(2**23 + 1))
    return graph("Mul", e, graph("Sub", split, graph("Sub", split, near)))


def softmax(graph: Graph, scores: str, zeros: str) -> str:
    """Softmax over the last axis of scores float32[B, H, T, T]; so many zeros fill it up to a multiple of 16.

    What has a score of minus infinity counts 1.2e-38, which is lost in a sum that has a 1.
    """
    largest = graph("ReduceMax", scores, int64s(-1), keepdims=1)
    e = exp(graph, graph("Sub", scores, largest))
    # A Pad would do, but leaves ONNX Runtime without the shapes of all that follows (`member.read_inputs`).
    full = graph("Concat", e, graph("Mul", largest, zeros), axis=-1)
    return graph("Div", e, lane_sum(graph, full, 4, None))


def gelu(graph: Graph, x: str) -> str:
    """0.5 * x * (1 + erf(x / sqrt 2)) in float32; the engine has float64, so the last bits differ."""
    erf = graph("Erf", graph("Mul", x, float32(math.sqrt(0.5))))
    return graph("Mul", graph("Mul", x, float32(0.5)), graph("Add", erf, float32(1)))


def tanh(graph: Graph, x: str) -> str:
    """Hyperbolic tangent, evaluated in float64 and rounded once."""
    return cast(graph, graph("Tanh", cast(graph, x, np.float64)), np.float32)


def dense(graph: Graph, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
    """Small float32 linear layer of x float32[B, K]: out[b, n] = lane_sum(x[b] * weight[n]) + bias[n]."""
    products = graph("Mul", graph("Unsqueeze", x, int64s(1)), weight)
    sums = graph("Squeeze", lane_sum(graph, products, 3, weight.shape[1]), int64s(-1))
    return graph("Add", sums, bias)
