"""Data of a GLUE task from the Hugging Face hub, kept as JSONL in the cache: only the first use needs the network."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bebert_export.data.tasks import TASKS, Task
from bebert_infer.atomic_files import whole_file
from bebert_infer.errors import DataError, MissingExtraError
from bebert_kernels.private_folder import private_folder

HUB = "nyu-mll/glue"
COLUMNS = ("sentence1", "sentence2")


def data_file(given: Path | None, task: Task | None, part: Literal["train", "dev"]) -> Path:
    """The file of a part: the one that the user gave, else that of the task. Raises like `task_file`."""
    if given is not None:
        return given
    if task is None:
        raise DataError(f"there is no {part} file; pass --{part} FILE, or --task with one of {', '.join(TASKS)}")
    return task_file(task, part)


def task_file(task: Task, part: Literal["train", "dev"]) -> Path:
    """A split of a task as <cache>/glue/<task>/<split>.jsonl, fetched if it is not there yet.

    Keys: sentence1, sentence2 for pairs, label as in GLUE's own files. <cache> is where compiled kernels are kept.
    Raises MissingExtraError without the package `datasets`, DataError if the split cannot be fetched or kept.
    """
    split = task.dev if part == "dev" else "train"
    folder, reason = private_folder("glue")
    if folder is None:
        raise DataError(f"data of {task.name} cannot be kept: {reason}; set BEBERT_CACHE_DIR to a folder of yours")
    file = folder / task.config / f"{split}.jsonl"
    if not file.is_file():
        rows = _fetch(task, split)
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as stream:
            for row in rows:
                stream.write(json.dumps(_record(task, row), ensure_ascii=False) + "\n")
    return file


def _fetch(task: Task, split: str) -> Iterable[Mapping[str, Any]]:
    """Rows of a split with the hub's column names."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'the data of {task.name} comes through the package "{error.name}", which is missing: pass --train and '
            '--dev files (bebert eval: a file), or pip install "bebert-infer[train]"'
        ) from None
    try:
        rows = datasets.load_dataset(HUB, task.config, split=split)
    except Exception as error:  # of a dozen kinds, by layers that change: network, hub, archive, disk
        said = " ".join(str(error).split())[:200]
        raise DataError(
            f"{HUB} {task.config} {split} cannot be fetched ({type(error).__name__}: {said}); pass --train and --dev "
            'files (bebert eval: a file), or repeat with a network and pip install "bebert-infer[train]"'
        ) from None
    names = getattr(rows.features["label"], "names", None)
    if not task.regression and names != list(task.labels):
        raise DataError(f"{HUB} {task.config} now has the labels {names}, not {list(task.labels)}; pass files instead")
    return rows


def _record(task: Task, row: Mapping[str, Any]) -> dict[str, Any]:
    texts = dict(zip(COLUMNS, (row[name] for name in task.texts), strict=False))
    if task.regression:  # the hub's float32 as the short number that it was: 3.8, not 3.799999952316284
        return texts | {"label": float(str(np.float32(row["label"])))}
    label = int(row["label"])
    return texts | {"label": label if task.numbered else task.labels[label]}
