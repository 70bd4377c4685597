"""Arrays that lie against unmapped memory: what touches a byte outside of one ends the process.

`Guard("end")` puts the last byte of every array before a page without access, `Guard("start")` the first byte behind
one. The rest of an array's first or last page holds a pattern, which `check` looks at, so that a write on the far side
is noticed too.
"""

import ctypes
import mmap
import weakref
from types import ModuleType
from typing import Any

import numpy as np

from bebert_kernels.bitsliced.layout import PLANE

PATTERN = 0xA5
PROT_NONE = 0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guard:
    """Makes arrays whose `side` ("start" or "end") lies against a page that nobody may touch."""

    def __init__(self, side: str):
        self.side = side
        self._alive: dict[int, tuple[Any, int, int, int]] = {}

    def empty(self, shape: Any, dtype: Any = np.float64, border: int = 1) -> np.ndarray:
        """Like numpy.empty, at a multiple of `border` bytes; the pages go when the array does."""
        shape = (shape,) if np.isscalar(shape) else tuple(shape)
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        size, page = count * kind.itemsize, mmap.PAGESIZE
        size = -(-size // border) * border
        room = max(1, -(-size // page)) * page
        memory = mmap.mmap(-1, room + 2 * page)
        first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        whole = np.frombuffer(memory, np.uint8)
        whole[page : page + room] = PATTERN
        for edge in (first, first + page + room):
            if _libc.mprotect(edge, page, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        start = page + (room - size if self.side == "end" else 0)
        found = np.frombuffer(memory, kind, count, start).reshape(shape)
        slack = (page, start) if self.side == "end" else (start + size, page + room)
        self._alive[first] = (weakref.ref(memory), first, *slack)
        weakref.finalize(memory, self._alive.pop, first, None)
        return found

    def zeros(self, shape: Any, dtype: Any = np.float64) -> np.ndarray:
        """Like numpy.zeros."""
        found = self.empty(shape, dtype)
        found[...] = 0
        return found

    def aligned(self, shape: Any, dtype: Any) -> np.ndarray:
        """Like `triples.aligned`. Panels of words (a half one may come last) keep the border that kernels rely on."""
        return self.empty(shape, dtype, PLANE if dtype is np.uint64 else 1)

    def copy(self, values: Any, border: int = 1) -> Any:
        """The same array in guarded memory; anything else as it is."""
        if isinstance(values, tuple | list):
            return type(values)(self.copy(value) for value in values)
        if not isinstance(values, np.ndarray) or values.ndim == 0:
            return values
        found = self.empty(values.shape, values.dtype, border)
        found[...] = values
        return found

    def check(self) -> None:
        """Raise AssertionError if a byte around an array that is alive has changed."""
        for memory, first, begin, end in list(self._alive.values()):
            if memory() is not None and end > begin:
                around = np.frombuffer(memory(), np.uint8, end - begin, begin)
                assert (around == PATTERN).all(), f"bytes around the array at {first + begin:#x} were written"

    def numpy(self) -> Any:
        """The module numpy, but what `empty`, `zeros`, `array` and the like make lies in guarded memory."""
        guard = self

        class Module(ModuleType):
            def __getattr__(self, name: str) -> Any:
                return getattr(np, name)

        module = Module("numpy")
        module.empty, module.zeros = guard.empty, guard.zeros  # type: ignore[attr-defined]
        for name in ("array", "zeros_like", "empty_like", "ones", "full", "ascontiguousarray", "concatenate"):
            setattr(module, name, _copied(guard, getattr(np, name)))
        return module


def _copied(guard: Guard, function: Any) -> Any:
    return lambda *arguments, **options: guard.copy(function(*arguments, **options))
