"""The popcount product as stages of a program: signs and codes of 1 to 8 bits, any depth, straight from the sign words.

dot[m, n] = (total[m] - 2 * sums[m, n]) + low * sum of signs[n]    total: sum of codes, or count of signs but 0
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
from bebert_kernels.packing import WORD_BITS, Words
from bebert_kernels.popcount.layout import PANEL, plane_words
from bebert_kernels.popcount.planes import pack_row
from bebert_kernels.popcount.tile import make_tile
from bebert_kernels.rows.quantize import quantize_row

_one_of_signs, _two_of_signs = make_tile(1, False), make_tile(2, False)
_one_of_codes, _two_of_codes = make_tile(1, True), make_tile(2, True)
_scale_panel, _add_panel = make_scale(PANEL), make_add(PANEL)


_plane_words = kernel(plane_words)


@stage
def popcount_encode(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Floats or ready codes to planes uint64[rows, planes, plane_words] (ENCODED), TOTALS and NO_ZEROS."""
    o, slots = read_encode(arguments, 0), slots_at(slot_address)
    signs = o.sign != 0
    x = floats_at(slots, o.source, first, rows, o.depth)
    for i in range(o.input_count):
        input, place = read_input(o.inputs, i), slot.INPUT * i
        codes = array(as_uint8(slots[slot.BYTES + place]), (rows, o.depth))
        planes = array(as_uint64(slots[slot.ENCODED + place]), (rows, o.planes, _plane_words(o.depth)))
        totals = array(as_int32(slots[slot.TOTALS + place]), (rows,))
        no_zeros = array(as_uint8(slots[slot.NO_ZEROS + place]), (rows,))
        if input.rule != rule.ALREADY_CODED:
            shift, numbers = array(as_float32(input.shift), (o.depth,)), read_numbers(input.numbers, 0)
            for r in range(rows):
                quantize_row(x[r], shift, input.rule, numbers, codes[r])
        for r in range(rows):
            totals[r] = pack_row(codes[r], signs, planes[r])
            no_zeros[r] = np.uint8(signs and totals[r] == o.depth)


@stage
def popcount_gemm(branches: int, slot_address: int, number: int, start: int, rows: int, outputs: int) -> None:
    """Sums of all rows for PANEL_OUTPUTS outputs, to a branch's state: int32[PANEL_OUTPUTS / PANEL, BLOCK, PANEL]."""
    branch, slots = read_branch(branches, number), slots_at(slot_address)
    words = (branch.depth + WORD_BITS - 1) // WORD_BITS
    weights = array(as_uint64(branch.panels), (outputs, words))
    encoded = slots[slot.ENCODED + slot.INPUT * branch.input]
    planes = array(as_uint64(encoded), (rows, branch.planes, _plane_words(branch.depth)))
    for part in range(PANEL_OUTPUTS // PANEL):
        output = start + part * PANEL
        if output >= outputs:
            return
        sums = array(as_int32(slots[slot.STATE + number] + 4 * part * BLOCK * PANEL), (rows, PANEL))
        popcount_panel(planes, weights[output : min(output + PANEL, outputs)], branch.sign != 0, sums)


@stage
def popcount_epilogue(branches: int, slot_address: int, number: int, start: int, row: int, rows: int) -> None:
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
                _add_panel(out, add)
            _scale_panel(sums, np.int64(-2), np.int64(totals[r]), offset, scale, out if number else add, out)


@kernel
def popcount_panel(planes: Words, weights: Words, signs: bool, sums: NDArray[np.int32]) -> None:
    """Sums of all rows for the outputs of a panel, by the formula of `tile.py`.

    planes  : uint64[M, P, S], of `pack_row`
    weights : uint64[N, W], bit 1 = -1
    sums    : int32[M, L], L >= N; outputs below N are written
    """
    rows = planes.shape[0]
    whole = rows - rows % 2
    if signs:
        for row in range(0, whole, 2):
            _two_of_signs(planes, weights, row, sums)
        if whole < rows:
            _one_of_signs(planes, weights, whole, sums)
        return
    for row in range(0, whole, 2):
        _two_of_codes(planes, weights, row, sums)
    if whole < rows:
        _one_of_codes(planes, weights, whole, sums)
