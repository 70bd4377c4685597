"""Cells of a TSV, CSV, JSONL or Parquet file, chosen by its ending, and the place of each row for error messages.

CSV is read by Python's own reader, not by pyarrow's, which counts rows instead of lines and mends broken quotes.
"""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bebert_infer.errors import DataError

# Names of columns with texts, the first that a file has counts.
TEXT_COLUMNS = ("sentence1", "sentence", "text", "text1")
PAIR_COLUMNS = ("sentence2", "text2", "text_pair")
ACCEPTED = "accepted are .tsv, .csv and .jsonl, also with .gz, and .parquet"

Cells = tuple[list[str], dict[str, list[Any]], Sequence[int]]  # header, columns and numbers of a Table


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
    """Read the columns `wanted` of a file, as far as it has them.

    TSV has one row a line, fields separated by tabs, and no quoting, as GLUE: a quote character is part of the text.
    CSV is quoted by RFC 4180. JSONL has one object a line. All three are UTF-8. Blank lines of CSV and JSONL are passed
    over. Raises DataError for a file that is missing, of another kind, or damaged, with its line.
    """
    readers: dict[str, Callable[[str, Path, Sequence[str]], Cells]] = {".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl}
    packed = path.suffix == ".gz"
    kind = path.with_suffix("").suffix if packed else path.suffix
    if kind not in readers and (packed or kind != ".parquet"):
        raise DataError(f'"{path}" ends in "{kind + path.suffix if packed else kind}"; {ACCEPTED}')
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if packed else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is no whole gzip file: {error}; pack it again") from None
    except OSError as error:
        raise DataError(f'cannot read "{path}": {error.strerror}; pass a file, {ACCEPTED}') from None
    sha256 = hashlib.sha256(raw).hexdigest()
    if kind == ".parquet":
        header, columns, numbers = _parquet(raw, path, wanted)
        return Table(path, header, columns, "row", numbers, sha256)
    header, columns, numbers = readers[kind](_decode(raw, path), path, wanted)
    return Table(path, header, columns, "line", numbers, sha256)


def _decode(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        raise DataError(f"line {number} of {path} is not UTF-8; convert the file to UTF-8") from None


def _lines(text: str) -> list[str]:
    """Split at line feeds only: other separators that Python knows may occur inside a text."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not lines[-1]:
        lines.pop()
    return lines


def _tsv(text: str, path: Path, wanted: Sequence[str]) -> Cells:
    rows = [line.split("\t") for line in _lines(text)]
    header = rows.pop(0) if rows else []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(
                f"line {number} of {path} has {len(row)} fields, the header has {len(header)}; "
                "separate the fields by one tab and put no tab inside a text"
            )
    return header, _columns(header, rows, wanted), range(2, len(rows) + 2)


def _csv(text: str, path: Path, wanted: Sequence[str]) -> Cells:
    header: list[str] = []
    rows, numbers, number = [], [], 1
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if row and not header:
                header = row
            elif row:
                if len(row) != len(header):
                    raise DataError(
                        f"line {number} of {path} has {len(row)} fields, the header has {len(header)}; "
                        "put a text with a comma, a quote or a line break in quotes"
                    )
                rows.append(row)
                numbers.append(number)
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"line {number} of {path} is not CSV: {error}; double a quote inside quotes") from None
    return header, _columns(header, rows, wanted), numbers


def _columns(header: list[str], rows: list[list[str]], wanted: Sequence[str]) -> dict[str, list]:
    places = {name: header.index(name) for name in wanted if name in header}
    return {name: [row[place] for row in rows] for name, place in places.items()}


def _jsonl(text: str, path: Path, wanted: Sequence[str]) -> Cells:
    rows, numbers = [], []
    header: dict[str, None] = {}
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"line {number} of {path} is not JSON: {error}; write one object a line") from None
        if not isinstance(row, dict):
            raise DataError(f'line {number} of {path} is no object; accepted are lines like {{"text": "…"}}')
        header |= dict.fromkeys(row)
        rows.append([row.get(name) for name in wanted])
        numbers.append(number)
    columns = {name: [row[i] for row in rows] for i, name in enumerate(wanted) if name in header}
    return list(header), columns, numbers


def _parquet(raw: bytes, path: Path, wanted: Sequence[str]) -> Cells:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pa.BufferReader(raw))
        header = file.schema_arrow.names
        table = file.read(columns=[name for name in wanted if name in header])
        columns = {name: table.column(table.column_names.index(name)).to_pylist() for name in table.column_names}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from None
    return header, columns, range(1, table.num_rows + 1)
