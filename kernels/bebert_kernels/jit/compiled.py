"""A stage as Numba compiles it: a C function of its own, compiled alone, once, when a program first needs it.

Numba compiles a kernel again inside every kernel that calls it. The stages of a program are large and few models
need all of them, so each is compiled into a C function, and a program holds its address.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.ccallback import CFunc

from bebert_kernels.jit.cache import cache_for

COUNT = 6
ARGUMENTS = (types.int64,) * COUNT


class CompiledStage:
    """A function of six int64 that returns nothing, compiled or taken from the cache."""

    def __init__(self, function: Callable[..., Any]):
        compiled: Any = CFunc(function, (ARGUMENTS, types.void), {}, {"nopython": True, "error_model": "numpy"})
        compiled._cache = cache_for(function)  # as numba's own enable_caching does
        self._compiled = compiled

    @property
    def address(self) -> int:
        """Address of the C function; the first request in a process compiles it or takes it from the cache."""
        if self._compiled.address is None:
            self.compile()
        return int(self._compiled.address)

    def compile(self) -> None:
        """Compile, or take from the cache."""
        self._compiled.compile()

    def load(self) -> bool:
        """Take it from the cache if it is there; whether it can now be called without compiling."""
        if self._compiled.address is None and self._compiled._cache.holds(self._compiled._sig):
            self.compile()
        return self._compiled.address is not None

    def assembly(self) -> str:
        """Assembly of what was compiled in this process."""
        return str(self._compiled._library.get_asm_str())
