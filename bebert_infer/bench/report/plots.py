"""Pictures of a benchmark run (`bench/records.py`): PNG files 1280 pixels wide, of parts of `drawing.py`.

matplotlib is loaded when pictures are drawn.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bebert_infer.atomic_files import staging
from bebert_infer.bench.records import MIB, EngineFacts, GroupFacts, Latency, RunRecord, Throughput, baseline
from bebert_infer.bench.report.drawing import (
    COLOURS,
    DPI,
    LINES,
    MARKERS,
    POINTS,
    STYLE,
    WIDTH,
    Mark,
    bars,
    digits,
    grid,
    kind_legend,
    label_beside,
    largest,
    log_axis,
    log_ticks,
    panels,
    short,
    stacks,
    title,
)
from bebert_infer.bench.report.published import ROWS, SCORE
from bebert_infer.optional import load_package


@dataclass(frozen=True)
class Picture:
    """A written picture: the section of the report that it belongs to, and what it shows in words."""

    file: Path
    section: str
    text: str


@dataclass(frozen=True)
class Drawing:
    """What becomes a picture: `draw` draws into an empty figure."""

    name: str
    section: str
    text: str
    draw: Callable[[Any], None]


def save_plots(run: RunRecord, folder: Path) -> list[Picture]:
    """Draw what the run has figures for into PNG files of the folder. Raises MissingExtraError without matplotlib."""
    style, figures = load_package("matplotlib.style", "bench"), load_package("matplotlib.figure", "bench")
    written = []
    with style.context(["default", STYLE]):  # a user's own style might draw white on white
        for drawing in _drawings(run):
            figure = figures.Figure(layout="constrained", dpi=DPI)
            drawing.draw(figure)
            file = folder / f"{drawing.name}.png"
            with staging(file) as made:
                figure.savefig(made)
            written.append(Picture(file, drawing.section, drawing.text))
    return written


def _drawings(run: RunRecord) -> Iterator[Drawing]:
    for number, group in enumerate(run.groups, start=1):
        engines, name = run.engines_of(group), group.name
        slug = "-".join([str(number), *re.findall("[a-z0-9]+", name.lower())])[:40]
        for threads in run.threads():
            yield from _timings(run, group, threads, slug)
        if engines:
            text = f"{name}: bytes on disk of each engine, and what they are made of"
            yield Drawing(f"size-{slug}", "size", text, partial(_sizes, group=group, engines=engines))
        if any(row.group == name for row in run.time_by_operation):
            text = f"{name}: where the time of one pass goes"
            yield Drawing(f"operations-{slug}", "time", text, partial(_operations, run=run, group=group))
    text = "Accuracy against size: published models" + (", and those measured here" if scored(run) else "")
    yield Drawing("accuracy", "accuracy", text, partial(_accuracy, run=run))


def _timings(run: RunRecord, group: GroupFacts, threads: int, slug: str) -> Iterator[Drawing]:
    """Pictures of what was timed with so many threads."""
    latency = [row for row in run.latency if (row.group, row.threads) == (group.name, threads)]
    batches = [row for row in run.throughput if (row.group, row.threads) == (group.name, threads)]
    place, slug = f"{group.name}, {threads} thread" + "s" * (threads > 1), f"{slug}-{threads}t"
    base = baseline(run, group)
    if latency:
        text = f"{place}: latency of one sentence against its tokens, median and range from p10 to p90"
        engines = _having(run, group, latency)
        draw = partial(_latency, engines=engines, rows=latency, place=place)
        yield Drawing(f"latency-{slug}", "latency", text, draw)
    if base is not None and any(row.engine == base.name for row in latency):
        text = f"{place}: how many times faster than {base.name}, at each length"
        others = [engine for engine in engines if engine.name != base.name]
        draw = partial(_speedup, engines=others or [base], rows=latency, base=base, place=place)
        yield Drawing(f"speedup-{slug}", "speedup", text, draw)
    if batches:
        text = f"{place}: sentences a second in batches"
        draw = partial(_throughput, engines=_having(run, group, batches), rows=batches, place=place)
        yield Drawing(f"throughput-{slug}", "throughput", text, draw)


def _having(run: RunRecord, group: GroupFacts, rows: list[Any]) -> list[EngineFacts]:
    """Engines of a group that these rows have figures of."""
    return [engine for engine in run.engines_of(group) if any(row.engine == engine.name for row in rows)]


def _latency(figure: Any, engines: list[EngineFacts], rows: list[Latency], place: str) -> None:
    """One line an engine, its name at the end of it; with one length, a point an engine."""
    panel = figure.subplots()
    title(figure, f"Latency of one sentence: {short(place, 60)}")
    grid(panel)
    lengths = sorted({row.tokens for row in rows})
    if len(lengths) == 1:
        _latency_of_one_length(figure, panel, engines, rows)
        return
    figure.set_size_inches(WIDTH, max(5.5, 2 + 0.3 * len(engines)))
    low, high = 0.85 * min(row.p10_ms for row in rows), 1.15 * max(row.p90_ms for row in rows)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlim(lengths[0] / 1.12, lengths[-1] * 1.12)
    panel.set_ylim(low, high)
    log_axis(panel.xaxis, lengths)
    log_axis(panel.yaxis, log_ticks(low, high))
    panel.set_xlabel("tokens of the sentence (logarithmic)")
    panel.set_ylabel("milliseconds (logarithmic); band: p10 to p90")
    ends = []
    faint = min(0.15, 0.9 / len(engines))  # bands of many engines must leave their lines visible
    for number, engine in enumerate(engines):
        own = sorted((row for row in rows if row.engine == engine.name), key=lambda row: row.tokens)
        x, y = [row.tokens for row in own], [row.median_ms for row in own]
        colour, marker = COLOURS[engine.kind], MARKERS[number % len(MARKERS)]
        panel.fill_between(x, [row.p10_ms for row in own], [row.p90_ms for row in own], color=colour, alpha=faint, lw=0)
        style = {"linestyle": LINES[engine.kind], "markeredgecolor": "white", "markeredgewidth": 0.5}
        panel.plot(x, y, color=colour, marker=marker, linewidth=1.6, markersize=6.5, **style)
        ends.append(Mark(engine.name, x[-1], y[-1], colour, marker))
    label_beside(panel, ends, 0.056)


def _latency_of_one_length(figure: Any, panel: Any, engines: list[EngineFacts], rows: list[Latency]) -> None:
    figure.set_size_inches(WIDTH, 1.8 + 0.36 * len(engines))
    of = {row.engine: row for row in rows}
    for place, engine in enumerate(engines):
        row = of[engine.name]
        error = [[max(0.0, row.median_ms - row.p10_ms)], [max(0.0, row.p90_ms - row.median_ms)]]
        colour, marker = COLOURS[engine.kind], MARKERS[place % len(MARKERS)]
        panel.errorbar([row.median_ms], [place], xerr=error, color=colour, marker=marker, markersize=7, capsize=4)
        right = max(row.p90_ms, row.median_ms)
        panel.annotate(
            f"{digits(row.median_ms)} ms", (right, place), xytext=(9, 0), textcoords="offset points", va="center"
        )
    panel.set_yticks(range(len(engines)), [short(engine.name) for engine in engines])
    panel.set_ylim(len(engines) - 0.4, -0.6)
    panel.set_xlim(0, 1.18 * max(row.p90_ms for row in rows))
    panel.set_xlabel(f"milliseconds for {rows[0].tokens} tokens; line: p10 to p90")


def _speedup(figure: Any, engines: list[EngineFacts], rows: list[Latency], base: EngineFacts, place: str) -> None:
    """A panel a length; the engine that all are compared with is the line at 1."""
    medians = {(row.engine, row.tokens): row.median_ms for row in rows}
    lengths = sorted(tokens for engine, tokens in medians if engine == base.name)
    for index, panel in enumerate(panels(figure, len(lengths), len(engines), "times faster (×)")):
        tokens = lengths[index]
        mine = medians[base.name, tokens]
        times = [medians.get((engine.name, tokens)) for engine in engines]
        bars(panel, engines, [None if time is None else mine / time for time in times], "×", index % 2 == 0)
        panel.axvline(1, color="black", linewidth=1)
        panel.set_title(f"{tokens} tokens; {short(base.name, 20)}: {digits(mine)} ms", loc="left", fontsize=POINTS)
    title(figure, f"Times faster than {short(base.name)}: {short(place, 50)}")
    kind_legend(figure, engines)


def _throughput(figure: Any, engines: list[EngineFacts], rows: list[Throughput], place: str) -> None:
    """A panel a size of batch."""
    rates = {(row.engine, row.batch, row.tokens): row.sentences_per_s for row in rows}
    batches = sorted({(row.batch, row.tokens) for row in rows})
    for index, panel in enumerate(panels(figure, len(batches), len(engines), "sentences a second (median)")):
        batch, tokens = batches[index]
        bars(panel, engines, [rates.get((e.name, batch, tokens)) for e in engines], "", index % 2 == 0)
        panel.set_title(f"batch of {batch}, {tokens} tokens each", loc="left", fontsize=POINTS)
    title(figure, f"Throughput: {short(place, 60)}")
    kind_legend(figure, engines)


def _sizes(figure: Any, group: GroupFacts, engines: list[EngineFacts]) -> None:
    """Left the bytes, right what they are made of; fp32 is so much larger that one scale would hide the parts."""
    left, right = figure.subplots(1, 2, width_ratios=[2, 3])
    figure.set_size_inches(WIDTH, 2.9 + 0.3 * len(engines))
    title(figure, f"Size on disk: {short(group.name, 60)}")
    bars(left, engines, [engine.bytes / MIB for engine in engines], "", True)
    left.set_xlabel("all files (MiB)")
    itemised = largest({engine.name: engine.bytes_by_kind for engine in engines if engine.bytes_by_kind}, 7)
    shares = {}
    for place, engine in enumerate(engines):
        if engine.name in itemised:
            total = sum(itemised[engine.name].values()) or 1
            shares[place] = {name: 100 * value / total for name, value in itemised[engine.name].items()}
        else:
            right.annotate("not itemised", (0, place), xytext=(4, 0), textcoords="offset points", va="center")
    stacks(figure, right, shares, 11)
    right.set_yticks([])
    right.set_ylim(left.get_ylim())
    right.set_xlim(0, 100)
    right.set_xlabel("share of each kind of bytes (%)")
    right.spines[["top", "right"]].set_visible(False)


def _operations(figure: Any, run: RunRecord, group: GroupFacts) -> None:
    """One bar an engine, in milliseconds."""
    parts: dict[str, dict[str, float]] = {}
    for row in run.time_by_operation:
        if row.group == group.name:
            parts.setdefault(row.engine, {})[row.operation] = row.ms
    parts = largest(parts, 7)
    totals = [sum(values.values()) for values in parts.values()]
    figure.set_size_inches(WIDTH, 2.9 + 0.5 * len(parts))
    panel = figure.subplots()
    title(figure, f"Time by operation: {short(group.name, 60)}")
    grid(panel, "x")
    stacks(figure, panel, dict(enumerate(parts.values())), 0.08 * max(totals))
    for place, total in enumerate(totals):
        panel.annotate(f"{digits(total)} ms", (total, place), xytext=(5, 0), textcoords="offset points", va="center")
    panel.set_yticks(range(len(parts)), [short(engine) for engine in parts])
    panel.set_ylim(len(parts) - 0.4, -0.6)
    panel.set_xlim(0, 1.15 * max(totals) or 1.0)
    panel.set_xlabel(f"milliseconds of one pass of one member, {run.operation_tokens(group)} tokens, 1 thread")


def scored(run: RunRecord) -> list[EngineFacts]:
    """Engines whose accuracy was measured."""
    return [engine for engine in run.engines if engine.accuracy is not None and engine.bytes]


def _accuracy(figure: Any, run: RunRecord) -> None:
    """Published averages and scores measured here are different things: a panel each, on the same sizes."""
    published = [Mark(f"{row.name} ({row.bits})", row.mib, row.score, COLOURS["fp32"], "o") for row in ROWS]
    contents = {(f"as published (hollow; BEBERT, ICASSP 2023): {SCORE}", "average score (×100)"): published}
    for engine in scored(run):
        assert engine.accuracy is not None
        metric, rows = short(engine.accuracy.metric, 20), engine.accuracy.rows
        key = f"measured here, {short(engine.group)}: {metric} on {rows:,} labelled rows", f"{metric} (×100)"
        mark = Mark(engine.name, engine.bytes / MIB, 100 * engine.accuracy.value, COLOURS[engine.kind], "o")
        contents.setdefault(key, []).append(mark)
    heights = [max(2.7, 1.1 + 0.29 * len(marks)) for marks in contents.values()]
    figure.set_size_inches(WIDTH, 0.4 + sum(heights))
    title(figure, "Accuracy against size")
    found = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    sizes = [mark.x for marks in contents.values() for mark in marks]
    limits = min(sizes) / 1.3, max(sizes) * 1.3
    for panel, height, ((words, score), marks) in zip(found, heights, contents.items(), strict=True):
        _sizes_and_scores(panel, marks, limits, 0.29 / (height - 1.1), hollow=marks is published)
        panel.set_title(words, loc="left", fontsize=POINTS)
        panel.set_ylabel(score)
        panel.set_xlabel("size of all files (MiB, logarithmic)" if marks is not published else "published size (MiB)")


def _sizes_and_scores(panel: Any, marks: list[Mark], sizes: tuple[float, float], gap: float, hollow: bool) -> None:
    """Points on a logarithmic axis of sizes; beside the panel their names and scores, `gap` of its height apart."""
    fill = {"markerfacecolor": "white", "markeredgewidth": 2} if hollow else {}
    for number, mark in enumerate(sorted(marks, key=lambda mark: -mark.y)):
        style = fill | {"color": mark.colour, "marker": MARKERS[number % len(MARKERS)]}
        panel.plot([mark.x], [mark.y], markersize=8, linestyle="none", **style)
        panel.plot([1.04], [1 - number * gap], transform=panel.transAxes, clip_on=False, markersize=7, **style)
        text = f"{mark.y:.1f}  {short(mark.name, 30)}"
        panel.text(1.06, 1 - number * gap, text, va="center", transform=panel.transAxes)
    low, high = min(mark.y for mark in marks), max(mark.y for mark in marks)
    margin = max(0.12 * (high - low), 0.5)
    panel.set_xscale("log")
    panel.set_xlim(*sizes)
    panel.set_ylim(low - margin, high + margin)
    log_axis(panel.xaxis, log_ticks(*sizes))
    grid(panel)
