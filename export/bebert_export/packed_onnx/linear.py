"""A binary linear layer as nodes: an exact integer product for each branch, scaled and added in the engine's order."""

import numpy as np

from bebert_export.packed_onnx.graph import Graph, Value, cast
from bebert_export.packed_onnx.quantize import Codes, Rows, encode
from bebert_export.packed_onnx.signs import weight_signs
from bebert_infer.model.linear import BinaryLinear, Branch


def linear(graph: Graph, layer: BinaryLinear, rows: Rows, name: str, gelu: bool = False) -> str:
    """The layer's outputs float32[…, N] of rows float32[…, K]; `name` as in a trace of the truth."""
    out: Value = layer.bias
    for index, branch in enumerate(layer.branches):
        suffix = f"_{index + 1}" if len(layer.branches) == 2 else ""
        codes = encode(graph, branch.quantizer, rows, f"{name}{suffix}.in", gelu)
        out = _product(graph, branch, codes, out)
    assert isinstance(out, str)
    return out


def _product(graph: Graph, branch: Branch, codes: Codes, add: Value) -> str:
    """(step * scale) * (codes . signs) + (minimum term + add), where `add` is the bias or the branch before."""
    if codes.minimum is not None:
        add = _sum(graph, add, _times(graph, _times(graph, codes.minimum, branch.scale), branch.sums))
    weights = weight_signs(graph, branch.signs, branch.depth)
    dots = cast(graph, integer_product(graph, codes, weights), np.float32)
    if isinstance(codes.step, str):
        # Of a product of two factors here ONNX Runtime makes a MatMulIntegerToFloat, which has one scale for all
        # sentences of a batch, and so answers wrongly. A minus and a minus again leave the bits as they are.
        scale: Value = graph("Neg", graph("Mul", codes.step, -branch.scale))
    else:
        scale = _times(graph, codes.step, branch.scale)
    return graph("Add", graph("Mul", dots, scale), add)


def integer_product(graph: Graph, a: Codes, b: str | Codes) -> str:
    """Exact product int32 of codes with weights int8, or with other codes."""
    other, zero = (b, None) if isinstance(b, str) else (b.codes, b.zero_point)
    if zero is None:
        return graph("MatMulInteger", a.codes, other, *([a.zero_point] if a.zero else []))
    return graph("MatMulInteger", a.codes, other, a.zero_point, zero)


def _times(graph: Graph, a: Value, b: Value) -> Value:
    """A float32 product, computed here where both are constants."""
    if isinstance(a, str) or isinstance(b, str):
        return graph("Mul", a, b)
    return np.multiply(a, b, dtype=np.float32)


def _sum(graph: Graph, a: Value, b: Value) -> Value:
    if isinstance(a, str) or isinstance(b, str):
        return graph("Add", a, b)
    return np.add(a, b, dtype=np.float32)
