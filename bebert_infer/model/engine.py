"""What answers for the members of an ensemble: the truth itself, or anything that gives its bits."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.batch import Batch
from bebert_infer.model.member import Member
from bebert_infer.model.noise import Noise
from bebert_infer.model.quantizer import MinimumRule


class Engine(Protocol):
    """What an ensemble asks of its engine; `ReferenceEngine` below, `native/engine.py`."""

    name: str

    def member_logits(self, batch: Batch, noise: list[Noise] | None = None) -> NDArray[np.float32]:
        """Logits float32[members, S, labels] of a batch; `noise`: of each member."""

    def one_member_logits(self, member: int, batch: Batch) -> NDArray[np.float32]:
        """Logits float32[S, labels] of one member, the same bits."""

    def pinned(self) -> list[dict[int, NDArray]]:
        """Arrays kept beside the tensors of the model, by address."""

    def workspace_bytes(self, rows: int, sentences: int, tokens: int) -> list[int]:
        """Bytes of each workspace kept after calls of at most so many rows, sentences, tokens of a sentence."""


class ReferenceEngine:
    """The truth: no threads, nothing kept between calls, and the published rule for minima where it is asked for."""

    name = "reference"

    def __init__(self, members: list[Member], minimum_rule: MinimumRule):
        self.members, self.minimum_rule = members, minimum_rule

    def member_logits(self, batch: Batch, noise: list[Noise] | None = None) -> NDArray[np.float32]:
        """Logits float32[members, S, labels] of a batch; `noise`: of each member."""
        draws = [None] * len(self.members) if noise is None else noise
        pairs = zip(self.members, draws, strict=True)
        return np.stack([member.forward(batch, self.minimum_rule, noise=own) for member, own in pairs])

    def one_member_logits(self, member: int, batch: Batch) -> NDArray[np.float32]:
        """Logits float32[S, labels] of one member."""
        return self.members[member].forward(batch, self.minimum_rule)

    def pinned(self) -> list[dict[int, NDArray]]:
        """Nothing: members hold the tensors of the model only."""
        return []

    def workspace_bytes(self, rows: int, sentences: int, tokens: int) -> list[int]:
        """None: arrays come and go."""
        return []
