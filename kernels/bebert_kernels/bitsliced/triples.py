"""Rows cut into triples, again and again: the order in which the fast product reads activations and weights.

A row of depth K becomes G = K // 2 triples (one more or less) and one parity:

    level 0: K bits          -> K // 3 triples, and as many parities
    level 1: the parities (and what was left over) -> a third as many triples, and so on to a single bit

The three members of triple j of a level are elements j, m + j and 2 m + j of the level, m its count of triples, so
that a vector works on many triples at once. `tile.py` tells why; `index.py` does this to activations on
every call, `pack_panels` here to weights once, when a model is loaded.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.bitsliced.layout import CHUNK_TRIPLES, HALVES, MAX_DEPTH, PANEL_OUTPUTS, PLANE
from bebert_kernels.packing import Words, unpack_bits


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
    """Return the count of triples of a row, rounded up to whole chunks, at least one; padding counts 0."""
    return -(-max(1, sum(level.triples for level in levels(depth))) // CHUNK_TRIPLES) * CHUNK_TRIPLES


def panel_lanes(outputs: int) -> list[int]:
    """Return the lanes of the panels of a layer: all PANEL_OUTPUTS, and half of them for the last if that is enough."""
    whole, rest = divmod(outputs, PANEL_OUTPUTS)
    last = PANEL_OUTPUTS // 2 if HALVES and rest <= PANEL_OUTPUTS // 2 else PANEL_OUTPUTS
    return [PANEL_OUTPUTS] * whole + [last] * (rest > 0)


def pack_panels(signs: Words, depth: int, natural: bool = False) -> Words:
    """Rearrange weight signs uint64[N, W] (bit 1 = -1) of rows of `depth` values for the fast product.

    natural : output n of a panel is bit n of a plane; else where `counters.planes_to_ints` gets it from, see `order`
    returns : aligned uint64[...]: for each panel of `panel_lanes(N)` L lanes, uint64[3 * Gp + 1, L / 64]: planes
              w1 w2 w3 of every triple, then the parity plane. Outputs beyond N count as +1. 1.5 times the bits

    Raises ValueError for a depth above MAX_DEPTH.
    """
    if not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"depth is {depth}; accepted: 1 to {MAX_DEPTH}")
    outputs, triples = len(signs), triple_count(depth)
    bits = unpack_bits(signs, depth)
    panels, start = [], 0
    for lanes in panel_lanes(outputs):
        rows = np.zeros((lanes, depth), np.uint8)
        found = bits[start : start + lanes]
        rows[: len(found)] = found
        planes = _planes(rows if natural else rows[order(lanes)])
        words = np.zeros((3 * triples + 1, lanes // 64), np.uint64)
        done = 0
        for level in levels(depth):
            planes = _extended(planes, 3 * level.triples + level.rest)
            parts = planes[: 3 * level.triples].reshape(3, level.triples, -1)
            words[done : done + 3 * level.triples] = parts.transpose(1, 0, 2).reshape(3 * level.triples, -1)
            done += 3 * level.triples
            planes = np.concatenate([planes[3 * level.triples :], parts[0] ^ parts[1] ^ parts[2]])
        words[-1] = planes[0]
        panels.append(words.reshape(-1))
        start += lanes
    packed = aligned((sum(len(words) for words in panels),), np.uint64)
    np.concatenate(panels, out=packed)
    return packed


def order(lanes: int) -> NDArray[np.intp]:
    """Return the output whose sum must stand in each bit of a plane for `planes_to_ints` to give the natural order.

    Bit 16 * e + i becomes element i * (lanes / 16) + e.
    """
    return np.arange(lanes).reshape(16, lanes // 16).T.reshape(-1)


def natural_places(outputs: int) -> NDArray[np.intp]:
    """Which output, of a layer padded to whole panels, `planes_to_ints` puts in each place if packing was natural.

    The inverse of `order`, panel by panel.
    """
    places = np.arange(-(-outputs // PANEL_OUTPUTS) * PANEL_OUTPUTS)
    start = 0
    for lanes in panel_lanes(outputs):
        places[start : start + lanes] = start + np.arange(lanes).reshape(lanes // 16, 16).T.reshape(-1)
        start += lanes
    return places


def _planes(rows: NDArray[np.uint8]) -> Words:
    """Bits [lanes, K] of the outputs as K planes uint64[K, lanes / 64]."""
    octets = np.packbits(np.ascontiguousarray(rows.T), axis=1, bitorder="little")
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
