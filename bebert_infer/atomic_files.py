"""Files of one's own, written whole or not at all, at places that are checked before the work."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from bebert_infer.errors import DataError, InputError


def write_json(file: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all."""
    with whole_file(file) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def whole_file(file: Path) -> Iterator[TextIO]:
    """A text stream beside `file` that takes its place when the block ends, and vanishes if the block fails."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            yield stream
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Raises DataError for what the system refuses while the block writes `target`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror}; make room or choose another place") from None


def check_target(folder: Path, option: str, value: Path) -> None:
    """Raise InputError if files cannot be made in a folder or, where it is not there yet, in the one to hold it.

    A file is made and goes again: the permission bits do not tell for root, nor for /proc or a read-only disk. To be
    called before minutes of work, not after.
    option, value : what the user passed, for the message
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(
            f'{option} is "{value}", where nothing can be written: {error.strerror}; choose another place'
        ) from None
