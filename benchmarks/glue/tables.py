"""Tables of docs/results.md as Markdown; every number comes from a record or is a published one."""

from statistics import mean
from typing import Any

from glue.summary import CellGroup, Measure, Spread, Summary, change, equal_members

NONE = "–"
DISTILL = {"none": "A: none", "prediction": "B: prediction", "two-stage": "C: two-stage", "direction": "D: direction"}
Published = dict[str, Any]


def table(headings: list[str], rows: list[list[str]], texts: tuple[int, ...] = (0,)) -> str:
    """A Markdown table; `texts` are the columns that stand to the left."""
    lines = [headings, ["---" if place in texts else "---:" for place in range(len(headings))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def paper(published: Published, base: str, kind: str, distill: str = "none") -> dict[str, float]:
    """Published scores by task: "single" or "ensemble" of a base; empty if there are none."""
    scores = published.get(base, {}).get(kind, {})
    return scores.get(distill) or scores.get("direction", {}) if kind == "ensemble" else scores


def paper_average(scores: dict[str, float], tasks: list[str]) -> str:
    """Mean of the published scores of these tasks; says of how many, if not of all."""
    known = [scores[task] for task in tasks if task in scores]
    if not known:
        return NONE
    return f"{mean(known):.1f}" + ("" if len(known) == len(tasks) else f" ({len(known)} tasks)")


def title(group: CellGroup) -> str:
    """Heading of a group of cells."""
    return f"{group.encoder}, {group.base}, distillation {DISTILL.get(group.distill, group.distill)}"


def claims(summary: Summary, published: Published) -> str:
    """The paper's claims beside ours, one line for each group of cells that measures one.

    Claims on BinaryBERT are those without distillation, as the paper's.
    """
    known, count = published["claims"], summary.report["members"]
    claimed = [group for group in summary.groups if group.distill == "none" or summary.base(group) != "binarybert"]
    rows = []

    def row(name: str, said: str, group: CellGroup, found: str, tasks: list[str], seeds: int) -> None:
        average = ", ".join(tasks) or NONE
        rows.append([name, said, title(group), found, average, str(seeds or NONE)])

    for name, measure, said in (
        (f"ensemble of {count} − full precision, points", summary.gap, known["gap"]),
        (f"ensemble of {count} − single, points", summary.gain, known["gain"]),
    ):
        for group in claimed:
            found, tasks = summary.average(group, measure), summary.measured(group, measure)
            row(name, said.get(summary.base(group), NONE), group, found.text(sign=True), tasks, found.seeds)
    for group in claimed:
        single, ensemble = (summary.average(group, m) for m in (summary.noise_single(0.1), summary.noise_ensemble(0.1)))
        said, tasks = (
            known["noise"].get(summary.base(group), NONE),
            summary.measured(group, summary.noise_ensemble(0.1)),
        )
        found = _percent(change(single, ensemble))
        row("deviation under noise of sigma 0.1, ensemble against single", said, group, found, tasks, ensemble.seeds)
    for group in summary.groups:
        plain = CellGroup(group.encoder, group.base, "none")
        if group.distill == "two-stage" and plain in summary.groups:
            tasks = _common(summary, [plain, group], summary.seconds)
            seconds = summary.shared([plain, group], summary.seconds)
            times = [summary.average(which, seconds, tasks) for which in (group, plain)]
            found = _ratio(times[0].mean, times[1].mean)
            said = known["time"].get(summary.base(group), NONE)
            row("training time, two-stage / none", said, group, found, tasks, times[0].seeds)
    return table(["claim", "paper", "encoder, base, distillation", "ours", "average over", "seeds"], rows, (0, 2, 4))


def accuracy(summary: Summary, group: CellGroup, published: Published) -> str:
    """Scores of one group by task, the paper's beside them."""
    base, tasks = summary.base(group), summary.tasks(group)
    single, ensemble = paper(published, base, "single"), paper(published, base, "ensemble", group.distill)
    columns: list[tuple[str, Measure, bool]] = [
        ("full precision", summary.full, False),
        ("single", summary.single, False),
        (f"ensemble of {summary.report['members']}", summary.prefix(), False),
        ("gap to full precision", summary.gap, True),
        ("gain over single", summary.gain, True),
    ]
    rows = []
    for task in tasks:
        ours = [summary.of_task(group, task, measure).text(sign) for _, measure, sign in columns]
        seeds = f"{len(summary.by_seed(group, task, summary.full))}"
        theirs = [_number(scores.get(task)) for scores in (published["full_precision"], single, ensemble)]
        guess = _number(published.get("guess", {}).get(task))
        rows.append([f"{task} (subset)" if summary.is_subset(group, task) else task, guess, *ours, seeds, *theirs])
    measured = summary.measured(group, summary.prefix())
    averages = [summary.average(group, measure) for _, measure, _ in columns]
    ours = [average.text(column[2]) for average, column in zip(averages, columns, strict=True)]
    theirs = [paper_average(scores, measured) for scores in (published["full_precision"], single, ensemble)]
    guess = paper_average(published.get("guess", {}), measured)
    rows.append([f"**average of {len(measured)}**", guess, *ours, str(averages[2].seeds), *theirs])
    headings = [
        "task",
        "one class",
        *(name for name, _, _ in columns),
        "seeds",
        "paper: BERT-base",
        "single",
        "ensemble",
    ]
    facts = published.get(base, {})
    source = f"Paper's single: {facts['single_is']}" if facts else "Nothing published"
    source += f"; ensemble: {facts['ensemble_is']}." if "ensemble_is" in facts else "; no ensemble published."
    return table(headings, rows) + f"\n{source}\n"


def noise(summary: Summary, group: CellGroup, published: Published) -> str:
    """Deviation of the score under noise, single model against ensemble, for both sigmas."""
    said = published.get(summary.base(group), {}).get("noise_change")
    rows = []
    for sigma in (0.1, 0.01):
        measures = [summary.noise_single(sigma), summary.noise_members(sigma), summary.noise_ensemble(sigma)]
        for task in [*summary.tasks(group), None]:
            found = [summary.average(group, m) if task is None else summary.of_task(group, task, m) for m in measures]
            name = f"**average of {len(summary.measured(group, measures[2]))}**" if task is None else task
            theirs = f"{said} %" if task is None and sigma == 0.1 and said else ""
            numbers = [spread.text(digits=2) for spread in found]
            rows.append([name, f"{sigma:g}", *numbers, _percent(change(found[0], found[2])), theirs])
    count = summary.report["members"]
    headings = ["task", "sigma", "single", f"mean of {count} members", f"ensemble of {count}", "change", "paper"]
    return table(headings, rows)


def distillation(summary: Summary, groups: list[CellGroup]) -> str:
    """Scores and training seconds of the same ensemble by kind of distillation; times against the first kind.

    Of tasks and seeds that all kinds have: times of other cells compare badly.
    """
    common, rows = _common(summary, groups, summary.shared(groups, summary.seconds)), []

    def found(group: CellGroup, task: str | None, measure: Measure) -> Spread:
        measure = summary.shared(groups, measure)
        return summary.average(group, measure, common) if task is None else summary.of_task(group, task, measure)

    for task in [*common, None]:
        first = found(groups[0], task, summary.seconds)
        for group in groups:
            time, whole = found(group, task, summary.seconds), found(group, task, summary.whole_run)
            cells = [
                f"**average of {len(common)}**" if task is None else task,
                DISTILL.get(group.distill, group.distill),
                found(group, task, summary.prefix()).text(),
                found(group, task, summary.gap).text(sign=True),
                time.text(digits=0),
                _ratio(time.mean, first.mean),
                whole.text(digits=0),
                str(time.seeds),
            ]
            rows.append(cells)
    times = ["training s", f"against {groups[0].distill}", "whole run s"]
    return table(["task", "distillation", "ensemble", "gap to full precision", *times, "seeds"], rows, (0, 1))


def one_bit(summary: Summary, bit: CellGroup, bibert: CellGroup) -> str:
    """BiT against BiBERT, both 1-1-1, of tasks and seeds that both have."""
    rows = []
    columns = [(bibert, summary.single), (bit, summary.single), (bibert, summary.prefix()), (bit, summary.prefix())]
    common = _common(summary, [bit, bibert], summary.shared([bit, bibert], summary.full))
    for task in [*common, None]:
        found = [
            summary.average(group, measure, common) if task is None else summary.of_task(group, task, measure)
            for group, measure in (
                (group, summary.shared([bit, bibert], plain)) for group, plain in [(bit, summary.full), *columns]
            )
        ]
        name = f"**average of {len(common)}**" if task is None else task
        closer = [_difference(found[2], found[1]), _difference(found[4], found[3])]
        rows.append([name, *(spread.text() for spread in found), *closer, str(found[0].seeds)])
    count = summary.report["members"]
    names = ["BiBERT single", "BiT single", f"BiBERT ensemble of {count}", f"BiT ensemble of {count}"]
    return table(["task", "full precision", *names, "BiT closer by, single", "ensemble", "seeds"], rows)


def sizes(summary: Summary, group: CellGroup) -> str:
    """Score of the first 1, 2, … members."""
    curve = summary.curve()
    rows = [
        [task, *(summary.of_task(group, task, measure).text() for measure in curve.values())]
        for task in summary.tasks(group)
    ]
    rows.append(["**average**", *(summary.average(group, measure).text() for measure in curve.values())])
    return table(["members", *map(str, curve)], rows)


def larger(summary: Summary, group: CellGroup) -> str:
    """Score and deviation under noise by size, of single runs with more members than the page's ensemble has.

    Members average independent noise as N equal ones do (`equal_members`). Noise in the margin of an answer falls with
    the square root of N, rows that flip with it, and the deviation of an accuracy with the root of that: "by alphas" is
    N^(-1/4) - 1. A correlation has no such rows and falls nearly by the square root.
    """
    found = summary.larger(group)
    most = max(record["options"]["members"] for record in found.values())
    counts, rows = [size for size in summary.report["sizes"] if size <= most], []
    for cell, record in found.items():
        name = f"{cell.task}, seed {cell.seed}"
        scores = [Spread(summary.prefix(size)(record), None, 1) for size in counts]
        deviations = [Spread(summary.noise_ensemble(0.1, size)(record), None, 1) for size in counts]
        equals = [equal_members(record["alphas"][:size]) for size in counts]
        rows += [
            [name, "score", *(score.text() for score in scores)],
            [name, "deviation", *(deviation.text(digits=2) for deviation in deviations)],
            [name, "change", *(_percent(change(deviations[0], deviation)) for deviation in deviations)],
            [name, "by alphas", *(_percent(100 * (equal**-0.25 - 1)) for equal in equals)],
        ]
    return table(["members", "", *map(str, counts)], rows, (0, 1))


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value:+.0f} %"


def _ratio(one: float | None, other: float | None) -> str:
    return f"{one / other:.2f}" if one is not None and other else NONE


def _difference(one: Spread, other: Spread) -> str:
    return NONE if one.mean is None or other.mean is None else f"{one.mean - other.mean:+.1f}"


def _common(summary: Summary, groups: list[CellGroup], measure: Measure) -> list[str]:
    """Tasks that all groups have measured."""
    return [task for task in summary.tasks(groups[0]) if all(task in summary.measured(g, measure) for g in groups)]
