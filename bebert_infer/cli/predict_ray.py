"""`bebert predict --engine ray`: a file or a folder in, a folder of Parquet files out, answered by a cluster."""

from pathlib import Path
from typing import Any

from bebert_infer.bulk.classify import Counts
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.bulk.row import RowFile
from bebert_infer.cli.predict_files import counted, say
from bebert_infer.cli.predict_view import Progress
from bebert_infer.console import stderr_console, stdout_console
from bebert_infer.errors import InputError
from bebert_infer.limits import InputLimits


def predict_on_ray(
    model: str,
    input: str,
    output: str,
    options: BulkOptions,
    limits: InputLimits,
    kind: str | None,
    part_rows: int | None,
    restart: bool,
    cluster: dict[str, Any],
) -> None:
    """Answer all rows below `input` into the folder `output`.

    cluster : address, workers and threads of each, as `classify_files` takes them
    """
    from bebert_infer.optional import load_package

    load_package("ray.data", "ray")
    from bebert_infer.ray.files import PART_ROWS, classify_files, open_input

    if input == "-":
        raise InputError(
            "--input is -, a pipe that only this machine has; with --engine pass a file, a folder or a URI"
        )
    rows = open_input(input, options, kind, limits.characters, part_rows or PART_ROWS)
    counts = Counts()
    nothing = RowFile(Path(input), None, iter(()), "row", lambda: None)  # how many rows there are, nobody knows yet
    with counted(counts):
        with Progress(nothing, stderr_console()) as report:
            classify_files(model, rows, output, limits=limits, restart=restart, report=report, counts=counts, **cluster)
        more = [f"{counts.bad:,} rows with errors"] if counts.bad else []
        more += [f"{counts.cut:,} texts cut at their end"] if counts.cut else []
        say(stdout_console(), f"{counts.rows:,} predictions in {output}" + (f" ({', '.join(more)})" if more else ""))
