"""Write every figure and plot of docs/results.md and docs/results/cells.md from the records of benchmarks/results.

    python benchmarks/glue/report.py

The pages' prose is theirs. Figures stand in blocks, between the two lines that `markers` gives; only what is between
them is replaced. A cell without a record is shown as "–".
"""

import argparse
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts find their neighbours so

from glue.cells import figures
from glue.claims import claims_table, task_by_task
from glue.flagship import MODEL, flagship, read_shipped
from glue.plots import save_plots
from glue.records import SETTINGS, read_records, read_settings
from glue.summary import Summary
from record import RESULTS, ROOT

from bebert_infer.atomic_files import whole_file
from bebert_infer.errors import BebertError, InputError

PAGE = ROOT / "docs" / "results.md"
CELLS = "cells.md"  # in the folder beside the page, with the plots
PUBLISHED = Path(__file__).with_name("published.toml")


def markers(name: str) -> tuple[str, str]:
    """The lines around a block of figures."""
    return f"<!-- {name}: written by benchmarks/glue/report.py -->", f"<!-- end of {name} -->"


def fill(text: str, blocks: dict[str, str], page: Path) -> str:
    """A page with its blocks written anew; `page` is named in errors.

    Raises InputError if a block is not there exactly once.
    """
    for name, written in blocks.items():
        first, last = markers(name)
        before, _, rest = text.partition(first)
        _, _, after = rest.partition(last)
        if text.count(first) != 1 or rest.count(last) != 1 or text.count(last) != 1:
            raise InputError(f'{page} needs the lines "{first}" and "{last}", once each; the figures go between them')
        text = f"{before}{first}\n\n{written.strip()}\n\n{last}{after}"
    return text


def pages(page: Path, results: Path, settings: Path, model: Path) -> tuple[Summary, dict[Path, str]]:
    """The summary of the records, and the whole text of both pages by path; nothing is written.

    Raises InputError for a page without its blocks, settings that cannot be read; ModelFormatError for a bad model.
    """
    summary = Summary(read_records(results), read_settings(settings))
    published = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    blocks = {
        page: {
            "claims": claims_table(summary, published),
            "tasks": task_by_task(summary, published),
            "model": flagship(model, read_shipped(results), summary.records),
        },
        page.with_suffix("") / CELLS: {"figures": figures(summary, published)},
    }
    texts = {path: path.read_text(encoding="utf-8") if path.is_file() else "" for path in blocks}
    return summary, {path: fill(texts[path], blocks[path], path) for path in blocks}


def main() -> None:
    """Read records, draw, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records (default results/)")
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="default settings.toml beside this script")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: the model in this package")
    parser.add_argument("--page", type=Path, default=PAGE, help="default docs/results.md; the rest is beside it")
    arguments = parser.parse_args()
    try:
        summary, texts = pages(arguments.page, arguments.results, arguments.settings, arguments.model)
        published = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
        written = save_plots(summary, published, arguments.page.with_suffix(""))
        for path, text in texts.items():
            with whole_file(path) as stream:
                stream.write(text)
    except BebertError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{', '.join(map(str, texts))} from {len(summary.records)} records, with {len(written)} plots")


if __name__ == "__main__":
    main()
