"""Signs without floats: thresholds of the sums S between which an output of a layer of signs is negative.

    v(S) = (float32(K - 2 S) * scale + bias) + shift          in float32, rounded as the layer rounds it

Every step is monotone in S, and rounding keeps that. So the sums that make v negative are an interval, and so are
those that make its sign 0: v == 0, or v <= floor (GELU of large negative numbers, `reference.GELU_ZERO`). Bisection on
the layer's own arithmetic finds the thresholds; the answer is the same bit for bit.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.bitsliced.layout import COMPARED
from bebert_kernels.bitsliced.triples import aligned, panel_lanes

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]


class SignThresholds(NamedTuple):
    """For each of N outputs: negative where low <= S < high; 0 at S >= high, or at S < low if `below`; else positive.

    exact : whether that is all; else v is also 0 between positive and negative, and floats must decide
    """

    low: Integers
    high: Integers
    below: NDArray[np.bool_]
    exact: NDArray[np.bool_]


def sign_thresholds(depth: int, scale: Floats, bias: Floats, shift: Floats, floor: Floats) -> SignThresholds:
    """Return the thresholds of the outputs of a layer; all are float32[N] and finite but for floors of -inf."""
    falls = scale >= 0  # v falls as S grows

    def value(steps: Integers) -> Floats:
        sums = np.where(falls, steps, depth - steps)
        return ((depth - 2 * sums).astype(np.float32) * scale + bias) + shift

    def first(below: "NDArray[np.float32] | np.float32", strictly: bool) -> Integers:
        """The first step, 0 .. K + 1, at which v is below (or not above) a number."""
        start, end = np.full(len(scale), -1), np.full(len(scale), depth + 1)
        while (end - start > 1).any():
            middle = (start + end) // 2
            found = value(middle)
            there = found < below if strictly else found <= below
            there &= middle >= 0
            start, end = np.where(there, start, np.maximum(middle, start)), np.where(there, middle, end)
        return end

    zero = np.float32(0)
    not_plus, minus, tail = first(zero, False), first(zero, True), first(floor, False)
    low = np.where(falls, minus, depth + 1 - tail)
    high = np.where(falls, tail, depth + 1 - minus)
    return SignThresholds(low, high, ~falls, not_plus == minus)


def threshold_planes(thresholds: SignThresholds) -> list[NDArray[np.uint64] | None]:
    """Return the thresholds of each panel as `counters.make_compare` reads them, None where floats must decide.

    uint64[2 * COMPARED + 1, L / 64]: the bits of low, of high, and `below`; lanes beyond N are positive.
    """
    found: list[NDArray[np.uint64] | None] = []
    start, outputs = 0, len(thresholds.low)
    for lanes in panel_lanes(outputs):
        end = min(start + lanes, outputs)
        most = (1 << COMPARED) - 1
        low, high, below = np.full(lanes, most), np.full(lanes, most), np.zeros(lanes, np.int64)
        for target, values in ((low, thresholds.low), (high, thresholds.high), (below, thresholds.below)):
            target[: end - start] = values[start:end]
        planes = aligned((2 * COMPARED + 1, lanes // 64), np.uint64)
        rows = [(values >> level) & 1 for values in (low, high) for level in range(COMPARED)] + [below]
        octets = np.packbits(np.array(rows, np.uint8), axis=1, bitorder="little")
        planes[:] = octets.view("<u8")
        found.append(planes if thresholds.exact[start:end].all() else None)
        start = end
    return found
