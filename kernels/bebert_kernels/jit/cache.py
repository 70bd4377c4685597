"""Where compiled kernels are kept: a folder that only this user can enter, one for each set of sources and target.

Compiled code on disk is code that a later process runs, so the folder has to be ours alone (`private_folder.py`), and
where it is not there is no cache at all. Numba invalidates a cached
kernel when the file that defines it changes, but not when a helper in another file does; hence the name of the
folder is a hash of all files of this package, of the CPU and features that code is generated for, and of the
versions that generate it. A cache that cannot be read or written costs the compilation and nothing else.
"""

import functools
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache, _CacheLocator
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

import bebert_kernels
from bebert_kernels.cpu.isa import NATIVE, chosen_level
from bebert_kernels.jit import target
from bebert_kernels.private_folder import private_folder

SECONDS = 15  # about what compiling all kernels takes on a server core of 2.5 GHz
_DAY = 24 * 60 * 60
UNUSED_DAYS = 30
# Files in the folder of a key: kernels and their index (and unfinished copies), the rates of `tuning/autotune.py`.
OURS = ("*.nbi*", "*.nbc*", "rates-*.json", "*.part")


def cache_for(function: Callable[..., Any]) -> Any:
    """The cache of one kernel, in `cache_directory`, or one that keeps nothing."""
    if cache_directory() is None:
        return _NoCache()
    try:
        cache = _KernelCache(function)
    except RuntimeError:  # defined in no file
        return _NoCache()
    # NUMBA_CACHE_LOCATOR_CLASSES chooses other folders, perhaps public ones.
    return cache if cache.cache_path == str(cache_directory()) else _NoCache()


@functools.cache
def cache_directory() -> Path | None:
    """Private folder (`private_folder.py`) of the kernels of exactly these sources, target and versions, or None."""
    return find_directory()[0]


def find_directory() -> tuple[Path | None, str]:
    """The folder, created if need be, or None, and in words: where it is or why there is none."""
    return private_folder(source_key(Path(bebert_kernels.__file__).parent))


def source_key(package: Path) -> str:
    """Hash over the Python files of a package and of its rooms, the target CPU, and the versions that generate code."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update("\0".join(target.target()).encode())
    digest.update(f"{numba.__version__} {llvmlite.__version__} {np.__version__}".encode())
    return digest.hexdigest()[:16]


def remove_unused(base: Path, keep: Path) -> None:
    """Remove folders of other keys that no process has used for 30 days; never anything that we did not write.

    Only folders named like keys, ours, private and no links. Files go one by one and a folder only when it is
    empty, so a stray file of somebody else stays, and a process that still reads there compiles again at worst.
    """
    oldest = time.time() - UNUSED_DAYS * _DAY
    with suppress(OSError):
        for folder in base.iterdir():
            if folder == keep or not re.fullmatch("[0-9a-f]{16}", folder.name):
                continue
            status = folder.lstat()
            private = status.st_uid == os.getuid() and status.st_mode & 0o170777 == 0o040700
            if private and status.st_mtime < oldest:
                with suppress(OSError):  # another process may be at it
                    for file in (file for pattern in OURS for file in folder.glob(pattern)):
                        file.unlink()
                    folder.rmdir()


@functools.cache
def announce() -> None:
    """Say once on stderr that this process compiles, which takes a while; BEBERT_QUIET=1 says nothing."""
    directory = cache_directory()
    if directory is not None:
        remove_unused(directory.parent, directory)  # here, since this process is slow anyway
    if os.environ.get("BEBERT_QUIET", "0") not in ("", "0") or sys.stderr is None:
        return
    sys.stderr.write(f"bebert: {_announcement(directory)}\n")
    sys.stderr.flush()


def _announcement(directory: Path | None) -> str:
    cpu = target.target()[0] + ("" if chosen_level() == NATIVE else f" as {chosen_level()}")
    if directory is None or not os.access(directory, os.W_OK):
        return f"compiling kernels for {cpu} without a cache to keep them, about {SECONDS} s (see `bebert doctor`)"
    if any(directory.glob("*.nbc")):
        return f"compiling more kernels for {cpu}, once"
    return f"compiling kernels for {cpu}, once, about {SECONDS} s"


@functools.cache
def _content(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


class _Locator(_CacheLocator):
    """Files of all kernels lie side by side in the folder of the key, stamped with their source's content."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._py_file = file  # numba names it in warnings
        # Numba names files by stem, function and this; two rooms may both have a file of one name.
        self._place = f"{Path(file).parent.name}-{function.__code__.co_firstlineno}"

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Any:
        return cls(py_func, py_file) if Path(py_file).is_file() else None

    def ensure_cache_path(self) -> None:
        """Nothing: a folder that has gone since must not come back with the rights of the umask."""

    def get_cache_path(self) -> str:
        return str(cache_directory())

    def get_source_stamp(self) -> str:
        return _content(self._py_file)

    def get_disambiguator(self) -> str:
        return self._place


class _Results(CompileResultCacheImpl):
    _locator_classes = [_Locator]


class _KernelCache(FunctionCache):
    """A cache on disk whose faults (full disk, damaged file) are a reason to compile, not to fail."""

    _impl_class = _Results

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = None
        try:
            # FunctionCache loads numba's whole library first, half a second (with SciPy, if that is installed), which
            # only compiling needs. Loading needs the runtime that allocates arrays.
            rtsys.initialize(target_context)
            found = self._load_overload(sig, target_context)
        except Exception:  # a damaged pickle can raise anything; without its index the next save repairs it
            with suppress(Exception):
                self.flush()
        if found is None:
            announce()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(Exception):
            super().save_overload(sig, data)

    def holds(self, sig: Any) -> bool:
        """Whether there is a file for a signature; loading may still find it damaged."""
        with suppress(Exception):
            name = self._cache_file._load_index().get(self._index_key(sig, cpu_target.target_context.codegen()))
            return name is not None and Path(self._cache_file._data_path(name)).is_file()
        return False


class _NoCache(NullCache):
    def holds(self, sig: Any) -> bool:
        """No."""
        return False

    def load_overload(self, sig: Any, target_context: Any) -> None:
        announce()
