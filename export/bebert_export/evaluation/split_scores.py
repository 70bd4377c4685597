"""Score full precision, every member and the ensemble on one split; members run on the packed engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_export.data.batches import EncodedExamples, collate, sorted_batches
from bebert_export.data.metrics import CLASS_RULES, VALUE_RULES, evaluate, main_first, main_metric
from bebert_export.data.tasks import Task
from bebert_export.student.bert import Student
from bebert_infer.combine import combine

BATCH = 64
SELECTION = "none: no checkpoint, member, weight or rule was chosen with the dev split, it is for these figures only"


@dataclass(frozen=True)
class DevSplit:
    """An evaluation split: M encoded examples and their targets (class ids, values, or labels float32[M, K])."""

    encoded: EncodedExamples
    targets: NDArray[np.int64] | NDArray[np.float32]


def packed_logits(
    students: list[Student], alphas: list[float], labels: list[str], encoded: EncodedExamples, threads: int
) -> NDArray[np.float32]:
    """Logits float32[members, M, K] as the runtime computes them; packed in memory, nothing is written."""
    from bebert_export.pack.write_model import pack_ensemble
    from bebert_infer.artifact.folder import Artifact, finish_config
    from bebert_infer.ensemble import Ensemble

    rule = VALUE_RULES[0] if len(labels) == 1 else CLASS_RULES[0]
    config, tensors, _ = pack_ensemble(students, alphas, rule, labels)
    config, _ = finish_config(config, tensors)
    ensemble = Ensemble(Artifact(Path(), config, tensors, None), threads=threads)
    logits = np.empty((len(students), len(encoded), len(labels)), np.float32)
    for index in sorted_batches(encoded.lengths, BATCH):
        batch = {name: tensor.numpy() for name, tensor in collate(encoded, index).items()}
        logits[:, index] = ensemble.member_logits(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    return logits


def score_all(
    split: DevSplit,
    full_precision: NDArray[np.float32],
    in_torch: NDArray[np.float32],
    packed: NDArray[np.float32],
    alphas: list[float],
    task: Task | None = None,
) -> dict[str, Any]:
    """Metrics on one split: full precision, each member, the ensemble by every rule, packed against PyTorch.

    The task's main metric is named, and comes first everywhere.

    full_precision : float32[M, K];  in_torch, packed : float32[members, M, K]
    """
    weights = np.asarray(alphas, np.float64)
    several = split.targets.ndim == 2
    rules = VALUE_RULES if packed.shape[2] == 1 and not several else CLASS_RULES
    against_torch = {"max_logit_difference": float(np.abs(packed - in_torch).max())}
    if several:
        against_torch["equal_answers"] = float(np.mean((packed > 0) == (in_torch > 0)))
    elif packed.shape[2] > 1:
        against_torch["equal_answers"] = float(np.mean(packed.argmax(axis=2) == in_torch.argmax(axis=2)))

    def figures(outputs: NDArray[np.floating]) -> dict[str, float]:
        return main_first(task, evaluate(split.targets, outputs))

    whole = figures(full_precision)
    return {
        "rows": len(split.targets),
        "selection": SELECTION,
        "main_metric": main_metric(task, whole)[0],
        "full_precision": whole,
        "members": [figures(logits) for logits in packed],
        "ensemble": {rule: figures(combine(rule, packed, weights, multi_label=several)) for rule in rules},
        "packed_against_torch": against_torch,
    }
