"""Texts with more tokens than a model takes: refused, cut, or read in windows that overlap.

A window is what the model would see of a text of its own: the special tokens around a part of the text. Of a pair, the
first text stands whole in every window and the second is cut into parts. Neighbours share `overlap` tokens, so that
a phrase at an edge is whole in one of them, and the last window ends with the text, as full as the others. So every
token is in at least one window.

The windows of a text give one answer. pool="mean": the mean of their probabilities (in regression: of the values), and
the class with the largest. pool="max": the answer of the surest window, the earliest of equals (in regression: of
the largest value). Of labels that do not exclude each other, each has its own mean or its own surest window.
"""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from msgspec import Struct
from tokenizers import Encoding

from bebert_infer.errors import InputError
from bebert_infer.limits import is_whole

Policy = Literal["error", "truncate", "windows"]
Pool = Literal["mean", "max"]
Window = tuple[list[int], list[int]]  # token ids and segment types


@dataclass(frozen=True)
class LongTexts:
    """What to do with a text that is too long; overlap in tokens, None for a quarter of the part that moves."""

    policy: Policy = "error"
    overlap: int | None = None
    pool: Pool = "mean"

    def step(self, room: int) -> int:
        """Tokens from one window to the next, where each has `room` tokens of the text. Raises InputError."""
        overlap = room // 4 if self.overlap is None else self.overlap
        if overlap > room // 2:
            raise InputError(
                f"overlap is {overlap}; windows hold {room} tokens of this text, of which at most half may be shared: "
                f"pass {room // 2} or fewer"
            )
        return room - overlap


def long_texts(truncate: bool, long: str | None, overlap: int | None, pool: str) -> LongTexts:
    """Return the checked options; `truncate=True` is long="truncate" without its warning. Raises InputError."""
    policy = long if long is not None else "truncate" if truncate else "error"
    if policy not in get_args(Policy):
        raise InputError(f'long is "{policy}"; accepted are {", ".join(get_args(Policy))}')
    if truncate and policy != "truncate":
        raise InputError(f'truncate and long="{policy}" exclude each other; pass one of them')
    if pool not in get_args(Pool):
        raise InputError(f'pool is "{pool}"; accepted are {", ".join(get_args(Pool))}')
    if overlap is not None and (policy != "windows" or not is_whole(overlap) or overlap < 0):
        raise InputError(
            f'overlap is {overlap!r:.80} with long="{policy}"; accepted are 0 and more with long="windows"'
        )
    return LongTexts(cast(Policy, policy), overlap, cast(Pool, pool))


class EncodedText(Struct, frozen=True):
    """Token ids and segment types of a text: one window, or several; `cut` tokens at its end were left out."""

    windows: tuple[Window, ...]
    cut: int = 0


def cut(row: Encoding, length: int, name: str) -> EncodedText:
    """A row without the end of its text, `length` tokens long.

    Of a pair the longer text loses tokens until both have half, as by "longest_first" of Hugging Face's tokenizers; the
    odd token goes to the longer one, of equals to the second. Raises InputError.
    """
    parts = row.sequence_ids
    counts = [parts.count(0), parts.count(1)]
    room = length - (len(parts) - sum(counts))
    if room < 1:
        raise InputError(f"{name} has no room beside its special tokens in {length} tokens; allow more")
    short = int(counts[0] > counts[1])
    left = [room, room]
    left[short] = min(counts[short], room // 2)
    left[1 - short] -= left[short]
    kept = []
    for index, part in enumerate(parts):
        if part is None:
            kept.append(index)
        elif left[part]:
            left[part] -= 1
            kept.append(index)
    ids, types = row.ids, row.type_ids
    window = [ids[index] for index in kept], [types[index] for index in kept]
    return EncodedText((window,), cut=len(ids) - len(kept))


def split(row: Encoding, length: int, long: LongTexts, name: str) -> tuple[Window, ...]:
    """Windows of at most `length` tokens over the last text of `row`, which is longer. Raises InputError."""
    ids, types, parts = row.ids, row.type_ids, row.sequence_ids
    last = max((part for part in parts if part is not None), default=None)
    first, end = parts.index(last), len(parts) - parts[::-1].index(last)
    around = first + len(ids) - end
    room = length - around
    # Less room would make windows many times as long together as the text, without a bound.
    if last is None or room < max(1, length // 4):
        raise InputError(
            f"{name} leaves too little room: {around} of {length} tokens are taken by special tokens and by the first "
            "text of a pair, which windows keep whole, and a quarter must be free; shorten that one"
        )
    starts = [*range(first, end - room, long.step(room)), end - room]
    return tuple(
        (ids[:first] + ids[at : at + room] + ids[end:], types[:first] + types[at : at + room] + types[end:])
        for at in starts
    )
