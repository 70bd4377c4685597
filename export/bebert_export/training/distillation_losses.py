"""Distillation losses: what a student is pulled towards its teacher by, in each published method.

===========  ============================================================================
BinaryBERT   stage 1: hidden states and scores; stage 2: soft cross-entropy (`two_stage`)
TernaryBERT  both at once (`TwoStage.joint`)
BiT          soft cross-entropy and hidden states (`bit_loss`)
BiBERT       direction matching of Q, K, V and hidden states, soft and hard labels (`direction_matching`)
===========  ============================================================================

"Outputs" are anything shaped like a `StudentOutput`: a student, or a teacher of the family "float". Run the
teacher under ``torch.no_grad`` with ``details=True``. Sums over layers are unweighted and padded positions
count, as published.
Letters: B batch, T tokens, C hidden width, H heads, D head size, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED_BELOW = -100.0  # scores at or below this belong to masked keys and count as 0


class Outputs(Protocol):
    """What the losses read; see `modeling.StudentOutput` for shapes."""

    @property
    def logits(self) -> Tensor:
        """float[B, K]."""

    @property
    def hidden(self) -> tuple[Tensor, ...]:
        """Layers + 1 times float[B, T, C]."""

    @property
    def scores(self) -> tuple[Tensor, ...]:
        """float[B, H, T, T] of every layer, before softmax, mask added."""

    @property
    def queries(self) -> tuple[Tensor, ...]:
        """float[B, H, T, D] of every layer, not quantized."""

    @property
    def keys(self) -> tuple[Tensor, ...]:
        """float[B, H, T, D] of every layer, not quantized."""

    @property
    def values(self) -> tuple[Tensor, ...]:
        """float[B, H, T, D] of every layer, not quantized."""


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``-mean(softmax(teacher / t) * log_softmax(student / t))`` over batch *and* classes, float[B, K] -> [].

    This is 1/K of the usual mean over the batch, and has no factor t**2. For one class it is 0 whatever the
    logits are: use `logit_loss`, which falls back to the squared error.
    """
    soft = F.softmax(teacher / temperature, -1)
    return -(soft * F.log_softmax(student / temperature, -1)).mean()


def logit_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Soft cross-entropy of the logits float[B, K]; mean squared error for a regression head (K = 1)."""
    if student.shape[-1] == 1:
        return F.mse_loss(student, teacher)
    return soft_cross_entropy(student, teacher, temperature)


def state_map(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Teacher state that each of the student's layers + 1 states learns from: evenly spaced.

    ``state_map(2, 4)`` is ``(0, 2, 4)``: the embeddings, and the outputs of the second and fourth layer. What
    a layer computes inside (scores, Q, K, V) is compared with the layer that puts out the mapped state.

    Raises ValueError if the teacher's layers are no multiple of the student's.
    """
    if student_layers < 1 or teacher_layers % student_layers:
        raise ValueError(
            f"the teacher has {teacher_layers} layers and the student {student_layers}; "
            "accepted are multiples, or pass states of your own"
        )
    stride = teacher_layers // student_layers
    return tuple(range(0, teacher_layers + 1, stride))


def _paired(student: Outputs, teacher: Outputs, states: Sequence[int] | None) -> Sequence[int]:
    """Checked teacher states, one for each student state."""
    if not student.hidden or not teacher.hidden:
        raise ValueError("student or teacher came without details; call it with details=True")
    layers = len(student.hidden) - 1
    if states is None:
        return state_map(layers, len(teacher.hidden) - 1)
    if len(states) != layers + 1 or min(states[1:]) < 1 or max(states) >= len(teacher.hidden):
        raise ValueError(
            f"states is {tuple(states)}; accepted are {layers + 1} indices below {len(teacher.hidden)}, "
            "all but the first at least 1"
        )
    return states


def _unmasked(scores: Tensor) -> Tensor:
    return torch.where(scores <= MASKED_BELOW, 0.0, scores)


def score_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over layers of the mean squared error of attention scores, masked keys counting as 0."""
    pairs = zip(student, teacher, strict=True)
    return torch.stack([F.mse_loss(_unmasked(s), _unmasked(t)) for s, t in pairs]).sum()


def hidden_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over states of the mean squared error, float[B, T, C] each."""
    return torch.stack([F.mse_loss(s, t) for s, t in zip(student, teacher, strict=True)]).sum()


@dataclass(frozen=True)
class TwoStage:
    """The terms of two-stage distillation, scalars."""

    attention: Tensor
    hidden: Tensor
    prediction: Tensor

    @property
    def stage1(self) -> Tensor:
        """Intermediate terms, trained first (published learning rate 2.5 times the base)."""
        return self.attention + self.hidden

    @property
    def stage2(self) -> Tensor:
        """Prediction term, trained second; alone it is BEBERT's prediction distillation."""
        return self.prediction

    @property
    def joint(self) -> Tensor:
        """All terms at once, as TernaryBERT does."""
        return self.stage1 + self.prediction


def two_stage(student: Outputs, teacher: Outputs, states: Sequence[int] | None = None) -> TwoStage:
    """Losses of BinaryBERT and BEBERT: squared errors of scores and hidden states, then `logit_loss`.

    states : teacher state for each student state; None is `state_map`. Raises ValueError if they do not fit.
    Source: Bai et al., "BinaryBERT", 2021; Tian et al., "BEBERT", 2023.
    """
    states = _paired(student, teacher, states)
    return TwoStage(
        attention=score_loss(student.scores, [teacher.scores[state - 1] for state in states[1:]]),
        hidden=hidden_loss(student.hidden, [teacher.hidden[state] for state in states]),
        prediction=logit_loss(student.logits, teacher.logits),
    )


def bit_loss(student: Outputs, teacher: Outputs, states: Sequence[int] | None = None) -> Tensor:
    """BiT: `logit_loss` plus the squared errors of hidden states, no attention term.

    states : teacher state for each student state; None is `state_map`. Raises ValueError if they do not fit.
    Source: Liu et al., "BiT: Robustly Binarized Multi-distilled Transformer", 2022, as published in code.
    """
    states = _paired(student, teacher, states)
    hidden = hidden_loss(student.hidden, [teacher.hidden[state] for state in states])
    return logit_loss(student.logits, teacher.logits) + hidden


def r2b(student: Tensor, teacher: Tensor) -> Tensor:
    """``|| s / |s| - t / |t| ||``, Frobenius norms over the whole tensor, batch included; -> [].

    Neither squared nor averaged. Values at or below -100 count as 0; a tensor of zeros keeps direction 0.
    """
    directions = []
    for x in (_unmasked(student), _unmasked(teacher)):
        length = torch.linalg.vector_norm(x)
        directions.append(x / length.clamp_min(torch.finfo(x.dtype).tiny))
    return torch.linalg.vector_norm(directions[0] - directions[1])


def similarity(x: Tensor) -> Tensor:
    """``x x^T / sqrt(D)``: how alike the tokens of a head are, float[B, H, T, D] -> float[B, H, T, T]."""
    return x @ x.transpose(-1, -2) / math.sqrt(x.shape[-1])


@dataclass(frozen=True)
class DirectionMatching:
    """The terms of direction-matching distillation, scalars."""

    query: Tensor
    key: Tensor
    value: Tensor
    hidden: Tensor
    prediction: Tensor

    @property
    def total(self) -> Tensor:
        """All terms, unweighted."""
        return self.query + self.key + self.value + self.hidden + self.prediction


def direction_matching(
    student: Outputs, teacher: Outputs, labels: Tensor, states: Sequence[int] | None = None
) -> DirectionMatching:
    """Losses of BiBERT: `r2b` of the similarities of Q, of K, of V, and of hidden states; logits and labels.

    prediction = soft cross-entropy + 0.5 * cross-entropy with the labels, or the squared error between the
    logits for a regression head.

    labels : int64[B], unused for a regression head
    states : teacher state for each student state; None is `state_map`. Raises ValueError if they do not fit.
    Source: Qin et al., "BiBERT: Accurate Fully Binarized BERT", 2022.
    """
    states = _paired(student, teacher, states)

    def matched(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        terms = [r2b(similarity(m), similarity(theirs[s - 1])) for m, s in zip(mine, states[1:], strict=True)]
        return torch.stack(terms).sum()

    prediction = logit_loss(student.logits, teacher.logits)
    if student.logits.shape[-1] > 1:
        prediction = prediction + 0.5 * F.cross_entropy(student.logits, labels)
    pairs = zip(student.hidden, states, strict=True)
    return DirectionMatching(
        query=matched(student.queries, teacher.queries),
        key=matched(student.keys, teacher.keys),
        value=matched(student.values, teacher.values),
        hidden=torch.stack([r2b(mine, teacher.hidden[state]) for mine, state in pairs]).sum(),
        prediction=prediction,
    )
