"""The product of `softmax.py`: rows of units times a panel, scaled to floats.

    out[row, lane] = float32(base[lane] + sum_g row[g] . panel[g, lane]) * scale + 0

A row's group is broadcast and meets the groups of 16 columns, so nothing is added across lanes.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.core import cgutils
from numpy.typing import NDArray

from bebert_kernels.attention.units import SUMS, Rows, Units, dot, flat, octets_of
from bebert_kernels.emit.emitter import Emitter, Value, vector_code
from bebert_kernels.emit.vectors import FLOAT_LANES, FLOATS, I64, fill
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.machine_code import code_features

Floats = NDArray[np.float32]

# Rows and blocks of 16 lanes in a tile, as registers allow.
TILE_ROWS, TILE_BLOCKS = (
    (8, 2) if "avx512bw" in code_features() else (4, 1) if code_features() & {"avx2", "neon"} else (2, 1)
)


class Factors(NamedTuple):
    """Places in the scratch of what is multiplied.

    rows, panel : units of row i at rows + i * groups, of block j at panel + j * groups * 16
    groups      : units of a row, and of a lane of a block
    base        : int32 for each lane, to which products are added
    """

    rows: int
    panel: int
    groups: int
    base: int


class _Product:
    """Emits rows times blocks of 16 lanes."""

    def __init__(self, e: Emitter, scratch: Any, given: Any, scale: Value, data: Any, out: Any) -> None:
        self.e, self.data, self.given, self.out = e, scratch.data, given, out
        self.octets, self.scale = octets_of(e, scratch, data, out), e.repeat(scale, FLOAT_LANES)

    def emit(self, row: Value, rows: int, block: Value, blocks: int) -> None:
        e, b, given = self.e, self.e.builder, self.given
        totals = [[cgutils.alloca_once(b, SUMS) for _ in range(blocks)] for _ in range(rows)]
        for j in range(blocks):
            base = e.load(self.data, e.place(given.base, b.add(block, I64(j)), FLOAT_LANES), SUMS)
            for line in totals:
                b.store(base, line[j])
        starts = [e.place(given.rows, b.add(row, I64(i)), given.groups) for i in range(rows)]
        step = b.mul(given.groups, I64(FLOAT_LANES))
        panels = [e.place(given.panel, b.add(block, I64(j)), step) for j in range(blocks)]
        with e.loop(I64(0), given.groups) as (g, _):
            columns = [e.load(self.data, e.place(panel, g, FLOAT_LANES), SUMS, align=64) for panel in panels]
            for line, start in zip(totals, starts, strict=True):
                unit = e.repeat(b.load(b.gep(self.data, [b.add(start, g)])), FLOAT_LANES)
                for total, column in zip(line, columns, strict=True):
                    b.store(dot(e, b.load(total), unit, column), total)
        for i, line in enumerate(totals):
            place = e.place(e.place(self.out.place, b.add(row, I64(i)), self.out.stride), block, FLOAT_LANES)
            for j, total in enumerate(line):
                value = b.fmul(b.sitofp(b.load(total), FLOATS), self.scale)
                place_here = b.mul(b.add(place, I64(FLOAT_LANES * j)), I64(4))
                e.store(b.fadd(value, fill(FLOATS, 0.0)), self.octets, place_here, align=4)


def _emit_product(
    e: Emitter, scratch: Any, rows: Value, blocks: Value, given: Any, scale: Value, data: Any, out: Any
) -> None:
    tile, b = _Product(e, scratch, given, scale, data, out), e.builder
    whole_rows, whole_blocks = b.and_(rows, I64(-TILE_ROWS)), b.and_(blocks, I64(-TILE_BLOCKS))
    for first, last, count in ((I64(0), whole_rows, TILE_ROWS), (whole_rows, rows, 1)):
        with e.loop(first, last, count) as (row, _):
            with e.loop(I64(0), whole_blocks, TILE_BLOCKS) as (block, _):
                tile.emit(row, count, block, TILE_BLOCKS)
            if TILE_BLOCKS > 1:
                with e.loop(whole_blocks, blocks) as (block, _):
                    tile.emit(row, count, block, 1)


@vector_code(_emit_product)
def _product(
    scratch: Units, rows: int, blocks: int, given: Factors, scale: np.float32, data: Floats, out: Rows
) -> None:
    floats, groups = flat(scratch, data, out), given.groups
    for i in range(rows):
        start = given.rows + i * groups
        left = scratch[start : start + groups].view(np.int16).astype(np.int64)
        for j in range(blocks):
            start, lanes = given.panel + j * groups * FLOAT_LANES, slice(j * FLOAT_LANES, (j + 1) * FLOAT_LANES)
            block = scratch[start : start + groups * FLOAT_LANES].reshape(groups, FLOAT_LANES)
            sums = block.T.copy().view(np.int16).astype(np.int64) @ left + scratch[given.base :][lanes]
            floats[out.place + i * out.stride :][lanes] = sums.astype(np.int32).astype(np.float32) * scale + np.float32(
                0
            )


@kernel
def product(scratch: Units, rows: int, blocks: int, given: Factors, scale: np.float32, data: Floats, out: Rows) -> None:
    """float32(base + products) * scale + 0 of rows with blocks of 16 lanes, to rows of float32."""
    _product(scratch, rows, blocks, given, scale, data, out)  # compiled once for both uses
