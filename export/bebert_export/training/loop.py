"""Fine-tune one model, and predict with it: the same loop for full precision, ternary and binary members.

Sample weights belong to example ids. A batch carries its ids, so the order in which examples are visited
never matters; predictions are put back by id too (the published boosting code indexes a shuffled loader by
position and re-weights the wrong examples, reference numerics §5.2.1).

On one CPU process, the same seed and options give the same bits. See distributed.py for several processes, snapshots.py
for resuming, early_stopping.py for early stopping.
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

from bebert_export.data.batches import EncodedExamples, TrainingSet, collate, shuffled_batches, sorted_batches
from bebert_export.distributed import add_arrays, add_up, device, is_main, processes
from bebert_export.training.early_stopping import Stopping, held_out_scores
from bebert_export.training.loss import Objective, Weighting
from bebert_export.training.optimizer import adamw, linear_decay
from bebert_export.training.schedule import Schedule
from bebert_export.training.snapshots import Running, Snapshots

PREDICTION_BATCH = 256
RANK_SEED = 1_000_003  # times the number of a process, added to its seed: dropout must differ among them


@dataclass(frozen=True)
class Fit:
    """What a training run was: optimizer steps, seconds, mean loss over its last tenth (None without steps).

    best_step : step whose weights were kept, with early stopping; else None, and the last weights were kept
    """

    steps: int
    seconds: float
    loss: float | None
    best_step: int | None = None


class Watcher:
    """Told about every optimizer step; this one does nothing, those of pipeline/progress.py show and log."""

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
    objective: Objective,
    schedule: Schedule,
    *,
    seed: int,
    watcher: Watcher,
    held: TrainingSet | None = None,
    snapshots: Snapshots | None = None,
) -> Fit:
    """Train `model` in place on the objective, batch by batch; it comes back on the CPU.

    held      : examples that are not trained on, for early stopping where `schedule.patience` is above 0
    snapshots : where to go on from, and to keep snapshots in; None keeps none
    Raises FloatingPointError if the loss stops being finite.
    """
    seed_everything(seed)
    lengths, weighting = objective.data.encoded.lengths, objective.weighting
    examples = len(lengths) if weighting.sample is None else len(weighting.sample)
    steps = schedule.steps(examples)
    model.to(device()).train()
    running = _start(model, schedule, examples, held)
    snapshot = None if snapshots is None else snapshots.next(seed)
    if processes().num_processes > 1:
        _set_quantizer_steps(model, objective, next(_batches(lengths, weighting, schedule.batch_size, seed)), seed)
    if snapshot is not None:
        snapshot.restore(running)
    start = time.perf_counter() - running.seconds
    places = islice(_batches(lengths, weighting, schedule.batch_size, seed), len(running.losses), steps)
    for index in () if running.finished else places:
        loss = objective.loss(model, index, schedule.precision)
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
def predict(model: nn.Module, encoded: EncodedExamples, classes: int) -> NDArray[np.float32]:
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
    lengths: NDArray[np.int64], weighting: Weighting, batch_size: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Example ids of one batch after the other, epoch after epoch, always the same for a seed."""
    order = np.random.default_rng(seed)
    while True:
        drawn = weighting.sample
        if weighting.chances is not None:
            drawn = order.choice(len(lengths), len(lengths), p=weighting.chances)
        for places in shuffled_batches(lengths if drawn is None else lengths[drawn], batch_size, order):
            yield places if drawn is None else drawn[places]


def _set_quantizer_steps(model: nn.Module, objective: Objective, index: NDArray[np.int64], seed: int) -> None:
    """Let every process see the whole first batch once, which sets fresh quantizer steps to equal values in all."""
    with torch.no_grad():
        model(**objective.batch(index, slice(None)))
    torch.manual_seed(seed + RANK_SEED * processes().process_index)
