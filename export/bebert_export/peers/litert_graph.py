"""A full-precision BERT classifier as a LiteRT graph with int8 weights, which its delegate XNNPACK runs whole.

Weights are int8 with a scale for each output, activations float32, which XNNPACK quantizes row by row before each int8
product: what LiteRT's own quantizer calls dynamic. Embeddings have a scale for each row. Attention stays float32.

The rows of all sentences are one matrix [batch · tokens, hidden], so that sentences have no padding, and there is no
mask and one segment: the fastest way to say so. What a graph may do once is done here: the scale of the scores is in
the queries' weights, queries, keys and values are one product, the segment is in the table of positions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_export.peers.loaders import LITERT_BATCH
from bebert_export.peers.tflite_file import ANY, TfliteGraph, int32

Floats = NDArray[np.float32]
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gelu": ("GELU", {"options": "GeluOptions"}),
    "gelu_new": ("GELU", {"options": "GeluOptions", "approximate": True}),
    "relu": ("RELU", {}),
}


def write_litert(model: Any, file: Path) -> None:
    """Write a BERT classifier of transformers; raises ValueError for an activation that it does not know.

    Inputs "input_ids" and "position_ids", int32[batch · tokens], in this order; output "logits", float32[batch,
    labels]. The file is for a batch of 1; other batches change the first number of the constants named LITERT_BATCH.
    """
    if model.config.hidden_act not in ACTIVATIONS:
        raise ValueError(f'hidden_act is "{model.config.hidden_act}"; known are {", ".join(ACTIVATIONS)}')
    bert = _Bert(model)
    rows = bert.embeddings()
    for layer in range(model.config.num_hidden_layers):
        rows = bert.block(rows, f"bert.encoder.layer.{layer}.")
    bert.graph.write(file, {"logits": bert.classifier(rows)})


class _Bert:
    """Its parts; a tensor is a number of the graph."""

    def __init__(self, model: Any) -> None:
        self.config = model.config
        self.weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
        self.graph = TfliteGraph()
        add, heads, hidden = self.graph.constant, self.config.num_attention_heads, self.config.hidden_size
        self.head, self.rows = hidden // heads, (ANY, hidden)
        self.epsilon = add(np.array(self.config.layer_norm_eps, np.float32))
        self.last_axis, self.heads_axis = add(int32([1])), add(int32(1))
        self.to_heads = add(int32([1, ANY, 3 * heads, self.head]), name=LITERT_BATCH)
        self.to_sentences = add(int32([1, ANY, hidden]), name=LITERT_BATCH)
        self.begin, self.first_tokens = add(int32([0, 0, 0])), add(int32([1, 1, hidden]), name=LITERT_BATCH)
        self.to_rows, self.swap_tokens_and_heads = add(int32(self.rows)), add(int32([0, 2, 1, 3]))

    def embeddings(self) -> int:
        """Words and positions, and the first segment with them."""
        words, positions, segments = (
            self.weights[f"bert.embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
        )
        ids, places = self.graph.input("input_ids"), self.graph.input("position_ids")
        word, place = (
            self.graph.add("EMBEDDING_LOOKUP", index, self._int8(table), shape=self.rows)
            for index, table in ((ids, words), (places, positions + segments[0]))
        )
        return self._layer_norm(self._sum(word, place, self.rows), "bert.embeddings.LayerNorm")

    def block(self, rows: int, name: str) -> int:
        """Attention and feed-forward, each with its residual and LayerNorm."""
        attended = self._linear(self._attention(rows, name + "attention.self."), name + "attention.output.dense")
        rows = self._layer_norm(self._sum(attended, rows, self.rows), name + "attention.output.LayerNorm")
        activation, options = ACTIVATIONS[self.config.hidden_act]
        wide = self._linear(rows, name + "intermediate.dense")
        wide = self.graph.add(activation, wide, shape=(ANY, self.config.intermediate_size), **options)
        narrow = self._linear(wide, name + "output.dense")
        return self._layer_norm(self._sum(narrow, rows, self.rows), name + "output.LayerNorm")

    def classifier(self, rows: int) -> int:
        """The pooler on the first token of each sentence, and the logits."""
        add, hidden = self.graph.add, self.config.hidden_size
        sentences = add("RESHAPE", rows, self.to_sentences, shape=(ANY, ANY, hidden), options="ReshapeOptions")
        first = add("SLICE", sentences, self.begin, self.first_tokens, shape=(ANY, 1, hidden), options="SliceOptions")
        first = add("RESHAPE", first, self.to_rows, shape=self.rows, options="ReshapeOptions")
        return self._linear(add("TANH", self._linear(first, "bert.pooler.dense"), shape=self.rows), "classifier")

    def _attention(self, rows: int, name: str) -> int:
        heads, head = self.config.num_attention_heads, self.head
        scale = np.float32(head**-0.5)
        (queries, keys, values), (of_queries, *other) = (
            [self.weights[f"{name}{part}.{kind}"] for part in ("query", "key", "value")] for kind in ("weight", "bias")
        )
        product = self._product(
            rows, np.concatenate([scale * queries, keys, values]), np.concatenate([scale * of_queries, *other])
        )
        by_head = (ANY, heads, ANY, head)  # sentence, head, token
        add, swap = self.graph.add, self.swap_tokens_and_heads
        x = add("RESHAPE", product, self.to_heads, shape=(ANY, ANY, 3 * heads, head), options="ReshapeOptions")
        x = add("TRANSPOSE", x, swap, shape=(ANY, 3 * heads, ANY, head), options="TransposeOptions")
        q, k, v = add("SPLIT", self.heads_axis, x, shape=by_head, outputs=3, options="SplitOptions", numSplits=3)
        x = add("BATCH_MATMUL", q, k, shape=(ANY, heads, ANY, ANY), options="BatchMatMulOptions", adjY=True)
        x = add("SOFTMAX", x, shape=(ANY, heads, ANY, ANY), options="SoftmaxOptions", beta=1.0)
        x = add("BATCH_MATMUL", x, v, shape=by_head, options="BatchMatMulOptions")
        x = add("TRANSPOSE", x, swap, shape=(ANY, ANY, heads, head), options="TransposeOptions")
        return int(add("RESHAPE", x, self.to_rows, shape=self.rows, options="ReshapeOptions"))

    def _layer_norm(self, rows: int, name: str) -> int:
        """LiteRT has no such operator: mean and variance of each row, then its weight and bias."""
        add, one = self.graph.add, (ANY, 1)
        mean = add("MEAN", rows, self.last_axis, shape=one, options="ReducerOptions", keepDims=True)
        x = add("SQUARED_DIFFERENCE", rows, mean, shape=self.rows, options="SquaredDifferenceOptions")
        variance = add("MEAN", x, self.last_axis, shape=one, options="ReducerOptions", keepDims=True)
        factor = add("RSQRT", self._sum(variance, self.epsilon, one), shape=one)
        x = add("SUB", rows, mean, shape=self.rows, options="SubOptions")
        for by in (factor, self.graph.constant(self.weights[name + ".weight"])):
            x = add("MUL", x, by, shape=self.rows, options="MulOptions")
        return self._sum(x, self.graph.constant(self.weights[name + ".bias"]), self.rows)

    def _linear(self, rows: int, name: str) -> int:
        return self._product(rows, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def _product(self, rows: int, weight: Floats, bias: Floats) -> int:
        inputs, shape = (rows, self._int8(weight), self.graph.constant(bias)), (ANY, len(weight))
        return int(self.graph.add("FULLY_CONNECTED", *inputs, shape=shape, options="FullyConnectedOptions"))

    def _sum(self, left: int, right: int, shape: Sequence[int]) -> int:
        return int(self.graph.add("ADD", left, right, shape=shape, options="AddOptions"))

    def _int8(self, weight: Floats) -> int:
        """The nearest of -127 … 127 times the scale of each row."""
        scales = np.abs(weight).max(axis=1) / 127
        scales[scales == 0] = 1  # a row of zeros, as that of padding
        return self.graph.constant(np.rint(weight / scales[:, None]).astype(np.int8), scales)
