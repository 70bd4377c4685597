"""What kernels accept: dtype, shape and memory layout of arrays, checked before any address is used."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Size = int | str  # a letter stands for any size


def array(name: str, value: Any, dtypes: type | tuple[type, ...], shape: tuple[Size, ...]) -> NDArray[Any]:
    """Read-only view of `value`, if it is a C-contiguous array of one of the dtypes and of the shape.

    Read-only so that numba compiles one variant, whether the array came from a memory map or from NumPy.

    Raises ValueError with the name, what was given and what is accepted.
    """
    accepted = dtypes if isinstance(dtypes, tuple) else (dtypes,)
    fits = isinstance(value, np.ndarray) and value.dtype.type in accepted and value.ndim == len(shape)
    if fits:  # a plain loop: this runs for every array of every call, a generator would double its cost
        for want, have in zip(shape, value.shape, strict=True):
            if want != have and isinstance(want, int):
                fits = False
        flags = value.flags
        fits = fits and flags.c_contiguous and flags.aligned and value.dtype.isnative
    if not fits:
        names = " or ".join(np.dtype(dtype).name for dtype in accepted)
        wanted = ", ".join(str(size) for size in shape)
        raise ValueError(f"{name} is {_describe(value)}; accepted: C-contiguous {names}[{wanted}]")
    view = value.view(np.ndarray)
    view.flags.writeable = False
    return view


def whole(name: str, value: Any, low: int, high: int) -> int:
    """The value, if it is an integer in low..high; else ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; accepted: an integer from {low} to {high}")
    return int(value)


def rows(name: str, value: Any, count: Size, table: str, size: int) -> NDArray[np.int64]:
    """Read-only view of int64 row numbers, if all of them are in a table of `size` rows; else ValueError."""
    view = array(name, value, np.int64, (count,))
    if view.size and not (view.min() >= 0 and view.max() < size):
        wrong = int(view[(view < 0) | (view >= size)][0])
        raise ValueError(f"{name} holds {wrong}; accepted: 0 to {size - 1}, the rows of {table}")
    return view


def _describe(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return f"{type(value).__name__} {value!r}"[:80]
    layout = "" if value.flags.c_contiguous and value.flags.aligned else ", not contiguous"
    return f"{value.dtype}[{', '.join(map(str, value.shape))}]{layout}"
