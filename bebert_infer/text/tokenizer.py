"""Text or pairs of texts -> token ids, by the WordPiece tokenizer that travels with the model."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bebert_infer.artifact.tokenizer_check import check_added
from bebert_infer.errors import InputError, ModelFormatError, safe
from bebert_infer.limits import InputLimits
from bebert_infer.text.windows import EncodedText, LongTexts, Window, cut, split

Text = str | tuple[str, str]


class EncodedBatch(Struct, frozen=True):
    """A padded batch: ids, mask and segment types, each int64[B, T]."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Ids, mask and types, in the order in which a model takes them."""
        return self.input_ids, self.attention_mask, self.token_type_ids


class TextEncoder:
    """The model's `tokenizer.json` with its length limit; used by many threads at once, so nothing in it changes."""

    def __init__(self, tokenizer_json: str, max_length: int, vocab_size: int, limits: InputLimits | None = None):
        self._limits = limits or InputLimits()
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the library raises bare Exception
            raise ModelFormatError(f"tokenizer.json cannot be read: {error}") from None
        # The library counts the ids of added tokens itself, whatever the file says.
        largest = max([self._tokenizer.get_vocab_size() - 1, *self._tokenizer.get_added_tokens_decoder()])
        if largest >= vocab_size:
            raise ModelFormatError(
                f"tokenizer.json has ids up to {largest}, the model only 0 to {vocab_size - 1}; "
                "they do not belong together"
            )
        check_added(self._tokenizer, Path("tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()  # for good: it is a state that all threads share; long_texts.cut does it
        self.max_length = self._limits.length(max_length)

    def encode(self, text: Text, long: LongTexts, name: str) -> EncodedText:
        """Token ids of one text or pair, which errors call `name`.

        Raises InputError for a text that is empty, no Unicode, or longer than the limits.
        """
        sides = (text,) if isinstance(text, str) else text
        for side, what in zip(sides, (name, f"the second text of {name}"), strict=False):
            self._check(side, what)
        row = self._tokenizer.encode(*sides)
        count = len(row.ids)
        if count <= self.max_length:
            return EncodedText(((row.ids, row.type_ids),))
        if long.policy == "error":
            raise InputError(
                f"{name} has {count} tokens; this model accepts at most {self.max_length}: shorten it, cut its end off "
                'with long="truncate" (--truncate), or read it in parts with long="windows" (--long windows)'
            )
        if long.policy == "windows":
            return EncodedText(split(row, self.max_length, long, name))
        return cut(row, self.max_length, name)

    def check(self, long: LongTexts) -> None:
        """Raise InputError for options that fit no text of this model."""
        if long.policy == "windows":
            long.step(self.max_length - self._tokenizer.num_special_tokens_to_add(False))

    def _check(self, text: str, name: str) -> None:
        if len(text) > self._limits.characters:
            raise InputError(
                f"{name} has {len(text):,} characters; at most {self._limits.characters:,} are accepted: split it, or "
                "pass limits=InputLimits(characters=…) (--max-characters)"
            )
        if not text.strip():
            raise InputError(f"{name} is empty; pass at least one word")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{name} has half a character, U+{ord(text[error.start]):04X}, at place {error.start}; decode it again "
                'from its bytes, or pass text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
            ) from None


def collate(rows: Sequence[Window]) -> EncodedBatch:
    """Pad token ids and types of B sentences to one batch."""
    width = max((len(ids) for ids, _ in rows), default=0)
    arrays = np.zeros((3, len(rows), width), np.int64)
    for index, (ids, types) in enumerate(rows):
        arrays[0, index, : len(ids)] = ids
        arrays[1, index, : len(ids)] = 1
        arrays[2, index, : len(ids)] = types
    return EncodedBatch(*arrays)


def as_texts(inputs: Any, limits: InputLimits) -> tuple[list[Text], bool]:
    """Return (list of texts and pairs, whether one single input was given).

    Accepted: a str, a pair as tuple (a, b) or {"text": a, "text_pair": b}, or a list of these, which may be an
    endless iterator: it is read up to the limit; a column or array of texts (NumPy, pandas, Arrow, polars, datasets);
    a dict of lists, {"text": [a, …], "text_pair": [b, …]}. A table of several columns is refused: its names are no
    texts. Raises InputError.
    """
    if hasattr(inputs, "columns") or hasattr(inputs, "column_names"):
        raise InputError(
            f'input is a table ({type(inputs).__name__}); pass the column of its texts, as table["text"], or a list of '
            'pairs, list(zip(table["a"], table["b"]))'
        )
    if getattr(inputs, "shape", None) == ():  # an array without dimensions holds one value
        inputs = inputs.item()
    if isinstance(inputs, Mapping) and not isinstance(inputs.get("text", ""), str):
        inputs = _rows_of(inputs)
    single = isinstance(inputs, str | tuple | Mapping)
    items = [inputs] if single else inputs
    if not isinstance(items, Iterable):
        raise InputError(f"input is {type(inputs).__name__}; accepted are a text, a pair of texts, or a list of these")
    texts: list[Text] = []
    for index, item in enumerate(items):
        limits.check_rows(index + 1)
        texts.append(_as_text(index, item))
    return texts, single


def _rows_of(columns: Mapping[str, Any]) -> Any:
    """The rows of a dict of lists. Raises InputError."""
    parts = [columns["text"], *([] if columns.get("text_pair") is None else [columns["text_pair"]])]
    if set(columns) - {"text", "text_pair"} or any(isinstance(part, str | bytes | Mapping) for part in parts):
        raise InputError(f'input has keys {_shown(list(columns))}; accepted are lists under "text" and "text_pair"')
    if not all(isinstance(part, Iterable) for part in parts):
        raise InputError(f'"text" is {_shown(columns["text"])}; accepted are a text or a list of texts')
    if len(parts) == 1:
        return parts[0]
    texts, pairs = (list(part) for part in parts)
    if len(texts) != len(pairs):
        raise InputError(f'"text" has {len(texts)} texts, "text_pair" {len(pairs)}; pass as many of each')
    return list(zip(texts, pairs, strict=True))


def _as_text(index: int, item: Any) -> Text:
    if isinstance(item, Mapping):
        if "text" not in item or set(item) - {"text", "text_pair"}:
            raise InputError(f'text {index} has keys {_shown(list(item))}; accepted are "text" and "text_pair"')
        item = (item["text"],) if item.get("text_pair") is None else (item["text"], item["text_pair"])
    parts = [_plain(part) for part in item] if isinstance(item, tuple | list) else [_plain(item)]
    if len(parts) not in (1, 2) or not all(isinstance(part, str) for part in parts):
        raise InputError(f"text {index} is {_shown(_plain(item))}; accepted are a text or a pair of two texts")
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


def _plain(item: Any) -> Any:
    """What a value of Arrow stands for; other values as they are."""
    return item.as_py() if hasattr(item, "as_py") else item


def _shown(item: Any) -> str:
    """A value as Python writes it, shortened."""
    return safe(reprlib.repr(item))
