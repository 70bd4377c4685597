"""A whole member as nodes, from token ids to its logits; block for block what `bebert_infer/model/` computes."""

from dataclasses import dataclass

import numpy as np

from bebert_export.packed_onnx import floats
from bebert_export.packed_onnx.attention import Mask, attention
from bebert_export.packed_onnx.graph import Graph, cast
from bebert_export.packed_onnx.linear import linear
from bebert_export.packed_onnx.quantize import Rows
from bebert_export.packed_onnx.signs import word_rows
from bebert_infer.model.batch import ModelBounds
from bebert_infer.model.block import Block, Norm
from bebert_infer.model.member import Embeddings, Member

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Tokens:
    """Checked inputs: ids and types int64[B, T], positions int64[B, T], the mask in all its shapes."""

    ids: str
    types: str
    positions: str
    mask: Mask


def read_inputs(graph: Graph, bounds: ModelBounds) -> Tokens:
    """Add the inputs of a graph.

    What the engine refuses, ONNX Runtime must not answer: a number out of range becomes an index behind the table, for
    which Gather is an error. Without that, an id of -1 would be the last word. Too many tokens are positions behind
    their table in the same way.
    """
    ids, mask, types = (graph.input(name, np.int64, ["batch", "tokens"]) for name in INPUTS)
    zero = np.array(0, np.int64)
    real = cast(graph, mask, np.bool_)
    # Counted, not a Range: this way ONNX Runtime knows the shape, and so those of all that follows. Where it does not,
    # it can use no memory twice, and plans for a time that grows with the square of the nodes.
    one = np.array(1, np.int64)
    ones = cast(graph, graph("Equal", ids, ids), np.int64)
    positions = graph("Sub", graph("CumSum", ones, one), one)
    headless = graph("And", graph("Not", real), graph("Equal", positions, zero))
    strange = graph("Or", graph("Less", mask, zero), graph("Greater", mask, one))
    bad = graph("Or", graph("Or", headless, strange), graph("Less", ids, zero))
    return Tokens(
        graph("Where", bad, np.array(bounds.vocabulary, np.int64), ids),
        graph("Where", graph("Less", types, zero), np.array(bounds.types, np.int64), types),
        positions,
        Mask.of(graph, real),
    )


def member_logits(graph: Graph, member: Member, tokens: Tokens) -> str:
    """Logits float32[B, labels]."""
    hidden = _embed(graph, member.embeddings, tokens)
    graph.state("hidden_0", hidden)
    for index, block in enumerate(member.blocks):
        with graph.scope(f"layer{index}"):
            hidden = _block(graph, block, hidden, tokens.mask, f"codes.l{index}")
        graph.state(f"hidden_{index + 1}", hidden)
    with graph.scope("pooler"):
        first = graph("Gather", hidden, np.array(0, np.int64), axis=1)
        pooled = floats.tanh(graph, linear(graph, member.pooler, Rows(first, 2, None), "codes.pooler.dense"))
    with graph.scope("classifier"):
        return floats.dense(graph, pooled, member.classifier_weight, member.classifier_bias)


def _embed(graph: Graph, tables: Embeddings, tokens: Tokens) -> str:
    width = tables.position.shape[1]
    with graph.scope("embeddings"):
        words = [
            word_rows(graph, tokens.ids, signs, scale, width)
            for signs, scale in zip(tables.signs, tables.scales, strict=True)
        ]
        total = words[0] if len(words) == 1 else graph("Add", *words)
        total = graph("Add", total, graph("Gather", tables.position, tokens.positions, axis=0))
        total = graph("Add", total, graph("Gather", tables.token_type, tokens.types, axis=0))
        return _norm(graph, tables.norm, total)


def _block(graph: Graph, block: Block, hidden: str, mask: Mask, name: str) -> str:
    rows = Rows(hidden, 3, mask.rows)
    projected = []
    for site in ("query", "key", "value"):
        with graph.scope(site):
            projected.append(linear(graph, getattr(block, site), rows, f"{name}.attn.{site}"))
    q, k, v = projected
    with graph.scope("attention"):
        context = attention(graph, block.attention, (q, k, v), mask, f"{name}.attn")
    with graph.scope("attention_output"):
        out = linear(graph, block.attention_output, Rows(context, 3, mask.rows), f"{name}.attn_out.dense")
        middle = _norm(graph, block.attention_norm, graph("Add", out, hidden))
    with graph.scope("intermediate"):
        wide = linear(graph, block.intermediate, Rows(middle, 3, mask.rows), f"{name}.intermediate.dense")
        wide = wide if block.gelu else graph("Relu", wide)
    with graph.scope("output"):
        narrow = linear(graph, block.output, Rows(wide, 3, mask.rows), f"{name}.output.dense", block.gelu)
        return _norm(graph, block.output_norm, graph("Add", narrow, middle))


def _norm(graph: Graph, norm: Norm, total: str) -> str:
    with graph.scope("norm"):
        return floats.layer_norm(graph, total, norm.weight, norm.bias, norm.eps)
