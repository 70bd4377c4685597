"""The decorator of every kernel: compiled without the GIL, kept on disk where only this user can write.

Compiled code on disk is code that a later process runs, so the folder has to be ours alone: `cache_directory`
creates it with mode 0700, checks owner and mode, and gives up (no cache at all) where that fails. Numba
invalidates a cached kernel when the file that defines it changes, but not when a helper in another file does;
hence the name of the folder holds a hash of all files of this package. A cache that cannot be read or written
costs the compilation and nothing else.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

_config: Any = numba.config


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call for each combination of types: no GIL, no threads, no fast math, C division.

    Under NUMBA_DISABLE_JIT=1 the function stays plain Python.
    """
    compiled: Any = numba.njit(nogil=True, fastmath=False, error_model="numpy")(function)
    directory = cache_directory()
    if directory is None or compiled is function:
        return compiled
    before = _config.CACHE_DIR
    _config.CACHE_DIR = str(directory)  # read when the cache object is made; other numba code must not see it
    try:
        cache = _ForgivingCache(function)
    except RuntimeError:  # numba found no place that it can write
        return compiled
    finally:
        _config.CACHE_DIR = before
    if Path(cache.cache_path).is_relative_to(directory):  # numba falls back to public places; we do not
        compiled._cache = cache
    return compiled


class _ForgivingCache(FunctionCache):
    """A cache on disk whose faults (full disk, damaged file) are a reason to compile, not to fail."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle can raise anything
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # saving reads the index first, which can be damaged too
            pass


@functools.cache
def cache_directory() -> Path | None:
    """Private folder of the compiled kernels of exactly these sources and versions, or None if there is none.

    $BEBERT_CACHE_DIR, else $XDG_CACHE_HOME/bebert-infer, else ~/.cache/bebert-infer; in it one folder a key.
    """
    try:
        if chosen := os.environ.get("BEBERT_CACHE_DIR"):
            base = Path(chosen)
        elif chosen := os.environ.get("XDG_CACHE_HOME"):
            base = Path(chosen) / "bebert-infer"
        else:
            base = Path.home() / ".cache" / "bebert-infer"
        base = base.absolute().resolve()
        directory = base / _source_key(Path(__file__).parent)
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    return directory if _is_private(base) and _is_private(directory) else None


def _is_private(directory: Path) -> bool:
    """Whether this user owns the folder, can write there, and nobody else has any right to it."""
    status = directory.stat()
    return status.st_uid == os.getuid() and status.st_mode & 0o077 == 0 and os.access(directory, os.W_OK)


def _source_key(package: Path) -> str:
    """Hash over the Python files of a folder and the versions that generate code."""
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(f"{numba.__version__} {llvmlite.__version__} {np.__version__}".encode())
    return digest.hexdigest()[:16]


@functools.cache
def cpu_features() -> frozenset[str]:
    """Names of the instruction sets that kernels are compiled for, as LLVM spells them; empty without JIT.

    NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are honoured, so that tests can imitate smaller CPUs.
    """
    if _config.DISABLE_JIT:
        return frozenset()
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return frozenset(feature[1:] for feature in features if feature.startswith("+"))


def popcount(word: np.uint64) -> np.int64:
    """Count of the 1 bits of a uint64: LLVM ctpop in kernels, where loops over it still vectorize."""
    return np.int64(np.bitwise_count(word))


@intrinsic
def _ctpop(typing_context, word):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.ctpop(arguments[0])

    return numba.types.int64(numba.types.uint64), generate


@overload(popcount, inline="always")
def _popcount_overload(word):  # type: ignore[no-untyped-def]  # numba compares it with the lambda's
    return lambda word: _ctpop(word)  # type: ignore[call-arg]  # numba adds the first
