"""The first stage of a run: fine-tune the encoder in full precision."""

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
from bebert_export.data.batches import TrainingSet, encode, read_tokenizer, save_tokenizer
from bebert_export.evaluation.split_scores import DevSplit
from bebert_export.pipeline.data import TaskData, encoded_parts
from bebert_export.pipeline.progress import stage_bar
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.quiet_transformers import quiet_transformers
from bebert_export.training.loop import fit, predict
from bebert_export.training.loss import Objective
from bebert_export.training.schedule import Schedule
from bebert_export.training.sparse_embeddings import sparse_embeddings
from bebert_export.training.width_pruning import kept_heads
from bebert_infer.errors import DataError


@dataclass(frozen=True)
class FullPrecisionSettings:
    """What the encoder becomes.

    init            : folder or hub id of a BERT encoder, Hugging Face layout; head and pooler may lack
    vocabulary_size : keep only so many word pieces (vocabulary.py), and max_length positions; None keeps all
    width           : share of heads that students will keep, checked here
    schedule        : None if `init` is a classifier for this task already, taken as it is
    teaches         : whether a student learns from its logits on the training examples
    """

    init: str
    vocabulary_size: int | None
    max_length: int
    dropout: float
    width: float
    seed: int
    schedule: Schedule | None
    teaches: bool


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
    dev: DevSplit
    dev_logits: NDArray[np.float32]
    train_logits: NDArray[np.float32] | None
    facts: dict[str, Any]


def full_precision(settings: FullPrecisionSettings, data: TaskData, run: RunFolder, console: Console) -> FullPrecision:
    """Fine-tune the encoder in full precision and save it as <out>/full_precision, or read what is there."""
    folder = run.path / "full_precision"
    if not run.has("full_precision"):
        _fine_tune(settings, data, run, console, folder)
    tensors, facts = run.load("full_precision")
    tokenizer = read_tokenizer(folder)
    train, held = encoded_parts(tokenizer, data, settings.max_length)
    return FullPrecision(
        folder=folder,
        tokenizer=tokenizer,
        train=train,
        held=held,
        dev=DevSplit(encode(tokenizer, data.dev, settings.max_length), data.dev_targets),
        dev_logits=tensors["dev_logits"].numpy(),
        train_logits=tensors["train_logits"].numpy() if settings.teaches else None,
        facts=facts,
    )


def load_encoder(settings: FullPrecisionSettings, data: TaskData) -> Pretrained:
    """The pretrained encoder with a new head, as the run wants it."""
    trimmed = settings.vocabulary_size is not None
    return load_pretrained(
        settings.init,
        data.train,
        data.names,
        data.problem,
        vocabulary_size=settings.vocabulary_size,
        positions=settings.max_length if trimmed else None,
        dropout=settings.dropout,
        seed=settings.seed,
        with_head=settings.schedule is None,
    )


def _fine_tune(settings: FullPrecisionSettings, data: TaskData, run: RunFolder, console: Console, folder: Path) -> None:
    pretrained = load_encoder(settings, data)
    model, tokenizer = pretrained.model, pretrained.tokenizer
    if pretrained.new_head:
        console.print(f"{settings.init} gets a new classifier: {pretrained.new_head}", highlight=False, markup=False)
    positions = model.config.max_position_embeddings
    if settings.max_length > positions:
        raise DataError(f"max_length is {settings.max_length}; {settings.init} has {positions} positions")
    kept_heads(model.config.num_attention_heads, settings.width)  # refuse a bad width now, not after hours
    train, held = encoded_parts(tokenizer, data, settings.max_length)
    fitted: dict[str, Any] = {"steps": 0, "seconds": 0.0, "loss": None}
    if settings.schedule is not None:
        seen = [part.encoded for part in (train, held if settings.schedule.patience else None) if part is not None]
        with sparse_embeddings(model, *seen), stage_bar("full precision", console, run) as bar:
            rest: dict[str, Any] = {"watcher": bar, "held": held, "snapshots": run.snapshots("full_precision")}
            fitted = asdict(fit(model, Objective(train), settings.schedule, seed=settings.seed, **rest))

    def save(target: Path) -> None:
        with quiet_transformers():
            model.save_pretrained(target)
        save_tokenizer(tokenizer, target)

    write_atomically(folder, save)
    facts = {
        **fitted,
        "seed": settings.seed,
        "vocabulary": len(model.bert.embeddings.word_embeddings.weight),
        "vocabulary_coverage": round(pretrained.coverage, 5),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    dev = encode(tokenizer, data.dev, settings.max_length)
    tensors = {"dev_logits": torch.from_numpy(predict(model, dev, data.classes))}
    if settings.teaches:
        tensors["train_logits"] = torch.from_numpy(predict(model, train.encoded, data.classes))
    run.save("full_precision", tensors, facts)
    run.log(stage="full_precision", **facts)
