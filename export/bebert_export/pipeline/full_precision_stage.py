"""The first stages of a run: data and full precision."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from tokenizers import Tokenizer

from bebert_export.atomic_writes import write_atomically
from bebert_export.checkpoints.pretrained import Pretrained, load_pretrained
from bebert_export.data.batches import encode, load_tokenizer
from bebert_export.data.examples import Examples, class_ids, label_names, named_class_ids, read_examples, scores
from bebert_export.data.glue import data_file
from bebert_export.data.text_families import families
from bebert_export.evaluation.split_scores import Split
from bebert_export.pipeline.options import TrainOptions
from bebert_export.pipeline.progress import stage_bar
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.quiet import quiet_transformers
from bebert_export.training.loop import TrainingSet, fit, predict
from bebert_export.training.sparse_embeddings import used_rows
from bebert_export.training.width_pruning import kept_heads
from bebert_infer.errors import DataError

HOLD_OUT = 2  # beside the seed of the run, for drawing what is held out


@dataclass(frozen=True)
class Data:
    """Both files and their targets: class ids int64[M] by `values`, or scores float32[M].

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
        """Number of outputs K; 1 is regression."""
        return len(self.names)


def read_data(options: TrainOptions) -> Data:
    """Read and check both files, the task's where none are given. Raises DataError."""
    task = options.known_task
    train = read_examples(data_file(options.train, task, "train"), task)
    dev = read_examples(data_file(options.dev, task, "dev"), task)
    if (train.pairs is None) != (dev.pairs is None):
        raise DataError(f"one of {train.path} and {dev.path} has a second text column; both need the same columns")
    if train.sha256 == dev.sha256:
        raise DataError(
            f"{dev.path} is the training file once more; the report needs examples that training has not seen"
        )
    # Comparing long texts takes seconds to minutes, for nothing if nothing is held out.
    kin = families(train.texts, train.pairs, train.origins) if options.hold_out else np.arange(len(train))
    trained, held = hold_out(train.origins, kin, options.hold_out, options.seed)
    if not len(trained):
        raise DataError(
            f"hold_out {options.hold_out} of {train.path} leaves no example to train on: its {len(train)} examples are "
            f"{len(set(kin.tolist()))} families of texts that contain each other, and a family is held out as a whole; "
            "give more examples, or hold out 0"
        )
    if options.regression:
        names = list(options.labels or ("score",))
        return Data(train, dev, names, names, scores(train), scores(dev), trained, held)
    values, to_ids = (list(task.labels), named_class_ids) if task else (label_names(train), class_ids)
    names = list(options.labels or values)
    if len(names) != len(values) or len(set(names)) != len(names):
        raise DataError(
            f"labels are {', '.join(names)}; {train.path} has the values {', '.join(values[:10])}: "
            "name each of them once, in this order"
        )
    return Data(train, dev, values, names, to_ids(train, values), to_ids(dev, values), trained, held)


def hold_out(
    origins: Sequence[int], kin: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the examples to train on, and of a random share to hold out, both ascending.

    Whole families are held out (`kin`, relatives.families): in random order those that still fit into the share of the
    originals, and if none fits, the smallest. Copies (examples.Examples) are in neither part then: their labels are
    less sure, and who has learned them has seen the example.
    """
    original = np.asarray(origins) == np.arange(len(kin))
    drawn = np.random.default_rng([seed, HOLD_OUT]).permutation(np.unique(kin))
    sizes = np.bincount(kin[original], minlength=len(kin))[drawn]
    room = max(1, round(share * int(original.sum()))) if share else 0
    chosen = [int(drawn[sizes.argmin()])] if room and sizes.min() > room else []
    for each, size in zip(drawn.tolist(), sizes.tolist(), strict=True):
        if size <= room:
            chosen.append(each)
            room -= size
    away = np.isin(kin, chosen)
    return np.flatnonzero(~away), np.flatnonzero(away & original)


@dataclass(frozen=True)
class FullPrecision:
    """The finished first stage: model folder, token ids, the model's logits, and facts for the report.

    train, held  : the training file without what is held out, and that (None if nothing is)
    train_logits : float32[M, K] for `train` if students are to be distilled from them, else None
    """

    folder: Path
    tokenizer: Tokenizer
    train: TrainingSet
    held: TrainingSet | None
    dev: Split
    dev_logits: NDArray[np.float32]
    train_logits: NDArray[np.float32] | None
    facts: dict[str, Any]


def full_precision(options: TrainOptions, data: Data, run: RunFolder, console: Console) -> FullPrecision:
    """Fine-tune the encoder in full precision and save it as <out>/full_precision, or read what is there."""
    folder = options.out / "full_precision"
    if not run.has("full_precision"):
        _fine_tune(options, data, run, console, folder)
    tensors, facts = run.load("full_precision")
    tokenizer = load_tokenizer(folder)
    train, held = encoded_parts(tokenizer, options, data)
    return FullPrecision(
        folder=folder,
        tokenizer=tokenizer,
        train=train,
        held=held,
        dev=Split(encode(tokenizer, data.dev, options.max_length), data.dev_targets),
        dev_logits=tensors["dev_logits"].numpy(),
        train_logits=tensors["train_logits"].numpy() if options.distills else None,
        facts=facts,
    )


def encoded_parts(tokenizer: Tokenizer, options: TrainOptions, data: Data) -> tuple[TrainingSet, TrainingSet | None]:
    """The examples to train on, and those that are held out."""
    whole = TrainingSet(encode(tokenizer, data.train, options.max_length), data.train_targets, data.classes)
    if not len(data.held):
        return whole, None
    return whole.part(data.trained), whole.part(data.held)


def load_encoder(options: TrainOptions, data: Data) -> Pretrained:
    """The pretrained encoder with a new head, as the run wants it."""
    trimmed = options.vocabulary_size is not None
    return load_pretrained(
        options.init,
        data.train,
        data.names,
        vocabulary_size=options.vocabulary_size,
        positions=options.max_length if trimmed else None,
        dropout=options.dropout,
        seed=options.seed,
        with_head=options.teacher_epochs == 0,
    )


def _fine_tune(options: TrainOptions, data: Data, run: RunFolder, console: Console, folder: Path) -> None:
    pretrained = load_encoder(options, data)
    model, tokenizer = pretrained.model, pretrained.tokenizer
    positions = model.config.max_position_embeddings
    if options.max_length > positions:
        raise DataError(f"max_length is {options.max_length}; {options.init} has {positions} positions")
    kept_heads(model.config.num_attention_heads, options.width)  # refuse a bad width now, not after hours
    train, held = encoded_parts(tokenizer, options, data)
    fitted: dict[str, Any] = {"steps": 0, "seconds": 0.0, "loss": None}
    if options.teacher_epochs:
        schedule = options.schedule(options.teacher_epochs, options.teacher_learning_rate)
        seen = [part.encoded for part in (train, held if schedule.patience else None) if part is not None]
        with used_rows(model, *seen), stage_bar("full precision", console, run) as bar:
            snapshots = run.snapshots("full_precision")
            fitted = asdict(fit(model, train, schedule, seed=options.seed, watcher=bar, held=held, snapshots=snapshots))

    def save(target: Path) -> None:
        with quiet_transformers():
            model.save_pretrained(target)
        tokenizer.save(str(target / "tokenizer.json"))

    write_atomically(folder, save)
    facts = {
        **fitted,
        "seed": options.seed,
        "vocabulary": len(model.bert.embeddings.word_embeddings.weight),
        "vocabulary_coverage": round(pretrained.coverage, 5),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    dev = encode(tokenizer, data.dev, options.max_length)
    tensors = {"dev_logits": torch.from_numpy(predict(model, dev, data.classes))}
    if options.distills:
        tensors["train_logits"] = torch.from_numpy(predict(model, train.encoded, data.classes))
    run.save("full_precision", tensors, facts)
    run.log(stage="full_precision", **facts)
