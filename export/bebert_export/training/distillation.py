"""What students learn from: labels, the logits of a teacher, or also what goes on inside it.

    none        labels only (BEBERT, strategy A)
    prediction  soft cross-entropy with the teacher's logits (strategy B)
    hidden      the logits and hidden states together (BiT, whose students in between are teachers in turn)
    two-stage   first hidden states and attention scores, then the logits (BinaryBERT, strategy C)
    direction   directions of Q, K, V and hidden states, logits and labels together (BiBERT, strategy D)

Sample weights act on labels and logits, which belong to an example; what is compared inside is a mean over the batch,
as published. Soft cross-entropy sums over classes, where the published code takes the mean. The teacher runs in every
step of the last three, which is what makes them slow.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bebert_export.distributed import autocast, device
from bebert_export.student.bert import Student
from bebert_export.training.distillation_losses import direction_matching, hidden_loss, two_stage
from bebert_export.training.loop import Fit, Schedule, TrainingSet, Watcher, fit
from bebert_export.training.loss import Guide
from bebert_export.training.snapshots import Snapshots
from bebert_export.training.sparse_embeddings import used_rows

KINDS = ("none", "prediction", "hidden", "two-stage", "direction")
INSIDE = KINDS[2:]  # kinds that look inside the teacher
FASTER = 2.5  # learning rate of the first of two stages against that of the second, as published
LABELS = 0.5  # weight of the labels beside the teacher's logits in direction matching, as published; none for scores


@dataclass(frozen=True)
class Lessons:
    """What a student is taught: `kind` of KINDS, and its teacher.

    logits  : float32[M, K] of the teacher on the training file; None for "none"
    teacher : in evaluation mode, with as many layers as the student; None unless the kind is of INSIDE
    """

    kind: str = "none"
    logits: NDArray[np.float32] | None = None
    teacher: Student | None = None


def teach(
    student: Student,
    data: TrainingSet,
    schedule: Schedule,
    *,
    lessons: Lessons,
    seed: int,
    watcher: Watcher,
    weights: NDArray[np.float64] | None = None,
    sample: NDArray[np.int64] | None = None,
    chances: NDArray[np.float64] | None = None,
    held: TrainingSet | None = None,
    snapshots: Snapshots | None = None,
) -> Fit:
    """Train a student in place; `training.fit` has the arguments. Two stages take `schedule.epochs` each.

    Early stopping is for the second of them: the first one teaches nothing about the labels that it looks at.
    """
    judged = held if schedule.patience else None
    seen = [part.encoded for part in (data, judged) if part is not None]
    drawing = {"weights": weights, "sample": sample, "chances": chances}
    common = {"watcher": watcher, "snapshots": snapshots, **drawing}
    with used_rows(student, *seen):
        return _teach(student, data, schedule, lessons, judged, seed=seed, **common)


def _teach(
    student: Student,
    data: TrainingSet,
    schedule: Schedule,
    lessons: Lessons,
    held: TrainingSet | None,
    *,
    seed: int,
    **common: Any,
) -> Fit:
    if lessons.kind == "two-stage":
        faster = replace(schedule, learning_rate=FASTER * schedule.learning_rate)
        guide = _inside(lessons, schedule.precision)
        inside = fit(student, data, faster, seed=seed, guide=guide, only_guide=True, **common)
        last = fit(student, data, schedule, seed=seed, teacher=lessons.logits, held=held, **common)
        return replace(last, steps=inside.steps + last.steps, seconds=inside.seconds + last.seconds)
    common["held"] = held
    if lessons.kind == "hidden":
        guide = _hidden(lessons, schedule.precision)
        return fit(student, data, schedule, seed=seed, teacher=lessons.logits, guide=guide, **common)
    if lessons.kind == "direction":
        guide, labels = _directions(lessons, schedule.precision), LABELS if data.classes > 1 else 0.0
        return fit(student, data, schedule, seed=seed, teacher=lessons.logits, labels=labels, guide=guide, **common)
    return fit(student, data, schedule, seed=seed, teacher=lessons.logits, **common)


def _hidden(lessons: Lessons, precision: str) -> Guide:
    def guide(outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        return hidden_loss(outputs.hidden, _watched(lessons, batch, precision).hidden)

    return guide


def _inside(lessons: Lessons, precision: str) -> Guide:
    def guide(outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        return two_stage(outputs, _watched(lessons, batch, precision)).stage1

    return guide


def _directions(lessons: Lessons, precision: str) -> Guide:
    def guide(outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        nobody = torch.zeros(len(outputs.logits), dtype=torch.int64, device=outputs.logits.device)
        found = direction_matching(outputs, _watched(lessons, batch, precision), nobody)
        return found.total - found.prediction  # logits and labels count example by example, elsewhere

    return guide


def _watched(lessons: Lessons, batch: dict[str, Tensor], precision: str) -> Any:
    assert lessons.teacher is not None
    with torch.no_grad(), autocast(precision):
        return lessons.teacher.to(device())(**batch, details=True)
