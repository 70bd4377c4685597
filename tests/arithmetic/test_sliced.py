"""What only the bitsliced product has: its order of outputs, its depth, and signs that thresholds decide, not floats.

Its integers are those of `test_products.py`.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bebert_kernels.bitsliced.layout import MAX_DEPTH, PANEL_OUTPUTS
from bebert_kernels.bitsliced.thresholds import sign_thresholds
from bebert_kernels.bitsliced.triples import natural_places, order, pack_panels, panel_lanes
from bebert_kernels.reference.integers import GELU_ZERO
from bebert_kernels.rows.layout import NOWHERE


def test_too_deep_a_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=f"depth is {MAX_DEPTH + 1}; accepted: 1 to {MAX_DEPTH}"):
        pack_panels(np.zeros((1, 69), np.uint64), MAX_DEPTH + 1)


def test_orders_are_inverse() -> None:
    for outputs in (PANEL_OUTPUTS, PANEL_OUTPUTS // 2, PANEL_OUTPUTS + 3, 3 * PANEL_OUTPUTS):
        places, start = natural_places(outputs), 0
        for lanes in panel_lanes(outputs):
            there = places[start : start + lanes] - start
            assert np.array_equal(there[order(lanes)], np.arange(lanes))
            start += lanes


def exact_sign(values: NDArray[np.float32], floor: np.float32) -> NDArray[np.int64]:
    return np.where((values == 0) | (values <= floor), 0, np.sign(values)).astype(np.int64)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 300),
    st.floats(-2, 2, width=32),
    st.floats(-8, 8, width=32),
    st.sampled_from([0.0, 0.5, -0.25]),
    st.sampled_from([NOWHERE, GELU_ZERO]),
)
def test_limits_give_the_signs_of_the_floats(depth: int, scale: float, bias: float, shift: float, floor: float) -> None:
    sums = np.arange(depth + 1)
    scales, biases, shifts = (np.full(depth + 1, value, np.float32) for value in (scale, bias, shift))
    values = ((depth - 2 * sums).astype(np.float32) * scales + biases) + shifts
    want = exact_sign(values, np.float32(floor))
    thresholds = sign_thresholds(depth, scales[:1], biases[:1], shifts[:1], np.full(1, floor, np.float32))
    low, high, below, exact = (values[0] for values in thresholds)
    found = np.where((low <= sums) & (sums < high), -1, np.where(sums < low if below else sums >= high, 0, 1))
    if exact:
        assert np.array_equal(found, want)
    else:  # an exact zero between the signs, which one interval cannot say
        assert (want[found != want] == 0).all()
        assert (values[found != want] == 0).all()
