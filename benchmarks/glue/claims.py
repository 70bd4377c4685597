"""The paper's claims beside the best evidence that the records hold, and a verdict on each by one rule.

The best evidence for a claim is the group of cells with the most runs: tasks times seeds, where every task has the same
seeds. Of equal ones it is the larger encoder, then the one that settings.toml has last; never the one that scores best.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from statistics import mean
from textwrap import fill
from typing import Any

from glue.summary import CellGroup, Measure, Spread, Summary, spread
from glue.tables import NONE, Published, paper_average, table, title

RULE = (
    "The verdict is computed: *holds* if our mean reaches the paper's figure; *undecided* if there are fewer than two "
    "seeds, or if less than one standard error (deviation by the root of the seeds) is missing; otherwise the points "
    "that are missing or, of an effect, the simple fraction of the paper's figure that is nearest, and *no* below an "
    "eighth."
)
EVIDENCE = (
    "The cells are the group with the most runs (tasks times seeds), of equal ones that of the larger encoder, then "
    "the newest method; never the one that scores best."
)
FRACTIONS = {1 / 4: "a quarter of it", 1 / 3: "a third of it", 1 / 2: "half of it", 2 / 3: "two thirds of it"}
FRACTIONS |= {3 / 4: "three quarters of it", 9 / 10: "nine tenths of it"}
WIDTH = 120  # of a line of prose
NO = 1 / 8  # below this share of an effect nothing is left of it
UNITS = {"points": "{:+.1f}", "%": "{:+.0f} %", "times": "{:.1f}"}


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper: how it is measured, and what the paper found.

    measured : groups and measures of the two figures that are compared, for every candidate group;  compare : how;
    effect : whether a share of the paper's figure means something, as for a gain, or only the difference to it
    """

    text: str
    unit: str
    paper: float
    measured: list[tuple[tuple[CellGroup, Measure], tuple[CellGroup, Measure]]]
    compare: Callable[[float, float], float]
    effect: bool = True


@dataclass(frozen=True)
class Evidence:
    """What the cells of one group say on a claim: the figure of each seed, and their mean and deviation."""

    group: CellGroup
    tasks: list[str]
    by_seed: dict[int, float]

    @property
    def runs(self) -> int:
        """Tasks times seeds."""
        return len(self.tasks) * len(self.by_seed)

    @property
    def spread(self) -> Spread:
        """Over seeds."""
        return spread(list(self.by_seed.values()))


def most_runs(seeds: dict[str, set[int]]) -> tuple[list[str], list[int]]:
    """Tasks that share the most runs, and the seeds that all of them have; of equal choices the one of more tasks."""
    choices = [
        (list(tasks), sorted(set.intersection(*(seeds[task] for task in tasks))))
        for count in range(len(seeds), 0, -1)
        for tasks in combinations(seeds, count)
    ]
    return max(choices, key=lambda choice: len(choice[0]) * len(choice[1]), default=([], []))


def evidence(summary: Summary, claim: Claim) -> Evidence | None:
    """The best evidence for a claim; None if nothing measures it."""
    found = [_of_pair(summary, claim, *pair) for pair in claim.measured]

    def rank(one: Evidence) -> tuple[int, int, int]:
        return one.runs, summary.full_precision_bytes(one.group), summary.groups.index(one.group)

    return max((one for one in found if one.runs), key=rank, default=None)


def verdict(claim: Claim, ours: Spread) -> str:
    """By RULE."""
    if ours.mean is None:
        return "no record"
    # Figures as they stand in the table: one that is printed as the paper's has reached it.
    missing = _shown(claim, claim.paper) - _shown(claim, ours.mean)
    if claim.paper < 0 and claim.effect:
        missing = -missing  # an effect that lowers something, such as a deviation
    if ours.std is None:
        return "undecided"
    if missing <= 0:
        return "holds"
    if missing < ours.std / sqrt(ours.seeds):
        return "undecided"
    if not claim.effect:
        return f"{missing:.1f} short"
    share = ours.mean / claim.paper
    return "no" if share < NO else FRACTIONS[min(FRACTIONS, key=lambda fraction: abs(fraction - share))]


def paper_claims(summary: Summary, published: Published) -> list[Claim]:
    """Claims of BEBERT, and BiT's that it is closer to full precision than BiBERT."""
    said, count = published["claims"], summary.report["members"]
    groups = {
        base: [group for group in summary.groups if summary.base(group) == base]
        for base in ("binarybert", "bibert", "bit")
    }
    plain = [group for group in groups["binarybert"] if group.distill == "none"]
    direction = [group for group in groups["bibert"] if group.distill == "direction"]
    score, single, full = summary.prefix(), summary.single, summary.full
    steady, shaky = summary.noise_ensemble(0.1), summary.noise_single(0.1)

    def within(candidates: list[CellGroup], first: Measure, second: Measure) -> list:
        return [((group, first), (group, second)) for group in candidates]

    pairs = [(CellGroup(one.encoder, one.base, "two-stage"), one) for one in plain]
    two_stage = [(taught, alone) for taught, alone in pairs if taught in summary.groups]
    rivals = [(one, other) for one in groups["bit"] for other in direction if one.encoder == other.encoder]
    schemes = (("1-1-4", "binarybert", plain), ("BiBERT 1-1-1", "bibert", direction))
    ensembles, singles = (
        published["binarybert"]["ensemble"],
        (published["bit"]["single"], published["bibert"]["single"]),
    )
    return [
        Claim(
            f"1-1-4, no distillation: ensemble of {count} against full precision",
            "points",
            _number(said["gap"]["binarybert"]),
            within(plain, score, full),
            _difference,
            effect=False,
        ),
        *(
            Claim(
                f"{name}: gain of the ensemble over the single model",
                "points",
                _number(said["gain"][base]),
                within(candidates, score, single),
                _difference,
            )
            for name, base, candidates in schemes
        ),
        *(
            Claim(
                f"{name}: deviation of the score under noise, ensemble against single",
                "%",
                _number(said["noise"][base]),
                within(candidates, steady, shaky),
                _percent,
            )
            for name, base, candidates in schemes
        ),
        Claim(
            "two-stage distillation against none: training time",
            "times",
            _number(said["time"]["binarybert"]),
            [((taught, summary.seconds), (alone, summary.seconds)) for taught, alone in two_stage],
            lambda first, second: first / second,
        ),
        Claim(
            "none against two-stage distillation: score",
            "points",
            _average(ensembles["none"]) - _average(ensembles["two-stage"]),
            [((alone, score), (taught, score)) for taught, alone in two_stage],
            _difference,
            effect=False,
        ),
        Claim(
            "1-1-1: BiT closer to full precision than BiBERT, single",
            "points",
            _average(singles[0], singles[1]) - _average(singles[1]),
            [((one, single), (other, single)) for one, other in rivals],
            _difference,
        ),
    ]


def claims_table(summary: Summary, published: Published) -> str:
    """How many claims hold in one sentence, the table, and the rules of verdict and evidence."""
    rows, verdicts = [], []
    for claim in paper_claims(summary, published):
        found = evidence(summary, claim)
        ours = found.spread if found else spread([])
        verdicts.append(verdict(claim, ours))
        rows.append(
            [
                claim.text,
                UNITS[claim.unit].format(claim.paper),
                _text(claim, ours),
                f"**{verdicts[-1]}**",
                f"{len(found.tasks)} × {len(found.by_seed)}" if found else NONE,
                f"{found.group.encoder}, {found.group.base}" if found else NONE,
            ]
        )
    kinds = [verdicts.count("holds"), sum(one in ("undecided", "no record") for one in verdicts), verdicts.count("no")]
    lead = f"{len(verdicts)} claims. Hold: {kinds[0]}. Hold in part, or are short: {len(verdicts) - sum(kinds)}. "
    lead += f"Do not hold: {kinds[2]}. Undecided or not measured: {kinds[1]}."
    headings = ["claim", "paper", "here", "verdict", "tasks × seeds", "cells"]
    rules = [fill(text, WIDTH) for text in (RULE, EVIDENCE)]
    return "\n".join([lead, "", table(headings, rows, (0, 3, 5)), *rules])


def task_by_task(summary: Summary, published: Published) -> str:
    """The group that stands for the gap: scores, gap, gain, noise and what its alphas would give, by task."""
    found = evidence(summary, paper_claims(summary, published)[0])
    if found is None:
        return "No record yet."
    group = found.group
    columns: list[tuple[Measure, bool]] = [
        (summary.full, False),
        (summary.single, False),
        (summary.prefix(), False),
        (summary.gap, True),
        (summary.gain, True),
    ]
    rows = []
    for task in [*summary.measured(group, summary.prefix()), None]:

        def of(measure: Measure, task: str | None = task) -> Spread:
            return summary.average(group, measure) if task is None else summary.of_task(group, task, measure)

        guess = published.get("guess", {})
        steady, shaky = of(summary.noise_ensemble(0.1)).mean, of(summary.noise_single(0.1)).mean
        expected = of(summary.expected_change).mean
        rows.append(
            [
                "**average**" if task is None else task,
                paper_average(guess, summary.tasks(group) if task is None else [task]),
                *(of(measure).text(sign) for measure, sign in columns),
                NONE if not shaky or steady is None else f"{_percent(steady, shaky):+.0f} %",
                NONE if expected is None else f"{expected:+.0f} %",
            ]
        )
    count = summary.report["members"]
    names = ["full precision", "single", f"ensemble of {count}", "gap", "gain", "noise", "expected"]
    return f"{title(group)}:\n\n" + table(["task", "one class", *names], rows)


def _of_pair(summary: Summary, claim: Claim, first: tuple, second: tuple) -> Evidence:
    """Evidence of one candidate, of those tasks and seeds that both of its figures have."""
    rows = {
        task: [summary.by_seed(group, task, measure) for group, measure in (first, second)]
        for task in summary.tasks(first[0])
        if task in summary.tasks(second[0])
    }
    tasks, seeds = most_runs({task: set(one) & set(other) for task, (one, other) in rows.items()})
    means = {seed: [mean(rows[task][place][seed] for task in tasks) for place in (0, 1)] for seed in seeds}
    return Evidence(first[0], tasks, {seed: claim.compare(*both) for seed, both in means.items()})


def _difference(first: float, second: float) -> float:
    return first - second


def _percent(first: float, second: float) -> float:
    return 100 * (first / second - 1)


def _average(scores: dict[str, Any], tasks: dict[str, Any] | None = None) -> float:
    """Mean of published scores, of those tasks alone that both have."""
    return mean(score for task, score in scores.items() if tasks is None or task in tasks)


def _number(said: str) -> float:
    """A published figure as a number; the file writes signs and units for the tables."""
    return float(said.removesuffix("%"))


def _shown(claim: Claim, value: float) -> float:
    """A figure rounded as the table shows it."""
    return float(UNITS[claim.unit].format(value).removesuffix("%"))


def _text(claim: Claim, ours: Spread) -> str:
    if ours.mean is None:
        return NONE
    shown = UNITS[claim.unit].format(ours.mean)
    if ours.std is None:
        return shown
    digits = {"points": 1, "%": 0, "times": 1}[claim.unit]
    return f"{shown.removesuffix(' %')} ± {ours.std:.{digits}f}" + (" %" if claim.unit == "%" else "")
