"""What `bebert predict` shows: a table of answers, and a bar while answers go into a file."""

import time
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bebert_infer.console import plain

if TYPE_CHECKING:
    from rich.console import Console

    from bebert_infer.bulk.classify import Counts
    from bebert_infer.bulk.row import RowFile


def answer_table(records: list[dict[str, Any]]) -> Table:
    """One line a text: the answer and the votes, or why there is none; of several labels one a line."""
    table = Table("text", "label", "score", "votes of the members")
    for record in records:
        if "error" in record:
            table.add_row(plain(record["error"]), "error")
            continue
        text = " | ".join(record[key] for key in ("text", "text_pair") if key in record)
        votes = " ".join(_vote(vote) for vote in record["votes"])
        labels, shares = record.get("labels", [record["label"]]), record["probabilities"]
        scores = "\n".join(f"{shares[label]:.3f}" for label in labels)
        table.add_row(plain(text), "\n".join(map(plain, labels)) or "none", scores, plain(votes))
    return table


def _vote(vote: Any) -> str:
    if isinstance(vote, list):
        return "+".join(vote) or "none"
    return vote if isinstance(vote, str) else f"{vote:.3f}"


class Progress:
    """A bar on a terminal: rows, rows a second and, by the rows or bytes of the file, the time that is left."""

    def __init__(self, file: "RowFile", console: "Console"):
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("left"), TimeRemainingColumn())
        self._progress = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("classifying", total=file.size if file.count is None else file.count)
        self._file = file
        self._started = time.monotonic()

    def __enter__(self) -> Any:
        self._progress.start()
        return self._report

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _report(self, counts: "Counts") -> None:
        speed = (counts.rows - counts.earlier) / max(time.monotonic() - self._started, 1e-9)
        errors = f", {counts.bad:,} with errors" if counts.bad else ""
        description = f"{counts.rows:,} rows{errors}, {speed:,.0f} rows/s"
        completed = self._file.read() if self._file.count is None else counts.rows
        self._progress.update(self._task, description=description, completed=completed)
