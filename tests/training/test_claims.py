"""Every verdict on a claim follows from the rule that the page states, and its evidence is never chosen by scores."""

# ruff: noqa: E402 - the imports below need the extra

import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="tasks and metrics need the extra [export]")

from glue_records import PLAN, made_up

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts find their neighbours so

from glue.claims import Claim, evidence, most_runs, paper_claims, verdict
from glue.records import Cell
from glue.summary import Spread, Summary, equal_members

PUBLISHED = tomllib.loads((BENCHMARKS / "glue" / "published.toml").read_text("utf-8"))


def a_claim(paper: float, unit: str = "points", effect: bool = True) -> Claim:
    return Claim("a claim", unit, paper, [], lambda first, second: first - second, effect)


@pytest.mark.parametrize(
    ("claim", "ours", "says"),
    [
        (a_claim(2.4), Spread(2.4, 0.1, 3), "holds"),
        (a_claim(2.4), Spread(2.36, 0.1, 3), "holds"),  # it is printed as 2.4
        (a_claim(2.4), Spread(1.2, 0.1, 3), "half of it"),
        (a_claim(2.4), Spread(0.8, 0.1, 3), "a third of it"),
        (a_claim(2.4), Spread(2.2, 0.1, 3), "nine tenths of it"),
        (a_claim(2.4), Spread(0.29, 0.1, 3), "no"),
        (a_claim(2.4), Spread(-1.0, 0.1, 3), "no"),
        (a_claim(2.4), Spread(1.4, 2.0, 3), "undecided"),  # 1.0 is missing, one standard error is 1.15
        (a_claim(2.4), Spread(1.6, 1.0, 3), "two thirds of it"),  # 0.8 is missing, it is 0.58
        (a_claim(2.4), Spread(9.0, None, 1), "undecided"),  # one seed proves nothing
        (a_claim(2.4), Spread(None, None, 0), "no record"),
        (a_claim(-65, "%"), Spread(-70.0, 5.0, 3), "holds"),
        (a_claim(-65, "%"), Spread(-33.0, 5.0, 3), "half of it"),
        (a_claim(-65, "%"), Spread(5.0, 5.0, 3), "no"),
        (a_claim(-0.3, effect=False), Spread(-1.2, 0.1, 3), "0.9 short"),
        (a_claim(-0.3, effect=False), Spread(-1.2, 1.6, 3), "undecided"),
        (a_claim(-0.3, effect=False), Spread(0.5, 0.1, 3), "holds"),
    ],
)
def test_a_verdict_follows_from_the_rule(claim, ours, says):
    assert verdict(claim, ours) == says


def test_the_evidence_is_the_group_of_most_runs_then_the_larger_encoder_then_the_newest_never_the_best():
    assert most_runs({"A": {1, 2, 3}, "B": {1, 2, 3}, "C": {2}}) == (["A", "B"], [1, 2, 3])  # 6 runs, 3 with C
    assert most_runs({"A": {1, 2}, "B": {1}}) == (["A", "B"], [1])  # of two runs each: more tasks
    assert most_runs({}) == ([], [])

    def best(*records: dict) -> tuple[str, list[str], dict[int, float]]:
        plan = PLAN | {"cells": [{**PLAN["cells"][0], "encoder": ["toy", "big"], "base": ["binarybert", "other"]}]}
        plan |= {"settings": [{"members": 2}, {"when": {"base": "other"}, "base": "binarybert"}]}
        summary = Summary({Cell(**record["cell"]): record for record in records}, plan)
        found = evidence(summary, paper_claims(summary, PUBLISHED)[1])
        return f"{found.group.encoder} {found.group.base}", found.tasks, found.by_seed

    def of(encoder: str, record: dict) -> dict:
        return record | {"cell": record["cell"] | {"encoder": encoder}}

    great, small = made_up("binarybert", "CoLA", 1, scores=(50.0, 90.0)), made_up("other", "CoLA", 1)
    assert best(great, small) == ("toy other", ["CoLA"], {1: 2.0}), "the later one of the settings"
    assert best(great, made_up("binarybert", "RTE", 1), small)[:2] == ("toy binarybert", ["CoLA", "RTE"])
    big = of("big", small | {"bytes": {"model": 1, "full_precision": 9000}})
    assert best(great, small, big)[0] == "big other"
    assert best(great, small, of("big", small))[0] == "big other"


def test_the_paper_s_figures_are_the_published_ones():
    claims = paper_claims(Summary({}, PLAN), PUBLISHED)
    assert [round(claim.paper, 1) for claim in claims] == [-0.3, 2.4, 4.0, -65.0, -61.0, 2.0, -0.2, 6.9]
    assert all(evidence(Summary({}, PLAN), claim) is None for claim in claims)


def test_seeds_are_paired_and_distillation_is_compared_on_the_same_runs():
    plan = PLAN | {"cells": PLAN["cells"] + [{**PLAN["cells"][0], "base": ["bibert"], "distill": ["direction"]}]}
    records = [
        made_up("binarybert", "CoLA", 1, scores=(80.0, 84.0), full=85.0),
        made_up("binarybert", "CoLA", 2, scores=(80.0, 83.0), full=85.0),
        made_up("binarybert", "CoLA", 1, distill="two-stage", scores=(80.0, 81.0), seconds=(30.0, 35.0)),
        made_up("bibert", "CoLA", 1, distill="direction", scores=(50.0, 60.0)),
        made_up("bibert", "CoLA", 2, distill="direction", scores=(52.0, 60.0)),
        made_up("bit", "CoLA", 1, scores=(57.0, 60.0)),
    ]
    summary = Summary({Cell(**record["cell"]): record for record in records}, plan)
    found = [evidence(summary, claim) for claim in paper_claims(summary, PUBLISHED)]
    gap, gain, bibert_gain, noise, bibert_noise, time, score, bit = (one.by_seed for one in found)
    assert (gap, gain, bibert_gain) == ({1: -1.0, 2: -2.0}, {1: 4.0, 2: 3.0}, {1: 10.0, 2: 8.0})
    assert noise == bibert_noise == {1: -50.0, 2: -50.0}
    assert time == {1: 2.0} and score == {1: 3.0} and bit == {1: 7.0}


def test_what_alphas_let_expect_is_the_fourth_root_for_accuracies_and_the_root_for_correlations():
    assert equal_members([0.5] * 4) == 4 and equal_members([1.0, 0.0]) == 1
    summary = Summary({}, PLAN | {"report": PLAN["report"] | {"members": 4}})
    record = made_up("bit", "CoLA", 1, scores=(1.0,) * 4)
    assert summary.expected_change(record) == pytest.approx(-29.29, abs=0.01)  # 4^(-1/4)
    assert summary.expected_change(record | {"ensembles": {"median": [1.0] * 4}}) == pytest.approx(-50)
