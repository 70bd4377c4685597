"""The product of codes by byte look-up (`gemm.py`) as stages of a program, in place of encode and sliced product.

dot[m, n] = (total[m] - 2 * sums[m, n]) + low * sum of signs[n],     total = sum_k u,  sums = sum_k u * negative
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.stage import stage
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.emit.memory import array, as_float32, as_int32, as_uint8, as_uint64, floats_at, slots_at
from bebert_kernels.emit.scale import make_add, make_scale
from bebert_kernels.emit.tables import read_branch, read_encode, read_input, read_numbers
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.lookup.gemm import lut_panel, lut_tables
from bebert_kernels.lookup.layout import PANEL
from bebert_kernels.rows.quantize import quantize_row

scale_panel, add_panel = make_scale(PANEL), make_add(PANEL)


@stage
def lookup_encode(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Floats or ready codes to tables (ENCODED) and TOTALS; BYTES keep the codes."""
    o, slots = read_encode(arguments, 0), slots_at(slot_address)
    x = floats_at(slots, o.source, first, rows, o.depth)
    for i in range(o.input_count):
        input, place = read_input(o.inputs, i), slot.INPUT * i
        codes = array(as_uint8(slots[slot.BYTES + place]), (rows, o.depth))
        totals = array(as_int32(slots[slot.TOTALS + place]), (rows,))
        if input.rule != rule.ALREADY_CODED:
            shift, numbers = array(as_float32(input.shift), (o.depth,)), read_numbers(input.numbers, 0)
            for r in range(rows):
                quantize_row(x[r], shift, input.rule, numbers, codes[r])
        for r in range(rows):
            totals[r] = _total(codes[r])
        lut_tables(codes, rows, array(as_uint8(slots[slot.ENCODED + place]), (1,)))


@kernel
def _total(codes: NDArray[np.uint8]) -> np.int32:
    """Sum of codes up to 15, eight at a time: bytes of even and odd places add up in 16-bit fields of a word."""
    words = codes.size // 8
    eight = array(as_uint64(codes.ctypes.data), (words,))
    fields = np.uint64(0)
    field = np.uint64(0x00FF00FF00FF00FF)
    for i in range(words):  # at most layout.FIELD_WORDS
        fields += (eight[i] & field) + ((eight[i] >> np.uint64(8)) & field)
    total = np.int32(0)
    for part in range(4):
        total = np.int32(total + np.int32((fields >> np.uint64(16 * part)) & np.uint64(0xFFFF)))
    for k in range(8 * words, codes.size):
        total = np.int32(total + np.int32(codes[k]))
    return total


@stage
def lookup_gemm(branches: int, slot_address: int, number: int, start: int, rows: int, outputs: int) -> None:
    """Sums of all rows for PANEL_OUTPUTS outputs of a branch, to its state.

    The state is int32[PANEL_OUTPUTS / PANEL, BLOCK, PANEL].
    """
    branch, slots = read_branch(branches, number), slots_at(slot_address)
    tables = array(as_uint8(slots[slot.ENCODED + slot.INPUT * branch.input]), (1,))
    panels = array(as_uint8(branch.panels), (1,))
    for part in range(PANEL_OUTPUTS // PANEL):
        output = start + part * PANEL
        if output >= outputs:
            return
        sums = array(as_int32(slots[slot.STATE + number] + 4 * part * BLOCK * PANEL), (rows, PANEL))
        lut_panel(tables, panels, output // PANEL, rows, branch.depth, sums)


@stage
def lookup_epilogue(branches: int, slot_address: int, number: int, start: int, row: int, rows: int) -> None:
    """Floats of some rows of a panel from their sums, to OUT or (number 1) added to what is there."""
    branch, slots = read_branch(branches, number), slots_at(slot_address)
    totals = array(as_int32(slots[slot.TOTALS + slot.INPUT * branch.input]), (row + rows,))
    for part in range(PANEL_OUTPUTS // PANEL):
        output = start + part * PANEL
        if output >= branch.outputs:
            return
        scale, add = branch.scale + 4 * output, branch.add + 4 * output
        offset = branch.offset + 4 * output if branch.offset != 0 else slots[slot.NOTHING]
        for r in range(row, row + rows):
            sums = slots[slot.STATE + number] + 4 * PANEL * (part * BLOCK + r)
            out = slots[slot.OUT] + slots[slot.OUT_STRIDE] * (r - row) + 4 * PANEL * part
            if number and branch.add != 0:  # a second branch has an addend only if its codes have a minimum
                add_panel(out, add)
            scale_panel(sums, np.int64(-2), np.int64(totals[r]), offset, scale, out if number else add, out)
