"""Early stopping: score the held-out part now and then, keep the best weights, stop when they stay the best."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bebert_export.data.metrics import evaluate
from bebert_export.training.loss import example_losses

Targets = NDArray[np.int64] | NDArray[np.float32]


def held_out_scores(logits: NDArray[np.float32], targets: Targets) -> dict[str, float]:
    """Mean loss against the labels and the metrics of the task, for logits float32[m, K] of the held-out part."""
    losses = example_losses(torch.from_numpy(logits), torch.from_numpy(targets), None)
    return {"held_loss": losses.double().mean().item()} | evaluate(targets, logits)


@dataclass
class Stopping:
    """What early stopping remembers. `every` is the optimizer steps between two evaluations, 0 for no evaluation."""

    every: int
    patience: int
    best_loss: float = float("inf")
    best_step: int | None = None
    failures: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    def due(self, step: int, steps: int) -> bool:
        """Whether the held-out part is to be scored after optimizer step `step` of `steps`."""
        return self.every > 0 and (step % self.every == 0 or step == steps)

    def judge(self, step: int, loss: float, model: nn.Module) -> bool:
        """Note the held-out loss after `step`; returns whether to stop. Weights are copied when it is the lowest."""
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.failures = loss, step, 0
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        else:
            self.failures += 1
        return self.failures >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Give the model its best weights back, if any were noted."""
        if self.best:
            model.load_state_dict(self.best)
