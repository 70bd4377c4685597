"""Stop asking members once the answer is settled: an ensemble at little more than the price of one.

    early_exit="exact"   while what is still to come could change a label, the next member speaks; for the rules
                         `probabilities` and `vote`, and no label ever differs from that of all members
    early_exit=0.9       also stops where the combined probability reaches this number; for all rules of classification

Members speak in falling order of |alpha|. A member of weight alpha moves two classes apart by at most |alpha|, because
its probabilities (its votes) lie between 0 and 1. So with a lead L of the best class over the next, and R the sum of
|alpha| over the members still to come, the label is final as soon as L > R. Labels that do not exclude each other have
margins between -1 and 1: each is final beyond R, and the order of two of them beyond 2 R.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.config import Config
from bebert_infer.combine import class_probabilities, combine
from bebert_infer.errors import InputError
from bebert_infer.text.windows import Pool

EXACT = "exact"
BOUNDED = ("probabilities", "vote")  # rules with a bound on what a member can change
ROUNDING = 1e-9  # of the sum of |alpha|: sums of float64 are off by far less, so no rounding turns a settled label

EarlyExit = str | float
# member, rows[R] rising, each once -> float32[R, labels]
MemberLogits = Callable[[int, NDArray[np.int64]], NDArray[np.float32]]


class Decision(NamedTuple):
    """How an ensemble decides: its rule (`combine.py`), its labels, and whether these do not exclude each other."""

    rule: str
    labels: int
    multi_label: bool

    @classmethod
    def of(cls, config: Config) -> "Decision":
        """That of a model."""
        return cls(config.combination, config.num_labels, config.multi_label)


def checked_early_exit(value: Any, config: Config) -> EarlyExit | None:
    """Return "exact", a probability or None. Raises InputError for anything else, and where a model has no such end."""
    if value is None:
        return None
    number = not isinstance(value, bool) and isinstance(value, int | float | np.integer | np.floating)
    if not (value == EXACT if isinstance(value, str) else number and 0 < value <= 1):
        raise InputError(f'early_exit is {value!r:.80}; accepted are "{EXACT}", or a probability above 0 and up to 1')
    if config.problem_type == "regression":
        raise InputError("early_exit is for labels; this model answers a value, to which every member adds")
    if value == EXACT and config.combination not in BOUNDED:
        raise InputError(
            f'early_exit is "{EXACT}", but the rule of this model is {config.combination}, where one member can '
            f"outweigh all others; accepted are probabilities like 0.9 (rules with a bound: {', '.join(BOUNDED)})"
        )
    return EXACT if value == EXACT else float(value)


def parse_early_exit(text: str | None) -> EarlyExit | None:
    """What a user writes on the command line: a number as such, other words as they are, for `checked_early_exit`."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def speaking_order(alphas: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers of the members, those who can change most first."""
    return np.argsort(-np.abs(alphas), kind="stable")


def ask_members(
    decision: Decision,
    alphas: NDArray[np.float64],
    windows: Sequence[int],
    pool: Pool,
    early_exit: EarlyExit,
    ask: MemberLogits,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Ask member by member, each for the texts that are still open.

    windows : count of each text, at least 1; `pool` makes one answer of several     early_exit : checked
    returns : logits float32[members, all windows, labels], NaN where nobody was asked; members asked int64[texts]
    """
    counts = np.asarray(windows, np.int64)
    starts = np.cumsum(counts) - counts
    logits = np.full((len(alphas), counts.sum(), decision.labels), np.nan, np.float32)
    asked = np.zeros(len(counts), np.int64)
    still = np.arange(len(counts))
    order = speaking_order(alphas)
    for spoken in range(1, len(order) + 1):
        if not len(still):
            break
        sizes, rows = counts[still], still
        if len(counts) < logits.shape[1]:  # texts of several windows
            rows = np.repeat(starts[still] - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        logits[order[spoken - 1], rows] = ask(int(order[spoken - 1]), rows)
        asked[still] = spoken
        if spoken < len(order):
            done = settled(decision, alphas, order, spoken, logits[:, rows], sizes, pool, early_exit)
            still = still[~done]
    return logits, asked


def heard_together(
    alphas: NDArray[np.float64], asked: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """Texts that as many members were asked for, bool[texts], and these members, in the order of the model."""
    order = speaking_order(alphas)
    for count in sorted(set(asked.tolist())):
        yield asked == count, np.sort(order[:count])


def settled(
    decision: Decision,
    alphas: NDArray[np.float64],
    order: NDArray[np.int64],
    spoken: int,
    logits: NDArray[np.float32],
    windows: NDArray[np.int64],
    pool: Pool,
    early_exit: EarlyExit,
) -> NDArray[np.bool_]:
    """Which texts need no further member: bool[texts].

    order  : `speaking_order`, of which the first `spoken` members have logits in float32[members, all windows, labels]
    windows : count of each text
    """
    rule, _, several = decision
    heard = np.sort(order[:spoken])
    scores = combine(rule, logits[heard], alphas[heard], multi_label=several)
    several_windows = len(scores) > len(windows)
    starts = np.cumsum(windows) - windows
    done = np.zeros(len(windows), bool)
    if rule in BOUNDED:
        weights = np.abs(alphas)
        silent = weights[order[spoken:]].sum()
        rounding = ROUNDING * weights.sum()
        means = np.add.reduceat(scores, starts) / windows[:, None] if several_windows else scores
        # Shares of several windows follow the mean of their scores only where none is cut off at 0, as by
        # class_probabilities; and the surest window may be another one when the next member has spoken.
        bounded = (windows == 1) | (pool == "mean" and (several or bool((alphas >= 0).all())))
        done |= bounded & (_labels_final if several else _class_final)(means, silent, rounding)
    if early_exit != EXACT:
        shares = class_probabilities(rule, scores, alphas[heard], multi_label=several)
        if pool == "mean" and several_windows:
            shares = np.add.reduceat(shares, starts) / windows[:, None]
        elif several_windows:
            shares = np.maximum.reduceat(shares, starts)
        sure = np.maximum(shares, 1 - shares).min(axis=1) if several else shares.max(axis=1)
        done |= sure >= early_exit
    return done


def _class_final(scores: NDArray[np.float64], silent: float, rounding: float) -> NDArray[np.bool_]:
    """Whether the best of classes that exclude each other keeps its lead, for scores float64[texts, classes]."""
    if scores.shape[1] == 1:
        return np.ones(len(scores), bool)
    next_best, best = np.sort(scores, axis=1)[:, -2:].T
    return np.asarray(best - next_best > silent + rounding)


def _labels_final(scores: NDArray[np.float64], silent: float, rounding: float) -> NDArray[np.bool_]:
    """Whether every label is decided, and the order of the likeliest and of all that are said."""
    decided = (np.abs(scores) > silent + rounding).all(axis=1)
    falling = -np.sort(-scores, axis=1)
    apart = falling[:, :-1] - falling[:, 1:] > 2 * silent + rounding
    matters = falling[:, 1:] > 0  # the order of labels that are not said is nobody's business, but for the first place
    matters[:, :1] = True
    return np.asarray(decided & (apart | ~matters).all(axis=1))
