"""Text or pairs of texts -> token ids, by the WordPiece tokenizer that travels with the model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bebert_infer.errors import InputError, ModelFormatError

Text = str | tuple[str, str]


@dataclass(frozen=True)
class Encoded:
    """A padded batch: ids, mask and segment types, each int64[B, T]."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]


class TextEncoder:
    """The model's `tokenizer.json` with its length limit."""

    def __init__(self, tokenizer_json: str, max_length: int, vocab_size: int):
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the library raises bare Exception
            raise ModelFormatError(f"tokenizer.json cannot be read: {error}") from None
        if self._tokenizer.get_vocab_size() > vocab_size:
            raise ModelFormatError(
                f"tokenizer.json has {self._tokenizer.get_vocab_size()} tokens, the model only {vocab_size}; "
                "they do not belong together"
            )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_length = max_length
        self._json = tokenizer_json

    @cached_property
    def _truncating(self) -> Tokenizer:
        """The same tokenizer that cuts: one of its own, since other threads may want theirs not to cut meanwhile."""
        tokenizer = Tokenizer.from_str(self._json)
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length, strategy="longest_first")
        return tokenizer

    def encode(self, texts: Iterable[Text], truncate: bool) -> Encoded:
        """Encode texts and pairs. Over-long ones raise InputError, or lose their end with `truncate`.

        Pairs lose tokens from the longer side first, ties from the second, as the published code does.
        """
        tokenizer = self._truncating if truncate else self._tokenizer
        # One by one: the library's own batch threads would exceed the caller's thread budget.
        rows = [tokenizer.encode(*((text,) if isinstance(text, str) else text)) for text in texts]
        for index, row in enumerate(rows):
            if len(row.ids) > self.max_length:
                raise InputError(
                    f"text {index} has {len(row.ids)} tokens; this model accepts at most {self.max_length}: "
                    "shorten it, or cut its end off with truncate=True (--truncate)"
                )
        width = max((len(row.ids) for row in rows), default=0)
        arrays = np.zeros((3, len(rows), width), np.int64)
        for index, row in enumerate(rows):
            arrays[:, index, : len(row.ids)] = row.ids, np.ones(len(row.ids)), row.type_ids
        return Encoded(*arrays)


def as_texts(inputs: Any) -> tuple[list[Text], bool]:
    """Return (list of texts and pairs, whether one single input was given).

    Accepted: a str, a pair as tuple (a, b) or {"text": a, "text_pair": b}, or a list of these. Raises InputError.
    """
    single = isinstance(inputs, str | tuple | Mapping)
    items = [inputs] if single else inputs
    if not isinstance(items, Iterable):
        raise InputError(f"input is {type(inputs).__name__}; accepted are a text, a pair of texts, or a list of these")
    return [_as_text(index, item) for index, item in enumerate(items)], single


def _as_text(index: int, item: Any) -> Text:
    if isinstance(item, Mapping):
        if "text" not in item or set(item) - {"text", "text_pair"}:
            raise InputError(f'text {index} has keys {sorted(item)}; accepted are "text" and "text_pair"')
        item = (item["text"], item["text_pair"]) if item.get("text_pair") is not None else item["text"]
    parts = item if isinstance(item, tuple | list) else (item,)
    if len(parts) not in (1, 2) or not all(isinstance(part, str) for part in parts):
        raise InputError(f"text {index} is {item!r:.80}; accepted are a text or a pair of two texts")
    for part in parts:
        if not part.strip():
            raise InputError(f"text {index} is empty; pass at least one word")
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])
