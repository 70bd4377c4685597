"""The five plots of docs/results.md: one panel each, one colour and marker a group of cells.

Groups with fewer than three tasks are left out: an average over less says little. Their figures are in the tables.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import mean

from glue.claims import UNITS, most_runs, paper_claims
from glue.summary import CellGroup, Measure, Spread, Summary, change
from glue.tables import Published
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, then three of Tol's
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255", "#999933", "#332288")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
TASKS = 3  # of a group that is drawn


def save_plots(summary: Summary, published: Published, folder: Path) -> list[str]:
    """Draw what has records into <folder>/<name>.png; returns the names of what was drawn."""
    plain = [
        group
        for group in summary.groups
        if (group.distill == "none" or summary.base(group) != "binarybert")
        and len(summary.measured(group, summary.prefix())) >= TASKS
    ]
    four_bits = [group for group in plain if summary.base(group) == "binarybert"]
    taught = [group for group in summary.groups if group.distill == "two-stage"]
    drawings: dict[str, tuple[list[CellGroup], Callable[[Axes, list[CellGroup]], None]]] = {
        "gap": (four_bits, lambda axes, groups: _gap(axes, summary, published, groups)),
        "gain": (plain, lambda axes, groups: _gain(axes, summary, published, groups)),
        "noise": (plain, lambda axes, groups: _noise(axes, summary, published, groups)),
        "time": (taught, lambda axes, groups: _time(axes, summary, groups)),
        "size": (plain, lambda axes, groups: _size(axes, summary, groups)),
    }
    written = []
    for name, (groups, draw) in drawings.items():
        if groups:
            figure = Figure(figsize=(9, 4), layout="constrained", dpi=120)
            axes = figure.subplots()
            axes.grid(color="#DDDDDD", linewidth=0.6)
            axes.set_axisbelow(True)
            draw(axes, groups)
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(folder / f"{name}.png")
            written.append(name)
    return written


def label(group: CellGroup) -> str:
    """How a group is called in a plot."""
    return f"{group.encoder}, {group.base}" + ("" if group.distill == "none" else f", {group.distill}")


def _style(summary: Summary, group: CellGroup) -> dict[str, str]:
    """Colour and marker of a group, the same in every plot."""
    place = summary.groups.index(group)
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def _points(axes: Axes, places: list[float], spreads: list[Spread], **style: object) -> None:
    """Means with the standard deviation over seeds; what was not measured is left out."""
    known = [(place, spread) for place, spread in zip(places, spreads, strict=True) if spread.mean is not None]
    axes.errorbar(
        [place for place, _ in known],
        [spread.mean for _, spread in known],
        yerr=[spread.std or 0.0 for _, spread in known],
        **({"linestyle": "none", "capsize": 3, "markersize": 6} | style),
    )


def _legend(axes: Axes) -> None:
    """Beside the panel, where it covers no point."""
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _offset(index: int, count: int) -> float:
    return 0.1 * (index - (count - 1) / 2)


def _paper(axes: Axes, summary: Summary, published: Published, part: str, horizontal: bool = False) -> None:
    """The paper's figures of the claims whose sentence has `part`, as broken lines with their value."""
    styles = ("--", ":")
    claims = [claim for claim in paper_claims(summary, published) if part in claim.text]
    for claim, style in zip(claims, styles, strict=False):
        draw = axes.axhline if horizontal else axes.axvline
        shown = UNITS[claim.unit].format(claim.paper)
        name = f"paper, {claim.text.partition(':')[0].partition(',')[0]}: {shown}"
        draw(claim.paper, color="#444444", linestyle=style, linewidth=1.2, label=name)


def _gap(axes: Axes, summary: Summary, published: Published, groups: list[CellGroup]) -> None:
    tasks = list(dict.fromkeys(task for group in groups for task in summary.tasks(group)))
    axes.axhline(0, color="black", linewidth=0.8)
    _paper(axes, summary, published, "against full precision", horizontal=True)
    for index, group in enumerate(groups):
        spreads = [summary.of_task(group, task, summary.gap) for task in tasks] + [summary.average(group, summary.gap)]
        places = [place + _offset(index, len(groups)) for place in range(len(spreads))]
        _points(axes, places, spreads, **_style(summary, group), label=label(group))
    axes.axvline(len(tasks) - 0.5, color="#999999", linewidth=0.8)
    axes.set_xticks(range(len(tasks) + 1), [*tasks, "average"])
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("ensemble − full precision (points)")
    _legend(axes)


def _rows(axes: Axes, groups: list[CellGroup]) -> None:
    """One row a group, the first one on top."""
    axes.set_yticks(range(len(groups)), [label(group) for group in groups], fontsize=8)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.axvline(0, color="black", linewidth=0.8)
    _legend(axes)


def _gain(axes: Axes, summary: Summary, published: Published, groups: list[CellGroup]) -> None:
    _paper(axes, summary, published, "gain of the ensemble")
    for row, group in enumerate(groups):
        found = summary.average(group, summary.gain)
        if found.mean is not None:
            axes.errorbar(found.mean, row, xerr=found.std or 0.0, capsize=3, markersize=7, **_style(summary, group))
    axes.set_xlabel("ensemble − single model, average over tasks (points); bars: deviation over seeds")
    _rows(axes, groups)


def _noise(axes: Axes, summary: Summary, published: Published, groups: list[CellGroup]) -> None:
    """Filled: measured; empty: what the alphas let expect."""
    _paper(axes, summary, published, "under noise")
    for row, group in enumerate(groups):
        pair = [summary.average(group, measure) for measure in (summary.noise_single(0.1), summary.noise_ensemble(0.1))]
        expected, style = summary.average(group, summary.expected_change), _style(summary, group)
        measured = change(*pair)
        if measured is not None and expected.mean is not None:
            axes.plot([measured, expected.mean], [row, row], color=style["color"], linewidth=1)
            axes.plot(measured, row, **style, markersize=7)
            axes.plot(expected.mean, row, **style, markersize=7, markerfacecolor="white")
    axes.plot([], [], "o", color="#444444", label="measured")
    axes.plot([], [], "o", color="#444444", markerfacecolor="white", label="expected of the alphas")
    axes.set_xlabel("deviation of the score under noise of sigma 0.1, ensemble against single model (%)")
    _rows(axes, groups)


def _time(axes: Axes, summary: Summary, groups: list[CellGroup]) -> None:
    """Kinds of distillation of each base that has two-stage, over the tasks and seeds that give them the most runs."""
    for taught in groups:
        rivals = [one for one in summary.groups if (one.encoder, one.base) == (taught.encoder, taught.base)]
        time, score = (summary.shared(rivals, measure) for measure in (summary.seconds, summary.prefix()))
        tasks, _ = most_runs({task: set(summary.by_seed(taught, task, time)) for task in summary.tasks(taught)})
        for group in rivals:
            seconds, points = (summary.average(group, measure, tasks) for measure in (time, score))
            if seconds.mean is not None and points.mean is not None:
                name = f"{group.encoder}, {group.base}, {group.distill}: {', '.join(tasks)}"
                style = _style(summary, group) | {"label": name, "capsize": 3, "markersize": 8, "linestyle": "none"}
                axes.errorbar(seconds.mean, points.mean, xerr=seconds.std, yerr=points.std, **style)
    axes.set_xlim(left=0)
    axes.set_xlabel("training time of all students, average over tasks (s)")
    axes.set_ylabel("score of the ensemble, average over tasks")
    _legend(axes)


def _size(axes: Axes, summary: Summary, groups: list[CellGroup]) -> None:
    """Averages up to the page's ensemble; broken lines: the mean of those single runs that have more members."""
    for group in groups:
        curve = {size: summary.average(group, _above(summary, measure)) for size, measure in summary.curve().items()}
        style = _style(summary, group)
        axes.plot(list(curve), [spread.mean for spread in curve.values()], **style, label=label(group))
        if runs := summary.larger(group):
            most = min(record["options"]["members"] for record in runs.values())
            sizes = [size for size in summary.report["sizes"] if size <= most]
            measures = [_above(summary, summary.prefix(size)) for size in sizes]
            heights = [mean(measure(record) for record in runs.values()) for measure in measures]
            name = f"{label(group)}, {most} members: {', '.join(dict.fromkeys(cell.task for cell in runs))}"
            axes.plot(sizes, heights, **style, linestyle="--", linewidth=0.9, markerfacecolor="white", label=name)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    ticks = [size for size in (1, 2, 3, 4, 6, 8, 12, 16) if size <= max(summary.report["sizes"])]
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("members")
    axes.set_ylabel("score above the single model (points)")
    _legend(axes)


def _above(summary: Summary, measure: Measure) -> Measure:
    """A score less that of the single model."""

    def above(record: dict) -> float | None:
        score = measure(record)
        return None if score is None else score - summary.single(record)

    return above
