"""Parts that the pictures of a benchmark share: colours, bars, stacks, labels beside lines, ticks.

Colours are Okabe and Ito's, which colour-blind readers tell apart; they say what kind an engine is, and hatches, lines,
markers and names say the same again. Axes and figures are matplotlib's, typed Any: matplotlib is no requirement here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bebert_infer.bench.records import EngineFacts
from bebert_infer.optional import load_package

WIDTH, DPI = 9.6, 400 / 3  # inches, pixels an inch: 1280 pixels
POINTS = 11  # of letters, 20 pixels high; 10 points on a page are 13
COLOURS = {
    "packed": "#0072B2",
    "int8": "#D55E00",
    "fp32": "#4D4D4D",
    "bf16": "#009E73",
    "int4": "#CC79A7",
    "packed ONNX": "#56B4E9",
}
HATCHES = {"packed": "", "int8": "//", "fp32": "..", "bf16": "xx", "int4": "\\\\", "packed ONNX": "++"}
LINES = {"packed": "-", "int8": "--", "fp32": ":", "bf16": "-.", "int4": (0, (1, 1, 4, 1)), "packed ONNX": (0, (6, 2))}
KIND_NAMES = {
    "packed": "packed (bebert)",
    "int8": "int8",
    "int4": "int4 weights",
    "fp32": "fp32",
    "bf16": "bf16",
    "packed ONNX": "packed, in ONNX Runtime",
}
MARKERS = "osD^vPX<>*hp"
PARTS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
PART_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
OTHERS = "all others"
NONE = "–"  # not measured
CLEAR = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}  # behind letters on bars and lines
STYLE = {"font.size": POINTS, "text.parse_math": False, "hatch.linewidth": 0.6, "hatch.color": "white"}


def short(name: str, limit: int = 34) -> str:
    """A name that fits into a picture, on one line."""
    name = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split()) or "?"
    return name if len(name) <= limit else f"{name[: limit // 2]}…{name[-(limit // 2 - 1) :]}"


def digits(value: float | None) -> str:
    """A positive figure with three significant digits, or all digits before the point."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def title(figure: Any, text: str) -> None:
    """Say above all panels what the picture shows."""
    figure.suptitle(text, fontsize=POINTS + 1)


def grid(panel: Any, axis: str = "both") -> None:
    """Light lines behind what is drawn."""
    panel.grid(axis=axis, color="#dddddd", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def panels(figure: Any, count: int, bars: int, label: str) -> list[Any]:
    """Panels for so many bars each, two beside each other, so that the figures at the bars stay large.

    label : of the horizontal axes, below the lowest panels
    """
    columns = min(2, count)
    rows = -(-count // columns)
    figure.set_size_inches(WIDTH, 1.4 + rows * (0.9 + 0.27 * bars))
    found = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in found[count:]:
        panel.remove()
    for panel in found[count - columns : count]:
        panel.set_xlabel(label)
    return found[:count]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones, four or more unless the range is very narrow."""
    ticks: list[float] = []
    for steps in ([1.0], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7], [1 + i / 5 for i in range(45)]):
        numbers = (float(f"{step * 10.0**power:.6g}") for power in range(-9, 16) for step in steps)
        ticks = [number for number in numbers if low <= number <= high]
        if len(ticks) >= 4:
            break
    return ticks


def log_axis(axis: Any, ticks: Sequence[float]) -> None:
    """Plain numbers at these ticks of a logarithmic axis."""
    axis.set_ticks(ticks, [f"{tick:,.6g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def spread(places: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """Move places apart until neighbours are `gap` away, in their order, as little as may be, within low to high."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    blocks: list[tuple[float, int]] = []  # places that touch: where the first of them belongs, how many they are
    for rank, index in enumerate(order):
        start, count = places[index] - rank * gap, 1
        while blocks and blocks[-1][0] > start:
            before, many = blocks.pop()
            start, count = (before * many + start * count) / (many + count), many + count
        blocks.append((start, count))
    starts = [start for start, count in blocks for _ in range(count)]
    top = high - (len(places) - 1) * gap
    moved = [0.0] * len(places)
    for rank, index in enumerate(order):
        moved[index] = min(max(starts[rank], low), top) + rank * gap
    return moved


@dataclass(frozen=True)
class Mark:
    """A point that gets its name beside the panel."""

    name: str
    x: float
    y: float
    colour: str
    marker: str


def label_beside(panel: Any, marks: Sequence[Mark], gap: float) -> None:
    """Write the names of points in a column right of a panel, each joined to its point; axes must have their limits.

    gap : least distance of two names, as a share of the panel's height
    """
    scale = panel.transScale + panel.transLimits  # to shares of the panel, which stay as they are when it is laid out
    places = [scale.transform((mark.x, mark.y)) for mark in marks]
    beside = {"transform": panel.transAxes, "clip_on": False}
    for mark, (x, y), height in zip(marks, places, spread([y for _, y in places], gap), strict=True):
        panel.plot([x, 1.04], [y, height], color=mark.colour, linewidth=0.8, **beside)
        panel.plot([1.04], [height], markersize=7, color=mark.colour, marker=mark.marker, **beside)
        panel.text(1.06, height, short(mark.name), va="center", transform=panel.transAxes)


def bars(panel: Any, engines: Sequence[EngineFacts], values: Sequence[float | None], unit: str, names: bool) -> None:
    """Horizontal bars with their figures and a unit at the end, one an engine; what was not measured says so."""
    known = [value for value in values if value is not None]
    for place, (engine, value) in enumerate(zip(engines, values, strict=True)):
        text = "not measured" if value is None else digits(value) + unit
        if value is not None:
            panel.barh(place, value, 0.72, color=COLOURS[engine.kind], hatch=HATCHES[engine.kind])
        panel.annotate(text, (value or 0.0, place), xytext=(5, 0), textcoords="offset points", va="center", bbox=CLEAR)
    panel.set_yticks(range(len(engines)), [short(engine.name) for engine in engines] if names else [""] * len(engines))
    panel.set_ylim(len(engines) - 0.4, -0.6)
    panel.set_xlim(0, 1.3 * max(known, default=1.0) or 1.0)
    panel.locator_params(axis="x", nbins=5)
    grid(panel, "x")


def kind_legend(figure: Any, engines: Sequence[EngineFacts]) -> None:
    """Colours and hatches of the kinds of engines that are there."""
    patches = load_package("matplotlib.patches", "bench")
    kinds = [kind for kind in COLOURS if any(engine.kind == kind for engine in engines)]
    handles = [patches.Patch(facecolor=COLOURS[k], hatch=HATCHES[k], label=KIND_NAMES[k]) for k in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def largest(parts: Mapping[str, Mapping[str, float]], count: int) -> dict[str, dict[str, float]]:
    """Keep the `count` largest parts over all bars, in the order of their size, and add up the rest."""
    sums: dict[str, float] = {}
    for values in parts.values():
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
    order = sorted(sums, key=lambda name: -sums[name])
    kept = order if len(order) <= count + 1 else order[:count]
    rest = order[len(kept) :]
    found = {bar: {name: values.get(name, 0.0) for name in kept} for bar, values in parts.items()}
    for bar, values in parts.items():
        if rest:
            found[bar][OTHERS] = sum(values.get(name, 0.0) for name in rest)
    return found


def stacks(figure: Any, panel: Any, bars: Mapping[int, Mapping[str, float]], least: float) -> None:
    """Stacked horizontal bars by their place, the same parts in each; a part of `least` and more carries its share."""
    patches = load_package("matplotlib.patches", "bench")
    names = list(dict.fromkeys(name for parts in bars.values() for name in parts))
    styles = {name: {"facecolor": PARTS[i % 8], "hatch": PART_HATCHES[i % 8]} for i, name in enumerate(names)}
    for place, parts in bars.items():
        left, total = 0.0, sum(parts.values())
        for name, value in parts.items():
            panel.barh(place, value, 0.72, left=left, edgecolor="white", linewidth=0.5, **styles[name])
            if total and value >= least:
                share = f"{100 * value / total:.0f} %"
                panel.text(left + value / 2, place, share, ha="center", va="center", bbox=CLEAR)
            left += value
    handles = [patches.Patch(label=short(name), **style) for name, style in styles.items()]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), frameon=False)
