"""Snapshots of a stage that is still running, so that a killed run goes on in the middle of it.

A snapshot holds what the next optimizer step depends on: weights, optimizer, learning rate, random state of torch in
every process, losses so far. The order of the examples follows from seed and step. A resumed run has the same weights
as one that was not interrupted, bit by bit on the same machine with the same threads.

Each `fit` of a stage (two-stage distillation has two, a member that is tried again too) has a file of its own, beside
the finished stages: `.running-<stage>-<seed>-<number>.pt`. They are deleted when the stage is finished.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bebert_export.atomic_writes import write_atomically
from bebert_export.distributed import device, from_all, processes
from bebert_export.training.early_stopping import Stopping


@dataclass
class Running:
    """A training in progress; `finished` once its last step is done and the model has its final weights."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    decay: torch.optim.lr_scheduler.LambdaLR
    stopping: Stopping
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False


class Snapshot:
    """The snapshot file of one `fit`, written again after every `seconds`."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self._saved = time.perf_counter()

    def due(self) -> bool:
        """Whether the last one is older than it should be."""
        return time.perf_counter() - self._saved >= self.seconds

    def save(self, running: Running) -> None:
        """Write it atomically. Of a finished training only what its result is; all processes have to call this."""
        stopping = running.stopping
        content: dict[str, Any] = {
            "model": running.model.state_dict(),
            "losses": torch.tensor(running.losses, dtype=torch.float64),
            "seconds": running.seconds,
            "finished": running.finished,
            "stopping": [stopping.best_loss, stopping.best_step, stopping.failures],
        }
        if not running.finished:
            content |= {
                "optimizer": running.optimizer.state_dict(),
                "decay": running.decay.state_dict(),
                "random": from_all(_random_state()),
                "best": stopping.best,
            }
        write_atomically(self.path, lambda temporary: torch.save(content, temporary))
        self._saved = time.perf_counter()

    def restore(self, running: Running) -> None:
        """Set `running` to where the snapshot was taken, if there is one; runs no code from the file."""
        if not self.path.is_file():
            return
        content = torch.load(self.path, map_location="cpu", weights_only=True)
        running.model.load_state_dict(content["model"])
        running.losses = content["losses"].tolist()
        running.seconds, running.finished = content["seconds"], content["finished"]
        stopping = running.stopping
        stopping.best_loss, stopping.best_step, stopping.failures = content["stopping"]
        if not running.finished:
            running.optimizer.load_state_dict(content["optimizer"])
            running.decay.load_state_dict(content["decay"])
            _set_random_state(content["random"][processes().process_index % len(content["random"])])
            stopping.best = content["best"]


class Snapshots:
    """Snapshots of one stage; the fits of a stage come in the same order in every run of it."""

    def __init__(self, folder: Path, stage: str, seconds: float) -> None:
        self._folder, self._stage, self._seconds = folder, stage, seconds
        self._count = 0

    def next(self, seed: int) -> Snapshot:
        """The snapshot of the next fit."""
        self._count += 1
        return Snapshot(self._folder / f".running-{self._stage}-{seed}-{self._count}.pt", self._seconds)


def _random_state() -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device())] if device().type == "cuda" else states


def _set_random_state(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device().type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device())
