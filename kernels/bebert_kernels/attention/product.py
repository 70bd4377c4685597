"""The product of `softmax_attention.py`: rows of units times a panel, scaled to floats.

    out[row, lane] = float32(base[lane] + sum_g row[g] . panel[g, lane]) * scale + 0

A row's group is broadcast and meets the groups of 16 columns, so nothing is added across lanes.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from bebert_kernels.attention.units import SUMS, Units, dot, octets_of
from bebert_kernels.emit.emitter import Emitter, vector_code
from bebert_kernels.emit.vectors import FLOATS, I64, LANES, fill
from bebert_kernels.jit.kernel import cpu_features, kernel

Floats = NDArray[np.float32]

# Rows and blocks of 16 lanes in a tile, as registers allow.
ROWS, BLOCKS = (8, 2) if "avx512bw" in cpu_features() else (4, 1) if cpu_features() & {"avx2", "neon"} else (2, 1)


class _Product:
    """Emits rows times blocks of 16 lanes."""

    def __init__(self, e: Emitter, scratch: Any, out: Any, staged: ir.Value, arguments: tuple[ir.Value, ...]) -> None:
        self.e, self.data, self.out = e, scratch.data, octets_of(e, scratch, out, staged)
        self.a, self.panel, self.groups, self.base, self.scale, self.to, self.out_stride = arguments
        self.scale = e.repeat(self.scale, LANES)

    def emit(self, row: ir.Value, rows: int, block: ir.Value, blocks: int) -> None:
        e, b = self.e, self.e.builder
        totals = [[cgutils.alloca_once(b, SUMS) for _ in range(blocks)] for _ in range(rows)]
        for j in range(blocks):
            base = e.load(self.data, e.place(self.base, b.add(block, I64(j)), LANES), SUMS)
            for line in totals:
                b.store(base, line[j])
        starts = [e.place(self.a, b.add(row, I64(i)), self.groups) for i in range(rows)]
        step = b.mul(self.groups, I64(LANES))
        panels = [e.place(self.panel, b.add(block, I64(j)), step) for j in range(blocks)]
        with e.loop(I64(0), self.groups) as (g, _):
            columns = [e.load(self.data, e.place(panel, g, LANES), SUMS, align=64) for panel in panels]
            for line, start in zip(totals, starts, strict=True):
                unit = e.repeat(b.load(b.gep(self.data, [b.add(start, g)])), LANES)
                for total, column in zip(line, columns, strict=True):
                    b.store(dot(e, b.load(total), unit, column), total)
        for i, line in enumerate(totals):
            place = e.place(e.place(self.to, b.add(row, I64(i)), self.out_stride), block, LANES)
            for j, total in enumerate(line):
                value = b.fmul(b.sitofp(b.load(total), FLOATS), self.scale)
                place_here = b.mul(b.add(place, I64(LANES * j)), I64(4))
                e.store(b.fadd(value, fill(FLOATS, 0.0)), self.out, place_here, align=4)


def _emit_product(e: Emitter, scratch: Any, rows: Any, blocks: Any, out: Any, staged: Any, *arguments: Any) -> None:
    product, b = _Product(e, scratch, out, staged, arguments), e.builder
    whole_rows, whole_blocks = b.and_(rows, I64(-ROWS)), b.and_(blocks, I64(-BLOCKS))
    for first, last, count in ((I64(0), whole_rows, ROWS), (whole_rows, rows, 1)):
        with e.loop(first, last, count) as (row, _):
            with e.loop(I64(0), whole_blocks, BLOCKS) as (block, _):
                product.emit(row, count, block, BLOCKS)
            if BLOCKS > 1:
                with e.loop(whole_blocks, blocks) as (block, _):
                    product.emit(row, count, block, 1)


@vector_code(_emit_product)
def product(
    scratch: Units,
    rows: int,
    blocks: int,
    out: Floats,
    staged: int,
    a: int,
    panel: int,
    groups: int,
    base: int,
    scale: np.float32,
    to: int,
    out_stride: int,
) -> None:
    """float32(base + products) * scale + 0 of rows with blocks of 16 lanes.

    a, groups      : units of row i at scratch[a + i * groups]
    panel          : units of block j at scratch[panel + j * groups * 16]
    to, out_stride : row i begins at element to + i * out_stride of out, or of the scratch where staged is 1
    """
    flat = scratch.view(np.float32) if staged else out.reshape(-1)
    for i in range(rows):
        left = scratch[a + i * groups : a + (i + 1) * groups].view(np.int16).astype(np.int64)
        for j in range(blocks):
            block = scratch[panel + j * groups * LANES : panel + (j + 1) * groups * LANES].reshape(groups, LANES)
            right = block.T.copy().view(np.int16).astype(np.int64)
            sums = (right @ left + scratch[base + j * LANES : base + (j + 1) * LANES]).astype(np.int32)
            place = to + i * out_stride + j * LANES
            flat[place : place + LANES] = sums.astype(np.float32) * scale + np.float32(0)


@kernel
def product_once(*arguments: Any) -> None:
    """Compile `product` once for both uses."""
    product(*arguments)
