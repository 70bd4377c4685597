"""Logits of a full-precision classifier beside the packed model: a folder in the Hugging Face layout, run by torch."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from bebert_export.checkpoints.class_names import class_names
from bebert_export.checkpoints.weights import load_weights
from bebert_export.data.batches import encode, load_tokenizer
from bebert_export.data.examples import Examples
from bebert_export.training.loop import predict
from bebert_infer.errors import CheckpointError, DataError


def full_precision_logits(
    folder: Path, examples: Examples, labels: list[str], problem: str, max_length: int, threads: int
) -> NDArray[np.float32]:
    """Logits float32[M, K] with the classes in the order of `labels`; texts are cut to `max_length` tokens.

    The folder's own class names decide the order if they are the same names; unnamed classes (LABEL_0, …) count as
    being in order. Raises DataError for a folder that is missing, is no classifier, has other classes or another
    `problem_type`, and for texts longer than it takes.
    """
    model = load_classifier(folder)
    meant = model.config.problem_type or problem
    if meant != problem:
        raise DataError(f"{folder} is a model of {meant}, the packed one of {problem}; compare models of the same")
    tokenizer = load_tokenizer(folder)
    order = _order(folder, [str(model.config.id2label[i]) for i in range(model.config.num_labels)], labels)
    encoded = encode(tokenizer, examples, max_length)
    positions, words = model.config.max_position_embeddings, model.config.vocab_size
    longest = int(encoded.lengths.argmax())
    if len(encoded.ids[longest]) > positions:
        raise DataError(
            f"{examples.place(longest)} has {encoded.lengths[longest]} tokens, {folder} only {positions}; "
            "leave such texts out, or compare with a model of more positions"
        )
    if max(int(ids.max()) for ids in encoded.ids) >= words:
        raise DataError(f"the tokenizer of {folder} knows more than the model's {words} words; pass those that belong")
    torch.set_num_threads(threads)
    return predict(model, encoded, len(labels))[:, order]


def load_classifier(folder: Path) -> Any:
    """The classifier of a folder, with all its weights, in float32. Raises DataError if there is none."""
    if not (folder / "config.json").is_file():
        raise DataError(
            f'"{folder}" has no config.json; pass a folder of a fine-tuned classifier (Hugging Face layout)'
        )
    raw = PretrainedConfig.get_config_dict(folder)[0]
    if raw.get("auto_map") is not None:
        raise DataError(f"{folder} has auto_map in config.json, code of its own that is not run; pass another model")
    try:
        class_names(raw, None, folder)
    except CheckpointError as error:
        raise DataError(str(error)) from None
    return load_weights(AutoModelForSequenceClassification, folder, "a classifier that was fine-tuned")[0]


def _order(folder: Path, found: list[str], labels: list[str]) -> list[int]:
    if len(found) == len(labels):
        if sorted(found) == sorted(labels):
            return [found.index(label) for label in labels]
        if len(labels) == 1 or found == [f"LABEL_{i}" for i in range(len(found))]:
            return list(range(len(labels)))
    raise DataError(
        f"{folder} has the classes {', '.join(found)}, the packed model {', '.join(labels)}; make them equal"
    )
