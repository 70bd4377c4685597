"""Where the machine code of stages comes from: a library compiled ahead, or Numba, just in time, with the same bits.

    BEBERT_KERNELS=ahead    the library that came with the package, or an error that says why not
    BEBERT_KERNELS=jit      Numba (extra `jit`), whose results are kept (`jit/cache.py`)
    not set                 the library; where there is none that fits, Numba if it is installed, and that is said;
                            also Numba where NUMBA_CPU_NAME or NUMBA_CPU_FEATURES ask it to imitate another CPU

What comes from Numba is imported only where it compiles.
"""

import functools
import importlib
import importlib.util
import os
import platform
import sys

from bebert_kernels.ahead.library import Library, LibraryError, open_library
from bebert_kernels.cpu import isa

CHOICES = ("ahead", "jit")


@functools.cache
def library() -> Library | None:
    """The library whose code this process runs, None if Numba compiles it.

    Raises LibraryError for a wrong BEBERT_KERNELS, and where neither is to be had.
    """
    chosen = os.environ.get("BEBERT_KERNELS", "").strip().lower()
    if chosen not in ("", *CHOICES):
        raise LibraryError(f'BEBERT_KERNELS is "{chosen}"; accepted are {" and ".join(CHOICES)}, or nothing')
    if not may_compile():
        return None
    numba = importlib.util.find_spec("numba") is not None
    asked = ["BEBERT_KERNELS"] if chosen == "jit" else []
    asked += [name for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES") if not chosen and name in os.environ]
    if asked:
        if not numba:
            raise LibraryError(
                f"{asked[0]} asks for kernels compiled here, which needs the package numba: "
                f"pip install 'bebert-infer[jit]', or unset {asked[0]}"
            )
        return None
    try:
        return open_library()
    except LibraryError as error:
        if chosen == "ahead" or not numba:
            raise
        if error.unexpected and os.environ.get("BEBERT_QUIET", "0") in ("", "0") and sys.stderr is not None:
            sys.stderr.write(f"bebert: {error}; Numba is installed and compiles instead\n")
        return None


def code_features() -> frozenset[str]:
    """Names, as LLVM spells them, of the instruction sets of the code that runs; empty under NUMBA_DISABLE_JIT."""
    found = library()
    if found is not None or not may_compile():
        return found.features if found else frozenset()
    features: frozenset[str] = importlib.import_module("bebert_kernels.jit.kernel").cpu_features()
    return features


def accepted_levels() -> list[str]:
    """What BEBERT_ISA accepts here, smallest first: all that the CPU runs, or without Numba those of the package."""
    found = library()
    only = os.environ.get("BEBERT_KERNELS", "").strip().lower() == "ahead" or not importlib.util.find_spec("numba")
    if found is not None and only:
        return list(found.levels)
    return isa.available_levels(platform.machine(), isa.host_features())


def may_compile() -> bool:
    """Whether machine code runs at all: not under NUMBA_DISABLE_JIT, with which kernels are plain Python."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
