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
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bebert_export.data.batches import TrainingSet
from bebert_export.distributed import autocast, device
from bebert_export.student.bert import Student
from bebert_export.training.distillation_losses import direction_matching, hidden_loss, two_stage
from bebert_export.training.loop import Fit, Watcher, fit
from bebert_export.training.loss import EVENLY, Guide, Objective, Weighting
from bebert_export.training.schedule import Schedule
from bebert_export.training.snapshots import Snapshots
from bebert_export.training.sparse_embeddings import sparse_embeddings

KINDS = ("none", "prediction", "hidden", "two-stage", "direction")
INSIDE = KINDS[2:]  # kinds that look inside the teacher
FASTER = 2.5  # learning rate of the first of two stages against that of the second, as published
LABELS = 0.5  # weight of the labels beside the teacher's logits in direction matching, as published; none for scores


@dataclass(frozen=True)
class Distillation:
    """What a student is taught: `kind` of KINDS, and its teacher.

    logits  : float32[M, K] of the teacher on the training file; None for "none"
    teacher : in evaluation mode, with as many layers as the student; None unless the kind is of INSIDE
    """

    kind: str = "none"
    logits: NDArray[np.float32] | None = None
    teacher: Student | None = None


def train_student(
    student: Student,
    data: TrainingSet,
    schedule: Schedule,
    *,
    distillation: Distillation,
    weighting: Weighting = EVENLY,
    held: TrainingSet | None = None,
    seed: int,
    watcher: Watcher,
    snapshots: Snapshots | None = None,
) -> Fit:
    """Train a student in place; `loop.fit` has the other arguments. Two stages take `schedule.epochs` each.

    Early stopping is for the second of them: the first one teaches nothing about the labels that it looks at.
    """
    judged = held if schedule.patience else None
    goal = Objective(data, weighting, distillation.logits)
    guide = _guide(distillation, schedule.precision)
    if distillation.kind == "direction":
        goal = replace(goal, guide=guide, labels=0.0 if data.regression else LABELS)
    elif distillation.kind == "hidden":
        goal = replace(goal, guide=guide)
    seen = [part.encoded for part in (data, judged) if part is not None]
    run = partial(fit, student, seed=seed, watcher=watcher, snapshots=snapshots)
    with sparse_embeddings(student, *seen):
        if distillation.kind != "two-stage":
            return run(goal, schedule, held=judged)
        faster = replace(schedule, learning_rate=FASTER * schedule.learning_rate)
        inside = run(replace(goal, teacher=None, guide=guide, only_guide=True), faster)
        last = run(goal, schedule, held=judged)
        return replace(last, steps=inside.steps + last.steps, seconds=inside.seconds + last.seconds)


def _guide(distillation: Distillation, precision: str) -> Guide:
    """What is compared inside student and teacher, as a loss of a batch; the teacher runs when it is called."""

    def guide(outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        assert distillation.teacher is not None
        with torch.no_grad(), autocast(precision):
            watched = distillation.teacher.to(device())(**batch, details=True)
        if distillation.kind == "hidden":
            return hidden_loss(outputs.hidden, watched.hidden)
        if distillation.kind == "two-stage":
            return two_stage(outputs, watched).stage1
        nobody = torch.zeros(len(outputs.logits), dtype=torch.int64, device=outputs.logits.device)
        found = direction_matching(outputs, watched, nobody)
        return found.total - found.prediction  # logits and labels count example by example, elsewhere

    return guide
