"""Boosting arithmetic: how wrong a member is, how much it may say, which examples the next one must learn.

One round, for K classes, weights w and the member's answers on the training examples *in the order of w*:

    e = sum of w over wrong answers / sum of w
    "samme"  alpha = ln((1 - e) / e) + ln(K - 1);   w <- w exp(alpha) where wrong, then normalised to sum 1
    "code"   alpha = ln((1 - e) / e) / 2;           w <- w exp(+alpha) where wrong, w exp(-alpha) where right

"samme" (Zhu et al., "Multi-class AdaBoost", 2009) is right for any K; afterwards the same member would be
exactly as bad as guessing (e = 1 - 1/K). "code" is the published code of BEBERT (Tian et al., 2023), right
for two classes, where it gives the same votes with half the alpha; it never normalises.
Regression uses AdaBoost.R2 (Drucker, "Improving regressors using boosting techniques", 1997).

Both alphas may be shrunk by a factor below 1 (scikit-learn's `learning_rate`): the weights of the examples grow less
extreme and the members count more evenly. Near 0 every member sees the same data and says as much as its accuracy is
worth; 1 is the published algorithm.

A member that makes no error, or that is no better than guessing, is not an exception: the result says so.
Everything is float64.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rule = Literal["samme", "code"]
Status = Literal["useful", "perfect", "weak"]
Floats = NDArray[np.float64]
ROUNDING = 1e-9  # of a sum of float64 weights: six of twelve wrong answers may add up to 0.49999999999999994


@dataclass(frozen=True)
class Round:
    """What one member did to the boosting run.

    error   : float        weighted error (classification) or weighted loss (regression), 0 to 1
    alpha   : float        the member's coefficient; negative for a weak member, always finite
    weights : float64[n]   weights of the examples for the next member
    status  : "useful", "perfect" (no error at all) or "weak" (no better than guessing)
    advice  : what status means for the run, one sentence; empty if useful
    """

    error: float
    alpha: float
    weights: Floats
    status: Status
    advice: str


def uniform_weights(count: int) -> Floats:
    """Weights of the first round, float64[n], 1/n each. Raises ValueError if there is no example."""
    if count < 1:
        raise ValueError(f"{count} examples; boosting needs at least 1")
    return np.full(count, 1.0 / count)


def weighted_error(wrong: ArrayLike, weights: ArrayLike) -> float:
    """Share of the weight that lies on wrong answers; bool[n], float[n] -> 0 to 1."""
    w = np.asarray(weights, np.float64)
    return float((w * np.asarray(wrong, bool)).sum() / w.sum())


def boost(
    predictions: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike,
    classes: int,
    rule: Rule = "samme",
    normalise: bool | None = None,
    shrinkage: float = 1.0,
) -> Round:
    """One round for a classifier.

    predictions, labels : int[n]     class ids, in the order of the weights (predict without shuffling)
    weights             : float[n]   not negative, sum positive; need not sum to 1
    classes             : int        K, at least 2
    normalise           : whether the new weights sum to 1; None is the rule's own (samme yes, code no)
    shrinkage           : factor of alpha, above 0 and at most 1

    A member without error, for which the formula says infinity, gets the alpha of half a wrong example among
    n + 1 and leaves the weights as they are. A weak one (error >= 1 - 1/K, for "code" >= 1/2) keeps what the
    formula says. Raises ValueError for shapes, weights, classes or rules that do not fit.
    """
    if rule not in ("samme", "code"):
        raise ValueError(f'rule is {rule!r}; accepted are "samme" and "code"')
    if classes < 2:
        raise ValueError(f"classes is {classes}; accepted is 2 or more")
    answers, truth = np.asarray(predictions), np.asarray(labels)
    w = _checked_weights(weights, answers, truth)
    error = weighted_error(answers != truth, w)
    alpha = _log_odds(error, len(w))
    alpha, limit = (alpha + math.log(classes - 1), 1 - 1 / classes) if rule == "samme" else (alpha / 2, 0.5)
    alpha *= shrinkage
    status, advice = _judge(error, limit)
    new = w if status == "perfect" else reweigh(answers, truth, w, alpha, rule)
    if normalise or (normalise is None and rule == "samme"):
        new = new / new.sum()
    return Round(error, alpha, new, status, advice)


def reweigh(
    predictions: ArrayLike, labels: ArrayLike, weights: ArrayLike, alpha: float, rule: Rule = "samme"
) -> Floats:
    """Weights of the next round for examples that need not be those of which alpha was found; not normalised."""
    wrong = np.asarray(predictions) != np.asarray(labels)
    right = 1.0 if rule == "samme" else math.exp(-alpha)
    return np.asarray(weights, np.float64) * np.where(wrong, math.exp(alpha), right)


def boost_regression(predictions: ArrayLike, targets: ArrayLike, weights: ArrayLike, shrinkage: float = 1.0) -> Round:
    """One round of AdaBoost.R2 with the square loss; float[n] each.

    loss = ((p - y) / max|p - y|)**2;  e = sum(w loss) / sum(w);  beta = e / (1 - e);
    w <- w beta**(1 - loss), normalised to sum 1;  alpha = ln(1 / beta), times `shrinkage`

    A member is weak from e = 1/2; its alpha is then zero or negative. A member without any deviation leaves
    the weights as they are. Raises ValueError for shapes or weights that do not fit.
    """
    answers, truth = np.asarray(predictions, np.float64), np.asarray(targets, np.float64)
    w = _checked_weights(weights, answers, truth)
    error = float((w * _square_loss(answers, truth)).sum() / w.sum())
    alpha = shrinkage * _log_odds(error, len(w))
    status, advice = _judge(error, 0.5)
    new = w if status == "perfect" else reweigh_regression(answers, truth, w, alpha)
    return Round(error, alpha, new / new.sum(), status, advice)


def reweigh_regression(predictions: ArrayLike, targets: ArrayLike, weights: ArrayLike, alpha: float) -> Floats:
    """Weights of the next round, as `reweigh`; the loss is relative to the largest deviation among these examples."""
    loss = _square_loss(np.asarray(predictions, np.float64), np.asarray(targets, np.float64))
    return np.asarray(weights, np.float64) * np.exp(-alpha * (1 - loss))


def _square_loss(answers: Floats, truth: Floats) -> Floats:
    deviation = np.abs(answers - truth)
    largest = float(deviation.max())
    return (deviation / largest) ** 2 if largest > 0 else np.zeros_like(deviation)


def _log_odds(error: float, count: int) -> float:
    """``ln((1 - e) / e)``; an error of exactly 0 or 1 counts as half an example among count + 1."""
    least = 0.5 / (count + 1)
    error = {0.0: least, 1.0: 1 - least}.get(error, error)
    return math.log((1 - error) / error)


def _judge(error: float, limit: float) -> tuple[Status, str]:
    if error == 0:
        return (
            "perfect",
            "The member makes no error on its training examples; others have nothing to add.",
        )
    if error >= limit - ROUNDING:
        return "weak", (
            f"The member's weighted error {error:.4g} is not below {limit:.4g}: it only guesses; "
            "leave it out, or train it again from uniform weights."
        )
    return "useful", ""


def _checked_weights(weights: ArrayLike, answers: NDArray, truth: NDArray) -> Floats:
    w = np.asarray(weights, np.float64)
    if w.ndim != 1 or not w.shape == answers.shape == truth.shape:
        raise ValueError(
            f"shapes are {answers.shape} of predictions, {truth.shape} of labels and {w.shape} of weights; "
            "accepted are three equal lengths"
        )
    if not (np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0):
        raise ValueError("weights must be finite, not negative and not all zero")
    return w
