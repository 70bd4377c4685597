"""The stage `calibration`: train every kind of model for a few steps, on real batches, to see how fast it goes.

What is trained here is thrown away. The stage is stored like any other, so a resumed run keeps its epochs.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import nn

from bebert_export.pipeline.budget import StageCost, scale_epochs
from bebert_export.pipeline.full_precision_stage import Data, encoded_parts, load_encoder
from bebert_export.pipeline.member_stage import outputs_of
from bebert_export.pipeline.options import TrainOptions
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.student.schemes import TEACHER, Recipe, new_member, student_from_full_precision
from bebert_export.training.distillation import Lessons, teach
from bebert_export.training.loop import Fit, Schedule, TrainingSet, Watcher, fit, predict
from bebert_export.training.sparse_embeddings import used_rows
from bebert_export.training.width_pruning import narrow

STEPS, WARM = 20, 3  # optimizer steps of each kind, and how many of them are not timed
PREDICTED = 512  # examples that prediction is timed on


class Stopwatch(Watcher):
    """Seconds an example takes in training; the fits of a two-stage distillation add up."""

    def __init__(self) -> None:
        self._marks: list[list[tuple[float, int]]] = []

    def step(self, step: int, steps: int, loss: float, examples: int, learning_rate: float) -> None:
        """Note the time."""
        if step == 1:
            self._marks.append([])
        self._marks[-1].append((time.perf_counter(), examples))

    def seconds_per_example(self) -> float:
        """Of all fits together, without their first steps."""
        total = 0.0
        for marks in self._marks:
            timed = marks[min(WARM, len(marks) - 2) :]
            total += (timed[-1][0] - timed[0][0]) / sum(examples for _, examples in timed[1:])
        return total


def calibrate(
    options: TrainOptions, plan: Recipe, data: Data, run: RunFolder, console: Console, started: float
) -> tuple[TrainOptions, dict[str, Any] | None]:
    """Options with the epochs that fit into `budget_minutes` from `started` on, and what was measured.

    Without a budget the options are as they were. Raises InputError if the budget is too short.
    """
    if options.budget_minutes is None:
        return options, None
    if not run.has("calibration"):
        costs = measure(options, plan, data, console)
        facts = scale_epochs(costs, 60 * options.budget_minutes, time.perf_counter() - started)
        run.save("calibration", {}, facts)
        run.log(stage="calibration", **facts)
    _, facts = run.load("calibration")
    console.print(_table(options.budget_minutes, facts))
    return replace(options, **facts["epochs"]), facts


def measure(options: TrainOptions, plan: Recipe, data: Data, console: Console) -> list[StageCost]:
    """Train and predict a little with every kind of model of the run."""
    model, tokenizer = (loaded := load_encoder(options, data)).model, loaded.tokenizer
    train, held = encoded_parts(tokenizer, options, data)
    size, dev = len(train.encoded), len(data.dev)
    sample = train.part(np.random.default_rng(options.seed).permutation(size)[:PREDICTED])
    epochs = max(2, STEPS) / Schedule(1, options.batch_size, 1.0).epoch_steps(size)

    def cost(
        stage: str, option: str, times: int, student: nn.Module, predicted: int, run: Callable[..., Fit], rate: float
    ) -> StageCost:
        watch = Stopwatch()
        with console.status(f"calibration: {stage}"):
            run(student, train, options.schedule(epochs, rate), seed=options.seed, watcher=watch)
            seconds = watch.seconds_per_example()
            prediction = _seconds(predict, student, sample)
        judged = len(held.encoded) if held is not None and options.patience else 0
        asked = getattr(options, option)
        return StageCost(
            stage, option, asked, times, 1 / seconds, size * seconds + judged * prediction, predicted * prediction
        )

    costs = []
    if options.teacher_epochs:
        predicted = dev + (size if options.distills else 0)
        rate = options.teacher_learning_rate
        costs.append(cost("full precision", "teacher_epochs", 1, model, predicted, _fit, rate))
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    heads = model.config.num_attention_heads
    if options.width != 1:
        state, heads = narrow(model, train, heads, options.width, options.seed)
    sizes: dict[str, Any] = {"layer_norm_eps": model.config.layer_norm_eps, "dropout": options.dropout}
    teacher = student_from_full_precision(state, heads, TEACHER, **sizes).eval()
    logits = np.zeros((size, train.classes), np.float32)

    def taught(kind: str) -> Callable[..., Fit]:
        return partial(teach, lessons=Lessons(kind, None if kind == "none" else logits, teacher))

    start = student_from_full_precision(state, heads, plan, **sizes)
    before = 1 if plan.splits else len(options.steps)
    before *= options.members if options.warm_start == "own" else 1
    if before:
        predicted = dev + (size if options.steps else 0)
        kind, rate = options.start_kind, options.learning_rate
        costs.append(cost("before members", "start_epochs", before, start, predicted, taught(kind), rate))
    member = new_member(start, plan)
    kind, rate = options.distill, options.learning_rate
    found = cost("members", "epochs", options.members, member, dev, taught(kind), rate)
    outputs_of(member, sample.encoded, train.classes)  # a new machine compiles kernels here, once
    boosting = (len(data.trained) + len(data.held)) * _seconds(outputs_of, member, sample)
    costs.append(replace(found, other_seconds=found.other_seconds + boosting))
    return costs


def _seconds(outputs: Callable[..., Any], model: nn.Module, sample: TrainingSet) -> float:
    """Seconds that `outputs` takes for an example."""
    begin = time.perf_counter()
    outputs(model, sample.encoded, sample.classes)
    return (time.perf_counter() - begin) / len(sample.encoded)


def _fit(model: nn.Module, train: TrainingSet, schedule: Schedule, **rest: Any) -> Fit:
    with used_rows(model, train.encoded):
        return fit(model, train, schedule, **rest)


def _table(minutes: float, facts: dict[str, Any]) -> Table:
    total = sum(row["minutes"] for row in facts["stages"])
    title = f"epochs for {minutes:g} minutes: {facts['factor']:.0%} of those asked for, about {total:.1f} minutes"
    table = Table("stage", "times", "examples/s", "epochs asked", "epochs given", "minutes", title=title)
    for row in facts["stages"]:
        figures = (row["examples_per_second"], row["epochs"], row["epochs_given"], row["minutes"])
        table.add_row(row["stage"], str(row["times"]), *(f"{figure:.2f}" for figure in figures))
    return table
