"""Quantizers as nodes: floats to uint8 codes by the quantizer's own formula (`bebert_infer/model/quantizer.py`).

Signed codes travel as uint8 with a zero point: the integer products of ONNX Runtime are fast for uint8 times int8, and
many times slower for int8 times int8. QuantizeLinear is the formula itself: x / step rounded half to even, the zero
point added, kept within uint8; what has less than 8 bits is cut to its range behind it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebert_export.packed_onnx.floats import gelu as gelu_of
from bebert_export.packed_onnx.graph import Graph, Value, float32, int64s
from bebert_infer.model.quantizer import Quantizer
from bebert_kernels.reference.integers import GELU_ZERO


@dataclass(frozen=True)
class Codes:
    """Codes uint8 of a tensor: value = (codes - zero) * step + minimum.

    step    : float32 constant, or the name of a float32[B, 1, …] of statistics
    minimum : the same; None for 0
    """

    codes: str
    zero: int
    step: Value
    minimum: Value | None

    @property
    def zero_point(self) -> NDArray[np.uint8]:
        """The code that stands for 0, as integer products take it."""
        return np.array(self.zero, np.uint8)


@dataclass(frozen=True)
class Rows:
    """A tensor of which some rows are padding, or none.

    value : float32 with `rank` axes, the first of them B
    real  : bool that fits it, True where a row counts; None where all do
    """

    value: str
    rank: int
    real: str | None


def encode(graph: Graph, quantizer: Quantizer, rows: Rows, name: str, gelu: bool = False) -> Codes:
    """Codes of a tensor, or of GELU of it; `name` is that of the site (`Graph.site`)."""
    x = rows.value
    if quantizer.is_sign and gelu and quantizer.shift is None:
        # The engine's own threshold: GELU is exactly 0 at and below it.
        x = graph("Where", graph("Greater", x, np.array(GELU_ZERO)), x, float32(0))
    elif gelu:
        x = gelu_of(graph, x)
    if quantizer.is_sign:
        shifted = _shifted(graph, quantizer, x)
        codes = graph("QuantizeLinear", graph("Sign", shifted), float32(1), np.array(1, np.uint8))
        codes = graph.site(name, codes, 1, rows.rank, shifted, float32(0))
        return Codes(codes, 1, float32(quantizer.step), None)
    return encode_numbers(graph, quantizer, Rows(x, rows.rank, rows.real), name)


def encode_numbers(graph: Graph, quantizer: Quantizer, rows: Rows, name: str) -> Codes:
    """Codes clamp(rne((x + shift - minimum) / step)) of any quantizer, with the statistics of a dynamic one."""
    low, high = quantizer.range
    x, step, minimum = resolve(graph, quantizer, rows)
    x = _shifted(graph, quantizer, x)
    if minimum is not None:
        x = graph("Sub", x, minimum)
    zero = np.array(-low, np.uint8)
    if isinstance(step, str):
        codes = graph("QuantizeLinear", graph("Div", x, step), float32(1), zero)
    else:
        codes = graph("QuantizeLinear", x, step, zero)
    if high - low < 255:
        codes = graph("Clip", codes, np.array(0, np.uint8), np.array(high - low, np.uint8))
    return Codes(graph.site(name, codes, -low, rows.rank, x, step), -low, step, minimum)


def resolve(graph: Graph, quantizer: Quantizer, rows: Rows) -> tuple[str, Value, Value | None]:
    """What to round, step and minimum: the stored ones, or statistics of a sentence over its real rows."""
    if quantizer.kind != "dynamic":
        stored = float32(quantizer.minimum) if quantizer.minimum else None
        return rows.value, float32(quantizer.step), stored
    assert quantizer.clip is not None
    x = graph("Clip", rows.value, float32(quantizer.clip[0]), float32(quantizer.clip[1]))
    axes = int64s(*range(1, rows.rank))
    if rows.real is not None:  # a sentence's first row is real: in the place of padded ones it changes no extreme
        x = graph("Where", rows.real, x, _first(graph, x, rows.rank))
    levels = float32(quantizer.range[1])
    if quantizer.signed:
        step = graph("Div", graph("ReduceMax", graph("Abs", x), axes, keepdims=1), levels)
        # A sentence of zeros has no scale; any step gives codes 0.
        return x, graph("Where", graph("Equal", step, float32(0)), float32(1), step), None
    lowest = graph("ReduceMin", x, axes, keepdims=1)
    span = graph("Add", graph("Sub", graph("ReduceMax", x, axes, keepdims=1), lowest), float32(1e-8))
    return x, graph("Div", span, levels), lowest


def _shifted(graph: Graph, quantizer: Quantizer, x: str) -> str:
    return x if quantizer.shift is None else graph("Add", x, quantizer.shift)


def _first(graph: Graph, x: str, rank: int) -> str:
    """The first entry along all axes between the first and the last, or of the last two where there are four."""
    axes = int64s(1) if rank == 3 else int64s(2, 3)
    return graph("Slice", x, int64s(*[0] * len(axes)), int64s(*[1] * len(axes)), axes)
