"""Lines of a file or a pipe, with their numbers, whatever ends them, each as soon as its end is there.

How the first line ends decides for the others. LF, CR LF or CR CR LF: then a CR within a line is part of it. A lone CR
(old Macs, "Text (Macintosh)" of Excel): then every CR and every LF ends a line. Nothing depends on how the bytes are
cut into blocks, for a slow pipe and a file of the same bytes must be the same rows. On a pipe what follows a CR may be
minutes away: the line is given at once, and an LF that turns out to follow belongs to its end.
"""

import gzip
import hashlib
import io
import re
import select
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bebert_infer.bulk.row import ACCEPTED
from bebert_infer.errors import DataError

BOM = b"\xef\xbb\xbf"
BLOCK = 2**16
MOST_CR = 9  # before one LF; programs that convert line ends twice leave two
ANY_END, LF = re.compile(rb"\r{0,9}\n|\r"), re.compile(rb"\n")
LEFT_OVER, NOT_BLANK = re.compile(rb"\r{0,9}\n"), re.compile(rb"\S")

Line = tuple[int, bytes | None]  # number from 1, and its bytes with their end; None for a line that is too long


class Lines:
    """Iterate over the lines of a binary stream, without a byte order mark.

    every_end : whether every CR ends a line, however the first one ends: in texts and JSON it means nothing else
    sha256    : of the bytes read so far, as they stand in the stream

    Memory holds no more than `max_bytes` of a line and a block. Raises DataError if the stream cannot be read.
    """

    def __init__(self, stream: Any, name: Path, max_bytes: int, *, pipe: bool = False) -> None:
        """`pipe`: the next bytes may be long in coming, so a line never waits for what follows its CR."""
        self.every_end = False
        self.sha256 = hashlib.sha256()
        self._stream = stream if hasattr(stream, "read1") else io.BufferedReader(stream)
        self._name, self._max_bytes, self._pipe = name, max_bytes, pipe
        self._file_number = _file_number(stream) if pipe else None
        self._rest, self._at, self._ended = bytearray(), 0, False  # of what was read: not given yet from _at on
        self._count = 0
        self._begun = False
        self._lone: bool | None = None  # whether a lone CR ends lines; None until it is known
        self._open = False  # whether a CR ended the last line, and an LF may follow

    def __iter__(self) -> Iterator[Line]:
        """Itself."""
        return self

    def __next__(self) -> Line:
        """The next line; waits for its end."""
        self._begin()
        self._pass_end()
        scanned = 0
        while (end := self._end(self._at + scanned)) is None:
            if len(self._rest) - self._at > self._max_bytes:
                return self._pass_line()
            scanned = max(0, len(self._rest) - self._at - MOST_CR)
            if not self._more():
                end = self._end(self._at + scanned) or len(self._rest)
                break
        line, self._at = bytes(self._rest[self._at : end]), end
        if not line:
            raise StopIteration
        if self._lone is None and not self._open:
            self._lone = line.endswith(b"\r")
        self._count += 1
        return self._count, line if len(line) <= self._max_bytes else None

    def first(self) -> bytes:
        """The first line that is not blank, from its first letter on, without its end; it is not taken.

        Of a line that is too long its beginning; empty if there is none.
        """
        self._begin()
        begin = 0
        while not (match := NOT_BLANK.search(self._rest, self._at + begin)):
            begin = len(self._rest) - self._at
            if begin > self._max_bytes or not self._more():
                return b""
        begin = scanned = match.start() - self._at
        while not (match := ANY_END.search(self._rest, self._at + scanned)):
            scanned = len(self._rest) - self._at
            if scanned > self._max_bytes or not self._more():
                break
        return bytes(self._rest[self._at + begin : match.start() if match else None][: self._max_bytes])

    def read(self) -> bytes:
        """All that is left, of any size."""
        self._begin()
        while self._more():
            pass
        text, self._at = bytes(self._rest[self._at :]), len(self._rest)
        return text

    def ready(self, whole: Callable[[bytes], bool] = lambda row: True) -> bool:
        """Whether a line that is not blank was read already; `whole` says whether lines up to one are a whole row."""
        start = self._at
        while match := self._pattern().search(self._rest, start):
            start = match.end()
            row = self._rest[self._at : start]
            if NOT_BLANK.search(row) and whole(bytes(row)):
                return True
        return False

    def _begin(self) -> None:
        """Pass over a byte order mark."""
        if self._begun:
            return
        self._begun = True
        while len(self._rest) < len(BOM) and BOM.startswith(self._rest) and self._more():
            pass
        if self._rest.startswith(BOM):
            self._at = len(BOM)

    def _pattern(self) -> "re.Pattern[bytes]":
        return LF if self._lone is False and not self.every_end else ANY_END

    def _end(self, start: int) -> int | None:
        """Where the line ends that has no end before `start`; None if that is not known yet."""
        match = self._pattern().search(self._rest, start)
        if match is None:
            return None
        tail = self._rest[match.start() : match.start() + MOST_CR + 1]
        if self._ended or tail.strip(b"\r") or len(tail) > MOST_CR:
            return match.end()
        if not self._pipe:  # it ends in CR, and so does what was read: read on
            return None
        self._open = True
        return match.start() + 1

    def _pass_end(self) -> None:
        """Pass over what is left of the end of the last line."""
        while self._open:
            match = LEFT_OVER.match(self._rest, self._at)
            if match is None and not self._rest[self._at :].strip(b"\r") and self._more():
                continue
            self._open = False
            if self._lone is None:
                self._lone = match is None
            if match is not None:
                self._at = match.end()

    def _pass_line(self) -> Line:
        """Pass over a line that is too long, in the memory of a block."""
        self._count += 1
        end = None
        while end is None:
            self._at = max(self._at, len(self._rest) - MOST_CR)
            if not self._more():
                end = self._end(self._at) or len(self._rest)
            else:
                end = self._end(self._at)
        if self._lone is None and not self._open:
            self._lone = self._rest[end - 1 : end] == b"\r"
        self._at = end
        return self._count, None

    def _more(self) -> bool:
        """Read a block; what was given goes. False at the end of the stream."""
        if self._ended:
            return False
        try:
            if self._file_number is not None:  # of a pipe that does not block, nothing yet would look like its end
                select.select([self._file_number], [], [])
            block = self._stream.read1(BLOCK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{self._name} is no whole gzip file: {error}; pack it again") from None
        except OSError as error:
            raise DataError(f'cannot read "{self._name}": {error.strerror or error}; pass a file, {ACCEPTED}') from None
        self.sha256.update(block)
        del self._rest[: self._at]
        self._at = 0
        self._rest += block
        self._ended = not block
        return bool(block)


def _file_number(stream: Any) -> int | None:
    try:
        number: int = stream.fileno()
    except (AttributeError, OSError, ValueError):  # bytes in memory
        return None
    return number
