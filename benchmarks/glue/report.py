"""Write the figures of docs/results.md and its plots from benchmarks/results/glue.jsonl.

    python benchmarks/glue/report.py

Only what lies between the two marker lines of the page is replaced. A cell without a record is shown as "–",
a group of cells without any is only named.
"""

import argparse
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts find their neighbours so

from glue.plots import save_plots
from glue.records import SETTINGS, read_records, read_settings
from glue.summary import Summary
from glue.tables import Published, accuracy, claims, distillation, files, larger, noise, one_bit, sizes, title
from record import RESULTS, ROOT

from bebert_infer.errors import InputError

PAGE = ROOT / "docs" / "results.md"
PUBLISHED = Path(__file__).with_name("published.toml")
MARKERS = ("<!-- figures: written by benchmarks/glue/report.py -->", "<!-- end of figures -->")


def figures(summary: Summary, published: Published, plots: dict[str, str]) -> str:
    """Everything between the markers; `plots` holds Markdown images by name."""

    def picture(name: str) -> str:
        return plots.get(name, "")

    count, rule = summary.report["members"], summary.report["rule"]
    done, wanted = len(summary.records), sum(map(len, summary.planned.values()))
    empty = "; ".join(title(group) for group in summary.planned if group not in summary.groups)
    without = f" (none: {empty})" if empty else ""
    parts = [
        f"{done} of {wanted} cells have a record{without}. Ensemble: the first {count} members by `{rule}`, for "
        f"regression by `{summary.report['regression_rule']}`, fixed beforehand. ± is the standard deviation over "
        "seeds.\n",
        "## Claims\n",
        claims(summary, published),
        "## Scores\n",
        picture("gap"),
        picture("gain"),
    ]
    for group in summary.groups:
        parts += [f"### {title(group)}\n", accuracy(summary, group, published)]
    parts += ["## Noise after the embeddings\n", "Standard deviation of the score over seeds of noise, points.\n"]
    parts.append(picture("noise"))
    for group in summary.groups:
        parts += [f"### Noise: {title(group)}\n", noise(summary, group, published)]
    parts += ["## Distillation and training time\n", picture("time")]
    pairs = list(dict.fromkeys((group.encoder, group.base) for group in summary.groups))
    for encoder, base in pairs:
        groups = [group for group in summary.groups if (group.encoder, group.base) == (encoder, base)]
        if len(groups) > 1:
            parts += [f"### Distillation: {encoder}, {base}\n", distillation(summary, groups)]
    parts.append("## BiT against BiBERT, 1-1-1\n")
    for group in summary.groups:
        # With the same distillation if there is such a group; the settings see to it that both are 1-1-1.
        others = [other for other in summary.groups if (other.encoder, other.base) == (group.encoder, "bibert")]
        others.sort(key=lambda other: other.distill != group.distill)
        if summary.base(group) == "bit" and others:
            parts += [f"### 1-1-1: {title(group)}, against {title(others[0])}\n", one_bit(summary, group, others[0])]
    parts += ["## Size of the ensemble\n", picture("size")]
    for group in summary.groups:
        parts += [f"### Members: {title(group)}\n", sizes(summary, group)]
        if summary.larger(group):
            parts += [f"### More members: {title(group)}\n", larger(summary, group)]
    parts += ["## Files\n", files(summary)]
    return "\n".join(part for part in parts if part)


def parts_of(page: Path) -> tuple[str, str]:
    """What stands before and after the figures, markers included. Raises InputError if the page has not both."""
    whole = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, first, rest = whole.partition(MARKERS[0])
    _, last, after = rest.partition(MARKERS[1])
    if not (first and last):
        raise InputError(f'{page} needs the lines "{MARKERS[0]}" and "{MARKERS[1]}"; the figures go between them')
    return before + first, last + after


def main() -> None:
    """Read records, draw, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of glue.jsonl (default results/)")
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="default glue_settings.toml beside this script")
    parser.add_argument(
        "--page", type=Path, default=PAGE, help="default docs/results.md; plots go to a folder beside it"
    )
    arguments = parser.parse_args()
    try:
        summary = Summary(read_records(arguments.results), read_settings(arguments.settings))
        published = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
        folder = arguments.page.with_suffix("")
        before, after = parts_of(arguments.page)
        written = save_plots(summary, folder)
        images = {name: f"![{text}]({folder.name}/{name}.png)\n" for name, text in written.items()}
        text = figures(summary, published, images)
        arguments.page.write_text(f"{before}\n\n{text}\n{after}", encoding="utf-8")
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{arguments.page} from {len(summary.records)} records, with {len(written)} plots")


if __name__ == "__main__":
    main()
