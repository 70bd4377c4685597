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

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bebert_export.distill import direction_matching, hidden_loss, two_stage
from bebert_export.modeling import Student
from bebert_export.training import Fit, Schedule, TrainingSet, Watcher, fit
from bebert_export.used_rows import used_rows

KINDS = ("none", "prediction", "hidden", "two-stage", "direction")
INSIDE = KINDS[2:]  # kinds that look inside the teacher
FASTER = 2.5  # learning rate of the first of two stages against that of the second, as published
LABELS = 0.5  # weight of the labels beside the teacher's logits in direction matching, as published


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
) -> Fit:
    """Train a student in place; `training.fit` has the arguments. Two stages take `schedule.epochs` each."""
    with used_rows(student, data.encoded):
        return _teach(student, data, schedule, lessons, seed=seed, watcher=watcher, weights=weights, sample=sample)


def _teach(
    student: Student, data: TrainingSet, schedule: Schedule, lessons: Lessons, *, seed: int, **common: Any
) -> Fit:
    if lessons.kind == "two-stage":
        faster = replace(schedule, learning_rate=FASTER * schedule.learning_rate)
        inside = fit(student, data, faster, seed=seed, guide=_inside(lessons), only_guide=True, **common)
        last = fit(student, data, schedule, seed=seed, teacher=lessons.logits, **common)
        return Fit(inside.steps + last.steps, inside.seconds + last.seconds, last.loss)
    if lessons.kind == "hidden":
        return fit(student, data, schedule, seed=seed, teacher=lessons.logits, guide=_hidden(lessons), **common)
    if lessons.kind == "direction":
        guide = _directions(lessons)
        return fit(student, data, schedule, seed=seed, teacher=lessons.logits, labels=LABELS, guide=guide, **common)
    return fit(student, data, schedule, seed=seed, teacher=lessons.logits, **common)


Guide = Callable[[Any, dict[str, Tensor]], Tensor]


def _hidden(lessons: Lessons) -> Guide:
    def guide(outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        return hidden_loss(outputs.hidden, _watched(lessons, batch).hidden)

    return guide


def _inside(lessons: Lessons) -> Guide:
    def guide(outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        return two_stage(outputs, _watched(lessons, batch)).stage1

    return guide


def _directions(lessons: Lessons) -> Guide:
    def guide(outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        nobody = torch.zeros(len(outputs.logits), dtype=torch.int64)
        found = direction_matching(outputs, _watched(lessons, batch), nobody)
        return found.total - found.prediction  # logits and labels count example by example, elsewhere

    return guide


def _watched(lessons: Lessons, batch: dict[str, Tensor]) -> Any:
    assert lessons.teacher is not None
    with torch.no_grad():
        return lessons.teacher(**batch, details=True)
