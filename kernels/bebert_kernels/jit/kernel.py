"""The decorator of every kernel, compiled without the GIL and cached, and what kernels may ask about the CPU.

Importing this file settles the target of code generation (`target.py`); where compiled code is kept is the business
of `cache.py`.
"""

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

from bebert_kernels.jit import target
from bebert_kernels.jit.cache import cache_directory, cache_for

__all__ = ["cache_directory", "cpu_features", "kernel", "popcount"]

_config: Any = numba.config

target.apply()  # before any kernel asks for features, and before the name of the cache folder is computed


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call for each combination of types: no GIL, no threads, no fast math, C division.

    Under NUMBA_DISABLE_JIT=1 the function stays plain Python.
    """
    compiled: Any = numba.njit(nogil=True, fastmath=False, error_model="numpy")(function)
    if compiled is not function:
        compiled._cache = cache_for(function)
    return compiled


@functools.cache
def cpu_features() -> frozenset[str]:
    """Names of the instruction sets that kernels are compiled for, as LLVM spells them; empty without JIT.

    BEBERT_ISA, NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are honoured, so that tests can imitate smaller CPUs.
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
