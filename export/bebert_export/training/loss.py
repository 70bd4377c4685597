"""What a training step minimises: the loss of a batch of examples, each with its weight, and what a guide adds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bebert_export.data.batches import TrainingSet, collate
from bebert_export.distributed import autocast, device, share

Guide = Callable[[Any, dict[str, Tensor]], Tensor]


def example_losses(logits: Tensor, targets: Tensor, teacher: Tensor | None) -> Tensor:
    """Loss of each example, float32[B] (of labels float32[B, K], of each label), so that weights can act on it.

    Classes: cross-entropy -log softmax(logits)[target], or with a teacher the soft form
    -Σ_k softmax(teacher)_k · log softmax(logits)_k (temperature 1).
    Regression (one logit): squared error to the target, or to the teacher: soft cross-entropy of a single
    logit is identically 0 (reference numerics §9.23).
    Labels float32[B, K] that do not exclude each other: binary cross-entropy of each, to sigmoid(teacher) if there is
    one.
    """
    if targets.ndim == 2:
        soft = targets if teacher is None else teacher.sigmoid()
        return functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    if logits.shape[1] == 1:
        return (logits[:, 0] - (targets if teacher is None else teacher[:, 0])).square()
    if teacher is None:
        return functional.cross_entropy(logits, targets, reduction="none")
    return functional.cross_entropy(logits, teacher.softmax(dim=1), reduction="none")


@dataclass(frozen=True)
class Weighting:
    """How much each of M examples counts, by its id; by default all the same.

    weights : float[M] (of labels float[M, K]), factors of the losses, scaled to mean 1; None means all 1
    sample  : ids of the examples to train on, any number of times each; None means every one once
    chances : float64[M], sum 1: every epoch is M examples drawn anew with these; None means no drawing
    """

    weights: NDArray[np.floating] | None = None
    sample: NDArray[np.int64] | None = None
    chances: NDArray[np.float64] | None = None

    @cached_property
    def factors(self) -> NDArray[np.float32] | None:
        """The weights with mean 1, float32[M] or [M, K]."""
        return None if self.weights is None else (self.weights / self.weights.mean()).astype(np.float32)


EVENLY = Weighting()


@dataclass(frozen=True)
class Objective:
    """What a training minimises: mean over a batch of factor[id] · example loss, plus what the guide says.

    teacher : float32[M, K] logits by example id to distil from; None means the labels
    labels  : weight of the labels beside a teacher
    guide   : (outputs, batch) -> a further loss, a mean over the rows of the batch; only_guide: nothing else counts
    """

    data: TrainingSet
    weighting: Weighting = EVENLY
    teacher: NDArray[np.float32] | None = None
    labels: float = 0.0
    guide: Guide | None = None
    only_guide: bool = False

    def loss(self, model: nn.Module, index: NDArray[np.int64], precision: str) -> Tensor | None:
        """Part of this process in the loss of the examples `index`, []; None if none of them falls to it.

        Parts of all processes add up to the loss of the batch. All pad to its longest text, so that a mean over
        tokens weighs rows as it would in one process.
        """
        rows = share(len(index))
        if rows.start == rows.stop:
            return None
        batch = self.batch(index, rows)
        targets, soft, factors = (
            None if values is None else torch.from_numpy(values[index[rows]]).to(device())
            for values in (self.data.targets, self.teacher, self.weighting.factors)
        )
        assert targets is not None
        with autocast(precision):
            outputs = model(**batch)
        logits = outputs.logits.float()
        each = example_losses(logits, targets, soft)
        if self.labels and soft is not None:
            each = each + self.labels * example_losses(logits, targets, None)
        loss = (each if factors is None else each * factors).mean()
        if self.guide is not None:
            loss = self.guide(outputs, batch) + (0 if self.only_guide else loss)
        part = (rows.stop - rows.start) / len(index)
        return loss if part == 1 else loss * part

    def batch(self, index: NDArray[np.int64], rows: slice) -> dict[str, Tensor]:
        """Some rows of the padded batch of the examples `index`, on the device."""
        return {name: tensor[rows].to(device()) for name, tensor in collate(self.data.encoded, index).items()}
