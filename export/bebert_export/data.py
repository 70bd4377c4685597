"""Read labelled text, turn it into token ids, and serve it in batches of similar length.

Only `collate` needs torch, which it imports itself: packed models are evaluated where there is none.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer, Tokenizer

from bebert_infer.errors import InputError

if TYPE_CHECKING:
    import torch

TEXT_COLUMNS = ("sentence1", "sentence", "text", "text1")
PAIR_COLUMNS = ("sentence2", "text2", "text_pair")
LABEL_COLUMNS = ("label", "labels")
# Batches are cut from pools of this many batches sorted by length: enough to waste little on padding,
# few enough that the order of the examples stays random.
POOL = 50


class DataError(InputError):
    """A data file that cannot be trained on; one sentence: what, which value and line, what next."""


@dataclass(frozen=True)
class Examples:
    """One labelled file: line i + 2 holds `texts[i]`, `pairs[i]` (unless None) and the label as written."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[str]
    path: Path
    sha256: str

    def __len__(self) -> int:
        """Number of examples M."""
        return len(self.texts)


@dataclass(frozen=True)
class Encoded:
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


def read_examples(path: Path) -> Examples:
    """Read a tab-separated file with a header line: UTF-8, one example a line, no quoting.

    Columns: the text (`sentence1`, `sentence` or `text`), optionally a second text (`sentence2`, `text2` or
    `text_pair`), and `label`; other columns are ignored. A quote character is part of the text.
    Raises DataError for a missing file or column, a wrong number of fields, an empty text or label.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f'cannot read "{path}": {error.strerror}; pass a tab-separated file with a header') from None
    lines = _lines(raw, path)
    if len(lines) < 2:
        raise DataError(f"{path} has no example; accepted is a header line followed by one example a line")
    header = lines[0].split("\t")
    text, label = _column(header, TEXT_COLUMNS, path), _column(header, LABEL_COLUMNS, path)
    pair = _column(header, PAIR_COLUMNS, path, required=False)
    assert text is not None and label is not None
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise DataError(
                f"line {number} of {path} has {len(fields)} fields, the header has {len(header)}; "
                "separate the fields by one tab and put no tab inside a text"
            )
        for column in (text, label) if pair is None else (text, pair, label):
            if not fields[column].strip():
                raise DataError(f'line {number} of {path} has an empty "{header[column]}"; fill it or drop the line')
        rows.append(fields)
    return Examples(
        texts=[row[text] for row in rows],
        pairs=None if pair is None else [row[pair] for row in rows],
        labels=[row[label].strip() for row in rows],
        path=path,
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def label_names(train: Examples) -> list[str]:
    """Class names of a training file: numbers in numeric order, everything else in alphabetical order.

    Raises DataError for fewer than two classes and for labels that are fractions (a score, not a class).
    """
    names = sorted(set(train.labels))
    try:
        values = {name: float(name) for name in names}
    except ValueError:
        values = {}
    if values and any(value != round(value) for value in values.values() if np.isfinite(value)):
        raise DataError(f'{train.path} has labels such as "{names[0]}"; for scores instead of classes use regression')
    if len(names) < 2:
        raise DataError(f'{train.path} has the only label "{names[0]}"; a classifier needs at least two')
    return sorted(names, key=lambda name: (values[name], name)) if values else names


def class_ids(examples: Examples, names: list[str]) -> NDArray[np.int64]:
    """Index of each label in `names`, int64[M]. Raises DataError for a label that training did not see."""
    index = {name: i for i, name in enumerate(names)}
    for i, label in enumerate(examples.labels):
        if label not in index:
            shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            raise DataError(f'line {i + 2} of {examples.path} has the label "{label}"; the training file knows {shown}')
    return np.array([index[label] for label in examples.labels], np.int64)


def scores(examples: Examples) -> NDArray[np.float32]:
    """Labels as numbers, float32[M]. Raises DataError for anything that is not a finite number."""
    values = np.empty(len(examples), np.float32)
    for i, label in enumerate(examples.labels):
        try:
            values[i] = float(label)
        except ValueError:
            values[i] = np.nan
        if not np.isfinite(values[i]):
            raise DataError(f'line {i + 2} of {examples.path} has the label "{label}"; regression accepts only numbers')
    return values


def load_tokenizer(folder: Path) -> Tokenizer:
    """Tokenizer of a model folder: `tokenizer.json`, else built from `vocab.txt`; no padding, no truncation.

    Raises DataError if the folder has neither.
    """
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif (folder / "vocab.txt").is_file():
        tokenizer = Tokenizer.from_str(
            BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=_lower_case(folder)).to_str()
        )
    else:
        raise DataError(f"{folder} has neither tokenizer.json nor vocab.txt; copy one of them there")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: Tokenizer, examples: Examples, max_length: int) -> Encoded:
    """Token ids and segment types of every example, at most `max_length` tokens, off the longer text."""
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    try:
        inputs = examples.texts if examples.pairs is None else list(zip(examples.texts, examples.pairs, strict=True))
        encodings = tokenizer.encode_batch(inputs)
    finally:
        tokenizer.no_truncation()
    return Encoded(
        ids=[np.array(row.ids, np.int64) for row in encodings],
        types=[np.array(row.type_ids, np.int64) for row in encodings],
    )


def collate(encoded: Encoded, index: NDArray[np.int64]) -> dict[str, "torch.Tensor"]:
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


def _lines(raw: bytes, path: Path) -> list[str]:
    """Decode and split at line feeds only: other separators that Python knows may occur inside a text."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        raise DataError(f"line {number} of {path} is not UTF-8; convert the file to UTF-8") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines and not lines[-1]:
        lines.pop()
    return lines


def _column(header: list[str], accepted: tuple[str, ...], path: Path, required: bool = True) -> int | None:
    """Index of the first accepted name in the header, or None where the column may be missing."""
    for name in accepted:
        if name in header:
            return header.index(name)
    if required:
        raise DataError(f"{path} has the columns {', '.join(header)}; one of {', '.join(accepted)} is missing")
    return None


def _lower_case(folder: Path) -> bool:
    """Whether the settings beside `vocab.txt` ask for lower case; yes without them, as in BERT-uncased."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return bool(settings.get("do_lower_case", True))
