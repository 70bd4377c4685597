"""What an `Ensemble` accepts at most: bounds on time and memory that hold before anything expensive starts."""

from dataclasses import dataclass, fields

import numpy as np

from bebert_infer.artifact.config import Config
from bebert_infer.errors import InputError


def is_whole(value: object) -> bool:
    """Whether an option is a whole number, NumPy's included; True and 2.0 are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


@dataclass(frozen=True)
class InputLimits:
    """Upper limits, each a whole number from 1: `Ensemble.from_pretrained(path, limits=InputLimits(members=8))`.

    characters : of one text (each side of a pair for itself), counted before it is tokenized
    tokens     : of one sentence or window, special tokens included; None: as many as the model has learned
    rows       : sentences in one call, windows of long texts included
    members, layers : of a model, checked before its tensors are read

    Raises InputError for values below 1.
    """

    characters: int = 1_000_000
    tokens: int | None = None
    rows: int = 1_000_000
    members: int = 1000
    layers: int = 1000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "tokens":
                continue
            if not is_whole(value) or value < 1:
                raise InputError(f"the limit of {field.name} is {value!r}; accepted are whole numbers from 1")

    def check_model(self, config: Config) -> None:
        """Raise InputError for a model of more members or layers than these."""
        for name, count, limit in (
            ("members", len(config.members), self.members),
            ("layers", max(member.num_hidden_layers for member in config.members), self.layers),
        ):
            if count > limit:
                raise InputError(
                    f"the model has {count} {name}; at most {limit} are accepted: pass limits=InputLimits({name}=…)"
                )

    def check_rows(self, count: int) -> None:
        """Raise InputError for a call with more sentences than these."""
        if count > self.rows:
            raise InputError(
                f"one call has {count:,} sentences or more; at most {self.rows:,} are accepted: pass fewer at a time, "
                "or limits=InputLimits(rows=…)"
            )

    def length(self, longest: int) -> int:
        """The token limit of a model that takes sentences of `longest` tokens."""
        return longest if self.tokens is None else min(longest, self.tokens)


def checked_limits(limits: InputLimits | None) -> InputLimits:
    """Return the limits, or the default ones for None. Raises InputError for anything else, as a dict."""
    if limits is not None and not isinstance(limits, InputLimits):
        raise InputError(f"limits is {limits!r:.80}; accepted is InputLimits(…) or None")
    return limits or InputLimits()
