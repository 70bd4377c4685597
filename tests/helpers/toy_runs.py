"""Options and examples of a training run on the toy task, which takes seconds."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bebert_export.data.batches import TrainingSet, encode, load_tokenizer
from bebert_export.data.examples import read_examples
from bebert_export.train import TrainOptions

QUIET = Console(quiet=True)


def options(toy: Path, out: Path, **changes: Any) -> TrainOptions:
    """A run of seconds on `write_task`'s folder."""
    common = {
        "members": 2,
        "max_length": 16,
        "vocabulary_size": 76,
        "teacher_epochs": 6,
        "start_epochs": 4,
        "epochs": 4,
        "learning_rate": 5e-3,
        "teacher_learning_rate": 5e-3,
        "labels": ("negative", "positive"),
        "threads": 1,
        "hold_out": 0.0,
    }
    files = {"init": str(toy / "encoder"), "train": toy / "train.tsv", "dev": toy / "dev.tsv", "out": out}
    return TrainOptions(**(files | common | changes))


def training_set(toy: Path, count: int = 64) -> TrainingSet:
    """The first examples of the toy task, encoded."""
    examples = read_examples(toy / "train.tsv")
    encoded = encode(load_tokenizer(toy / "encoder"), examples, 16)
    kept = type(encoded)(encoded.ids[:count], encoded.types[:count])
    return TrainingSet(kept, np.array(examples.labels[:count], np.int64), 2)
