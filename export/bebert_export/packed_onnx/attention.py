"""Attention as nodes: integer products of codes head by head, softmax in the engine's order, or bits alone.

Padded keys get the score minus infinity and the value 0, so they change nothing.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from bebert_export.packed_onnx.floats import softmax
from bebert_export.packed_onnx.graph import Graph, Value, cast, float32, int64s
from bebert_export.packed_onnx.linear import integer_product
from bebert_export.packed_onnx.quantize import Codes, Rows, encode, encode_numbers
from bebert_infer.model.attention import BooleanAttention, SoftmaxAttention
from bebert_infer.model.quantizer import Quantizer
from bebert_kernels.reference.floats import LANES


@dataclass(frozen=True)
class Mask:
    """Which tokens are real, in the shapes that attention needs.

    rows    : bool[B, T, 1]
    pairs   : bool[B, 1, T, T], query and key are real
    penalty : float32[B, 1, 1, T] of the keys, 0 or minus infinity
    zeros   : float32, so many that they and T values fill lanes
    """

    rows: str
    pairs: str
    penalty: str
    zeros: str

    @classmethod
    def of(cls, graph: Graph, mask: str) -> "Mask":
        """From bool[B, T]."""
        columns = graph("Unsqueeze", mask, int64s(1, 2))
        extra = graph("Mod", graph("Neg", graph("Shape", mask, start=1, end=2)), int64s(LANES))
        return cls(
            graph("Unsqueeze", mask, int64s(2)),
            graph("And", graph("Unsqueeze", mask, int64s(1, 3)), columns),
            graph("Where", columns, float32(0), float32(-np.inf)),
            graph("Slice", np.zeros(LANES, np.float32), int64s(0), extra),
        )


def attention(
    graph: Graph, kind: SoftmaxAttention | BooleanAttention, projected: tuple[str, str, str], mask: Mask, name: str
) -> str:
    """Context float32[B, T, C] of queries, keys and values float32[B, T, C]; `name` as in a trace of the truth."""
    if isinstance(kind, BooleanAttention):
        return _boolean(graph, kind, projected, mask, name)
    quantizers = (kind.query, kind.key, kind.value)
    q, k, v = (
        encode(graph, quantizer, Rows(x, 3, mask.rows), f"{name}.{short}")
        for quantizer, x, short in zip(quantizers, projected, "qkv", strict=True)
    )
    v = replace(v, codes=graph("Where", mask.rows, v.codes, v.zero_point))
    queries, keys, values = _by_head(graph, kind, q, k, v)
    dots = cast(graph, integer_product(graph, queries, keys), np.float32)
    scores = graph("Mul", dots, _score_scale(graph, q.step, k.step, kind.head_size))
    scores = graph("Add", scores, mask.penalty)
    rows = Rows(softmax(graph, scores, mask.zeros), 4, mask.pairs)
    p = encode_numbers(graph, kind.probabilities, rows, f"{name}.probs")
    context = _together(graph, cast(graph, integer_product(graph, p, values), np.float32), kind.heads * kind.head_size)
    context = graph("Mul", context, _product(graph, p.step, v.step))
    if p.minimum is None:
        return context
    # The sum of the value codes of all real keys, [B, 1, C]: rows of ones times the codes, in which padded keys are 0.
    ones = cast(graph, graph("Transpose", mask.rows, perm=[0, 2, 1]), np.uint8)
    sums = cast(graph, graph("MatMulInteger", ones, v.codes, np.array(0, np.uint8), v.zero_point), np.float32)
    return graph("Add", context, graph("Mul", _product(graph, p.minimum, v.step), sums))


def _boolean(graph: Graph, kind: BooleanAttention, projected: tuple[str, str, str], mask: Mask, name: str) -> str:
    """Weight 1 iff the dot of the signs is > 0 and the key is real; a padded key has signs 0, so its dot is 0."""
    sign = Quantizer("sign")
    q, k, v = (
        encode(graph, sign, Rows(x, 3, mask.rows), f"{name}.{short}") for x, short in zip(projected, "qkv", strict=True)
    )
    k = replace(k, codes=graph("Where", mask.rows, k.codes, k.zero_point))
    queries, keys, values = _by_head(graph, kind, q, k, v)
    chosen = graph("Greater", integer_product(graph, queries, keys), np.array(0, np.int32))
    bits = graph.site(f"{name}.probs", cast(graph, chosen, np.uint8), 0, 4, None, float32(1))
    dots = integer_product(graph, Codes(bits, 0, float32(1), None), values)
    return _together(graph, cast(graph, dots, np.float32), kind.heads * kind.head_size)


def _by_head(
    graph: Graph, kind: SoftmaxAttention | BooleanAttention, q: Codes, k: Codes, v: Codes
) -> tuple[Codes, Codes, Codes]:
    """Codes [B, T, C] as [B, H, T, D], those of the keys as [B, H, D, T]: what the two products take."""
    made = []
    for codes, order in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3])):
        split = graph("Reshape", codes.codes, int64s(0, 0, kind.heads, kind.head_size))
        made.append(replace(codes, codes=graph("Transpose", split, perm=order)))
    return made[0], made[1], made[2]


def _together(graph: Graph, context: str, width: int) -> str:
    """[B, H, T, D] to [B, T, H * D]."""
    return graph("Reshape", graph("Transpose", context, perm=[0, 2, 1, 3]), int64s(0, 0, width))


def _score_scale(graph: Graph, query: Value, key: Value, size: int) -> Value:
    """step_q * step_k / sqrt(D), in float64 and rounded once; [B, 1, 1, 1] of statistics."""
    root = math.sqrt(size)
    if not isinstance(query, str) and not isinstance(key, str):
        return float32(float(query) * float(key) / root)
    wide = graph("Mul", cast(graph, query, np.float64), cast(graph, key, np.float64))
    scale = cast(graph, graph("Div", wide, np.array(root)), np.float32)
    return graph("Unsqueeze", scale, int64s(3))


def _product(graph: Graph, a: Value, b: Value) -> Value:
    """A number of the probabilities, [B, 1, 1, 1] if statistics, times one of the values, [B, 1, 1], rounded once."""
    if isinstance(a, str):
        return graph("Mul", graph("Squeeze", a, int64s(3)), b)
    return graph("Mul", a, b) if isinstance(b, str) else float32(float(a) * float(b))
