"""Products of rows of byte codes with weight signs by majority tables: the loops around the block of `tile.py`.

    S[m, n] = sum over planes p, inputs k  2**p * (bit p of u[m, k] ^ negative[n, k])

For b-bit codes  sum_k u * w = S - (2**b - 1) * negatives[n];  for signs (one plane)  dot = K - 2 S;  for signs with
zeros, whose two planes both weigh 1,  dot = K - S. Index planes are taken in *groups* of four, those that are left one
by one; each group has a state and a counter of its own.

`bitsliced_gemm` fills the states of all rows for a panel; `epilogue.py` makes floats or signs of them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi import slot
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.stage import stage
from bebert_kernels.bitsliced.layout import (
    CHUNK_TRIPLES,
    FOUR,
    GROUP_PLANES,
    HALF_OUTPUTS,
    HALVES,
    INDEX_ROWS,
    ONE,
    PANEL_OUTPUTS,
    PLANE,
    STRIP,
    TABLE,
    TRIPLE,
)
from bebert_kernels.bitsliced.tile import make_fill, make_lookup
from bebert_kernels.emit.memory import array, as_uint8, prefetch, slots_at
from bebert_kernels.emit.tables import read_branch
from bebert_kernels.jit.kernel import kernel

LINE = 64  # bytes of a cache line
GROUP_BYTES = GROUP_PLANES * CHUNK_TRIPLES  # of its index planes in a chunk of a row

_fill, _one, _four = make_fill(False), make_lookup(1, False), make_lookup(4, False)
# Where there are no half panels these are never called.
_fill_half, _one_half, _four_half = make_fill(HALVES), make_lookup(1, HALVES), make_lookup(4, HALVES)


@kernel
def is_half(start: int, outputs: int) -> bool:
    """Whether the panel that begins with an output is a half one (`triples.panel_lanes`)."""
    return HALVES and outputs - start <= HALF_OUTPUTS


@kernel
def carries_of(row: int, chunks: int) -> int:
    """Bytes from the carries of a block to those of a row: uint64[BLOCK / STRIP, chunks, STRIP, PANEL_OUTPUTS / 64]."""
    return PLANE * (row // STRIP * STRIP * chunks + row % STRIP)


# What all rows need of a chunk lies together, because a row's own memory is pages long: index planes of a group
# uint8[chunks, INDEX_ROWS, planes of the group, CHUNK_TRIPLES], states uint64[BLOCK, levels, PANEL_OUTPUTS / 64], then
# their carries.


class LookUps(NamedTuple):
    """Addresses for the look-ups of one chunk in one group of planes.

    table : of the chunk      planes : index planes of row 0
    before, step : state of row 0 before this chunk, and bytes from row to row of it      state : of row 0 after it
    carry : of row 0, what this chunk carries out of the state      chunks : of a panel
    """

    table: int
    planes: int
    before: int
    step: int
    state: int
    carry: int
    chunks: int


@kernel
def _carry(look: LookUps, row: int) -> int:
    return look.carry + carries_of(row, look.chunks)


@kernel
def panel_of(branch: Branch, start: int) -> int:
    """Address of the weights of the panel that begins with an output: its triples, then its parity plane."""
    return branch.panels + start // PANEL_OUTPUTS * (3 * branch.triples + 1) * PLANE


@stage
def bitsliced_gemm(branches: int, slot_address: int, number: int, start: int, rows: int, outputs: int) -> None:
    """Fill the states of all rows of a block for the panel of one branch that begins with output `start`."""
    branch, slots = read_branch(branches, number), slots_at(slot_address)
    planes, sign, triples = branch.planes, branch.sign != 0, branch.triples
    half = is_half(start, outputs)
    panel = panel_of(branch, start)
    source = slot.INPUT * branch.input
    no_zeros = array(as_uint8(slots[slot.NO_ZEROS + source]), (rows,))
    used = planes
    if sign and _all_set(no_zeros):
        used = 1
    table, chunks = slots[slot.TABLE], triples // CHUNK_TRIPLES
    for chunk in range(chunks):
        _fill_tables(panel, chunk, table, half)
        # The next chunk comes while rows take their look-ups, a line a row; all at once would keep other loads waiting.
        ahead = panel + (chunk + 1) * CHUNK_TRIPLES * (TRIPLE // 2 if half else TRIPLE)
        for line in range(rows, CHUNK_TRIPLES * TRIPLE // LINE):
            prefetch(ahead + line * LINE)
        state = slots[slot.STATE + number]
        first = np.int64(0)
        while first < used:
            large = not sign and planes - first >= GROUP_PLANES
            group, levels = (GROUP_PLANES, FOUR) if large else (1, ONE)
            look = LookUps(
                table,
                slots[slot.ENCODED + source] + INDEX_ROWS * (first * triples + chunk * group * CHUNK_TRIPLES),
                state if chunk else slots[slot.NOTHING],
                levels * PLANE if chunk else 0,
                state,
                state + PLANE * (BLOCK * levels + STRIP * chunk),
                chunks,
            )
            if sign and first > 0:
                _look_up_zeros(half, no_zeros, look)
            elif half:
                _look_up_halves(large, rows, ahead, look)
            else:
                _look_up(large, rows, ahead, look)
            state += PLANE * BLOCK * (levels + chunks)
            first += group


@kernel
def _all_set(flags: NDArray[np.uint8]) -> bool:
    for r in range(flags.size):
        if not flags[r]:
            return False
    return True


@kernel
def _fill_tables(panel: int, chunk: int, table: int, half: bool) -> None:
    """Tables of one chunk of a panel."""
    if half:
        for g in range(CHUNK_TRIPLES):
            _fill_half(panel + (chunk * CHUNK_TRIPLES + g) * (TRIPLE // 2), table + g * (TABLE // 2))
        return
    for g in range(CHUNK_TRIPLES):
        _fill(panel + (chunk * CHUNK_TRIPLES + g) * TRIPLE, table + g * TABLE)


# Loops over rows with nothing else in them: a condition inside costs as much as the look-ups.


@kernel
def _look_up(large: bool, rows: int, ahead: int, look: LookUps) -> None:
    """Look-ups of one chunk for one group of planes. ahead : address of weights that will be wanted next."""
    if large:
        for r in range(rows):
            prefetch(ahead + r * LINE)
            row, state, carry = look.planes + r * GROUP_BYTES, look.state + r * (FOUR * PLANE), _carry(look, r)
            _four(look.table, row, row, look.before + r * look.step, state, carry)
        return
    for r in range(rows):
        prefetch(ahead + r * LINE)
        row, state, carry = look.planes + r * CHUNK_TRIPLES, look.state + r * (ONE * PLANE), _carry(look, r)
        _one(look.table, row, row, look.before + r * look.step, state, carry)


@kernel
def _look_up_halves(large: bool, rows: int, ahead: int, look: LookUps) -> None:
    """`_look_up` for pairs of rows; the last one may be alone, and is then a pair with itself."""
    for r in range(0, rows, 2):
        prefetch(ahead + r // 2 * LINE)
        other, before, carry = min(r + 1, rows - 1), look.before + r * look.step, _carry(look, r)
        if large:
            row, second = look.planes + r * GROUP_BYTES, look.planes + other * GROUP_BYTES
            _four_half(look.table, row, second, before, look.state + r * (FOUR * PLANE), carry)
        else:
            row, second = look.planes + r * CHUNK_TRIPLES, look.planes + other * CHUNK_TRIPLES
            _one_half(look.table, row, second, before, look.state + r * (ONE * PLANE), carry)


@kernel
def _look_up_zeros(half: bool, no_zeros: NDArray[np.uint8], look: LookUps) -> None:
    """Look-ups of the second plane of signs, for rows with zeros (pairs of rows with any) only."""
    width = 2 if half else 1
    for r in range(0, no_zeros.size, width):
        other = min(r + width, no_zeros.size) - 1
        if no_zeros[r] and no_zeros[other]:
            continue
        row, second = look.planes + r * CHUNK_TRIPLES, look.planes + other * CHUNK_TRIPLES
        before, state, carry = look.before + r * look.step, look.state + r * (ONE * PLANE), _carry(look, r)
        if half:
            _one_half(look.table, row, second, before, state, carry)
        else:
            _one(look.table, row, second, before, state, carry)
