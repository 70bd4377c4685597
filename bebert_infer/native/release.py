"""Weights that a program has taken over in another form: their old bytes go back to the system, page by page.

A product that reads the words of the model file leaves them where they are. The others have panels of their own, and a
board has no memory for both.
"""

import ctypes
import functools
import mmap
from collections.abc import Callable, Iterable
from typing import Any

from numpy.typing import NDArray

from bebert_infer.model.linear import Branch
from bebert_infer.native.program_builder import Program, address_of

DONTNEED = 4  # MADV_DONTNEED of Linux


def release_signs(program: Program, branches: Iterable[Branch]) -> None:
    """Give back the signs of branches that no product of the program reads in place, if the program may.

    The branches cannot compute any more, and say so: their signs are gone.
    """
    if not program.releases:
        return
    for branch in branches:
        if address_of(branch.signs) not in program.pinned:
            give_back(branch.signs)
            branch.forget()


def give_back(array: NDArray[Any]) -> None:
    """Let the system have the whole pages of an array that nobody will read again; they would read as 0."""
    advise = _madvise()
    begin = -(-address_of(array) // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (address_of(array) + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if advise is not None and end > begin:
        advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), DONTNEED)


@functools.cache
def _madvise() -> Callable[..., int] | None:
    try:
        return ctypes.CDLL(None).madvise  # type: ignore[no-any-return]
    except (OSError, AttributeError):  # no Linux: the bytes stay
        return None
