"""Rows of a TSV, CSV, JSONL, Parquet or plain text file, one after the other, in memory that does not grow with it.

A row that cannot be read is a `Row` with a fault, and reading goes on behind it; only a file that cannot be read any
further (half a .gz file, a damaged Parquet page) raises. CSV is read by Python's own reader, not by pyarrow's, which
counts rows instead of lines and mends broken quotes.
"""

import csv
import gzip
import hashlib
import json
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

from bebert_infer.bulk.row import ACCEPTED, Row, RowFile
from bebert_infer.errors import DataError

# Bytes of one row, line breaks inside quotes included: what a row may cost in memory.
MAX_ROW_BYTES = 2**24
TABLES = (".tsv", ".csv", ".jsonl")
BOM = b"\xef\xbb\xbf"

Line = tuple[int, bytes | None]  # number from 1, and its bytes; None for a line that is too long


def open_rows(path: Path, wanted: Sequence[str], *, plain: bool = False, max_bytes: int = MAX_ROW_BYTES) -> RowFile:
    """Open a file by its ending for the columns `wanted`.

    TSV has one row a line, fields separated by tabs, and no quoting, as GLUE: a quote character is part of the text.
    CSV is quoted by RFC 4180; behind a broken record, reading goes on at its second line. JSONL has one object a line.
    With `plain`, .txt has one text a line. All are UTF-8 and may be packed (.gz). Blank lines do not count, but in TSV.
    Raises DataError for a file that is missing, of another kind, or damaged in its header.
    """
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if path.suffix == ".parquet":
        from bebert_infer.bulk.parquet import open_parquet  # imports pyarrow, which the other kinds do without

        return open_parquet(path, wanted)
    if kind not in TABLES and not (plain and kind == ".txt"):
        also = ", and .txt with one text a line" if plain else ""
        raise DataError(f'"{path}" ends in "{kind + path.suffix if path.suffix == ".gz" else kind}"; {ACCEPTED}{also}')
    try:
        raw = path.open("rb")
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f'cannot read "{path}": {error.strerror}; pass a file, {ACCEPTED}') from None
    stream: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
    digest = hashlib.sha256()
    lines = _guarded(_lines(stream, max_bytes, digest), path)
    try:
        header, rows = _reader(kind, lines, path, wanted, max_bytes)
    except BaseException:
        raw.close()
        raise
    return RowFile(path, header, rows, "line", raw.close, None, size, raw.tell, digest)


def open_stream(stream: IO[bytes], name: str, max_bytes: int = MAX_ROW_BYTES) -> RowFile:
    """Rows of a pipe: JSONL if its first line that is not blank begins with {, else one text a line.

    Whether that line is sound does not decide: all the others would be answered as if their JSON were the text.
    """
    digest = hashlib.sha256()
    lines = _lines(stream, max_bytes, digest)
    first: list[Line] = []
    begin = b""
    for line in lines:
        first.append(line)
        if begin := (line[1] or b"").lstrip():  # a line that is too long says nothing
            break
    kind = ".jsonl" if begin.startswith(b"{") else ".txt"
    header, rows = _reader(kind, chain(first, lines), Path(name), (), max_bytes)
    return RowFile(Path(name), header, rows, "line", lambda: None, sha256=digest)


def _reader(
    kind: str, lines: Iterator[Line], path: Path, wanted: Sequence[str], max_bytes: int
) -> tuple[list[str] | None, Iterator[Row]]:
    if kind == ".jsonl":
        return None, _jsonl(lines, max_bytes)
    if kind == ".txt":
        return ["text"], _plain(lines, max_bytes)
    records = _csv(lines, max_bytes) if kind == ".csv" else _tsv(lines, max_bytes)
    number, header, fault = next(records, (1, [], None))
    if fault is not None:
        raise DataError(f"line {number} of {path} {fault}")
    advice = (
        "put a text with a comma, a quote or a line break in quotes"
        if kind == ".csv"
        else "separate the fields by one tab and put no tab inside a text"
    )
    return header, _table(records, header, wanted, advice)


def _lines(stream: IO[bytes], max_bytes: int, digest: Any) -> Iterator[Line]:
    """Lines with their numbers, cut at line feeds only: other separators that Python knows may occur inside a text."""
    number = 1
    while line := stream.readline(max_bytes + 1):
        digest.update(line)
        if number == 1:
            line = line.removeprefix(BOM)
        if len(line) <= max_bytes:
            yield number, line
        else:
            while line and not line.endswith(b"\n"):
                line = stream.readline(2**20)
                digest.update(line)
            yield number, None
        number += 1


def _guarded(lines: Iterator[Line], path: Path) -> Iterator[Line]:
    try:
        yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is no whole gzip file: {error}; pack it again") from None
    except OSError as error:
        raise DataError(f'cannot read "{path}": {error.strerror}; pass a file, {ACCEPTED}') from None


def _text(line: bytes | None, max_bytes: int) -> tuple[str, str | None]:
    """A line as text without its line break, or the reason why it is none."""
    if line is None:
        return "", f"has more than {max_bytes:,} bytes; split it"
    try:
        return line.decode().removesuffix("\n").removesuffix("\r"), None
    except UnicodeDecodeError:
        return "", "is not UTF-8; convert the file to UTF-8"


def _plain(lines: Iterable[Line], max_bytes: int) -> Iterator[Row]:
    for number, line in lines:
        text, fault = _text(line, max_bytes)
        if fault or text.strip():
            yield Row(number, {} if fault else {"text": text}, fault)


def _jsonl(lines: Iterable[Line], max_bytes: int) -> Iterator[Row]:
    for number, line in lines:
        text, fault = _text(line, max_bytes)
        value: Any = {}
        if fault is None:
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                fault = f"is not JSON: {error}; write one object a line"
        if not isinstance(value, dict):
            fault = 'is no object; accepted are lines like {"text": "…"}'
        yield Row(number, value if fault is None else {}, fault)


Record = tuple[int, list[str], str | None]  # first line, fields, fault


def _table(records: Iterator[Record], header: list[str], wanted: Sequence[str], advice: str) -> Iterator[Row]:
    places = {name: header.index(name) for name in wanted if name in header}
    for number, fields, fault in records:
        if fault is None and len(fields) != len(header):
            fault = f"has {len(fields)} fields, the header has {len(header)}; {advice}"
        yield Row(number, {} if fault else {name: fields[place] for name, place in places.items()}, fault)


def _tsv(lines: Iterable[Line], max_bytes: int) -> Iterator[Record]:
    for number, line in lines:
        text, fault = _text(line, max_bytes)
        yield number, text.split("\t"), fault


class _CsvLines:
    """Feeds csv.reader, and keeps the lines of the record that it is reading, to go back behind a broken one."""

    def __init__(self, lines: Iterator[Line], max_bytes: int):
        self.record: list[Line] = []
        self._lines = lines
        self._again: deque[Line] = deque()
        self._bytes = 0
        self._max_bytes = max_bytes

    def __iter__(self) -> "_CsvLines":
        return self

    def __next__(self) -> str:
        number, line = self._again.popleft() if self._again else next(self._lines)
        self.record.append((number, line))
        self._bytes += len(line or b"")
        if line is None or self._bytes > self._max_bytes:
            raise csv.Error(f"more than {self._max_bytes:,} bytes")
        return line.decode("utf-8", "replace")  # `fault` says it afterwards

    def begin(self) -> None:
        """The next line begins a record."""
        self.record, self._bytes = [], 0

    def go_back(self) -> None:
        """Read all lines of this record again, except the first."""
        self._again.extendleft(reversed(self.record[1:]))

    def fault(self) -> str | None:
        """The first line of this record that is not UTF-8."""
        for number, line in self.record:
            try:
                (line or b"").decode()
            except UnicodeDecodeError:
                where = "" if number == self.record[0][0] else f"has a line {number} that "
                return f"{where}is not UTF-8; convert the file to UTF-8"
        return None


def _csv(lines: Iterator[Line], max_bytes: int) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))  # of the whole process, so never lowered
    source = _CsvLines(lines, max_bytes)
    reader = csv.reader(source, strict=True)
    while True:
        source.begin()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            source.go_back()
            yield source.record[0][0], [], source.fault() or f"is not CSV: {error}; double a quote inside quotes"
            continue
        if fields is None:
            return
        if fields:
            yield source.record[0][0], fields, source.fault()
