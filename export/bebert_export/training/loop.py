"""Fine-tune one model, and predict with it: the same loop for full precision, ternary and binary members.

Sample weights belong to example ids. A batch carries its ids, so the order in which examples are visited
never matters; predictions are put back by id too (the published boosting code indexes a shuffled loader by
position and re-weights the wrong examples, reference numerics §5.2.1).

On one CPU process, the same seed and options give the same bits. See bebert_export/distributed.py for several
processes, snapshots.py for resuming, early_stopping.py for early stopping.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bebert_export.data.batches import Encoded, collate, shuffled_batches, sorted_batches
from bebert_export.distributed import add_arrays, add_up, device, is_main, processes
from bebert_export.training.early_stopping import Stopping, held_out_scores
from bebert_export.training.loss import Guide, Objective, example_losses
from bebert_export.training.optimizer import adamw, linear_decay
from bebert_export.training.schedule import Schedule
from bebert_export.training.snapshots import Running, Snapshots

__all__ = ["Fit", "Schedule", "TrainingSet", "Watcher", "example_losses", "fit", "predict", "seed_everything"]

Floats = NDArray[np.floating]
PREDICTION_BATCH = 256
RANK_SEED = 1_000_003  # times the number of a process, added to its seed: dropout must differ among them


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
    """What a training run was: optimizer steps, seconds, mean loss over its last tenth.

    best_step : step whose weights were kept, with early stopping; else None, and the last weights were kept
    """

    steps: int
    seconds: float
    loss: float
    best_step: int | None = None


class Watcher:
    """Told about every optimizer step; this one does nothing, those of progress.py show and log."""

    def step(self, step: int, steps: int, loss: float, examples: int, learning_rate: float) -> None:
        """Optimizer step `step` of `steps` is done on `examples` examples; `learning_rate` was that of the matrices."""

    def evaluated(self, step: int, steps: int, scores: dict[str, float]) -> None:
        """The held-out part was scored after optimizer step `step`."""


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; dropout and new layers draw from torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for libraries that use the global generator
    torch.manual_seed(seed)


def fit(
    model: nn.Module,
    data: TrainingSet,
    schedule: Schedule,
    *,
    seed: int,
    watcher: Watcher,
    weights: Floats | None = None,
    sample: NDArray[np.int64] | None = None,
    chances: NDArray[np.float64] | None = None,
    teacher: NDArray[np.float32] | None = None,
    labels: float = 0.0,
    guide: Guide | None = None,
    only_guide: bool = False,
    held: TrainingSet | None = None,
    snapshots: Snapshots | None = None,
) -> Fit:
    """Train `model` in place on loss = mean over the batch of weights[id] · example loss; it comes back on the CPU.

    weights   : float[M] by example id, scaled to mean 1 here; None means all 1
    sample    : example ids to train on, any number of times each; None means every one once
    chances   : float64[M], sum 1: every epoch is M examples drawn anew with these; None means no drawing
    teacher   : float32[M, K] logits by example id to distil from; None means the labels
    labels    : weight of the labels beside a teacher
    guide     : (outputs, batch) -> a further loss of the batch; only_guide: nothing else counts
    held      : examples that are not trained on, for early stopping where `schedule.patience` is above 0
    snapshots : where to go on from, and to keep snapshots in; None keeps none
    Raises FloatingPointError if the loss stops being finite.
    """
    seed_everything(seed)
    examples = len(data.encoded) if sample is None else len(sample)
    steps = schedule.steps(examples)
    objective = Objective(
        encoded=data.encoded,
        targets=torch.from_numpy(data.targets),
        weights=None if weights is None else torch.from_numpy((weights / weights.mean()).astype(np.float32)),
        teacher=None if teacher is None else torch.from_numpy(teacher),
        labels=labels,
        guide=guide,
        only_guide=only_guide,
        precision=schedule.precision,
    )
    model.to(device()).train()
    running = _start(model, schedule, examples, held)
    snapshot = None if snapshots is None else snapshots.next(seed)
    if processes().num_processes > 1:
        first = next(_batches(data.encoded.lengths, sample, chances, schedule.batch_size, seed))
        _set_quantizer_steps(model, objective, first, seed)
    if snapshot is not None:
        snapshot.restore(running)
    start = time.perf_counter() - running.seconds
    batches = _batches(data.encoded.lengths, sample, chances, schedule.batch_size, seed)
    places = islice(batches, len(running.losses), steps)
    for index in () if running.finished else places:
        loss = objective.loss(model, index)
        if loss is not None:
            loss.backward()
        total, save = add_up(model.parameters(), loss, snapshot is not None and is_main() and snapshot.due())
        nn.utils.clip_grad_norm_(model.parameters(), schedule.max_norm)
        running.optimizer.step()
        running.optimizer.zero_grad(set_to_none=True)
        rate = float(running.decay.get_last_lr()[0])
        running.decay.step()
        running.losses.append(total)
        step = len(running.losses)
        if not np.isfinite(total):
            raise FloatingPointError(f"the loss is {total} at step {step} of {steps}; use a smaller learning rate")
        watcher.step(step, steps, total, len(index), rate)
        if held is not None and running.stopping.due(step, steps):
            scores = held_out_scores(predict(model, held.encoded, held.classes), held.targets)
            model.train()
            watcher.evaluated(step, steps, scores)
            if running.stopping.judge(step, scores["held_loss"], model):
                break
        if save and snapshot is not None:
            running.seconds = time.perf_counter() - start
            snapshot.save(running)
    if not running.finished:
        running.stopping.restore(model)
        running.finished, running.seconds = True, time.perf_counter() - start
        if snapshot is not None:
            snapshot.save(running)
    model.cpu().eval()
    done = len(running.losses)
    last = float(np.mean(running.losses[-max(1, done // 10) :]))
    return Fit(done, running.seconds, last, running.stopping.best_step)


@torch.no_grad()
def predict(model: nn.Module, encoded: Encoded, classes: int) -> NDArray[np.float32]:
    """Logits of every example in the order of the file, float32[M, K]; dropout off, the model stays where it was.

    Several processes share the batches, and every one gets all logits. Always computed in float32.
    """
    home = next(model.parameters()).device
    model.to(device()).eval()
    logits = np.zeros((len(encoded), classes), np.float32)
    batches = sorted_batches(encoded.lengths, PREDICTION_BATCH)
    for index in islice(batches, processes().process_index, None, processes().num_processes):
        batch = {name: tensor.to(device()) for name, tensor in collate(encoded, index).items()}
        logits[index] = model(**batch).logits.cpu().numpy()
    model.to(home)
    return add_arrays(torch.from_numpy(logits)).numpy()


def _start(model: nn.Module, schedule: Schedule, examples: int, held: TrainingSet | None) -> Running:
    optimizer = adamw(model, schedule)
    factor = linear_decay(schedule.steps(examples), schedule.warmup)
    every = max(1, round(schedule.epoch_steps(examples) / schedule.evaluations))
    stopping = Stopping(every if schedule.patience and held is not None else 0, schedule.patience)
    return Running(model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor), stopping)


def _batches(
    lengths: NDArray[np.int64],
    sample: NDArray[np.int64] | None,
    chances: NDArray[np.float64] | None,
    batch_size: int,
    seed: int,
) -> Iterator[NDArray[np.int64]]:
    """Example ids of one batch after the other, epoch after epoch, always the same for a seed."""
    order = np.random.default_rng(seed)
    while True:
        drawn = sample if chances is None else order.choice(len(lengths), len(lengths), p=chances)
        for places in shuffled_batches(lengths if drawn is None else lengths[drawn], batch_size, order):
            yield places if drawn is None else drawn[places]


def _set_quantizer_steps(model: nn.Module, objective: Objective, index: NDArray[np.int64], seed: int) -> None:
    """Let every process see the whole first batch once, which sets fresh quantizer steps to equal values in all."""
    with torch.no_grad():
        model(**objective.batch(index, slice(None)))
    torch.manual_seed(seed + RANK_SEED * processes().process_index)
