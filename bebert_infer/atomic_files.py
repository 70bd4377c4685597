"""Files and folders written whole or not at all, whatever kills the process, at places checked before the work.

New content is made in a hidden folder beside the target, `.<name>.<random>.partial`, which its writer keeps locked.
When it is whole, one `renameat2(RENAME_EXCHANGE)` swaps it with an old folder, so there is no moment without a model.
A writer that was killed leaves its hidden folder behind, without the lock: the next writer of that name removes it.

Where the kernel or the file system cannot exchange (old kernels, some network file systems), the old folder is
renamed to `.<name>.<random>.partial/old` first. A kill between these two renames leaves no model in its place; the
next writer moves the old one back before it begins.
"""

import ctypes
import errno
import fcntl
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from bebert_infer.errors import DataError, InputError

NEW, OLD = "new", "old"
AT_FDCWD, RENAME_EXCHANGE = -100, 2
SUFFIX = ".partial"


def write_json(file: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all. Raises OSError."""
    with whole_file(file) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def whole_file(file: Path) -> Iterator[TextIO]:
    """A text stream whose content takes the place of `file` when the block ends without an error. Raises OSError."""
    with staging(file) as made, made.open("w", encoding="utf-8") as stream:
        yield stream


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Give the path at which to make the new `target`; it takes its place when the block ends without an error.

    The path has the same name, in a hidden folder beside the target, and does not exist yet. Where the target is a
    link, what it leads to is replaced. Raises OSError, also for a file where a folder is.
    """
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(target)
    place, lock = _make(target)
    try:
        made = place / NEW / target.name
        made.parent.mkdir()
        yield made
        _sync(made)
        _put(made, target, place / OLD)
        _sync_names(target.parent)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if lock is not None:
            os.close(lock)


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


def _make(target: Path) -> tuple[Path, int | None]:
    """A hidden folder beside the target and its lock; another writer may clear it away before it is locked."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=target.parent))
        lock = _lock(place)
        if place.is_dir():
            return place, lock
        if lock is not None:
            os.close(lock)


def _sync(made: Path) -> None:
    """Bring a file, or a folder with all in it, to the disk: after a power cut too, what has its name is whole."""
    for path in [*made.rglob("*"), made] if made.is_dir() else [made]:
        if path.is_dir():
            _sync_names(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _sync_names(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _put(made: Path, target: Path, aside: Path) -> None:
    if not (target.is_dir() and made.is_dir()):
        made.replace(target)  # rename is atomic where nothing or a file is, and refuses a file in place of a folder
        return
    if exchange(made, target):
        return
    target.rename(aside)
    try:
        made.rename(target)
    except BaseException:
        aside.rename(target)
        raise


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where that is not possible here. Raises OSError if it fails otherwise."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # no Linux, or a C library older than 2018
        return False
    if function(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _clear(target: Path) -> None:
    """Remove what killed writers of this target left: hidden folders that nobody has locked."""
    for place in target.parent.glob(f".{glob.escape(target.name)}.*{SUFFIX}"):
        if "." in place.name[len(target.name) + 2 : -len(SUFFIX)]:
            continue  # of another target: `model.v2` is none of `model`
        lock = _lock(place)
        if lock is None:
            continue
        if (place / OLD).exists() and not target.exists():
            (place / OLD).rename(target)
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder until the number is closed or the process ends; None if another process has it."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # no folder, or another writer removed it just now
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number
