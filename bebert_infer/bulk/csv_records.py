"""Records of CSV by RFC 4180. Python's own reader; pyarrow's counts rows, not lines, and mends broken quotes."""

import csv
from collections import deque
from collections.abc import Iterator

from bebert_infer.bulk.lines import Line

Record = tuple[int, list[str], str | None]  # first line, fields, fault


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


def csv_records(lines: Iterator[Line], max_bytes: int) -> Iterator[Record]:
    """Yield the records of a CSV file, empty lines left out; behind a broken one, on from its second line."""
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
