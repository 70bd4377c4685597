"""The look-up product in the shapes of other CPUs, so that this one can test them, in arrays of exactly the right size.

Arrays come from a `Room`, which notices what is written beside them, or from a `guard.Guard`, which also ends the
process at a read.
"""

from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from bebert_kernels import packing
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.jit.kernel import cpu_features
from bebert_kernels.lookup.encode import make_encode
from bebert_kernels.lookup.layout import (
    ENTRIES,
    INPUTS,
    PORTABLE,
    SHAPES,
    EncodedRows,
    Shape,
    bias_of,
    lut_weights,
    row_layout,
)
from bebert_kernels.lookup.layout import groups_of as groups_in
from bebert_kernels.lookup.tile import BASE, BIAS, TOTAL, WINDOWS, make_multiply

HERE = [shape for feature, shape in SHAPES.items() if feature in cpu_features()]
EVERY = [*HERE, PORTABLE]  # the shapes that run here
NAMES = [shape.shuffle for shape in EVERY]
KEPT = 77  # what arrays hold, and what lies behind them, before a kernel writes


class Kernels(NamedTuple):
    """The intrinsics of one shape, each in a function of its own."""

    encode: Any
    multiply: Any


@cache
def kernels_for(shape: Shape) -> Kernels:
    """Both kernels of a shape, compiled at their first call and never kept in a cache."""
    emit_encode, emit_multiply = make_encode(shape), make_multiply(shape)

    def encode(codes, rows, depth, low, bias, out):  # type: ignore[no-untyped-def]
        emit_encode(codes, rows, depth, low, bias, out)

    def multiply(rows, count, depth, weights, vectors, scratch, scale, add, stride, out):  # type: ignore[no-untyped-def]
        emit_multiply(EncodedRows(rows, count, depth), weights, vectors, scratch, scale, add, stride, out)

    found = []
    for function in (encode, multiply):
        # Numba names machine code by this and a number that counts in each process: with one name for all shapes, one
        # shape's code could answer for another's where a process has compiled them in another order.
        function.__qualname__ = "_".join(map(str, (function.__name__, *shape)))
        found.append(numba.njit(nogil=True, error_model="numpy")(function))
    return Kernels(*found)


class Room:
    """Makes arrays that hold KEPT, and have it behind them."""

    def __init__(self) -> None:
        self._behind: list[NDArray[np.uint8]] = []

    def empty(self, shape: Any, dtype: Any) -> NDArray[Any]:
        """An array at the border of a cache line."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(size + 3 * 64, KEPT, np.uint8)
        start = -memory.ctypes.data % 64
        self._behind += [memory[:start], memory[start + size :]]
        return memory[start : start + size].view(dtype).reshape(shape)

    def check(self) -> None:
        """Raise AssertionError if bytes around an array have changed."""
        assert all((part == KEPT).all() for part in self._behind), "written outside of an array"


def copy(room: Any, values: NDArray[Any]) -> NDArray[Any]:
    """The same values in an array of the room."""
    found = room.empty(values.shape, values.dtype)
    found[...] = values
    return found


def encode(shape: Shape, codes: NDArray[np.uint8], low: int = 0, bits: int = 4, room: Any = None) -> NDArray[np.uint8]:
    """Rows uint8[M, row_layout(depth).size] of codes that are counted from low."""
    room = room or Room()
    (rows, depth), codes = codes.shape, copy(room, codes)
    encoded = room.empty((rows, row_layout(depth).size), np.uint8)
    kernels_for(shape).encode(codes.ctypes.data, rows, depth, low, bias_of(low, bits), encoded.ctypes.data)
    room.check()
    return encoded


class Scaling(NamedTuple):
    """What a product makes of its integers: float32[N] each; `add` may be float32[M, N], a row of the result each."""

    scale: NDArray[np.float32]
    add: NDArray[np.float32]


def product(
    shape: Shape,
    codes: NDArray[np.uint8],
    negative: NDArray[np.bool_],
    low: int = 0,
    bits: int = 4,
    scaling: Scaling | None = None,
    room: Any = None,
) -> NDArray[np.float32]:
    """float32[M, N] of codes that are counted from low, panel by panel, as `lookup/stages.py` goes through them.

    negative : bool[N, K], True for a weight of -1      scaling : 1 and 0 for the integers if None
    """
    room = room or Room()
    (rows, depth), outputs, lanes = codes.shape, len(negative), shape.lanes
    encoded = encode(shape, codes, low, bits, room)
    weights = copy(room, lut_weights(packing.pack_bits(negative), depth, shape))
    scratch = room.empty((shape.index_bytes(depth),), np.uint8)
    found = np.empty((rows, outputs), np.float32)
    if scaling is None:
        scaling = Scaling(np.ones(outputs, np.float32), np.zeros(outputs, np.float32))
    for start in range(0, outputs, PANEL_OUTPUTS):
        part = slice(start, min(start + PANEL_OUTPUTS, outputs))
        vectors = -(-(part.stop - start) // lanes)
        scale = room.empty((vectors * lanes,), np.float32)
        scale[:], scale[: part.stop - start] = 0, scaling.scale[part]
        # Rows of results are a panel apart; of the last one no more exists than is written.
        out = room.empty(((rows - 1) * PANEL_OUTPUTS + vectors * lanes,), np.float32)
        out[:] = -KEPT
        at = np.arange(rows)[:, None] * PANEL_OUTPUTS + np.arange(vectors * lanes)
        if scaling.add.ndim == 1:
            add, stride = room.empty((vectors * lanes,), np.float32), 0
            add[:], add[: part.stop - start] = 0, scaling.add[part]
        else:  # as a second branch: to what the first one has left
            add, stride = out, 4 * PANEL_OUTPUTS
            out[at[:, : part.stop - start]] = scaling.add[:, part]
        kernels_for(shape).multiply(
            encoded.ctypes.data,
            rows,
            depth,
            weights.ctypes.data + start // lanes * shape.vector_bytes(depth),
            vectors,
            scratch.ctypes.data,
            scale.ctypes.data,
            add.ctypes.data,
            stride,
            out.ctypes.data,
        )
        room.check()
        found[:, part] = out[at[:, : part.stop - start]]
        out[at] = -KEPT
        assert (out == -KEPT).all(), "written between the rows of a panel"
    return found


def dots(codes: NDArray[np.uint8], negative: NDArray[np.bool_], low: int = 0) -> NDArray[np.int64]:
    """What the product of these codes is, by NumPy."""
    return (codes.astype(np.int64) + low) @ np.where(negative, -1, 1).T


def random_codes(seed: int, rows: int, depth: int, bits: int = 4) -> NDArray[np.uint8]:
    """Codes counted from 0, both ends more often."""
    high = (1 << bits) - 1
    drawn = np.random.default_rng(seed).integers(-2, high + 3, (rows, depth))
    return np.clip(drawn, 0, high).astype(np.uint8)


def random_weights(seed: int, outputs: int, depth: int) -> NDArray[np.bool_]:
    """Weights, True for -1."""
    return np.random.default_rng([seed, 1]).random((outputs, depth)) < 0.5


class Row(NamedTuple):
    """The parts of one encoded row that say something; the list and the ends only as far as they are in use."""

    total: float
    base: int
    bias: int
    ends: list[int]
    list: list[int]
    tables: NDArray[np.int8]  # (groups, entries)


def read_row(row: NDArray[np.uint8], depth: int) -> Row:
    """Take an encoded row apart."""
    layout, (base, count) = row_layout(depth), (int(row[at : at + 2].view("<u2")[0]) for at in (BASE, WINDOWS))
    ends = row[layout.windows :][: 2 * count].view("<u2").tolist()
    listed = row[layout.list :][: 2 * ends[-1]].view("<u2").tolist()
    tables = row[layout.tables :].view(np.int8).reshape(-1, ENTRIES)
    return Row(float(row[TOTAL : TOTAL + 4].view("<f4")[0]), base, int(row[BIAS]), ends, listed, tables)


def groups_of(codes: NDArray[np.uint8], low: int) -> NDArray[np.int64]:
    """Codes of one row in groups, (groups, inputs), zeros behind the last."""
    found = np.zeros(groups_in(len(codes)) * INPUTS, np.int64)
    found[: len(codes)] = codes.astype(np.int64) + low
    return found.reshape(-1, INPUTS)
