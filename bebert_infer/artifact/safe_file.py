"""The bytes of one file of a model folder: a regular file of the folder itself or of a hub cache, or an exact error.

A downloaded folder may hold links to anything, so where a name leads is checked before it is opened:

    a regular file in the folder                       accepted
    a link to a file in the same folder                accepted
    a link from <repository>/snapshots/<revision>/… to <repository>/blobs/…, as Hugging Face caches have   accepted
    that leads on to <cache>/blobs/<two letters>/<hash>, where such a cache keeps what repositories share  accepted
    any other link, a folder, pipe, socket or device   refused, without opening it: opening a pipe would wait for ever

The folder that the user names may itself be a link.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from bebert_infer.errors import ModelFormatError

SHARED = re.compile(r"[0-9a-f]{64}")  # the name of a file in the part of a hub cache that repositories share
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


@contextmanager
def opened(file: Path, most: int | None = None) -> Iterator[tuple[FileIO, int]]:
    """Open a file of a model folder; gives the stream and its size, at most `most` bytes. Raises ModelFormatError."""
    try:
        real = _checked(file)
        # No link in its last part any more, and no waiting if somebody puts a pipe there in this moment.
        number = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError, a NUL a ValueError
        if isinstance(error, ModelFormatError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelFormatError(f"{file} cannot be read: {reason}; it must be a readable regular file") from None
    with FileIO(number, "rb") as stream:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise ModelFormatError(f"{file} is {_kind(status.st_mode)}; expected is a regular file")
        if most is not None and status.st_size > most:
            raise ModelFormatError(f"{file} has {status.st_size} bytes; at most {most} are accepted")
        yield stream, status.st_size


def read_bytes(file: Path, most: int) -> bytes:
    """Return the content of a file of a model folder, at most `most` bytes. Raises ModelFormatError."""
    with opened(file, most) as (stream, size):
        buffer = bytearray(size)
        fill(stream, memoryview(buffer), file)
    return bytes(buffer)


def fill(stream: FileIO, buffer: memoryview, file: Path) -> None:
    """Read exactly as many bytes as the buffer has room for. Raises ModelFormatError if the file ends before."""
    done = 0
    while done < len(buffer):
        try:
            count = stream.readinto(buffer[done : done + 2**24])
        except OSError as error:
            raise ModelFormatError(f"{file} cannot be read at byte {done}: {error.strerror}; fetch it again") from None
        if not count:
            raise ModelFormatError(f"{file} ended at byte {done} while it was read, expected {len(buffer)}; try again")
        done += count


def _checked(file: Path) -> Path:
    """Where a name leads, if that is a place that may be read."""
    root, real = file.parent.resolve(strict=True), file.resolve(strict=True)
    repositories = [parent.parent for parent in root.parents if parent.name == "snapshots"]
    places = [root, *(repository / "blobs" for repository in repositories)]
    if SHARED.fullmatch(real.name):
        places += [repository.parent / "blobs" / real.name[:2] for repository in repositories]
    if real.parent not in places:
        raise ModelFormatError(f"{file} is a link to {real}, outside of the model folder; put the file itself there")
    mode = real.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ModelFormatError(f"{file} is {_kind(mode)}; expected is a regular file")
    return real


def _kind(mode: int) -> str:
    return KINDS.get(stat.S_IFMT(mode), "no file")
