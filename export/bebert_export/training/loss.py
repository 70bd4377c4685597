"""What a training step minimises: the loss of a batch of examples, each with its weight, and what a guide adds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bebert_export.data.batches import Encoded, collate
from bebert_export.distributed import autocast, device, share

Guide = Callable[[Any, dict[str, Tensor]], Tensor]


def example_losses(logits: Tensor, targets: Tensor, teacher: Tensor | None) -> Tensor:
    """Loss of each example, float32[B], so that sample weights can act on it.

    Classes: cross-entropy -log softmax(logits)[target], or with a teacher the soft form
    -Σ_k softmax(teacher)_k · log softmax(logits)_k (temperature 1).
    Regression (one logit): squared error to the target, or to the teacher: soft cross-entropy of a single
    logit is identically 0 (reference numerics §9.23).
    """
    if logits.shape[1] == 1:
        return (logits[:, 0] - (targets if teacher is None else teacher[:, 0])).square()
    if teacher is None:
        return functional.cross_entropy(logits, targets, reduction="none")
    return functional.cross_entropy(logits, teacher.softmax(dim=1), reduction="none")


@dataclass(frozen=True)
class Objective:
    """Loss of a batch = mean over it of weights[id] · example loss, plus what the guide says.

    targets : int64[M] or float32[M];  weights : float32[M] or None;  teacher : float32[M, K] or None, all on the CPU
    labels  : weight of the labels beside a teacher
    guide   : (outputs, batch) -> a further loss, a mean over the rows of the batch; only_guide: nothing else counts
    """

    encoded: Encoded
    targets: Tensor
    weights: Tensor | None
    teacher: Tensor | None
    labels: float
    guide: Guide | None
    only_guide: bool
    precision: str

    def loss(self, model: nn.Module, index: NDArray[np.int64]) -> Tensor | None:
        """Part of this process in the loss of the examples `index`, []; None if none of them falls to it.

        Parts of all processes add up to the loss of the batch. All pad to its longest text, so that a mean over
        tokens weighs rows as it would in one process.
        """
        rows = share(len(index))
        if rows.start == rows.stop:
            return None
        batch = self.batch(index, rows)
        ids = torch.from_numpy(index[rows])
        targets = self.targets[ids].to(device())
        soft = None if self.teacher is None else self.teacher[ids].to(device())
        with autocast(self.precision):
            outputs = model(**batch)
        logits = outputs.logits.float()
        each = example_losses(logits, targets, soft)
        if self.labels and soft is not None:
            each = each + self.labels * example_losses(logits, targets, None)
        loss = (each if self.weights is None else each * self.weights[ids].to(device())).mean()
        if self.guide is not None:
            loss = self.guide(outputs, batch) + (0 if self.only_guide else loss)
        part = (rows.stop - rows.start) / len(index)
        return loss if part == 1 else loss * part

    def batch(self, index: NDArray[np.int64], rows: slice) -> dict[str, Tensor]:
        """Some rows of the padded batch of the examples `index`, on the device."""
        return {name: tensor[rows].to(device()) for name, tensor in collate(self.encoded, index).items()}
