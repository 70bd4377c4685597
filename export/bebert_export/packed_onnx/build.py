"""One ONNX model of all members of a packed ensemble, with the vote inside."""

import json
from importlib.metadata import version

import numpy as np
import onnx

from bebert_export.packed_onnx.graph import Graph, cast, int64s
from bebert_export.packed_onnx.member import member_logits, read_inputs
from bebert_export.packed_onnx.vote import vote
from bebert_infer.artifact.config import Config
from bebert_infer.ensemble import Ensemble

OUTPUTS = ("logits", "probabilities", "member_logits")


def build(ensemble: Ensemble) -> onnx.ModelProto:
    """The model: int64 inputs [batch, tokens], float32 outputs, and what it is in its metadata.

    logits        : [batch, labels], combined by the model's rule, as `Ensemble.logits`
    probabilities : [batch, labels], shares of the labels; for regression the value
    member_logits : [members, batch, labels], as `Ensemble.member_logits`
    """
    graph, config = Graph(), ensemble.config
    tokens = read_inputs(graph, ensemble.limits)
    logits = []
    for index, member in enumerate(ensemble.members):
        with graph.scope(f"member{index}"):
            logits.append(member_logits(graph, member, tokens))
    with graph.scope("vote"):
        scores, shares = vote(graph, config, logits, ensemble.alphas)
        stacked = graph("Concat", *(graph("Unsqueeze", one, int64s(0)) for one in logits), axis=0)
    answers: list[int | str] = ["batch", config.num_labels]
    graph.output("logits", cast(graph, scores, np.float32), np.float32, answers)
    graph.output("probabilities", cast(graph, shares, np.float32), np.float32, answers)
    graph.output("member_logits", stacked, np.float32, [len(logits), *answers])
    return graph.model("bebert", _about(config), _metadata(config, ensemble))


def _about(config: Config) -> str:
    members = ", ".join(f"{member.family} {member.scheme}" for member in config.members)
    return (
        f"Binary ensemble BERT: {members}; combined by {config.combination}. Weights are packed signs, 8 in a byte, "
        "unpacked when the file is loaded."
    )


def _metadata(config: Config, ensemble: Ensemble) -> dict[str, str]:
    """Texts, those of several values in JSON."""
    return {
        "bebert_version": version("bebert-infer"),
        "tensors_sha256": config.tensors_sha256,
        "labels": json.dumps(config.labels, ensure_ascii=False),
        "problem_type": config.problem_type,
        "combination": config.combination,
        "alphas": json.dumps(ensemble.alphas.tolist()),
        "families": json.dumps([member.family for member in config.members]),
        "schemes": json.dumps([member.scheme for member in config.members]),
        "max_length": str(config.tokenizer.max_length if config.tokenizer else config.max_position_embeddings),
    }
