"""The product of codes by byte look-up (`lut_gemm.py`) as stages of a program, in place of encode and sliced product.

dot[m, n] = (total[m] - 2 * sums[m, n]) + low * sum of signs[n],     total = sum_k u,  sums = sum_k u * negative
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi import layout as at
from bebert_kernels.abi.memory import array, as_float32, as_int32, as_int64, as_uint8, as_uint64
from bebert_kernels.abi.stage import stage
from bebert_kernels.bitsliced.epilogue import add_rows
from bebert_kernels.bitsliced.tile import PANEL_OUTPUTS
from bebert_kernels.emit.scale import make_scale
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.lookup.gemm import PANEL, lut_panel, lut_tables
from bebert_kernels.rows.quantize import quantize_row

scale_panel = make_scale(PANEL)

BLOCK = 64  # rows at a time: a row's tables are 4 bytes a code and should stay in the second-level cache


@stage
def lookup_encode(instruction: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Floats or ready codes to tables and totals. o: as `bitsliced_encode`."""
    o, slots = array(as_int64(instruction), (at.COLUMNS,)), array(as_int64(slot_address), (at.COUNT,))
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
                quantize_row(x[r], shift, inputs[i, at.RULE], step, minimum, low, high, codes[r])
        for r in range(rows):
            totals[r] = _total(codes[r])
        lut_tables(codes, rows, array(as_uint8(slots[at.INDEX + source]), (1,)))


@kernel
def _total(codes: NDArray[np.uint8]) -> np.int32:
    """Sum of codes up to 15, eight at a time: bytes of even and odd places add up in 16-bit fields of a word."""
    words = codes.size // 8
    eight = array(as_uint64(codes.ctypes.data), (words,))
    fields = np.uint64(0)
    field = np.uint64(0x00FF00FF00FF00FF)
    for i in range(words):  # a field grows by 30 at most: no overflow before 2184 words
        fields += (eight[i] & field) + ((eight[i] >> np.uint64(8)) & field)
    total = np.int32(0)
    for part in range(4):
        total = np.int32(total + np.int32((fields >> np.uint64(16 * part)) & np.uint64(0xFFFF)))
    for k in range(8 * words, codes.size):
        total = np.int32(total + np.int32(codes[k]))
    return total


@stage
def lookup_gemm(branch_address: int, slot_address: int, number: int, start: int, rows: int, outputs: int) -> None:
    """Sums of all rows for PANEL_OUTPUTS outputs of a branch, to its state.

    The state is int32[PANEL_OUTPUTS / PANEL, BLOCK, PANEL].
    """
    branch, slots = array(as_int64(branch_address), (at.BRANCH,)), array(as_int64(slot_address), (at.COUNT,))
    tables = array(as_uint8(slots[at.INDEX + at.INPUT * branch[at.FROM]]), (1,))
    panels = array(as_uint8(branch[at.PANELS]), (1,))
    for part in range(PANEL_OUTPUTS // PANEL):
        output = start + part * PANEL
        if output >= outputs:
            return
        sums = array(as_int32(slots[at.STATE + number] + 4 * part * at.BLOCK * PANEL), (rows, PANEL))
        lut_panel(tables, panels, output // PANEL, rows, branch[at.TRIPLES], sums)


@stage
def lookup_epilogue(branch_address: int, slot_address: int, number: int, start: int, row: int, rows: int) -> None:
    """Floats of some rows of a panel from their sums, to OUT or (number 1) added to what is there."""
    branch, slots = array(as_int64(branch_address), (at.BRANCH,)), array(as_int64(slot_address), (at.COUNT,))
    totals = array(as_int32(slots[at.PARITY + at.INPUT * branch[at.FROM]]), (row + rows,))
    for part in range(PANEL_OUTPUTS // PANEL):
        output = start + part * PANEL
        if output >= branch[at.OUTPUTS]:
            return
        offset, scale, add = branch[at.OFFSET] + 4 * output, branch[at.SCALE] + 4 * output, branch[at.ADD] + 4 * output
        for r in range(row, row + rows):
            sums = slots[at.STATE + number] + 4 * PANEL * (part * at.BLOCK + r)
            out = slots[at.OUT] + slots[at.OUT_STRIDE] * (r - row) + 4 * PANEL * part
            if number and branch[at.ADD] != 0:  # a second branch has an addend only if its codes have a minimum
                add_rows(out, add, PANEL)
            scale_panel(sums, np.int64(-2), np.int64(totals[r]), offset, scale, out if number else add, out)
