"""Products of rows of byte codes with weight signs by majority tables: the loops around the block of `count_tile.py`.

    S[m, n] = sum over planes p, inputs k  2**p * (bit p of u[m, k] ^ negative[n, k])

For b-bit codes  sum_k u * w = S - (2**b - 1) * negatives[n];  for signs (one plane)  dot = K - 2 S;  for signs with
zeros, whose two planes both weigh 1,  dot = K - S. The weights of a panel are turned into tables a chunk at a time,
because the tables of a chunk fit into the first-level cache; all rows of a block use them; counters wait in memory.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels import slots as at
from bebert_kernels.addresses import array, as_float32, as_int32, as_int64, as_uint8
from bebert_kernels.count_tile import (
    LANES,
    LEVELS,
    PLANE,
    TABLE,
    TRIPLE,
    fill_table,
    make_lookup,
    start_counters,
    unslice,
)
from bebert_kernels.jit import kernel
from bebert_kernels.operation import operation
from bebert_kernels.scale_tile import make_scale
from bebert_kernels.triples import GROUP

CHUNK = 48  # triples whose tables fit into 24 KiB
COUNTER = LEVELS * PLANE  # bytes of one counter; a row has two, for planes 0-3 and 4-7

scale_lanes = make_scale(LANES)
_one, _four = make_lookup(1, CHUNK, 12), make_lookup(4, CHUNK, 15)
_one_short, _four_short = make_lookup(1, GROUP, 12), make_lookup(4, GROUP, 15)


@kernel
def count_panel(
    panel: int,
    triples: int,
    index: int,
    parity: int,
    plain: NDArray[np.uint8],
    rows: int,
    planes: int,
    sign: bool,
    table: int,
    counters: int,
) -> None:
    """Fill the counters of `rows` rows for one panel of LANES outputs.

    panel    : address of uint64[3 * triples + 1, LANES / 64] (`triples.Panels`)
    index    : address of uint8[rows, planes, triples]       parity : address of uint8[rows, planes]
    plain    : uint8[rows], for signs: 1 = only plane 0 counts, the row has no zero
    planes   : bits of the codes; 2 for signs
    table    : address of CHUNK * TABLE bytes                 counters : address of rows * 2 * COUNTER bytes
    """
    bits = array(as_uint8(parity), (rows, planes))
    for r in range(rows):
        used = 1 if sign and plain[r] else planes
        for first in range(0, used, 4):
            word = np.int64(0)
            for p in range(first, min(used, first + 4)):
                word |= np.int64(bits[r, p] & 1) << (p - first)
            place = counters + (2 * r + first // 4) * COUNTER
            equal = np.int64(sign and used == 2)
            start_counters(place, panel + triples * TRIPLE, word, np.int64(min(4, used - first)), equal)
    start = 0
    while start < triples:
        whole = triples - start >= CHUNK
        count = CHUNK if whole else GROUP
        for g in range(count):
            fill_table(panel + (start + g) * TRIPLE, table + g * TABLE)
        for r in range(rows):
            used = 1 if sign and plain[r] else planes
            for first in range(0, used, 4):
                place = counters + (2 * r + first // 4) * COUNTER
                row = index + (r * planes + first) * triples + start
                if used - first >= 4:
                    if whole:
                        _four(table, row, triples, place)
                    else:
                        _four_short(table, row, triples, place)
                    continue
                for p in range(used - first):
                    level = place if sign else place + p * PLANE
                    if whole:
                        _one(table, row + p * triples, triples, level)
                    else:
                        _one_short(table, row + p * triples, triples, level)
        start += count


@kernel
def panel_row(
    counters: int, planes: int, sign: bool, plain: bool, offset: int, scale: int, add: int, sums: int, out: int
) -> None:
    """One row of outputs from its counters: out[n] = float32(dot[n]) * scale[n] + add[n], LANES of them.

    dot = offset - 2 S or offset - S for signs without and with zeros (offset K), else offset + S with
    offset = -(2**planes - 1) * negatives + low * sum of signs.

    offset, scale, add, out : addresses of int32[LANES] and float32[LANES]; out may be add
    sums                    : address of int32[2, LANES], scratch
    """
    unslice(counters, sums)
    if planes > 4:
        unslice(counters + COUNTER, sums + 4 * LANES)
        both = array(as_int32(sums), (2, LANES))
        for n in range(LANES):
            both[0, n] = np.int32(both[0, n] + (both[1, n] << np.int32(4)))
    factor = np.int64(1)
    if sign:
        factor = np.int64(-2 if plain else -1)
    scale_lanes(sums, factor, np.int64(0), offset, scale, add, out)


@operation
def sliced_product(branch_address: int, slot_address: int, again: int, start: int, rows: int, outputs: int) -> None:
    """Outputs start .. start + LANES - 1 of one branch of a linear layer, to Y or (again = 1) added to it."""
    branch, slots = array(as_int64(branch_address), (at.BRANCH,)), array(as_int64(slot_address), (at.COUNT,))
    planes, sign, triples = branch[at.PLANES], branch[at.SIGN] != 0, branch[at.TRIPLES]
    source = at.INPUT * branch[at.FROM]
    plain = array(as_uint8(slots[at.PLAIN + source]), (rows,))
    panel = branch[at.PANELS] + start // LANES * (3 * triples + 1) * PLANE
    index, parity, counters = slots[at.INDEX + source], slots[at.PARITY + source], slots[at.COUNTERS]
    count_panel(panel, triples, index, parity, plain, rows, planes, sign, slots[at.TABLE], counters)
    add, offset, scale = branch[at.ADD] + 4 * start, branch[at.OFFSET] + 4 * start, branch[at.SCALE] + 4 * start
    for r in range(rows):
        place = slots[at.Y] + 4 * LANES * r
        if again and branch[at.ADD] != 0:  # a second branch has an addend only if its codes have a minimum
            add_rows(place, branch[at.ADD] + 4 * start)
        panel_row(
            counters + 2 * r * COUNTER,
            planes,
            sign,
            plain[r] != 0,
            offset,
            scale,
            place if again else add,
            slots[at.SUMS],
            place,
        )


@kernel
def add_rows(place: int, other: int) -> None:
    """Add LANES float32 to others, both given by address."""
    y, x = array(as_float32(place), (LANES,)), array(as_float32(other), (LANES,))
    for n in range(LANES):
        y[n] = y[n] + x[n]
