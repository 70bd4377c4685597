"""From the members' logits to answers: combined by the model's rule, named, and pooled over the windows of a text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.config import Config
from bebert_infer.combine import class_probabilities, combine, sigmoid, softmax
from bebert_infer.early_exit import heard_together
from bebert_infer.text.windows import EncodedText, Pool


@dataclass(frozen=True)
class Prediction:
    """The answer to one text.

    label         : the class that wins; of several labels the likeliest; for regression the name of the one output
    score         : its share between 0 and 1; for regression the predicted value
    probabilities : label -> share (for regression label -> value); shares of several labels are each out of 1
    logits        : combined scores float64[labels] of the combination rule
    votes         : the label that each member answers (of several labels a list; for regression its value), in order;
                    of the members that spoke
    windows, cut  : parts in which a long text was read, and tokens that were left out at its end (`text/windows.py`)
    labels        : of a model with several labels those of the text, which are more likely than not, the likeliest
                    first, perhaps none; of all other models None
    members_run   : members that spoke, all unless `early_exit.py` stopped; everything above is theirs
    """

    label: str
    score: float
    probabilities: dict[str, float]
    logits: NDArray[np.float64]
    votes: list[str] | list[float] | list[list[str]]
    windows: int = 1
    cut: int = 0
    labels: list[str] | None = None
    members_run: int = 1

    def ranked(self) -> list[tuple[str, float]]:
        """Labels and their shares, the answer first and then by falling share."""
        found = sorted(self.probabilities.items(), key=lambda pair: -pair[1])
        if self.label != found[0][0]:  # a tie: the winner is the first class, and comes first
            found.sort(key=lambda pair: pair[0] != self.label)
        return found


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
    several, regression = config.multi_label, config.problem_type == "regression"
    scores = combine(config.combination, members, alphas, multi_label=several)
    shares = scores
    if not regression:
        shares = class_probabilities(config.combination, scores, alphas, multi_label=several)
    names = config.labels
    answers, start = [], 0
    for one in [ONE] * len(scores) if encoded is None else encoded:
        part = slice(start, start + len(one.windows))
        start = part.stop
        cast, row, share = pooled(members[:, part], scores[part], shares[part], pool, config.problem_type)
        # Of several windows the shares decide; of one, the scores: equal shares may hide their order.
        deciding = row if len(one.windows) == 1 else share
        best = int(deciding.argmax())
        named = dict(zip(names, share.tolist(), strict=True))
        said, votes = None, _votes(names, cast, config.problem_type)
        if several:
            yes = row > 0 if len(one.windows) == 1 else share > 0.5
            said = [names[place] for place in np.argsort(-deciding, kind="stable") if yes[place]]
        shape = len(one.windows), one.cut, said, len(members)
        answers.append(Prediction(names[best], named[names[best]], named, row, votes, *shape))
    return answers


def early_predictions(
    config: Config,
    alphas: NDArray[np.float64],
    members: NDArray[np.float32],
    asked: NDArray[np.int64],
    encoded: Sequence[EncodedText] | None = None,
    pool: Pool = "mean",
) -> list[Prediction]:
    """As `predictions`, each text answered by the members that spoke: the first `asked` in their speaking order."""
    texts = [ONE] * len(asked) if encoded is None else list(encoded)
    windows = [len(one.windows) for one in texts]
    answers: dict[int, Prediction] = {}
    for together, heard in heard_together(alphas, asked):
        if together.all():  # one text, say
            return predictions(config, alphas[heard], members[heard], texts, pool)
        chosen = np.flatnonzero(together).tolist()
        logits = members[heard][:, np.repeat(together, windows)]
        found = predictions(config, alphas[heard], logits, [texts[index] for index in chosen], pool)
        answers |= zip(chosen, found, strict=True)
    return [answers[index] for index in range(len(texts))]


def _votes(names: list[str], cast: NDArray, problem: str) -> list[str] | list[float] | list[list[str]]:
    """What each member says, from its logits float[members, labels]."""
    if problem == "regression":
        return cast[:, 0].tolist()
    if problem == "multi_label_classification":
        return [[name for name, logit in zip(names, row, strict=True) if logit > 0] for row in cast]
    return [names[vote] for vote in cast.argmax(axis=1)]


def pooled(
    members: NDArray[np.float32], scores: NDArray[np.float64], shares: NDArray[np.float64], pool: Pool, problem: str
) -> tuple[NDArray, NDArray[np.float64], NDArray[np.float64]]:
    """One answer from those of W windows: members float[members, W, labels], scores and shares float64[W, labels].

    Returns them without W. Of classes that exclude each other, the members' part of several windows' mean are
    probabilities instead of logits; of several labels it is above 0 where a mean probability is above 1/2, as logits.
    """
    if len(scores) == 1:
        return members[:, 0], scores[0], shares[0]
    several = problem == "multi_label_classification"
    if pool == "mean":
        means: NDArray = members if problem == "regression" else sigmoid(members) - 0.5 if several else softmax(members)
        return means.mean(axis=1, dtype=np.float64), scores.mean(axis=0), shares.mean(axis=0)
    if several:  # each label has a surest window of its own
        return members.max(axis=1), scores.max(axis=0), shares.max(axis=0)
    surest = int(shares.max(axis=1).argmax())
    return members[:, surest], scores[surest], shares[surest]
