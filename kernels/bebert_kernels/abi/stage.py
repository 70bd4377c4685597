"""Kernels that a program calls by address: compiled alone, once, when a program first needs them.

Numba compiles a kernel again inside every kernel that calls it. The stages of a program are large and few models
need all of them, so each is compiled into a C function of its own, and a program holds its address.
"""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.ccallback import CFunc

from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import I64
from bebert_kernels.jit.cache import cache_for


class Stage:
    """A kernel whose arguments are six int64 and which returns nothing."""

    def __init__(self, function: Callable[..., Any]):
        self.__doc__, self.name = function.__doc__, function.__name__
        self.path = f"{function.__module__}:{function.__name__}"
        compiled: Any = CFunc(function, (_ARGUMENTS, types.void), {}, {"nopython": True, "error_model": "numpy"})
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

    def __call__(self, *arguments: int) -> None:
        """Call it from Python: six integers."""
        if self._compiled.address is None:
            self.compile()
        self._compiled.ctypes(*arguments)


COUNT = 6
_ARGUMENTS = (types.int64,) * COUNT


def stage(function: Callable[..., Any]) -> Stage:
    """Decorator of the stages of a program."""
    return Stage(function)


@emitted()
def call(e: Emitter, address: Value, a: Value, b: Value, c: Value, d: Value, f: Value, g: Value) -> None:
    """Call the stage at an address."""
    kind = ir.FunctionType(ir.VoidType(), [I64] * COUNT)
    e.builder.call(e.builder.inttoptr(address, kind.as_pointer()), [a, b, c, d, f, g])


def available() -> bool:
    """Whether programs can run: not under NUMBA_DISABLE_JIT."""
    config: Any = numba.config
    return not config.DISABLE_JIT
