"""`NAME.part`: the answers of a run so far, one JSON line a row, so that a run that was cut off can go on.

Beside it lies `NAME.part.json`: what the answers were made from (input, model, options). A new run counts the whole
lines, cuts off a torn last one and goes on behind them, but only if those facts are its own. At the end the part takes
the place of the output, or a table made from it does; so the output is there whole or not at all.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bebert_infer.atomic_files import staging, write_json
from bebert_infer.errors import DataError, InputError


class ResumeFile:
    """The part of one output, locked against a second run; it has `rows` answers, `bad` of them errors."""

    def __init__(self, output: Path, facts: dict[str, Any] | None, restart: bool = False):
        """Open or make it. `facts` None: the input cannot be read again (a pipe), so the part goes with a failure.

        Where `output` is a link, all of this happens where it points, and the link stays.

        Raises InputError if another run is writing it, or if it belongs to another run and `restart` is False;
        DataError if there is no room.
        """
        self.output = output = Path(os.path.realpath(output))  # renaming to a link would put a file in its place
        self.path = output.with_name(output.name + ".part")
        self._facts_file = output.with_name(output.name + ".part.json")
        self.resumable = facts is not None
        self.rows = self.bad = 0
        try:
            self._stream = self._locked()
        except OSError as error:
            raise InputError(f'cannot write "{self.path}": {error.strerror}; choose another --output') from None
        try:
            if restart or not self._stream.seek(0, os.SEEK_END):
                self._stream.truncate(0)
                self._write_facts(facts)
            else:
                self._check(facts)
                self._stream.truncate(self._count())
            self._stream.seek(0, os.SEEK_END)
        except BaseException:
            self._stream.close()
            raise

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Write records, whose first key is "row" with numbers from `rows` + 1 on. Raises DataError."""
        lines = [(json.dumps(one, ensure_ascii=False) + "\n").encode() for one in records]
        try:
            self._stream.write(b"".join(lines))
            self._stream.flush()
        except OSError as error:
            raise _no_room(self.path, error) from None
        self.rows += len(lines)

    def finish(self, make: Callable[[Path, Path], None] | None) -> None:
        """Put the output in its place: the part itself, or what `make(part, target)` makes of it. Raises DataError."""
        try:
            os.fsync(self._stream.fileno())
            if make is None:
                self.path.replace(self.output)
            else:
                with staging(self.output) as made:
                    make(self.path, made)
                self.path.unlink()
            self._facts_file.unlink(missing_ok=True)
        except OSError as error:
            raise _no_room(self.output, error) from None
        self._stream.close()

    def leave(self) -> bool:
        """Close after a failure; True if answers are kept for a next run."""
        kept = self.resumable and self.rows > 0
        if not kept:
            self.path.unlink(missing_ok=True)
            self._facts_file.unlink(missing_ok=True)
        with suppress(OSError):  # what found no room is tried again; the next run cuts the torn line off
            self._stream.close()
        return kept

    def _locked(self) -> Any:
        while True:
            stream = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "rb+")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                stream.close()
                raise InputError(
                    f'another run is writing "{self.path}"; wait for it or choose another --output'
                ) from None
            try:
                if os.path.samestat(os.fstat(stream.fileno()), self.path.stat()):
                    return stream
            except FileNotFoundError:
                pass
            stream.close()  # the other run finished in between, and this is its output now

    def _write_facts(self, facts: dict[str, Any] | None) -> None:
        try:
            write_json(self._facts_file, facts)
        except OSError as error:
            self.path.unlink(missing_ok=True)  # still empty
            raise _no_room(self._facts_file, error) from None

    def _check(self, facts: dict[str, Any] | None) -> None:
        try:
            saved = json.loads(self._facts_file.read_text("utf-8"))
        except (OSError, ValueError):
            saved = None
        if not isinstance(saved, dict) or facts is None:
            other = "a run that cannot be continued"
        elif changed := [name for name in facts if saved.get(name) != facts[name]]:
            other = f"a run with another {' and another '.join(changed)}"
        else:
            return
        raise InputError(f'"{self.path}" holds answers of {other}; pass --restart to drop them, or another --output')

    def _count(self) -> int:
        """Count whole lines from the start; returns their bytes. What follows was torn by a kill or a power cut."""
        size = 0
        self._stream.seek(0)
        for line in self._stream:
            head = b'{"row": %d, ' % (self.rows + 1)
            if not (line.startswith(head) and line.endswith(b"}\n")):
                break
            self.rows, size = self.rows + 1, size + len(line)
            self.bad += line.startswith(head + b'"error": ')
        return size


def _no_room(path: Path, error: OSError) -> DataError:
    reason = error.strerror or error  # pyarrow's have no strerror
    return DataError(f"cannot write {path}: {reason}; make room and run it again")
