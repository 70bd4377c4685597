"""From the members' logits to answers: combined by the model's rule, named, and pooled over the windows of a text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.config import Config
from bebert_infer.combine import class_probabilities, combine, softmax
from bebert_infer.text.windows import EncodedText, Pool


@dataclass(frozen=True)
class Prediction:
    """The answer to one text.

    label         : the class that wins; for regression the name of the one output
    score         : its share between 0 and 1; for regression the predicted value
    probabilities : label -> share (for regression label -> value)
    logits        : combined scores float64[labels] of the combination rule
    votes         : the label that each member answers (for regression its value), in member order
    windows, cut  : parts in which a long text was read, and tokens that were left out at its end (`text/windows.py`)
    """

    label: str
    score: float
    probabilities: dict[str, float]
    logits: NDArray[np.float64]
    votes: list[str] | list[float]
    windows: int = 1
    cut: int = 0


ONE = EncodedText(windows=(([], []),))  # stands for a sentence whose tokens nobody needs to know any more


def predictions(
    config: Config,
    alphas: NDArray[np.float64],
    members: NDArray[np.float32],
    encoded: Sequence[EncodedText] | None = None,
    pool: Pool = "mean",
) -> list[Prediction]:
    """Answers from the logits float32[members, B, labels] of B sentences: the windows of these texts, in order.

    Without `encoded` every sentence is a text of its own.
    """
    scores = combine(config.combination, members, alphas)
    regression = config.problem_type == "regression"
    shares = scores if regression else class_probabilities(config.combination, scores, alphas)
    labels = config.labels
    answers, start = [], 0
    for one in [ONE] * len(scores) if encoded is None else encoded:
        part = slice(start, start + len(one.windows))
        start = part.stop
        cast, row, share = pooled(members[:, part], scores[part], shares[part], pool, regression)
        # Of several windows the shares decide; of one, the scores: equal shares may hide their order.
        best = int((row if len(one.windows) == 1 else share).argmax())
        votes = cast[:, 0].tolist() if regression else [labels[vote] for vote in cast.argmax(axis=1)]
        named = dict(zip(labels, share.tolist(), strict=True))
        answers.append(Prediction(labels[best], named[labels[best]], named, row, votes, len(one.windows), one.cut))
    return answers


def pooled(
    members: NDArray[np.float32], scores: NDArray[np.float64], shares: NDArray[np.float64], pool: Pool, regression: bool
) -> tuple[NDArray, NDArray[np.float64], NDArray[np.float64]]:
    """One answer from those of W windows: members float[members, W, labels], scores and shares float64[W, labels].

    Returns them without W. Of several windows' mean, the members' part are probabilities instead of logits.
    """
    if len(scores) == 1:
        return members[:, 0], scores[0], shares[0]
    if pool == "mean":
        means = members if regression else softmax(members)
        return means.mean(axis=1, dtype=np.float64), scores.mean(axis=0), shares.mean(axis=0)
    surest = int(shares.max(axis=1).argmax())
    return members[:, surest], scores[surest], shares[surest]
