"""Statistics of a sentence: least and largest values, and the step and minimum that follow from them.

Minimum and maximum have no order, so rows can be looked at by any thread and put together later, with the same bits.
A value that is clipped first has the clipped least and largest ones: clipping keeps the order.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi import rule as rules
from bebert_kernels.abi.rule import Numbers
from bebert_kernels.jit.kernel import kernel

Floats = NDArray[np.float32]

ZERO: Any = np.float32(0)
ONE: Any = np.float32(1)
TINY = np.float32(1e-8)  # keeps the step of a constant tensor from being 0


@kernel
def row_range(x: Floats, out: Floats) -> None:
    """out[0], out[1] = least and largest of float32[K]."""
    low, high = x[0], x[0]
    for k in range(1, x.size):
        low = min(low, x[k])
        high = max(high, x[k])
    out[0], out[1] = low, high


@kernel
def join_ranges(ranges: Floats, out: Floats) -> None:
    """Ranges of rows float32[M, 2] to that of all of them."""
    out[0], out[1] = ranges[0, 0], ranges[0, 1]
    for r in range(1, ranges.shape[0]):
        out[0] = min(out[0], ranges[r, 0])
        out[1] = max(out[1], ranges[r, 1])


@kernel
def clip(value: np.float32, limits: Floats) -> np.float32:
    """The value, but at least limits[0] and at most limits[1]."""
    return min(max(value, limits[0]), limits[1])


@kernel
def sentence_numbers(source: int, found: Any, limits: Floats, stored: Any) -> Any:
    """Numbers of a quantizer for values of range `found`: those that are stored, or made of the range.

    source : STORED
             SYMMETRIC   step = max|x| / high, minimum 0; step 1 where all values are 0
             ASYMMETRIC  minimum = min x, step = (max x - min x + 1e-8) / high
    limits : x is clipped to limits[0] .. limits[1] first

    Source: TernaryBERT, section 3.2; `bebert_infer/model/quantizer.py`, `Quantizer.resolve`.
    """
    if source == rules.STORED:
        return stored
    low: Any = clip(found[0], limits)
    high: Any = clip(found[1], limits)
    if source == rules.SYMMETRIC:
        step = max(abs(low), abs(high)) / stored.high
        return Numbers(step if step != 0 else ONE, ZERO, stored.low, stored.high)
    return Numbers(((high - low) + TINY) / stored.high, low, stored.low, stored.high)
