"""All cells of a TSV, CSV, JSONL or Parquet file at once, and the place of each row for error messages."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bebert_infer.bulk.readers import open_rows
from bebert_infer.errors import DataError


@dataclass(frozen=True)
class Table:
    """Some columns of one file of M rows.

    header  : names of all its columns; of JSONL, all keys in the order in which they appear
    columns : of those that were asked for and exist, M cells each: the text as written (TSV, CSV) or any value of
              JSON or Parquet; None where a row has none
    numbers : where each row is: its first line, from 1, or in Parquet its number, from 1;  unit : "line" or "row"
    sha256  : of the file's content; of a .gz file, of what is packed in it
    """

    path: Path
    header: list[str]
    columns: dict[str, list[Any]]
    unit: str
    numbers: Sequence[int]
    sha256: str

    def __len__(self) -> int:
        """Number of rows M."""
        return len(self.numbers)

    def place(self, row: int) -> str:
        """Where a row is, in words."""
        return f"{self.unit} {self.numbers[row]} of {self.path}"


def read_table(path: Path, wanted: Sequence[str]) -> Table:
    """Read the columns `wanted` of a file, as far as it has them, by the rules of `rows.open_rows`.

    Raises DataError for a file that is missing, of another kind, or damaged, with its line.
    """
    file = open_rows(path, wanted)
    numbers: list[int] = []
    cells: list[list[Any]] = []
    found: dict[str, None] = dict.fromkeys(file.header or ())
    try:
        for row in file.rows:
            if row.fault is not None:
                raise DataError(f"{file.place(row.number)} {row.fault}")
            if file.header is None:
                found |= dict.fromkeys(row.cells)
            numbers.append(row.number)
            cells.append([row.cells.get(name) for name in wanted])
    finally:
        file.close()
    columns = {name: [row[index] for row in cells] for index, name in enumerate(wanted) if name in found}
    if file.sha256 is not None:
        return Table(path, list(found), columns, file.unit, numbers, file.sha256.hexdigest())
    with path.open("rb") as stream:
        return Table(path, list(found), columns, file.unit, numbers, hashlib.file_digest(stream, "sha256").hexdigest())
