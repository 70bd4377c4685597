"""A teacher of any kind: what its classifier says of the examples, computed once and kept in the run.

Its encoder, word pieces and size may be others than the students'. They learn from its logits, and from what goes on
inside their own full-precision model, if they learn from that at all.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bebert_export.atomic_writes import write_atomically
from bebert_export.checkpoints.weights import load_weights
from bebert_export.data.batches import sorted_batches
from bebert_export.data.examples import Examples
from bebert_export.data.metrics import evaluate
from bebert_export.distributed import is_main, main_writes
from bebert_export.pipeline.data import TaskData
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.quiet_transformers import quiet_transformers
from bebert_infer.errors import DataError, first_line

BATCH = 64
PART = 32  # batches between two writes of what is done
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
MOST_TOKENS = 512  # of a text, where a tokenizer names no limit


def teacher_logits(folder: Path, data: TaskData, run: RunFolder, console: Console) -> NDArray[np.float32]:
    """Its logits float32[M, K] on the examples to train on, in the order of the run's labels; kept as a stage.

    Raises DataError for a folder without a classifier of these labels, or without a tokenizer.
    """
    if not run.has("teacher"):
        teacher = Teacher(folder, data)
        trained = _some(data.train, data.trained)
        logits = teacher.logits(trained, "teacher", run, console)
        dev = teacher.logits(data.dev, "teacher on dev", run, console)
        facts = {"teacher": folder.absolute().name, "order": teacher.order}
        run.save("teacher", {"train_logits": torch.from_numpy(logits), "dev_logits": torch.from_numpy(dev)}, facts)
        run.log(stage="teacher", **facts, dev=evaluate(data.dev_targets, dev))
    found: NDArray[np.float32] = run.load("teacher")[0]["train_logits"].numpy()
    if found.shape != (len(data.trained), data.classes):
        raise DataError(
            f"the teacher's logits in {run.path} have the shape {found.shape}, this run trains on {len(data.trained)} "
            f"examples of {data.classes} labels; delete stages/teacher.safetensors there"
        )
    return found


class Teacher:
    """A classifier of a folder with its own tokenizer.

    order : of its outputs, so that they are those of the run's labels
    """

    def __init__(self, folder: Path, data: TaskData):
        self.model, _ = load_weights(AutoModelForSequenceClassification, folder, "a classifier")
        self.order = _order(self.model.config, data, folder)
        if not any((folder / name).is_file() for name in VOCABULARIES):  # transformers would make an empty one
            raise DataError(f"{folder} has no tokenizer; put the teacher's own there, one of {', '.join(VOCABULARIES)}")
        try:
            with quiet_transformers():
                self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{folder} has no tokenizer ({first_line(error)}); put the teacher's own there") from None
        self.tokens = min(self.tokenizer.model_max_length, MOST_TOKENS)

    @torch.no_grad()
    def logits(self, examples: Examples, name: str, run: RunFolder, console: Console) -> NDArray[np.float32]:
        """float32[M, K] of M examples, a part at a time; parts that an earlier, killed run has written are read."""
        texts = [examples.texts] if examples.pairs is None else [examples.texts, examples.pairs]
        encoded = self.tokenizer(*texts, truncation="longest_first", max_length=self.tokens)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]], np.int64)
        batches = list(sorted_batches(lengths, BATCH))
        out = np.full((len(examples), len(self.order)), np.nan, np.float32)
        unfinished = run.path / "stages" / f".running-{name.replace(' ', '_')}.npy"
        if unfinished.is_file() and (found := np.load(unfinished)).shape == out.shape:
            out = found
        for number in track(range(len(batches)), name, console=console, disable=not is_main()):
            batch = batches[number]
            if np.isnan(out[batch]).any():
                rows = {key: [values[i] for i in batch] for key, values in encoded.items()}
                out[batch] = self.model(**self.tokenizer.pad(rows, return_tensors="pt")).logits.numpy()[:, self.order]
                if number % PART == PART - 1:
                    write_atomically(unfinished, lambda target: _save(target, out))
        if not np.isfinite(out).all():
            raise DataError(f"the teacher's logits on {examples.path} are not all finite numbers; use another teacher")
        main_writes(lambda: unfinished.unlink(missing_ok=True))
        return out


def _save(target: Path, array: NDArray[np.float32]) -> None:
    with target.open("wb") as file:  # np.save would add a suffix to the name
        np.save(file, array)


def _some(examples: Examples, places: NDArray[np.int64]) -> Examples:
    """Texts of some of the examples; their labels are nobody's business here."""
    texts, pairs = examples.texts, examples.pairs
    return replace(
        examples, texts=[texts[i] for i in places], pairs=None if pairs is None else [pairs[i] for i in places]
    )


def _order(config: Any, data: TaskData, folder: Path) -> list[int]:
    """Where the outputs of the run's labels are among the teacher's.

    By the teacher's names of them, if these are the run's, or the values in its files; LABEL_0, LABEL_1, … say nothing
    and count as the run's, in order.
    """
    named = {index: str(name) for index, name in config.id2label.items()}
    said = [named[index].lower() for index in sorted(named)]
    if len(said) == data.classes:
        for known in (data.names, data.values):
            places = {name.lower(): place for place, name in enumerate(said)}
            if {name.lower() for name in known} == set(places):
                return [places[name.lower()] for name in known]
        if said == [f"label_{index}" for index in range(data.classes)]:
            return list(range(data.classes))
    raise DataError(
        f"the teacher {folder} has the labels {json.dumps(said):.200}, the run has {json.dumps(data.names):.200}; "
        "accepted are the same names in any order, or LABEL_0, LABEL_1, … in the run's order: set id2label in its "
        "config.json"
    )
