"""Pictures of an evaluation report (`bebert_export/evaluate.py`) as PNG, one for each of its parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bebert_export.evaluation.reliability import BINS
from bebert_infer.atomic_files import staging


def save_plots(figures: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what the report holds: scores, calibration, agreement, early_exit, noise (.png); returns those written."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, Callable[[Axes, dict[str, Any]], None]] = {"scores": _scores}
    if "agreement" in figures:
        drawings |= {"calibration": _calibration, "agreement": _agreement}
    if "early_exit" in figures:
        drawings["early_exit"] = _early_exit
    if figures.get("noise"):
        drawings["noise"] = _noise
    data = figures["data"]
    caption = f"{data['file']}, {data['rows']:,} rows: {data['split'].split(';')[0]}"
    written = []
    for name, draw in drawings.items():
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.subplots()
        draw(axes, figures)
        figure.supxlabel(caption, fontsize=7, parse_math=False)  # a $ in the file's name is no formula
        file = folder / f"{name}.png"
        with staging(file) as made:
            figure.savefig(made, dpi=120)
        written.append(file)
    return written


def rows_of(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> figures of every model in a report that has an answer, in the order of a table."""
    rows = {"full precision": figures["full_precision"]} if "full_precision" in figures else {}
    rows |= {f"member {index}": entry for index, entry in enumerate(figures["members"])}
    for rule, entries in figures["ensembles"].items():
        rows |= {f"first {count} by {rule}": entry for count, entry in enumerate(entries, 1)}
    return {name: entry for name, entry in rows.items() if "undefined" not in entry}


def _main(figures: dict[str, Any]) -> str:
    """The metric to draw."""
    return str(figures["main_metric"])


def _scores(axes: Axes, figures: dict[str, Any]) -> None:
    metric = _main(figures)
    rows = {name: entry["metrics"][metric] for name, entry in rows_of(figures).items()}
    values = [row["value"] for row in rows.values()]
    # A percentile interval may leave out the value itself on tiny data; a bar of negative length is an error.
    below = [max(0.0, row["value"] - row["low"]) for row in rows.values()]
    above = [max(0.0, row["high"] - row["value"]) for row in rows.values()]
    axes.errorbar(values, range(len(rows)), xerr=[below, above], fmt="o", capsize=3)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric} with {figures['bootstrap']['level']:.0%} bootstrap interval over examples")


def _calibration(axes: Axes, figures: dict[str, Any]) -> None:
    rule = figures["combination"]
    wanted = ["full precision", *(f"member {i}" for i in range(len(figures["members"])))]
    wanted.append(f"first {len(figures['members'])} by {rule}")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for name, entry in rows_of(figures).items():
        if name in wanted:
            bins = [row for row in entry["calibration"]["bins"] if row["count"]]
            label = f"{name}, ECE {entry['calibration']['ece']:.3f}"
            axes.plot([row["confidence"] for row in bins], [row["accuracy"] for row in bins], "o-", label=label)
    axes.set_xlabel(f"mean confidence of the answers in each of {BINS} bins")
    axes.set_ylabel("share of right answers")
    axes.legend()


def _agreement(axes: Axes, figures: dict[str, Any]) -> None:
    shares = figures["agreement"]
    image = axes.imshow(shares, vmin=min(map(min, shares)), vmax=1)
    for row, line in enumerate(shares):
        for column, share in enumerate(line):
            axes.text(column, row, f"{share:.3f}", ha="center", va="center", backgroundcolor="white")
    axes.set_xticks(range(len(shares)))
    axes.set_yticks(range(len(shares)))
    axes.set_xlabel("member")
    axes.set_ylabel("member")
    axes.set_title("share of answers on which two members say the same")
    axes.figure.colorbar(image, ax=axes)


def _early_exit(axes: Axes, figures: dict[str, Any]) -> None:
    metric = _main(figures)
    for row in figures["early_exit"]:
        place = row["mean_members"], row["metrics"][metric]
        name = "all members" if row["early_exit"] is None else str(row["early_exit"])
        axes.plot(*place, "o")
        axes.annotate(name, place, textcoords="offset points", xytext=(4, 4), fontsize=8)
    axes.set_xlabel("members run, mean over the examples")
    axes.set_ylabel(metric)
    axes.set_title(f"early exit, by {figures['combination']}")


def _noise(axes: Axes, figures: dict[str, Any]) -> None:
    metric = _main(figures)
    rule = figures["combination"]
    levels = sorted(figures["noise"], key=lambda level: level["sigma"])
    names = [f"member {index}" for index in range(len(figures["members"]))]
    if "undefined" not in levels[0]["ensembles"][rule][-1]:
        names.append(f"first {len(names)} by {rule}")
    for index, name in enumerate(names):
        rows = [[*level["members"], level["ensembles"][rule][-1]][index][metric] for level in levels]
        places = [place + 0.06 * (index - len(names) / 2) for place in range(len(levels))]
        axes.errorbar(places, [r["mean"] for r in rows], yerr=[r["std"] for r in rows], fmt="o", capsize=3, label=name)
    axes.set_xticks(range(len(levels)), [f"{level['sigma']:g}" for level in levels])
    axes.set_xlabel(f"sigma of the noise after the embeddings, {len(levels[0]['seeds'])} seeds")
    axes.set_ylabel(f"{metric}, mean and standard deviation over seeds")
    axes.legend()
