"""Rows of tables: named tuples when a program is written, int64 in memory, the same named tuples again in kernels.

A table is int64[rows, fields]; each field is a number, or the address of what stands in its place while a program is
written: an array, a stage, a list. `row` writes such a row, a reader of `emit/tables.py` is how kernels read it. Both
follow the fields of one class, so the two sides cannot drift apart.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi.stage import Stage

Table = NDArray[np.int64]
Address = Any  # of a field: an array, a stage, a list or None while a program is written; an int64 in kernels
Pin = Callable[[NDArray], int]  # keeps an array alive as long as the program, and returns its address

WORD = 8  # bytes of a field


def row(fields: Iterable[Any], pin: Pin) -> list[int]:
    """Return the int64 of a row: numbers as they are, arrays and stages by their addresses, None as 0.

    A list becomes a table of its own, int64[rows, fields] if it holds rows and int64[n] else, and gives its address.
    """
    return [_word(value, pin) for value in fields]


def _word(value: Any, pin: Pin) -> int:
    if value is None:
        return 0
    if isinstance(value, Stage):
        return value.address
    if isinstance(value, np.ndarray):
        return pin(value)
    if isinstance(value, list):
        inner = [row(item, pin) if isinstance(item, tuple) else _word(item, pin) for item in value]
        return pin(np.array(inner, np.int64))
    return int(value)


def width(kind: type[tuple]) -> int:
    """Return the count of fields of a row."""
    return len(kind._fields)  # type: ignore[attr-defined]  # named tuples have it
