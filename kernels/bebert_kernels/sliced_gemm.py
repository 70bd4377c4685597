"""Products of rows of byte codes with weight signs by majority tables: the loops around the block of `count_tile.py`.

    S[m, n] = sum over planes p, inputs k  2**p * (bit p of u[m, k] ^ negative[n, k])

For b-bit codes  sum_k u * w = S - (2**b - 1) * negatives[n];  for signs (one plane)  dot = K - 2 S;  for signs with
zeros, whose two planes both weigh 1,  dot = K - S. Index planes are taken in *groups* of four, those that are left one
by one; each group has a state and a counter of its own.

Three operations of a panel: `count` fills the states of all rows, then `finish` makes floats of them, or `decide` signs.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels import slots as at
from bebert_kernels.addresses import array, as_float32, as_int32, as_int64, as_uint8, as_uint64, prefetch
from bebert_kernels.count_tile import CHUNK, HALVES, LANES, LEVELS, PLANE, TABLE, TRIPLE, make_fill, make_lookup
from bebert_kernels.counters import COUNTER, make_compare, make_settle, unslice, unslice_halves
from bebert_kernels.jit import kernel
from bebert_kernels.operation import operation
from bebert_kernels.scale_tile import make_scale

Table = NDArray[np.int64]

LINE = 64  # bytes of a cache line
GROUP = 4  # planes of a large group
ONE, FOUR = LEVELS[1], LEVELS[4]
HALF = LANES // 2
WORDS = LANES // 64

_fill, _one, _four = make_fill(False), make_lookup(1, False), make_lookup(4, False)
_settle_one, _settle_four = make_settle(1, False), make_settle(4, False)
_compare, _scale = make_compare(False), make_scale(LANES)
if HALVES:
    _fill_half, _one_half, _four_half = make_fill(True), make_lookup(1, True), make_lookup(4, True)
    _settle_one_half, _settle_four_half = make_settle(1, True), make_settle(4, True)
    _compare_half, _scale_half = make_compare(True), make_scale(HALF)


@kernel
def state_bytes(triples: int, planes: int, sign: bool) -> int:
    """Bytes of the states of a row: a line more than an even count, so that rows do not meet in one set of the cache."""
    large = np.int64(0) if sign else planes // GROUP
    small = planes - GROUP * large
    chunks = triples // CHUNK
    return PLANE * (large * (FOUR + chunks) + small * (ONE + chunks) | 1)


@kernel
def is_half(start: int, outputs: int) -> bool:
    """Whether the panel that begins with an output is a half one (`triples.panel_lanes`)."""
    return HALVES and outputs - start <= HALF


@operation
def count(branch_address: int, slot_address: int, number: int, start: int, rows: int, outputs: int) -> None:
    """Fill the states of all rows of a block for the panel of one branch that begins with output `start`."""
    branch, slots = array(as_int64(branch_address), (at.BRANCH,)), array(as_int64(slot_address), (at.COUNT,))
    planes, sign, triples = branch[at.PLANES], branch[at.SIGN] != 0, branch[at.TRIPLES]
    half = is_half(start, outputs)
    panel = branch[at.PANELS] + start // LANES * (3 * triples + 1) * PLANE
    source = at.INPUT * branch[at.FROM]
    plain = array(as_uint8(slots[at.PLAIN + source]), (rows,))
    used = planes
    if sign and _all_set(plain):
        used = np.int64(1)
    stride, size = planes * triples, state_bytes(triples, planes, sign)
    for chunk in range(triples // CHUNK):
        _fill_tables(panel, chunk, slots[at.TABLE], half)
        for line in range(CHUNK * TRIPLE // LINE):  # the next chunk comes while rows take their look-ups
            prefetch(panel + (chunk + 1) * CHUNK * (TRIPLE // 2 if half else TRIPLE) + line * LINE)
        state = slots[at.STATE + number]
        first = np.int64(0)
        while first < used:
            large = not sign and planes - first >= GROUP
            before = state if chunk else slots[at.NOTHING]
            step = size if chunk else np.int64(0)
            index = slots[at.INDEX + source] + first * triples + chunk * CHUNK
            carry = state + PLANE * ((FOUR if large else ONE) + chunk)
            if sign and first > 0:
                _look_up_zeros(half, plain, slots[at.TABLE], index, stride, before, step, state, carry, size)
            elif half:
                _look_up_halves(large, rows, slots[at.TABLE], index, stride, triples, before, step, state, carry, size)
            else:
                _look_up(large, rows, slots[at.TABLE], index, stride, triples, before, step, state, carry, size)
            state += PLANE * ((FOUR if large else ONE) + triples // CHUNK)
            first += GROUP if large else 1


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
        for g in range(CHUNK):
            _fill_half(panel + (chunk * CHUNK + g) * (TRIPLE // 2), table + g * (TABLE // 2))
        return
    for g in range(CHUNK):
        _fill(panel + (chunk * CHUNK + g) * TRIPLE, table + g * TABLE)


# Loops over rows with nothing else in them: a condition inside costs as much as the look-ups.


@kernel
def _look_up(
    large: bool, rows: int, table: int, index: int, stride: int, triples: int,
    before: int, step: int, state: int, carry: int, size: int,
) -> None:  # fmt: skip
    """Look-ups of one chunk for one group of planes; strides of rows: of index, of `before`, of state and carry."""
    if large:
        for r in range(rows):
            row, move = index + r * stride, r * size
            _four(table, row, row, triples, before + r * step, state + move, carry + move)
        return
    for r in range(rows):
        row, move = index + r * stride, r * size
        _one(table, row, row, triples, before + r * step, state + move, carry + move)


@kernel
def _look_up_halves(
    large: bool, rows: int, table: int, index: int, stride: int, triples: int,
    before: int, step: int, state: int, carry: int, size: int,
) -> None:  # fmt: skip
    """`_look_up` for pairs of rows; the last one may be alone, and is then a pair with itself."""
    for r in range(0, rows, 2):
        row, move = index + r * stride, r * size
        second = row + stride if r + 1 < rows else row
        if large:
            _four_half(table, row, second, triples, before + r * step, state + move, carry + move)
        else:
            _one_half(table, row, second, triples, before + r * step, state + move, carry + move)


@kernel
def _look_up_zeros(
    half: bool, plain: NDArray[np.uint8], table: int, index: int, stride: int,
    before: int, step: int, state: int, carry: int, size: int,
) -> None:  # fmt: skip
    """Look-ups of the second plane of signs, for rows with zeros (pairs of rows with any) only."""
    width = 2 if half else 1
    for r in range(0, plain.size, width):
        other = min(r + width, plain.size) - 1
        if plain[r] and plain[other]:
            continue
        row, second, move = index + r * stride, index + other * stride, r * size
        if half:
            _one_half(table, row, second, 0, before + r * step, state + move, carry + move)
        else:
            _one(table, row, second, 0, before + r * step, state + move, carry + move)


@kernel
def _settle(branch: Table, slots: Table, state: int, start: int, row: int, other: int, first: int, large: bool) -> None:
    """Add up the state of one group of planes, from `first` on, to the counter in COUNTER."""
    planes, triples = branch[at.PLANES], branch[at.TRIPLES]
    half = is_half(start, branch[at.OUTPUTS])
    weights = branch[at.PANELS] + start // LANES * (3 * triples + 1) * PLANE
    weights += triples * (TRIPLE // 2 if half else TRIPLE)
    parity = slots[at.PARITY + at.INPUT * branch[at.FROM]] + first
    bits = array(as_uint8(parity + row * planes), (GROUP,))
    second = array(as_uint8(parity + other * planes), (GROUP,))
    counter, chunks = slots[at.COUNTER], triples // CHUNK
    if large:
        word, other_word = np.int64(0), np.int64(0)
        for p in range(GROUP):
            word |= np.int64(bits[p] & 1) << p
            other_word |= np.int64(second[p] & 1) << p
        if half:
            _settle_four_half(state, weights, word, other_word, chunks, counter)
        else:
            _settle_four(state, weights, word, other_word, chunks, counter)
    elif half:
        _settle_one_half(state, weights, np.int64(bits[0]), np.int64(second[0]), chunks, counter)
    else:
        _settle_one(state, weights, np.int64(bits[0]), np.int64(second[0]), chunks, counter)


@kernel
def _sum(branch: Table, slots: Table, state: int, start: int, row: int, other: int, used: int) -> None:
    """Sums S of a row, or of two in halves, to int32[LANES] in SUMS."""
    sign, chunks = branch[at.SIGN] != 0, branch[at.TRIPLES] // CHUNK
    sums = array(as_int32(slots[at.SUMS]), (2, LANES))
    first = np.int64(0)
    while first < used:
        large = not sign and used - first >= GROUP
        _settle(branch, slots, state, start, row, other, first, large)
        place = slots[at.SUMS] + (4 * LANES if first else 0)
        if is_half(start, branch[at.OUTPUTS]):
            unslice_halves(slots[at.COUNTER], place)
        else:
            unslice(slots[at.COUNTER], place)
        if first:
            weight = np.int32(0) if sign else np.int32(first)
            for n in range(LANES):
                sums[0, n] = np.int32(sums[0, n] + (sums[1, n] << weight))
        state += PLANE * ((FOUR if large else ONE) + chunks)
        first += GROUP if large else 1


@operation
def finish(branch_address: int, slot_address: int, number: int, start: int, row: int, rows: int) -> None:
    """Floats of some rows of a panel from their states, to OUT or (number 1) added to what is there.

    out[n] = float32(dot[n]) * scale[n] + add[n];  dot = offset - 2 S or offset - S for signs without and with zeros
    (offset K), else offset + S with offset = -(2**planes - 1) * negatives + low * sum of signs.
    """
    branch, slots = array(as_int64(branch_address), (at.BRANCH,)), array(as_int64(slot_address), (at.COUNT,))
    planes, sign = branch[at.PLANES], branch[at.SIGN] != 0
    plain = array(as_uint8(slots[at.PLAIN + at.INPUT * branch[at.FROM]]), (row + rows,))
    half = is_half(start, branch[at.OUTPUTS])
    step = 2 if half else 1
    lanes = LANES // step
    size = state_bytes(branch[at.TRIPLES], planes, sign)
    scale, offset, add = branch[at.SCALE] + 4 * start, branch[at.OFFSET] + 4 * start, branch[at.ADD] + 4 * start
    for first in range(row, row + rows, step):
        other = min(first + step - 1, row + rows - 1)
        used = 1 if sign and plain[first] and plain[other] else planes
        factor = np.int64(1)
        if sign:
            factor = np.int64(-2 if used == 1 else -1)
        _sum(branch, slots, slots[at.STATE + number] + first * size, start, first, other, used)
        for r in range(first, other + 1):
            out = slots[at.OUT] + slots[at.OUT_STRIDE] * (r - row)
            sums = slots[at.SUMS] + 4 * HALF * (r - first)
            target, addend = out, add
            if number:
                addend = out
                if branch[at.ADD] != 0:  # a second branch has an addend only if its codes have a minimum
                    add_rows(out, add, lanes)
            elif branch[at.LIMITS] != 0:
                target = slots[at.SUMS] + 4 * LANES
            if half:
                _scale_half(sums, factor, np.int64(0), offset, scale, addend, target)
            else:
                _scale(sums, factor, np.int64(0), offset, scale, addend, target)
            if branch[at.LIMITS] != 0:
                restore(target, out, lanes)


@kernel
def add_rows(place: int, other: int, lanes: int) -> None:
    """Add float32[lanes] to others, both given by address."""
    y, x = array(as_float32(place), (lanes,)), array(as_float32(other), (lanes,))
    for n in range(lanes):
        y[n] = y[n] + x[n]


@kernel
def restore(place: int, out: int, lanes: int) -> None:
    """Natural order for what `unslice` made of a panel in natural order: the inverse of `triples.order`."""
    x, y = array(as_float32(place), (16, lanes // 16)), array(as_float32(out), (lanes // 16, 16))
    for e in range(lanes // 16):
        for i in range(16):
            y[e, i] = x[i, e]


@operation
def decide(branch_address: int, slot_address: int, limits: int, start: int, row: int, rows: int) -> None:
    """Signs of some rows of a panel, none with a zero input: uint64[rows, 2, LANES / 64] in BITS, negative and zero.

    limits : address of the panel's planes for `counters.make_compare`, made by `thresholds.py`
    """
    branch, slots = array(as_int64(branch_address), (at.BRANCH,)), array(as_int64(slot_address), (at.COUNT,))
    half = is_half(start, branch[at.OUTPUTS])
    step = 2 if half else 1
    size = state_bytes(branch[at.TRIPLES], branch[at.PLANES], True)
    for first in range(row, row + rows, step):
        other = min(first + step - 1, row + rows - 1)
        state = slots[at.STATE] + first * size
        _settle(branch, slots, state, start, first, other, 0, False)
        place = slots[at.BITS] + 2 * PLANE * (first - row)
        if half:
            _compare_half(slots[at.COUNTER], limits, slots[at.SUMS])
            found = array(as_uint64(slots[at.SUMS]), (2, 2, WORDS // 2))  # negative and zero, rows, words
            bits = array(as_uint64(place), (2, 2, WORDS))
            for r in range(other - first + 1):
                for kind in range(2):
                    for w in range(WORDS // 2):
                        bits[r, kind, w] = found[kind, r, w]
        else:
            _compare(slots[at.COUNTER], limits, place)
