"""Rows cut into triples, again and again: the order in which the fast product reads activations and weights.

A row of depth K becomes G = K // 2 triples (one more or less) and one parity:

    level 0: K bits          -> K // 3 triples, and as many parities
    level 1: the parities (and what was left over) -> a third as many triples, and so on to a single bit

The three members of triple j of a level are elements j, m + j and 2 m + j of the level, m its count of triples, so
that a vector works on many triples at once. `count_tile.py` tells why; `row_index.py` does this to activations on
every call, `pack_panels` here to weights once, when a model is loaded.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.count_tile import LANES, PLANE
from bebert_kernels.packing import Words, unpack_bits

GROUP = 16  # triples are padded to a multiple of this; padding counts 0
MAX_DEPTH = 4369  # 15 * K must stay below 2**16


class Level(NamedTuple):
    """One round: `triples` triples from element `start` on; `rest` elements go on to the next round."""

    start: int
    triples: int
    rest: int


def levels(depth: int) -> list[Level]:
    """Return the rounds for a row of `depth` >= 1 elements. Element 3*triples + rest of a round begins its parities."""
    found, start, count = [], 0, depth
    while count > 1:
        if count == 2:
            count = 3  # one padding element 0
        triples, rest = divmod(count, 3)
        found.append(Level(start, triples, rest))
        start += 3 * triples
        count = rest + triples
    return found


def triple_count(depth: int) -> int:
    """Return the count of triples of a row, rounded up to a multiple of GROUP."""
    return -(-sum(level.triples for level in levels(depth)) // GROUP) * GROUP


class Panels(NamedTuple):
    """Weight signs of LANES outputs a panel, cut into triples.

    words   : uint64[panels, Gp * 3 + 1, LANES / 64]   planes w1 w2 w3 of every triple, then the parity plane; aligned
    outputs : N;   depth : K;   triples : Gp
    """

    words: Words
    outputs: int
    depth: int
    triples: int


def pack_panels(signs: Words, depth: int) -> Panels:
    """Rearrange weight signs uint64[N, W] (bit 1 = -1) of rows of `depth` values for the fast product.

    Output n of a panel is bit (n % H) * 16 + n // H of a plane, H = LANES / 16: what `unslice` turns into natural
    order. Outputs beyond N count as +1. Takes 1.5 times the bits. Raises ValueError for a depth above MAX_DEPTH.
    """
    if not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"depth is {depth}; accepted: 1 to {MAX_DEPTH}")
    outputs = len(signs)
    panels = -(-outputs // LANES)
    bits = np.zeros((panels * LANES, depth), np.uint8)
    bits[:outputs] = unpack_bits(signs, depth)
    triples = triple_count(depth)
    words = aligned((panels, 3 * triples + 1, LANES // 64), np.uint64)
    words[:] = 0
    for panel, rows in enumerate(bits.reshape(panels, LANES, depth)):
        planes = _planes(rows)
        place = 0
        for level in levels(depth):
            planes = _extended(planes, 3 * level.triples + level.rest)
            parts = planes[: 3 * level.triples].reshape(3, level.triples, -1)
            words[panel, place : place + 3 * level.triples] = parts.transpose(1, 0, 2).reshape(3 * level.triples, -1)
            place += 3 * level.triples
            planes = np.concatenate([planes[3 * level.triples :], parts[0] ^ parts[1] ^ parts[2]])
        words[panel, -1] = planes[0]
    return Panels(words, outputs, depth, triples)


def _planes(rows: NDArray[np.uint8]) -> Words:
    """Bits [LANES, K] of the outputs as K planes uint64[K, LANES / 64], in the order of `unslice`."""
    ordered = rows.reshape(16, LANES // 16, -1).transpose(2, 1, 0).reshape(rows.shape[1], LANES)
    octets = np.packbits(ordered, axis=1, bitorder="little")
    return octets.view("<u8").astype(np.uint64, copy=False)


def _extended(planes: Words, count: int) -> Words:
    if len(planes) == count:
        return planes
    return np.concatenate([planes, np.zeros((count - len(planes), planes.shape[1]), np.uint64)])


def aligned(shape: tuple[int, ...], dtype: type) -> NDArray:
    """Return an uninitialized array whose first byte lies on a border of PLANE bytes, at least 64."""
    border = max(PLANE, 64)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + border, np.uint8)
    start = -memory.ctypes.data % border
    return memory[start : start + size].view(dtype).reshape(shape)
