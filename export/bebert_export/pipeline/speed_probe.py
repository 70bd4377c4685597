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

from bebert_export.data.batches import TrainingSet
from bebert_export.pipeline.budget import StageCost, scale_epochs
from bebert_export.pipeline.data import TaskData, encoded_parts
from bebert_export.pipeline.full_precision_stage import load_encoder
from bebert_export.pipeline.member_stage import outputs_of
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.pipeline.settings import StageSettings
from bebert_export.student.schemes import TEACHER, new_member, student_from_full_precision
from bebert_export.training.distillation import Distillation, train_student
from bebert_export.training.loop import Fit, Watcher, fit, predict
from bebert_export.training.loss import Objective
from bebert_export.training.schedule import Schedule
from bebert_export.training.sparse_embeddings import sparse_embeddings
from bebert_export.training.width_pruning import prune_width

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


def epochs_in_budget(
    minutes: float, settings: StageSettings, data: TaskData, run: RunFolder, console: Console, started: float
) -> dict[str, Any]:
    """What `budget.scale_epochs` says: the epochs that fit into `minutes` from `started` on, and what was measured.

    Raises InputError if the budget is too short.
    """
    if not run.has("calibration"):
        facts = scale_epochs(measure(settings, data, console), 60 * minutes, time.perf_counter() - started)
        run.save("calibration", {}, facts)
        run.log(stage="calibration", **facts)
    _, facts = run.load("calibration")
    console.print(_table(minutes, facts))
    return facts


def measure(settings: StageSettings, data: TaskData, console: Console) -> list[StageCost]:
    """Train and predict a little with every kind of model of the run."""
    full, students, members = settings.full_precision, settings.students, settings.members
    model, tokenizer = (loaded := load_encoder(full, data)).model, loaded.tokenizer
    train, held = encoded_parts(tokenizer, data, full.max_length)
    size, dev = len(train.encoded), len(data.dev)
    sample = train.part(np.random.default_rng(full.seed).permutation(size)[:PREDICTED])

    def cost(
        stage: str, option: str, times: int, model: nn.Module, predicted: int, run: Callable[..., Fit], asked: Schedule
    ) -> StageCost:
        watch = Stopwatch()
        epochs = max(2, STEPS) / asked.epoch_steps(size)
        with console.status(f"calibration: {stage}"):
            run(model, train, replace(asked, epochs=epochs), seed=full.seed, watcher=watch)
            seconds = watch.seconds_per_example()
            prediction = _seconds(predict, model, sample)
        judged = len(held.encoded) if held is not None and asked.patience else 0
        training = size * seconds + judged * prediction
        return StageCost(stage, option, asked.epochs, times, 1 / seconds, training, predicted * prediction)

    costs = []
    if full.schedule is not None:
        predicted = dev + (size if full.teaches else 0)
        costs.append(cost("full precision", "teacher_epochs", 1, model, predicted, _fit, full.schedule))
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    heads = model.config.num_attention_heads
    if students.width != 1:
        state, heads = prune_width(model, train, heads, students.width, full.seed)
    sizes: dict[str, Any] = {"layer_norm_eps": model.config.layer_norm_eps, "dropout": students.dropout}
    teacher = student_from_full_precision(state, heads, TEACHER, **sizes).eval()
    logits = np.zeros((size, train.classes), np.float32)

    def taught(kind: str) -> Callable[..., Fit]:
        return partial(train_student, distillation=Distillation(kind, None if kind == "none" else logits, teacher))

    start = student_from_full_precision(state, heads, members.scheme, **sizes)
    before = 1 if members.scheme.splits else len(students.steps)
    before *= members.count if members.warm_start == "own" else 1
    if before:
        predicted = dev + (size if students.steps else 0)
        how = taught(students.learns)
        costs.append(cost("before members", "start_epochs", before, start, predicted, how, students.schedule))
    member = new_member(start, members.scheme)
    assert members.schedule is not None  # epochs 0 takes no budget
    found = cost("members", "epochs", members.count, member, dev, taught(students.members_learn), members.schedule)
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
    with sparse_embeddings(model, train.encoded):
        return fit(model, Objective(train), schedule, **rest)


def _table(minutes: float, facts: dict[str, Any]) -> Table:
    total = sum(row["minutes"] for row in facts["stages"])
    title = f"epochs for {minutes:g} minutes: {facts['factor']:.0%} of those asked for, about {total:.1f} minutes"
    table = Table("stage", "times", "examples/s", "epochs asked", "epochs given", "minutes", title=title)
    for row in facts["stages"]:
        figures = (row["examples_per_second"], row["epochs"], row["epochs_given"], row["minutes"])
        table.add_row(row["stage"], str(row["times"]), *(f"{figure:.2f}" for figure in figures))
    return table
