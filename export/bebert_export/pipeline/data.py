"""The files of a run: what to train on, what to hold out, what to report on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bebert_export.data.batches import TrainingSet, encode
from bebert_export.data.examples import Examples, class_ids, label_names, named_class_ids, read_examples, scores
from bebert_export.data.glue import data_file
from bebert_export.data.tasks import Task
from bebert_export.data.text_families import group_ids
from bebert_infer.errors import DataError

HOLD_OUT = 2  # beside the seed of the run, for drawing what is held out


@dataclass(frozen=True)
class DataSettings:
    """Which files, and what they mean.

    train, dev : labelled files (`examples.read_examples`); None: those of the task
    labels     : names for the label values of the training file, in their sorted order; with a task, in its own
    hold_out   : share of the training file that is not trained on; seed : draws it
    """

    train: Path | None
    dev: Path | None
    task: Task | None
    labels: tuple[str, ...] | None
    regression: bool
    multi_label: bool
    hold_out: float
    seed: int


@dataclass(frozen=True)
class TaskData:
    """Both files and their targets: class ids int64[M] by `values`, scores float32[M], or labels float32[M, K].

    trained : places in the training file of the examples to train on, int64, ascending
    held    : places of those that are kept for choosing and never trained on, int64, ascending; may be none
    values  : the label values in the files, in the order of the logits; names : what to call them
    """

    train: Examples
    dev: Examples
    values: list[str]
    names: list[str]
    train_targets: NDArray[np.int64] | NDArray[np.float32]
    dev_targets: NDArray[np.int64] | NDArray[np.float32]
    trained: NDArray[np.int64]
    held: NDArray[np.int64]

    @property
    def classes(self) -> int:
        """Number of outputs K."""
        return len(self.names)

    @property
    def problem(self) -> str:
        """What the outputs mean, as `problem_type` of a config says it."""
        if self.train.multi_label:
            return "multi_label_classification"
        return "single_label_classification" if self.train_targets.dtype == np.int64 else "regression"


def read_data(settings: DataSettings) -> TaskData:
    """Read and check both files, the task's where none are given. Raises DataError."""
    task = settings.task
    several: dict[str, Any] = {"multi_label": settings.multi_label, "names": settings.labels or ()}
    train = read_examples(data_file(settings.train, task, "train"), task, **several)
    dev = read_examples(data_file(settings.dev, task, "dev"), task, **several)
    if (train.pairs is None) != (dev.pairs is None):
        raise DataError(f"one of {train.path} and {dev.path} has a second text column; both need the same columns")
    if train.sha256 == dev.sha256:
        raise DataError(
            f"{dev.path} is the training file once more; the report needs examples that training has not seen"
        )
    # Comparing long texts takes seconds to minutes, for nothing if nothing is held out.
    groups = group_ids(train.texts, train.pairs, train.origins) if settings.hold_out else np.arange(len(train))
    trained, held = hold_out(train.origins, groups, settings.hold_out, settings.seed)
    if not len(trained):
        raise DataError(
            f"hold_out {settings.hold_out} of {train.path} leaves no example to train on: its {len(train)} examples "
            f"are {len(set(groups.tolist()))} families of texts that contain each other, and a family is held out as a "
            "whole; give more examples, or hold out 0"
        )
    if settings.regression:
        names = list(settings.labels or ("score",))
        return TaskData(train, dev, names, names, scores(train), scores(dev), trained, held)
    values, to_ids = (list(task.labels), named_class_ids) if task else (label_names(train), class_ids)
    names = list(settings.labels or values)
    if len(names) != len(values) or len(set(names)) != len(names):
        raise DataError(
            f"labels are {', '.join(names)}; {train.path} has the values {', '.join(values[:10])}: "
            "name each of them once, in this order"
        )
    return TaskData(train, dev, values, names, to_ids(train, values), to_ids(dev, values), trained, held)


def hold_out(
    origins: Sequence[int], groups: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the examples to train on, and of a random share to hold out, both ascending.

    Whole families are held out (`text_families.group_ids`): in random order those that still fit into the share of
    the originals, and if none fits, the smallest. Copies (examples.Examples) are in neither part then: their labels are
    less sure, and who has learned them has seen the example.
    """
    original = np.asarray(origins) == np.arange(len(groups))
    drawn = np.random.default_rng([seed, HOLD_OUT]).permutation(np.unique(groups))
    sizes = np.bincount(groups[original], minlength=len(groups))[drawn]
    room = max(1, round(share * int(original.sum()))) if share else 0
    chosen = [int(drawn[sizes.argmin()])] if room and sizes.min() > room else []
    for each, size in zip(drawn.tolist(), sizes.tolist(), strict=True):
        if size <= room:
            chosen.append(each)
            room -= size
    away = np.isin(groups, chosen)
    return np.flatnonzero(~away), np.flatnonzero(away & original)


def encoded_parts(tokenizer: Tokenizer, data: TaskData, max_length: int) -> tuple[TrainingSet, TrainingSet | None]:
    """The examples to train on, and those that are held out."""
    whole = TrainingSet(encode(tokenizer, data.train, max_length), data.train_targets, data.classes)
    if not len(data.held):
        return whole, None
    return whole.part(data.trained), whole.part(data.held)
