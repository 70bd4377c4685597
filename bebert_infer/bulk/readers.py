"""Rows of a TSV, CSV, JSONL, Parquet or plain text file, one after the other, in memory that does not grow with it.

A row that cannot be read is a `Row` with a fault, and reading goes on behind it; only a file that cannot be read any
further (half a .gz file, a damaged Parquet page) raises.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from bebert_infer.bulk.csv_records import Record, csv_records
from bebert_infer.bulk.lines import Line, Lines
from bebert_infer.bulk.parquet import open_parquet
from bebert_infer.bulk.row import ACCEPTED, Row, RowFile, check_header
from bebert_infer.errors import DataError

# Bytes of one row, line breaks inside quotes included: what a row may cost in memory.
MAX_ROW_BYTES = 2**24
# Of a table whose text has another name; no plain text is "review,label".
OTHER_COLUMNS = {"label", "labels", "id", "idx", "index"}
TABLES = (".tsv", ".csv", ".jsonl", ".json")


def row_bytes(max_characters: int) -> int:
    """Most bytes of a row whose texts have so many characters: twelve of JSON a character, and two texts.

    Not more than the C long of Python's CSV reader holds.
    """
    return min(max(MAX_ROW_BYTES, 16 * max_characters), 2**31 - 1)


def open_rows(
    path: Path,
    wanted: Sequence[str],
    *,
    plain: bool = False,
    max_bytes: int = MAX_ROW_BYTES,
    kind: str | None = None,
    opened: Any = None,
) -> RowFile:
    """Open a file by its ending, or as the `kind` tsv, csv, jsonl, json or txt, for the columns `wanted`.

    TSV has one row a line, fields separated by tabs, and no quoting, as GLUE: a quote character is part of the text.
    CSV is quoted by RFC 4180; behind a broken record, reading goes on at its second line. JSONL has one object or
    string a line, JSON one array of them. With `plain`, .txt has one text a line. All are UTF-8 and may be packed
    (.gz). Lines end in LF, CR LF, CR CR LF or CR (`lines.py`). Blank lines do not count, but inside TSV. Raises
    DataError for a file that is missing, of another kind, or damaged in its header.

    opened : binary stream of its bytes, for files that lie elsewhere; `path` is then its name
    """
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind is None and path.suffix == ".parquet":
        return open_parquet(path, wanted, opened)
    if kind is None and ending not in TABLES and not (plain and ending == ".txt"):
        also = ", and .txt with one text a line" if plain else ""
        raise DataError(
            f'"{path}" ends in "{ending + path.suffix if path.suffix == ".gz" else ending}"; {ACCEPTED}{also}'
        )
    try:
        raw = path.open("rb") if opened is None else opened
        size = path.stat().st_size if opened is None else None
    except OSError as error:
        raise DataError(f'cannot read "{path}": {error.strerror}; pass a file, {ACCEPTED}') from None
    stream: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
    lines = Lines(stream, path, max_bytes)
    try:
        header, rows = _reader(f".{kind}" if kind else ending, lines, path, wanted, max_bytes)
    except BaseException:
        raw.close()
        raise
    return RowFile(path, header, rows, "line", raw.close, None, size, raw.tell, lines.sha256)


def open_stream(
    stream: IO[bytes],
    name: str,
    max_bytes: int = MAX_ROW_BYTES,
    *,
    wanted: Sequence[str] = (),
    kind: str | None = None,
) -> RowFile:
    """Rows of a pipe, as the `kind` tsv, csv, jsonl, json or txt, else as its first line that is not blank looks.

    JSONL if it begins with {, or is a JSON string; a JSON array if it begins like one; else one text a line. Whether
    a line that begins with { is sound does not decide: all the others would be answered as if their JSON were the text.
    Raises DataError for what looks like the header of a table: texts and tables cannot be told apart.
    """
    lines = Lines(stream, Path(name), max_bytes, pipe=True)
    found = f".{kind}" if kind else _look(lines.first(), name, wanted)
    header, rows = _reader(found, lines, Path(name), wanted, max_bytes)
    whole = _no_open_quote if found == ".csv" else lambda row: True

    def ready() -> bool:
        return lines.ready(whole)

    return RowFile(Path(name), header, rows, "line", lambda: None, sha256=lines.sha256, ready=ready)


def _no_open_quote(record: bytes) -> bool:
    return record.count(b'"') % 2 == 0


def _look(begin: bytes, name: str, wanted: Sequence[str]) -> str:
    """The kind of a pipe, by its first line. Raises DataError for a header of a table, and for a lone null."""
    if begin.strip() == b"null":  # jq .text writes it for a missing text, among strings in quotes
        raise DataError(
            f'{name} begins with the line "null", which is a missing text in JSON and else a word; pass --input-format '
            "jsonl, or txt if every line is a text"
        )
    if begin.startswith(b"{") or (begin.startswith(b'"') and _is_json(begin)):
        return ".jsonl"
    if re.match(rb"\[\s*([\[{\]\"0-9-]|$)", begin):
        return ".json"
    for mark in ("\t", ",", ";", "|"):
        fields = [field.strip(' "') for field in begin.decode("utf-8", "replace").strip().split(mark)]
        named = len(fields) > 1 and all(map(str.isidentifier, fields)) and not OTHER_COLUMNS.isdisjoint(fields)
        if named or set(fields) & set(wanted):
            raise DataError(
                f"{name} begins with {begin.decode('utf-8', 'replace').strip()[:80]!r}, which looks like the header of "
                "a table; pass --input-format csv or tsv, or txt if every line is a text"
            )
    return ".txt"


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _reader(
    kind: str, lines: Lines, path: Path, wanted: Sequence[str], max_bytes: int
) -> tuple[list[str] | None, Iterator[Row]]:
    lines.every_end = kind in (".jsonl", ".txt")
    if kind == ".jsonl":
        return None, _jsonl(lines, wanted, max_bytes)
    if kind == ".json":
        return None, _array(lines, wanted, path)
    if kind == ".txt":
        return ["text"], _plain(lines, max_bytes)
    records = csv_records(lines, max_bytes) if kind == ".csv" else _tsv(lines, max_bytes)
    number, header, fault = next(records, (1, [], None))
    if fault is not None:
        raise DataError(f"line {number} of {path} {fault}")
    check_header(path, header, wanted)
    advice = (
        "put a text with a comma, a quote or a line break in quotes"
        if kind == ".csv"
        else "separate the fields by one tab and put no tab inside a text"
    )
    return header, _table(records, header, wanted, advice)


def _text(line: bytes | None, max_bytes: int) -> tuple[str, str | None]:
    """A line as text without its line break, or the reason why it is none."""
    if line is None:
        return "", f"has more than {max_bytes:,} bytes; split it"
    try:
        return line.decode().removesuffix("\n").rstrip("\r"), None
    except UnicodeDecodeError:
        return "", "is not UTF-8; convert the file to UTF-8"


def _plain(lines: Iterable[Line], max_bytes: int) -> Iterator[Row]:
    for number, line in lines:
        text, fault = _text(line, max_bytes)
        if fault or text.strip():
            yield Row(number, {} if fault else {"text": text}, fault)


class _Doubled(dict[str, Any]):
    """A JSON object that has a key more than once; which of its values counts, nobody can say."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.keys_given = [key for key, _ in pairs]


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _Doubled(pairs)


def _doubled(value: Any, wanted: Sequence[str]) -> str | None:
    """What is wrong with an object that has one of the wanted keys twice."""
    if not isinstance(value, _Doubled):
        return None
    counts = {name: value.keys_given.count(name) for name in wanted}
    return next((f'has {n} keys "{key}"; give each a name of its own' for key, n in counts.items() if n > 1), None)


def _jsonl(lines: Iterable[Line], wanted: Sequence[str], max_bytes: int) -> Iterator[Row]:
    for number, line in lines:
        text, fault = _text(line, max_bytes)
        value: Any = {}
        if fault is None:
            if not text.strip():
                continue
            try:
                value = json.loads(text, object_pairs_hook=_json_object)
            except (ValueError, RecursionError) as error:
                fault = f"is not JSON: {error}; write one object a line"
        if isinstance(value, str):
            value = {"text": value}
        if not isinstance(value, dict):
            fault = 'is no object; accepted are lines like {"text": "…"}'
        fault = fault or _doubled(value, wanted)
        yield Row(number, value if fault is None else {}, fault)


def _array(lines: Lines, wanted: Sequence[str], path: Path) -> Iterator[Row]:
    """Rows of one JSON array, which is read whole. Raises DataError."""
    try:
        values = json.loads(lines.read(), object_pairs_hook=_json_object)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is no JSON array: {error}; if every line is a text or an object, pass --input-format txt or jsonl"
        ) from None
    if not isinstance(values, list):
        raise DataError(f"{path} holds {type(values).__name__} in JSON; accepted is an array of objects or strings")
    for number, value in enumerate(values, 1):
        cells = {"text": value} if isinstance(value, str) else value
        fault = None if isinstance(cells, dict) else 'is no object; accepted are values like {"text": "…"}'
        fault = fault or _doubled(cells, wanted)
        yield Row(number, {} if fault else cells, fault)


def _table(records: Iterator[Record], header: list[str], wanted: Sequence[str], advice: str) -> Iterator[Row]:
    places = {name: header.index(name) for name in wanted if name in header}
    for number, fields, fault in records:
        if fault is None and len(fields) != len(header):
            fault = f"has {len(fields)} fields, the header has {len(header)}; {advice}"
        yield Row(number, {} if fault else {name: fields[place] for name, place in places.items()}, fault)


def _tsv(lines: Iterable[Line], max_bytes: int) -> Iterator[Record]:
    blank: list[Record] = []  # lines at the end of a file are no rows
    for number, line in lines:
        text, fault = _text(line, max_bytes)
        if fault is None and not text:
            blank.append((number, [""], None))
            continue
        yield from blank
        blank.clear()
        yield number, text.split("\t"), fault
