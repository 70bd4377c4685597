"""Finished answers as CSV, TSV or Parquet, made line by line from the JSON Lines of a part file."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bebert_infer.bulk.columns import answer_types, arrow_schema, cells
from bebert_infer.bulk.parquet import load_pyarrow
from bebert_infer.errors import InputError

ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")
BREAKS = str.maketrans("\t\r\n", "   ")  # TSV has no quoting, so a text must not hold them
# What RFC 4180 has in quotes; csv.writer of Python 3.11 leaves a lone CR bare, and readers take it for a line's end.
QUOTED = re.compile('[,"\\r\\n]')
ROWS_AT_ONCE = 1024

Make = Callable[[Path, Path], None]


def check_output(output: Path) -> None:
    """Raise InputError for a file of an unknown kind or in a place that cannot be written.

    Raises MissingExtraError for Parquet without pyarrow: before hours of answers, not after them.
    """
    if output.suffix not in ENDINGS:
        raise InputError(f'output "{output}" ends in "{output.suffix}"; accepted are {", ".join(ENDINGS)}')
    if output.suffix == ".parquet":
        load_pyarrow(output)
    target = Path(os.path.realpath(output))
    if target.is_symlink():
        raise InputError(f'output "{output}" is a link that leads back to itself; pass the name of a file')
    for folder in (output.parent, target.parent):
        if not folder.is_dir():
            raise InputError(f'there is no folder "{folder}" for the output; make it first')
    if target.is_dir():
        raise InputError(f'output "{output}" is a folder; pass the name of a file')
    if target.exists() and not target.is_file():
        raise InputError(f'output "{output}" is a pipe or a device; pass the name of a file, or print with --json')


def table_maker(output: Path, labels: Sequence[str], problem: str) -> Make | None:
    """What turns a part of JSON Lines into an output of this ending: make(part, target); None for JSON Lines.

    problem : of the model, `problem_type` in its config

    Columns: row, text, text_pair, and those of `columns.answer_types`; empty where a row has none. text_pair is left
    out if no row has one: an empty second text is refused when the output is the input of another run. In CSV and TSV,
    labels and votes are JSON.
    """
    if output.suffix == ".jsonl":
        return None
    if output.suffix == ".parquet":
        return lambda part, target: _parquet(part, target, labels, problem)
    return lambda part, target: _separated(part, target, labels, problem, output.suffix)


def _rows(part: Path, columns: Iterable[str]) -> Iterator[dict[str, Any]]:
    with part.open("rb") as stream:
        for line in stream:
            record = cells(json.loads(line))
            yield {name: record.get(name) for name in columns}


def _separated(part: Path, target: Path, labels: Sequence[str], problem: str, kind: str) -> None:
    comma = kind == ".csv"

    def line(cells: Iterable[str]) -> str:
        return (",".join(map(_quoted, cells)) if comma else "\t".join(cell.translate(BREAKS) for cell in cells)) + "\n"

    columns = _schema(part, labels, problem)
    with target.open("w", encoding="utf-8", newline="") as stream:
        stream.write(line(columns))
        for row in _rows(part, columns):
            cells = (json.dumps(cell, ensure_ascii=False) if isinstance(cell, list) else cell for cell in row.values())
            stream.write(line("" if cell is None else str(cell) for cell in cells))


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if QUOTED.search(cell) else cell


def _schema(part: Path, labels: Sequence[str], problem: str) -> dict[str, str]:
    """Columns and their Arrow types."""
    pairs = early = False
    with part.open("rb") as stream:
        for line in stream:  # inside a text the quotes would have backslashes
            pairs = pairs or b', "text_pair": ' in line
            early = early or b', "members_run": ' in line
    return {
        "row": "int64",
        "text": "string",
        **({"text_pair": "string"} if pairs else {}),
        **answer_types(labels, problem, early),
    }


def _parquet(part: Path, target: Path, labels: Sequence[str], problem: str) -> None:
    pa = load_pyarrow(target)
    schema = arrow_schema(pa, _schema(part, labels, problem))
    rows = _rows(part, schema.names)
    with pa.parquet.ParquetWriter(target, schema) as writer:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema))
