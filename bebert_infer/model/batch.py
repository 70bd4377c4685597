"""A batch without padding: the rows of all sentences one after the other.

Padded tokens are never computed, so an answer depends on its own sentence only. The one exception is the
published batch-wide rule (`padded_batch`), where padded positions take part in the statistics: it exists
to compare with the published code and runs on the reference only.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from bebert_infer.errors import InputError

# Rows computed at a time: enough to keep every thread busy, and a bound on the memory of a call (`native/memory.py`).
MAX_ROWS = 4096


class Batch(Struct, frozen=True):
    """Token rows of S sentences, M rows in all.

    ids, positions, types : int64[M]   token id, position and segment of each row
    offsets               : int64[S+1] rows of sentence s are offsets[s]:offsets[s+1]
    key_mask              : bool[M] or None   False = a padded row, computed but never attended to
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    types: NDArray[np.int64]
    offsets: NDArray[np.int64]
    key_mask: NDArray[np.bool_] | None = None

    @property
    def rows(self) -> int:
        """Number of rows M."""
        return len(self.ids)

    @property
    def sentences(self) -> int:
        """Number of sentences S."""
        return len(self.offsets) - 1

    def spans(self) -> list[slice]:
        """The rows of each sentence."""
        return [slice(int(a), int(b)) for a, b in zip(self.offsets, self.offsets[1:], strict=False)]

    def taken(self, sentences: NDArray[np.int64]) -> "Batch":
        """Some of the sentences, in the order given; of a batch without padding."""
        starts, lengths = self.offsets[:-1][sentences], np.diff(self.offsets)[sentences]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Batch(self.ids[rows], self.positions[rows], self.types[rows], offsets)

    def chunks(self, max_rows: int) -> Iterator[tuple[slice, "Batch"]]:
        """Yield (sentences, their batch) in order, at most `max_rows` rows each unless one sentence has more.

        Answers do not depend on how a batch is cut; the memory that a call needs does.
        """
        if 0 < self.rows <= max_rows:
            yield slice(0, self.sentences), self
            return
        start = 0
        while start < self.sentences:
            limit = self.offsets[start] + max_rows
            stop = max(start + 1, int(np.searchsorted(self.offsets, limit, side="right")) - 1)
            rows = slice(int(self.offsets[start]), int(self.offsets[stop]))
            offsets = self.offsets[start : stop + 1] - rows.start
            yield slice(start, stop), Batch(self.ids[rows], self.positions[rows], self.types[rows], offsets)
            start = stop


def checked_inputs(
    input_ids: ArrayLike,
    attention_mask: ArrayLike | None,
    token_type_ids: ArrayLike | None,
    limits: "ModelBounds",
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Check one padded batch completely and return ids int64[B, T], mask bool[B, T], types int64[B, T].

    A missing mask means that every token is real; missing types mean segment 0. Raises InputError.
    """
    ids = _integers("input_ids", input_ids, None)
    mask = np.ones_like(ids) if attention_mask is None else _integers("attention_mask", attention_mask, ids.shape)
    types = np.zeros_like(ids) if token_type_ids is None else _integers("token_type_ids", token_type_ids, ids.shape)
    if ids.shape[1] > limits.positions:
        raise InputError(
            f"input_ids has {ids.shape[1]} tokens a row; this model has {limits.positions} positions: shorten the text"
        )
    if ids.shape[0] and ids.shape[1] == 0:
        raise InputError("input_ids has rows of 0 tokens; each needs at least one, normally [CLS]")
    for name, values, count in (
        ("input_ids", ids, limits.vocabulary),
        ("token_type_ids", types, limits.types),
        ("attention_mask", mask, 2),
    ):
        if values.size and not (values.min() >= 0 and values.max() < count):
            row, column = np.argwhere((values < 0) | (values >= count))[0]
            raise InputError(f"{name}[{row}, {column}] is {values[row, column]}; this model accepts 0 to {count - 1}")
    real = mask.astype(bool)
    if not real[:, :1].all():
        headless = np.flatnonzero(~real[:, 0])[0]
        raise InputError(f"attention_mask[{headless}, 0] is 0; the first token carries the answer and must be real")
    return ids, real, types


class ModelBounds(Struct, frozen=True):
    """What an ensemble accepts: number of token ids, of positions and of segment types."""

    vocabulary: int
    positions: int
    types: int


def ragged_batch(ids: NDArray[np.int64], mask: NDArray[np.bool_], types: NDArray[np.int64]) -> Batch:
    """Drop the padding: rows of real tokens only, each keeping its position in the padded row."""
    _, columns = np.nonzero(mask)
    lengths = mask.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Batch(ids[mask], columns.astype(np.int64), types[mask], offsets)


def listed_batch(rows: Sequence[tuple[list[int], list[int]]], limits: ModelBounds) -> Batch:
    """The ragged batch of sentences given as lists of token ids and segment types, at least one token each.

    Raises InputError for what this model has no row of a table for.
    """
    lengths = [len(ids) for ids, _ in rows]
    both = np.array([[i for ids, _ in rows for i in ids], [t for _, types in rows for t in types]], np.int64)
    for name, values, count in (("token id", both[0], limits.vocabulary), ("segment type", both[1], limits.types)):
        if values.size and not (values.min() >= 0 and values.max() < count):
            wrong = values[(values < 0) | (values >= count)][0]
            raise InputError(f"a text has the {name} {wrong}; this model accepts 0 to {count - 1}")
    if max(lengths, default=0) > limits.positions:
        raise InputError(f"a text has {max(lengths)} tokens; this model has {limits.positions} positions: shorten it")
    positions = np.concatenate([np.arange(length) for length in lengths]) if lengths else both[0]
    return Batch(both[0], positions, both[1], np.array([0, *accumulate(lengths)], np.int64))


def padded_batch(ids: NDArray[np.int64], mask: NDArray[np.bool_], types: NDArray[np.int64]) -> Batch:
    """Keep the padding, as the published code does: every row is computed, padded ones are masked as keys."""
    sentences, tokens = ids.shape
    positions = np.tile(np.arange(tokens, dtype=np.int64), sentences)
    offsets = np.arange(sentences + 1, dtype=np.int64) * tokens
    return Batch(ids.reshape(-1), positions, types.reshape(-1), offsets, mask.reshape(-1))


def _integers(name: str, values: ArrayLike, shape: tuple[int, ...] | None) -> NDArray[np.int64]:
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(f"{name} has rows of different lengths; pad them and pass an attention_mask") from None
    if array.ndim != 2:
        raise InputError(f"{name} has shape {list(array.shape)}; accepted is [sentences, tokens]")
    if array.dtype == bool:
        array = array.astype(np.int64)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name} has dtype {array.dtype}; accepted are integers")
    if shape is not None and array.shape != shape:
        raise InputError(f"{name} has shape {list(array.shape)}, but input_ids has {list(shape)}; make them equal")
    return array.astype(np.int64)
