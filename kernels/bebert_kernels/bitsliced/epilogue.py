"""What follows `bitsliced_gemm`: states of a panel become floats, or signs where those are wanted.

bitsliced_epilogue        states -> counters -> integers -> float32(dot) * scale + add (or added to a first branch)
bitsliced_sign_epilogue   states -> counters -> compared (`thresholds.py`), PANEL_OUTPUTS outputs at a time
"""

from typing import NamedTuple

import numpy as np

from bebert_kernels.abi import slot
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.stage import stage
from bebert_kernels.bitsliced.counters import make_accumulate, make_compare, make_planes_to_ints
from bebert_kernels.bitsliced.gemm import carries_of, is_half, panel_of
from bebert_kernels.bitsliced.layout import (
    CHUNK_TRIPLES,
    FOUR,
    GROUP_PLANES,
    HALF_OUTPUTS,
    HALVES,
    ONE,
    PANEL_OUTPUTS,
    PLANE,
    TRIPLE,
)
from bebert_kernels.emit.memory import array, as_float32, as_int32, as_uint8, as_uint64, slots_at
from bebert_kernels.emit.scale import make_add, make_scale
from bebert_kernels.emit.tables import read_branch
from bebert_kernels.jit.kernel import kernel

WORDS = PANEL_OUTPUTS // 64

_accumulate_one, _accumulate_four = make_accumulate(1, False), make_accumulate(4, False)
_compare, _planes_to_ints = make_compare(False), make_planes_to_ints(False)
_scale, _add = make_scale(PANEL_OUTPUTS), make_add(PANEL_OUTPUTS)
# Where there are no half panels these are never called.
_accumulate_one_half, _accumulate_four_half = make_accumulate(1, HALVES), make_accumulate(4, HALVES)
_compare_half, _planes_to_ints_half = make_compare(HALVES), make_planes_to_ints(HALVES)
_scale_half, _add_half = make_scale(HALF_OUTPUTS), make_add(HALF_OUTPUTS)


class Panel(NamedTuple):
    """A panel of weights: whether it is a half one, address of its parity plane, chunks, address of a counter."""

    half: bool
    weights: int
    chunks: int
    counter: int


@kernel
def _word(parity: int, count: int) -> int:
    """Parities of `count` planes as bits of a word; address of uint8[count]."""
    bits = array(as_uint8(parity), (count,))
    word = 0
    for p in range(count):
        word |= int(bits[p] & 1) << p
    return word


@kernel
def _accumulate(panel: Panel, large: bool, states: int, row: int, parity: int, second: int) -> None:
    """Add up the state of a row (of two rows in halves) in the states of one group of planes; parities by address."""
    levels = FOUR if large else ONE
    weights, chunks, counter = panel.weights, panel.chunks, panel.counter
    state = states + PLANE * levels * row
    carries = states + PLANE * levels * BLOCK + carries_of(row, chunks)
    if large:
        if panel.half:
            _accumulate_four_half(
                state, carries, weights, _word(parity, GROUP_PLANES), _word(second, GROUP_PLANES), chunks, counter
            )
        else:
            _accumulate_four(state, carries, weights, _word(parity, GROUP_PLANES), np.int64(0), chunks, counter)
    elif panel.half:
        _accumulate_one_half(state, carries, weights, _word(parity, 1), _word(second, 1), chunks, counter)
    else:
        _accumulate_one(state, carries, weights, _word(parity, 1), np.int64(0), chunks, counter)


@kernel
def _to_ints(half: bool, counter: int, sums: int) -> None:
    if half:
        _planes_to_ints_half(counter, sums)
    else:
        _planes_to_ints(counter, sums)


@kernel
def _add_shifted(sums: int, shift: int) -> None:
    """Add the sums of a further group, behind the first ones, with their weight."""
    both = array(as_int32(sums), (2, PANEL_OUTPUTS))
    for n in range(PANEL_OUTPUTS):
        both[0, n] = np.int32(both[0, n] + (both[1, n] << np.int32(shift)))


@kernel
def _parity_plane(branch: Branch, start: int) -> int:
    """Address of the parity plane of the weights of a panel: behind its triples."""
    return panel_of(branch, start) + branch.triples * (TRIPLE // 2 if is_half(start, branch.outputs) else TRIPLE)


@stage
def bitsliced_epilogue(branches: int, slot_address: int, number: int, start: int, row: int, rows: int) -> None:
    """Floats of some rows of a panel from their states, to OUT or (number 1) added to what is there.

    out[n] = float32(dot[n]) * scale[n] + add[n];  dot = offset - 2 S or offset - S for signs without and with zeros
    (offset K), else offset + S with offset = -(2**planes - 1) * negatives + low * sum of signs.
    """
    branch, slots = read_branch(branches, number), slots_at(slot_address)
    planes, sign, chunks = branch.planes, branch.sign != 0, branch.triples // CHUNK_TRIPLES
    source = slot.INPUT * branch.input
    no_zeros = array(as_uint8(slots[slot.NO_ZEROS + source]), (row + rows,))
    half = is_half(start, branch.outputs)
    step = 2 if half else 1
    lanes = PANEL_OUTPUTS // step
    parities = slots[slot.PARITIES + source]
    scale, offset, add = branch.scale + 4 * start, branch.offset + 4 * start, branch.add + 4 * start
    no_add, natural = branch.add == 0, branch.thresholds != 0
    counter, sums, out = slots[slot.COUNTER], slots[slot.SUMS], slots[slot.OUT]
    panel = Panel(half, _parity_plane(branch, start), chunks, counter)
    for first in range(row, row + rows, step):
        other = min(first + step, row + rows) - 1
        used = 1 if sign and no_zeros[first] and no_zeros[other] else planes
        parity, second = parities + first * planes, parities + other * planes
        states = slots[slot.STATE + number]
        large = not sign and used >= GROUP_PLANES
        _accumulate(panel, large, states, first, parity, second)
        _to_ints(half, counter, sums)
        done = GROUP_PLANES if large else 1
        while done < used:
            states += PLANE * BLOCK * ((FOUR if large else ONE) + chunks)
            large = not sign and used - done >= GROUP_PLANES
            _accumulate(panel, large, states, first, parity + done, second + done)
            _to_ints(half, counter, sums + 4 * PANEL_OUTPUTS)
            _add_shifted(sums, np.int64(0) if sign else done)
            done += GROUP_PLANES if large else 1
        factor = np.int64(1)
        if sign:
            factor = np.int64(-2 if used == 1 else -1)
        for r in range(first, other + 1):
            target, addend = out, add
            if number:
                addend = out
                if not no_add:  # a second branch has an addend only if its codes have a minimum
                    if half:
                        _add_half(out, add)
                    else:
                        _add(out, add)
            elif natural:
                target = sums + 4 * PANEL_OUTPUTS
            if half:
                _scale_half(sums + 4 * HALF_OUTPUTS * (r - first), factor, np.int64(0), offset, scale, addend, target)
            else:
                _scale(sums, factor, np.int64(0), offset, scale, addend, target)
            if natural:
                natural_order(target, out, lanes)
            out += slots[slot.OUT_STRIDE]


@kernel
def natural_order(place: int, out: int, lanes: int) -> None:
    """Natural order for what `planes_to_ints` made of a panel in natural order: the inverse of `triples.order`."""
    x, y = array(as_float32(place), (16, lanes // 16)), array(as_float32(out), (lanes // 16, 16))
    for e in range(lanes // 16):
        for i in range(16):
            y[e, i] = x[i, e]


@stage
def bitsliced_sign_epilogue(branches: int, slot_address: int, thresholds: int, start: int, row: int, rows: int) -> None:
    """Signs of some rows of a panel, none with a zero input.

    Leaves uint64[rows, 2, PANEL_OUTPUTS / 64] in BITS, negative and zero.

    thresholds : address of the panel's planes for `counters.make_compare`, made by `thresholds.py`
    """
    branch, slots = read_branch(branches, 0), slots_at(slot_address)
    half = is_half(start, branch.outputs)
    step = 2 if half else 1
    planes, chunks = branch.planes, branch.triples // CHUNK_TRIPLES
    counter, sums = slots[slot.COUNTER], slots[slot.SUMS]
    panel = Panel(half, _parity_plane(branch, start), chunks, counter)
    codes_parity = slots[slot.PARITIES + slot.INPUT * branch.input]
    for first in range(row, row + rows, step):
        other = min(first + step, row + rows) - 1
        parity, second = codes_parity + first * planes, codes_parity + other * planes
        _accumulate(panel, False, slots[slot.STATE], first, parity, second)
        place = slots[slot.BITS] + 2 * PLANE * (first - row)
        if not half:
            _compare(counter, thresholds, place)
            continue
        _compare_half(counter, thresholds, sums)
        found = array(as_uint64(sums), (2, 2, WORDS // 2))  # negative and zero, rows, words
        bits = array(as_uint64(place), (2, 2, WORDS))
        for r in range(other - first + 1):
            for kind in range(2):
                for w in range(WORDS // 2):
                    bits[r, kind, w] = found[kind, r, w]
