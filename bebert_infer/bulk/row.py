"""A row of a file of any kind, and an open file that yields them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bebert_infer.errors import DataError

# What a file of rows may be, for the errors about one that is not.
ACCEPTED = "accepted are .tsv, .csv, .jsonl and .json, also with .gz, and .parquet"
# Names of columns with texts, the first that a file has counts.
TEXT_COLUMNS = ("sentence1", "sentence", "text", "text1")
PAIR_COLUMNS = ("sentence2", "text2", "text_pair")


@dataclass(frozen=True)
class Row:
    """One row: `cells` of the wanted columns that it has (of JSONL: the whole object).

    number : of its first line, from 1, or in Parquet of the row, from 1
    fault  : why it cannot be read, without its place; then there are no cells
    """

    number: int
    cells: dict[str, Any]
    fault: str | None = None


@dataclass(frozen=True)
class RowFile:
    """An open file; iterate over `rows` once, then close it.

    header : names of all its columns; None for JSONL, where every row has its own
    unit   : "line" or "row", what Row.number counts;  count : number of rows, where the file says it
    read, size : bytes read so far (of .gz: of the packed ones) and bytes in all, for progress
    sha256 : of what has been read of the content (unpacked); of Parquet, of nothing
    ready  : whether the next row can be had without waiting for whoever writes a pipe
    """

    path: Path
    header: list[str] | None
    rows: Iterator[Row]
    unit: str
    close: Callable[[], None]
    count: int | None = None
    size: int | None = None
    read: Callable[[], int] = lambda: 0
    sha256: Any = None
    ready: Callable[[], bool] = lambda: True

    def place(self, number: int) -> str:
        """Where a row is, in words."""
        return f"{self.unit} {number} of {self.path}"


def check_header(path: Path, header: list[str], wanted: Sequence[str]) -> None:
    """Raise DataError if a column that would be used is there twice: one of the two would be read in silence."""
    if twice := [name for name in wanted if header.count(name) > 1]:
        raise DataError(f'{path} has {header.count(twice[0])} columns "{twice[0]}"; give each a name of its own')
