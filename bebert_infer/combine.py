"""From the members' outputs to one answer: the rules by which an ensemble decides.

    vote           per class the sum of alpha over the members whose argmax it is        BEBERT Algorithm 1
    logits         sum of alpha * logits
    probabilities  sum of alpha * softmax(logits)
    mean, median   of the outputs, weighted by alpha                                     regression (AdaBoost.R2)

Where classes exclude each other, the answer is the first one with the largest sum. Of several labels each is decided
alone: its sum is one of margins, which are above 0 where a member says yes (+1 or -1 by vote, its logit, or
2 sigmoid(logit) - 1 = tanh(logit / 2) by probabilities), and so the label is said where the sum is above 0.

Sums run in float64 over the members in their order. A negative alpha votes against (the published code produces some;
numerics §5.2).
"""

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.config import Floats, check_alphas


def softmax(logits: NDArray) -> Floats:
    """Softmax over the last axis in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def sigmoid(logits: NDArray) -> Floats:
    """1 / (1 + exp(-x)) in float64, without overflow."""
    return (1 + np.tanh(logits.astype(np.float64) / 2)) / 2


def combine(rule: str, member_logits: NDArray[np.float32], alphas: Floats, *, multi_label: bool = False) -> Floats:
    """Return the combined scores float64[B, labels] of member logits float32[members, B, labels].

    multi_label : the labels do not exclude each other

    A mean is divided by the sum of the alphas; the published code divides by the number of members, which is off by a
    constant factor. Raises InputError by `check_alphas`.
    """
    check_alphas(rule, alphas)
    logits = member_logits.astype(np.float64)
    if multi_label:
        margins = {"vote": np.where(logits > 0, 1.0, -1.0), "logits": logits, "probabilities": np.tanh(logits / 2)}
        return _weighted_sum(margins[rule], alphas)
    if rule == "vote":
        winners = logits.argmax(axis=2)
        return _weighted_sum(np.eye(logits.shape[2])[winners], alphas)
    if rule == "logits":
        return _weighted_sum(logits, alphas)
    if rule == "probabilities":
        return _weighted_sum(softmax(logits), alphas)
    if rule == "mean":
        return _weighted_sum(logits, alphas) / alphas.sum()
    return _weighted_median(logits, alphas)


def class_probabilities(rule: str, scores: Floats, alphas: Floats, *, multi_label: bool = False) -> Floats:
    """Turn combined scores into shares that sum to 1: votes and probabilities are divided by their sum.

    Summed logits are divided by the sum of |alpha| and softmaxed, so that more members do not mean more confidence.
    Scores below 0 (possible with negative alphas) count as 0.

    Of labels that do not exclude each other, every one has a share of its own, above 1/2 where its score is above 0:
    the sigmoid of the mean logit, or the part of sum |alpha| (of the vote, of the probability) that speaks for it.
    """
    if multi_label:
        means = scores / (np.abs(alphas).sum() or 1.0)
        return sigmoid(means) if rule == "logits" else (1 + means) / 2
    if rule == "logits":
        return softmax(scores / np.abs(alphas).sum())
    positive = np.maximum(scores, 0.0)
    total = positive.sum(axis=1, keepdims=True)
    return np.divide(positive, total, out=np.full_like(positive, 1 / positive.shape[1]), where=total > 0)


def _weighted_sum(values: Floats, alphas: Floats) -> Floats:
    total = np.zeros(values.shape[1:])
    for value, alpha in zip(values, alphas, strict=True):  # a fixed order, whatever the batch
        total += alpha * value
    return total


def _weighted_median(outputs: Floats, alphas: Floats) -> Floats:
    """Smallest output at which the alphas of the members at or below it reach half of their sum (Drucker 1997)."""
    order = np.argsort(outputs, axis=0, kind="stable")
    reached = np.cumsum(alphas[order], axis=0) >= alphas.sum() / 2
    position = np.argmax(reached, axis=0)
    return np.take_along_axis(np.take_along_axis(outputs, order, axis=0), position[None], axis=0)[0]
