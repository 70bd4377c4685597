"""What a person sees while training: one bar a stage with loss and speed; the same goes to the log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bebert_export.distributed import is_main
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.training.loop import Watcher

LOG_EVERY = 20.0  # seconds between two lines of the log
SMOOTHING = 0.98  # of the running mean of the loss


class StageBar(Watcher):
    """Shows and logs the steps of one stage."""

    def __init__(self, stage: str, progress: Progress, run: RunFolder) -> None:
        self._stage, self._progress, self._run = stage, progress, run
        self._task = progress.add_task(stage, total=None, loss=float("nan"), speed=0.0)
        self._loss: float | None = None
        self._start = self._logged = time.perf_counter()
        self._examples = 0

    def step(self, step: int, steps: int, loss: float, examples: int, learning_rate: float) -> None:
        """Optimizer step `step` of `steps` is done on `examples` examples, at this learning rate."""
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        self._examples += examples
        now = time.perf_counter()
        speed = self._examples / max(1e-9, now - self._start)
        self._progress.update(self._task, completed=step, total=steps, loss=self._loss, speed=speed)
        if now - self._logged > LOG_EVERY or step == steps:
            self._logged = now
            scalars = {
                "loss": round(self._loss, 5),
                "learning_rate": learning_rate,
                "examples_per_second": round(speed, 1),
            }
            self._run.log_scalars(self._stage, step, steps, scalars)

    def evaluated(self, step: int, steps: int, scores: dict[str, float]) -> None:
        """The held-out part was scored after optimizer step `step`."""
        self._run.log_scalars(self._stage, step, steps, {name: round(value, 5) for name, value in scores.items()})


@contextmanager
def stage_bar(stage: str, console: Console, run: RunFolder) -> Iterator[StageBar]:
    """Progress bar of one stage."""
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps  loss {task.fields[loss]:.4f}"),
        TextColumn("{task.fields[speed]:.0f} examples/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not is_main()) as progress:
        yield StageBar(stage, progress, run)
