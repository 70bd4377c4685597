"""Turn labelled text into token ids, and serve it in batches of similar length.

Only `collate` needs torch, which it imports itself: packed models are evaluated where there is none.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bebert_export.data.examples import Examples
from bebert_export.data.transformers_tokenizer import transformers_tokenizer
from bebert_infer.artifact.folder import is_packed
from bebert_infer.errors import DataError

if TYPE_CHECKING:
    import torch

# Batches are cut from pools of this many batches sorted by length: enough to waste little on padding,
# few enough that the order of the examples stays random.
POOL = 50


@dataclass(frozen=True)
class EncodedExamples:
    """Token ids of M examples, not padded: `ids[i]` and `types[i]` are int64[T_i]."""

    ids: list[NDArray[np.int64]]
    types: list[NDArray[np.int64]]

    def __len__(self) -> int:
        """Number of examples M."""
        return len(self.ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, int64[M]."""
        return np.array([len(row) for row in self.ids], np.int64)


@dataclass(frozen=True)
class TrainingSet:
    """M encoded examples with class ids int64[M], values float32[M], or labels float32[M, K] of 0 and 1."""

    encoded: EncodedExamples
    targets: NDArray[np.int64] | NDArray[np.float32]
    classes: int

    @property
    def regression(self) -> bool:
        """Whether the targets are values."""
        return self.targets.ndim == 1 and self.classes == 1

    @property
    def multi_label(self) -> bool:
        """Whether the targets are labels that do not exclude each other."""
        return self.targets.ndim == 2

    def part(self, places: NDArray[np.int64]) -> "TrainingSet":
        """Some of the examples, in the order of `places`."""
        ids, types = ([rows[i] for i in places] for rows in (self.encoded.ids, self.encoded.types))
        return TrainingSet(EncodedExamples(ids, types), self.targets[places], self.classes)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Tokenizer of a model folder, as transformers reads it; no padding, no truncation.

    A packed model's is read without transformers. Raises DataError if the folder has neither `tokenizer.json` nor
    `vocab.txt`, or one that transformers cannot read, or that a packed model could not follow.
    """
    files = ("tokenizer.json", "vocab.txt")
    if not any((folder / name).is_file() for name in files):
        raise DataError(f"{folder} has neither {' nor '.join(files)}; copy one of them there")
    if is_packed(folder):
        return read_tokenizer(folder)
    return Tokenizer.from_str(transformers_tokenizer(folder))


def read_tokenizer(folder: Path) -> Tokenizer:
    """The `tokenizer.json` of a folder that this package wrote, as it is; no padding, no truncation.

    Raises DataError for one that the library cannot read.
    """
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"the tokenizer of {folder} cannot be read: {str(error):.200}; fetch it again") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json`, and beside it the settings without which transformers would read it as uncased BERT."""
    tokenizer.save(str(folder / "tokenizer.json"))
    description = json.loads(tokenizer.to_str())
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # which takes tokenizer.json as it is
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }
    special = {token["content"] for token in description["added_tokens"] if token["special"]}
    names = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    settings |= {f"{name}_token": token for name, token in names.items() if token in special}
    normalizer = description["normalizer"] or {}
    if normalizer.get("type") == "BertNormalizer":  # for those who call BertTokenizerFast by its name
        settings["do_lower_case"] = normalizer["lowercase"]
        settings["strip_accents"] = normalizer["strip_accents"]
        settings["tokenize_chinese_chars"] = normalizer["handle_chinese_chars"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def check_rows(tokenizer: Tokenizer, folder: Path, rows: int) -> None:
    """Raise DataError unless a word table of `rows` has a row for every id of the tokenizer of `folder`."""
    size = tokenizer.get_vocab_size(with_added_tokens=False)
    if size > rows:
        raise DataError(f"the tokenizer of {folder} has {size} tokens, the checkpoint only {rows}; pass the right one")
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if largest >= rows:
        raise DataError(
            f"the tokenizer of {folder} gives {token!r:.80} the id {largest}, the checkpoint has rows for 0 to "
            f"{rows - 1}; pass the right one, or, if no text needs this token, leave it out of the added tokens (for "
            'one that transformers adds itself: "mask_token": null in tokenizer_config.json)'
        )


def encode(tokenizer: Tokenizer, examples: Examples, max_length: int) -> EncodedExamples:
    """Token ids and segment types of every example, at most `max_length` tokens, off the longer text."""
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    try:
        inputs = examples.texts if examples.pairs is None else list(zip(examples.texts, examples.pairs, strict=True))
        encodings = tokenizer.encode_batch(inputs)
    finally:
        tokenizer.no_truncation()
    return EncodedExamples(
        ids=[np.array(row.ids, np.int64) for row in encodings],
        types=[np.array(row.type_ids, np.int64) for row in encodings],
    )


def collate(encoded: EncodedExamples, index: NDArray[np.int64]) -> dict[str, "torch.Tensor"]:
    """Padded batch of some examples: input_ids, attention_mask, token_type_ids, each int64[B, T]."""
    import torch

    shape = (len(index), max(len(encoded.ids[i]) for i in index))
    ids, mask, types = (np.zeros(shape, np.int64) for _ in range(3))
    for row, i in enumerate(index):
        length = len(encoded.ids[i])
        ids[row, :length], types[row, :length], mask[row, :length] = encoded.ids[i], encoded.types[i], 1
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def shuffled_batches(
    lengths: NDArray[np.int64], batch_size: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """One epoch: every example id once, in random batches of similar length, int64[B] each."""
    order = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def sorted_batches(lengths: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Every example id once, shortest first: cheapest for prediction, whose results are put back by id."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
