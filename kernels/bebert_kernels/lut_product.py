"""The product of codes by byte look-up (`lut_gemm.py`) as stages of a program, in place of encode and sliced product.

dot[m, n] = (total[m] - 2 * sums[m, n]) + low * sum of signs[n],     total = sum_k u,  sums = sum_k u * negative
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels import slots as at
from bebert_kernels.addresses import array, as_float32, as_int32, as_int64, as_uint8
from bebert_kernels.count_tile import LANES
from bebert_kernels.jit import kernel
from bebert_kernels.lut_gemm import PANEL, lut_panel, lut_tables
from bebert_kernels.operation import operation
from bebert_kernels.row_codes import code_row
from bebert_kernels.scale_tile import make_scale

scale_panel = make_scale(PANEL)

BLOCK = 64  # rows at a time: a row's tables are 4 bytes a code and should stay in the second-level cache


@operation
def look_up_encode(operation_address: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Floats or ready codes to tables and totals. o: as `stages.encode`."""
    o, slots = array(as_int64(operation_address), (at.COLUMNS,)), array(as_int64(slot_address), (at.COUNT,))
    depth = o[2]
    inputs = array(as_int64(o[3]), (o[4], 9))
    row = np.int64(0) if o[1] >= at.LOCAL else first
    x = array(as_float32(slots[o[1]] + 4 * row * depth), (rows, depth))
    for i in range(o[4]):
        source = at.INPUT * i
        codes = array(as_uint8(slots[at.BYTES + source]), (rows, depth))
        totals = array(as_int32(slots[at.PARITY + source]), (rows,))
        if inputs[i, at.RULE] != at.READY:
            shift = array(as_float32(inputs[i, at.SHIFT]), (depth,))
            numbers = array(as_float32(inputs[i, at.NUMBERS]), (at.NUMBER_COUNT,))
            for r in range(rows):
                step, minimum, low, high = numbers[at.STEP], numbers[at.MINIMUM], numbers[at.LOW], numbers[at.HIGH]
                code_row(x[r], shift, inputs[i, at.RULE], step, minimum, low, high, codes[r])
        for r in range(rows):
            totals[r] = _total(codes[r])
        lut_tables(codes, rows, array(as_uint8(slots[at.INDEX + source]), (1,)))


@kernel
def _total(codes: NDArray[np.uint8]) -> np.int32:
    total = np.int32(0)
    for k in range(codes.size):
        total = np.int32(total + np.int32(codes[k]))
    return total


@operation
def look_up_product(branch_address: int, slot_address: int, again: int, start: int, rows: int, outputs: int) -> None:
    """Outputs start .. start + LANES - 1 of one branch of a linear layer, to Y or (again = 1) added to it."""
    branch, slots = array(as_int64(branch_address), (at.BRANCH,)), array(as_int64(slot_address), (at.COUNT,))
    source = at.INPUT * branch[at.FROM]
    tables = array(as_uint8(slots[at.INDEX + source]), (1,))
    panels = array(as_uint8(branch[at.PANELS]), (1,))
    totals = array(as_int32(slots[at.PARITY + source]), (rows,))
    sums = array(as_int32(slots[at.SUMS]), (rows, PANEL))
    for place in range(0, LANES, PANEL):
        output = start + place
        if output >= outputs:
            return
        lut_panel(tables, panels, output // PANEL, rows, branch[at.TRIPLES], sums)
        for r in range(rows):
            y = slots[at.Y] + 4 * (LANES * r + place)
            add = branch[at.ADD] + 4 * output
            if again:
                if branch[at.ADD] != 0:  # a second branch has an addend only if its codes have a minimum
                    _add(y, add)
                add = y
            found = slots[at.SUMS] + 4 * PANEL * r
            offset, scale = branch[at.OFFSET] + 4 * output, branch[at.SCALE] + 4 * output
            scale_panel(found, np.int64(-2), np.int64(totals[r]), offset, scale, add, y)


@kernel
def _add(place: int, other: int) -> None:
    y, x = array(as_float32(place), (PANEL,)), array(as_float32(other), (PANEL,))
    for n in range(PANEL):
        y[n] = y[n] + x[n]
