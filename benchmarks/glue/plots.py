"""Plots of docs/results.md: one panel an encoder, one colour and marker a base (Okabe and Ito's colours, and grey)."""

from collections.abc import Callable
from pathlib import Path

from glue.summary import CellGroup, Measure, Spread, Summary
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def save_plots(summary: Summary, folder: Path) -> dict[str, str]:
    """Draw what has records into <folder>/<name>.png; returns name -> what the picture shows."""
    count = summary.report["members"]
    plain = [group for group in summary.groups if group.distill == "none" or summary.base(group) != "binarybert"]
    drawings: dict[str, tuple[str, Callable[[Figure], None]]] = {
        "gap": (
            f"Ensemble of {count} minus full precision by task",
            lambda figure: _by_task(figure, summary, plain, summary.gap, "ensemble − full precision (points)"),
        ),
        "gain": (
            f"Ensemble of {count} minus single binary model by task",
            lambda figure: _by_task(figure, summary, plain, summary.gain, "ensemble − single (points)"),
        ),
        "noise": (
            "Standard deviation of the score under noise, single model and ensemble",
            lambda figure: _noise(figure, summary, plain),
        ),
        "time": (
            "Score against training time by distillation",
            lambda figure: _time(figure, summary),
        ),
        "size": (
            "Score against the number of members, average over tasks",
            lambda figure: _sizes(figure, summary, plain),
        ),
    }
    written = {}
    for name, (text, draw) in drawings.items():
        figure = Figure(layout="constrained", dpi=120)
        draw(figure)
        if figure.axes:
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(folder / f"{name}.png")
            written[name] = text
    return written


def _panels(
    figure: Figure, summary: Summary, groups: list[CellGroup], measure: Measure
) -> dict[str, tuple[Axes, list]]:
    """One panel for each encoder that has figures, with the groups of it that have; none if nothing has."""
    having = [group for group in groups if summary.measured(group, measure)]
    encoders = list(dict.fromkeys(group.encoder for group in having))
    if not encoders:
        return {}
    figure.set_size_inches(9, 1 + 3 * len(encoders))
    axes = figure.subplots(len(encoders), squeeze=False)[:, 0]
    found = {}
    for encoder, panel in zip(encoders, axes, strict=True):
        panel.set_title(encoder, loc="left", fontsize=10)
        panel.grid(axis="y", color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        found[encoder] = (panel, [group for group in having if group.encoder == encoder])
    return found


def _style(summary: Summary, group: CellGroup) -> dict[str, str]:
    """Colour, marker and label of a base, the same in every panel."""
    names = list(dict.fromkeys((other.base, other.distill) for other in summary.groups))
    place = names.index((group.base, group.distill)) % len(COLOURS)
    label = group.base + ("" if group.distill == "none" else f", {group.distill}")
    return {"color": COLOURS[place], "marker": MARKERS[place], "label": label}


def _points(axes: Axes, places: list[float], spreads: list[Spread], **style: object) -> None:
    """Means with the standard deviation over seeds; what was not measured is left out."""
    known = [(place, spread) for place, spread in zip(places, spreads, strict=True) if spread.mean is not None]
    axes.errorbar(
        [place for place, _ in known],
        [spread.mean for _, spread in known],
        yerr=[spread.std or 0.0 for _, spread in known],
        **({"linestyle": "none", "capsize": 3, "markersize": 6} | style),
    )


def _legend(panel: Axes) -> None:
    """Beside the panel, where it covers no point."""
    panel.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _offset(index: int, count: int) -> float:
    return 0.14 * (index - (count - 1) / 2)


def _by_task(figure: Figure, summary: Summary, groups: list[CellGroup], measure: Measure, unit: str) -> None:
    for panel, members in _panels(figure, summary, groups, measure).values():
        tasks = list(dict.fromkeys(task for group in members for task in summary.tasks(group)))
        panel.axhline(0, color="black", linewidth=0.8)
        for index, group in enumerate(members):
            spreads = [summary.of_task(group, task, measure) for task in tasks] + [summary.average(group, measure)]
            places = [place + _offset(index, len(members)) for place in range(len(spreads))]
            _points(panel, places, spreads, **_style(summary, group))
        panel.axvline(len(tasks) - 0.5, color="#999999", linewidth=0.8)
        panel.set_xticks(range(len(tasks) + 1), [*tasks, "average"])
        panel.set_ylabel(unit)
        _legend(panel)
    if figure.axes:
        figure.supxlabel("mean and standard deviation over seeds", fontsize=8)


def _noise(figure: Figure, summary: Summary, groups: list[CellGroup]) -> None:
    """Filled: single model; empty: ensemble; joined by a line."""
    single, ensemble = summary.noise_single(0.1), summary.noise_ensemble(0.1)
    for panel, members in _panels(figure, summary, groups, ensemble).values():
        tasks = list(dict.fromkeys(task for group in members for task in summary.tasks(group)))
        for index, group in enumerate(members):
            style = _style(summary, group)
            for task_place, task in enumerate([*tasks, None]):
                spreads = [
                    summary.average(group, measure) if task is None else summary.of_task(group, task, measure)
                    for measure in (single, ensemble)
                ]
                values = [spread.mean for spread in spreads]
                if None not in values:
                    place = task_place + _offset(index, len(members))
                    panel.plot([place, place], values, color=style["color"], linewidth=1.2)
                    marks = {"color": style["color"], "marker": style["marker"], "linestyle": "none"}
                    panel.plot([place], values[:1], **marks)
                    panel.plot([place], values[1:], markerfacecolor="white", **marks)
            marks = {"color": style["color"], "marker": style["marker"], "linestyle": "none"}
            panel.plot([], [], label=f"{style['label']}: single", **marks)
            panel.plot([], [], label=f"{style['label']}: ensemble", markerfacecolor="white", **marks)
        panel.axvline(len(tasks) - 0.5, color="#999999", linewidth=0.8)
        panel.set_xticks(range(len(tasks) + 1), [*tasks, "average"])
        panel.set_ylim(bottom=0)
        panel.set_ylabel("deviation of the score (points)")
        _legend(panel)
    if figure.axes:
        figure.supxlabel("Gaussian noise of sigma 0.1 after the embeddings; mean over training seeds", fontsize=8)


def _time(figure: Figure, summary: Summary) -> None:
    """Bases with more than one kind of distillation, over tasks and seeds that all kinds of a base have measured."""
    pairs = [(group.encoder, group.base) for group in summary.groups]
    several = [group for group in summary.groups if pairs.count((group.encoder, group.base)) > 1]
    for panel, members in _panels(figure, summary, several, summary.seconds).values():
        for group in members:
            rivals = [other for other in members if other.base == group.base]
            rivals = [other for other in rivals if summary.measured(other, summary.seconds)]
            shared = [summary.shared(rivals, measure) for measure in (summary.seconds, summary.prefix())]
            tasks = summary.measured(group, shared[0])
            time, score = (summary.average(group, measure, tasks) for measure in shared)
            if time.mean is not None and score.mean is not None:
                style = _style(summary, group) | {"label": f"{group.base}, {group.distill}: {', '.join(tasks)}"}
                panel.errorbar(time.mean, score.mean, xerr=time.std, yerr=score.std, capsize=3, markersize=8, **style)
        panel.set_xlim(left=0)
        panel.set_xlabel("training time of all students, average over tasks (s)")
        panel.set_ylabel("score of the ensemble")
        _legend(panel)


def _sizes(figure: Figure, summary: Summary, groups: list[CellGroup]) -> None:
    for panel, members in _panels(figure, summary, groups, summary.prefix()).values():
        for group in members:
            curve = summary.curve()
            spreads = [summary.average(group, measure) for measure in curve.values()]
            places = [size + 0.3 * _offset(members.index(group), len(members)) for size in curve]
            _points(panel, places, spreads, **(_style(summary, group) | {"linestyle": "-"}))
        panel.set_xticks(list(summary.curve()))
        panel.set_xlim(0.5, summary.report["members"] + 0.5)
        panel.set_xlabel("members")
        panel.set_ylabel("score, average over tasks")
        _legend(panel)
