"""Fine-tune one model, and predict with it: the same loop for full precision, ternary and binary members.

Sample weights belong to example ids. A batch carries its ids, so the order in which examples are visited
never matters; predictions are put back by id too (the published boosting code indexes a shuffled loader by
position and re-weights the wrong examples, reference numerics §5.2.1).
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bebert_export.data import Encoded, collate, shuffled_batches, sorted_batches

Floats = NDArray[np.floating]
PREDICTION_BATCH = 256


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train: AdamW, linear warm-up, then linear decay to 0.

    `epochs` may be a fraction. Learned quantizer steps have their own rate and no weight decay.
    """

    epochs: float
    batch_size: int
    learning_rate: float
    step_learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_norm: float = 1.0


@dataclass(frozen=True)
class TrainingSet:
    """M encoded examples with class ids int64[M] (classes >= 2) or values float32[M] (classes == 1)."""

    encoded: Encoded
    targets: NDArray[np.int64] | NDArray[np.float32]
    classes: int

    def part(self, places: NDArray[np.int64]) -> "TrainingSet":
        """Some of the examples, in the order of `places`."""
        ids, types = ([rows[i] for i in places] for rows in (self.encoded.ids, self.encoded.types))
        return TrainingSet(Encoded(ids, types), self.targets[places], self.classes)


@dataclass(frozen=True)
class Fit:
    """What a training run was: optimizer steps, seconds, mean loss over its last tenth."""

    steps: int
    seconds: float
    loss: float


class Watcher(Protocol):
    """Told about every optimizer step; progress bars and logs."""

    def step(self, step: int, steps: int, loss: float, examples: int) -> None:
        """Optimizer step `step` of `steps` is done on `examples` examples."""


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; dropout and new layers draw from torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for libraries that use the global generator
    torch.manual_seed(seed)


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


def fit(
    model: nn.Module,
    data: TrainingSet,
    schedule: Schedule,
    *,
    seed: int,
    watcher: Watcher,
    weights: Floats | None = None,
    sample: NDArray[np.int64] | None = None,
    teacher: NDArray[np.float32] | None = None,
    labels: float = 0.0,
    guide: Callable[[Any, dict[str, Tensor]], Tensor] | None = None,
    only_guide: bool = False,
) -> Fit:
    """Train `model` in place on loss = mean over the batch of weights[id] · example loss.

    weights : float[M] by example id, scaled to mean 1 here; None means all 1
    sample  : example ids to train on, any number of times each; None means every one once
    teacher : float32[M, K] logits by example id to distil from; None means the labels
    labels  : weight of the labels beside a teacher
    guide   : (outputs, batch) -> a further loss of the batch; only_guide: nothing else counts
    Raises FloatingPointError if the loss stops being finite.
    """
    seed_everything(seed)
    order = np.random.default_rng(seed)
    lengths = data.encoded.lengths if sample is None else data.encoded.lengths[sample]
    targets = torch.from_numpy(data.targets)
    scaled = None if weights is None else torch.from_numpy((weights / weights.mean()).astype(np.float32))
    soft = None if teacher is None else torch.from_numpy(teacher)
    epoch_steps = -(-len(lengths) // schedule.batch_size)
    steps = max(1, round(schedule.epochs * epoch_steps))
    optimizer = _optimizer(model, schedule)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, _linear(steps, schedule.warmup))
    model.train()
    losses: list[float] = []
    start = time.perf_counter()
    while len(losses) < steps:
        for places in shuffled_batches(lengths, schedule.batch_size, order)[: steps - len(losses)]:
            index = places if sample is None else sample[places]
            ids = torch.from_numpy(index)
            batch = collate(data.encoded, index)
            outputs = model(**batch)
            each = example_losses(outputs.logits, targets[ids], None if soft is None else soft[ids])
            if labels and soft is not None:
                each = each + labels * example_losses(outputs.logits, targets[ids], None)
            loss = (each if scaled is None else each * scaled[ids]).mean()
            if guide is not None:
                loss = guide(outputs, batch) + (0 if only_guide else loss)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), schedule.max_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            decay.step()
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss is {losses[-1]} at step {len(losses)} of {steps}; use a smaller learning rate"
                )
            watcher.step(len(losses), steps, losses[-1], len(index))
    model.eval()
    return Fit(steps, time.perf_counter() - start, float(np.mean(losses[-max(1, steps // 10) :])))


@torch.no_grad()
def predict(model: nn.Module, encoded: Encoded, classes: int) -> NDArray[np.float32]:
    """Logits of every example in the order of the file, float32[M, K]; dropout off."""
    model.eval()
    logits = np.empty((len(encoded), classes), np.float32)
    for index in sorted_batches(encoded.lengths, PREDICTION_BATCH):
        logits[index] = model(**collate(encoded, index)).logits.numpy()
    return logits


def _optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW in three groups: matrices decay, biases and norms do not, quantizer steps have their own rate."""
    decayed, plain, steps = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if "clip_" in name:  # published name of every learned quantizer step
            steps.append(parameter)
        elif name.endswith("bias") or "LayerNorm" in name:
            plain.append(parameter)
        else:
            decayed.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": plain, "weight_decay": 0.0},
        {"params": steps, "weight_decay": 0.0, "lr": schedule.step_learning_rate},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=schedule.learning_rate, fused=True)


def _linear(steps: int, warmup: float):
    """Factor of the learning rate after `step` updates: up to 1 over the warm-up, then down to 0."""
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return max(0.0, (steps - step) / max(1, steps - rising))

    return factor
