"""The vote as nodes: the members' logits become scores and shares, in float64 as in `bebert_infer/combine.py`."""

import numpy as np
from numpy.typing import NDArray

from bebert_export.packed_onnx.graph import Graph, cast, int64s
from bebert_infer.artifact.config import Config

ZERO, ONE, HALF, TWO = (np.array(value, np.float64) for value in (0, 1, 0.5, 2))


def vote(graph: Graph, config: Config, logits: list[str], alphas: NDArray[np.float64]) -> tuple[str, str]:
    """Scores and shares float64[B, labels] of the members' logits float32[B, labels].

    For regression both are the value.
    """
    wide = [cast(graph, one, np.float64) for one in logits]
    rule = config.combination
    if rule == "median":
        scores = _median(graph, wide, alphas)
        return scores, scores
    if rule == "mean":
        scores = graph("Div", _weighted_sum(graph, wide, alphas), np.array(alphas.sum()))
        return scores, scores
    cast_votes = [_spoken(graph, config, one) for one in wide]
    scores = _weighted_sum(graph, cast_votes, alphas)
    size = np.abs(alphas).sum()
    if config.multi_label:
        means = graph("Div", scores, np.array(size or 1.0))
        if rule == "logits":  # sigmoid, as the engine writes it
            means = graph("Tanh", graph("Div", means, TWO))
        return scores, graph("Div", graph("Add", means, ONE), TWO)
    if rule == "logits":
        return scores, graph("Softmax", graph("Div", scores, np.array(size)), axis=-1)
    positive = graph("Max", scores, ZERO)
    total = graph("ReduceSum", positive, int64s(1), keepdims=1)
    some = graph("Greater", total, ZERO)
    shares = graph("Div", positive, graph("Where", some, total, ONE))
    return scores, graph("Where", some, shares, np.array(1 / config.num_labels))


def _spoken(graph: Graph, config: Config, logits: str) -> str:
    """What a member says of each label, float64[B, labels], before its alpha."""
    rule = config.combination
    if rule == "logits":
        return logits
    if config.multi_label:
        if rule == "vote":
            return graph("Where", graph("Greater", logits, ZERO), ONE, -ONE)
        return graph("Tanh", graph("Div", logits, TWO))
    if rule == "probabilities":
        return graph("Softmax", logits, axis=-1)
    winner = graph("ArgMax", logits, axis=1, keepdims=1)
    chosen = graph("Equal", winner, np.arange(config.num_labels, dtype=np.int64))
    return cast(graph, chosen, np.float64)


def _weighted_sum(graph: Graph, values: list[str], alphas: NDArray[np.float64]) -> str:
    """The sum over the members in their order."""
    total = graph("Mul", values[0], alphas[0])
    for value, alpha in zip(values[1:], alphas[1:], strict=True):
        total = graph("Add", total, graph("Mul", value, alpha))
    return total


def _median(graph: Graph, outputs: list[str], alphas: NDArray[np.float64]) -> str:
    """Smallest output at which the alphas of the members at or below it reach half of their sum."""
    together = graph("Concat", *outputs, axis=1)  # [B, members]: a regression has one output
    order, places = graph.several(2, "TopK", together, int64s(len(outputs)), axis=1, largest=0, sorted=1)
    weights = graph("Gather", alphas, places, axis=0)
    half, reached, total = np.array(alphas.sum() / 2), [], ""
    for index in range(len(outputs)):  # one by one: CumSum has no float64 in ONNX Runtime
        weight = graph("Slice", weights, int64s(index), int64s(index + 1), int64s(1))
        total = graph("Add", total, weight) if total else weight
        reached.append(cast(graph, graph("GreaterOrEqual", total, half), np.int32))
    place = graph("ArgMax", graph("Concat", *reached, axis=1), axis=1, keepdims=1)
    return graph("GatherElements", order, place, axis=1)
