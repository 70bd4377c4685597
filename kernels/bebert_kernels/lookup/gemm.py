"""Dot products of rows of codes up to 4 bits with weight sign rows, by table look-up (see `tile.py`).

    lut_tables    once for each row of activations: codes -> tables
    lut_panel     rows times one panel of outputs
    lut_gemm      all of a product, rows in chunks whose tables stay in the cache

The weights are those of `layout.lut_weights`. There is no form for NUMBA_DISABLE_JIT: the shape is PORTABLE there, and
on CPUs without a byte shuffle, where another product is faster anyway.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import I64
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.lookup.layout import PANEL, SHAPE, Bytes, Shape
from bebert_kernels.lookup.tile import PanelBlock, TablesBlock

Sums = NDArray[np.int32]


def _tables_tile(shape: Shape) -> Any:
    """Intrinsic that writes the tables of one row: codes, row, tables, place of the row in the tables."""

    @emitted()
    def tile(e: Emitter, codes: Any, row: Value, tables: Any, place: Value) -> None:
        b, depth = e.builder, e.size(codes)
        block = TablesBlock(e, shape, b.gep(tables.data, [place]))
        block.emit(b.gep(codes.data, [b.mul(row, depth)]), depth)

    return tile


def _panel_tile(shape: Shape, rows: int) -> Any:
    """Intrinsic of a block of rows: tables, place of its first row there, panels, panel number, steps, sums, row."""

    @emitted()
    def tile(
        e: Emitter, tables: Any, place: Value, panels: Any, number: Value, steps: Value, sums: Any, row: Value
    ) -> None:
        b = e.builder
        panel = b.mul(number, b.mul(steps, I64(2 * shape.panel)))
        starts = ((tables, place), (panels, panel), (sums, b.mul(row, I64(shape.panel))))
        PanelBlock(e, shape, rows, *(b.gep(array.data, [start]) for array, start in starts)).emit(steps)

    return tile


_ROWS, _STEP, _STEP_BYTES = SHAPE.rows, SHAPE.step, SHAPE.step_bytes
_row_tables = _tables_tile(SHAPE)
_eight_rows, _four_rows, _two_rows, _one_row = (_panel_tile(SHAPE, min(rows, _ROWS)) for rows in (8, 4, 2, 1))


@kernel
def lut_tables(codes: Bytes, rows: int, tables: Bytes) -> None:
    """Tables of the sums that neighbouring codes of a row can make.

    codes  : uint8[M, K]     0..15, M >= rows
    tables : uint8[T]        T >= lut_bytes(rows, K)
    """
    steps = (codes.shape[1] + _STEP - 1) // _STEP
    for row in range(rows):
        place = (row // _ROWS * _ROWS * steps + row % _ROWS) * _STEP_BYTES
        _row_tables(codes, row, tables, place)


@kernel
def lut_panel(tables: Bytes, panels: Bytes, number: int, rows: int, depth: int, sums: Sums) -> None:
    """Sums of the codes whose weight is -1, for all rows and the outputs of one panel.

    tables : uint8[T]               of lut_tables
    panels : uint8[P]               of lut_weights, reshaped to one axis
    number : panel number, outputs number * PANEL ...
    depth  : codes of a row
    sums   : int32[rows, PANEL]     sums[r, n] = sum_k u[r, k] * negative[n, k]; written in full

    The dot product is sum_k u[r, k] - 2 * sums[r, n]. Exact for depth < 2**27.
    """
    steps = (depth + _STEP - 1) // _STEP
    row = 0
    while row < rows:
        place = (row // _ROWS * _ROWS * steps + row % _ROWS) * _STEP_BYTES
        left = rows - row
        if _ROWS >= 8 and left >= 8:
            _eight_rows(tables, place, panels, number, steps, sums, row)
            row += 8
        elif left >= 4:
            _four_rows(tables, place, panels, number, steps, sums, row)
            row += 4
        elif left >= 2:
            _two_rows(tables, place, panels, number, steps, sums, row)
            row += 2
        else:
            _one_row(tables, place, panels, number, steps, sums, row)
            row += 1


@kernel
def lut_gemm(codes: Bytes, panels: Bytes, tables: Bytes, sums: Sums, totals: Sums, out: Sums) -> None:
    """Dot product of every row of codes with every row of weight signs.

    out[m, n] = sum_k codes[m, k] - 2 * sum_k codes[m, k] * negative[n, k]

    codes  : uint8[M, K]        0..15
    panels : uint8[P]           of lut_weights, reshaped to one axis
    tables : uint8[T]           scratch, T >= lut_bytes(len(sums), K)
    sums   : int32[C, PANEL]    scratch; C rows are done at a time
    totals : int32[C]           scratch
    out    : int32[M, N]        written in full

    Source: product of LSQ codes and binary weights (BinaryBERT 1-1-4), codes counted from the lowest.
    """
    rows, depth = codes.shape
    outputs = out.shape[1]
    chunk = sums.shape[0]
    for first in range(0, rows, chunk):
        count = min(chunk, rows - first)
        part = codes[first : first + count]
        lut_tables(part, count, tables)
        for r in range(count):
            total = np.int32(0)
            for k in range(depth):
                total = np.int32(total + part[r, k])
            totals[r] = total
        for number in range((outputs + PANEL - 1) // PANEL):
            lut_panel(tables, panels, number, count, depth, sums)
            start = number * PANEL
            width = min(PANEL, outputs - start)
            for r in range(count):
                total, found, target = totals[r], sums[r], out[first + r, start : start + width]
                for n in range(width):
                    target[n] = np.int32(total - np.int32(2 * found[n]))
