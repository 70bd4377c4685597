"""The fast product: whole integers against NumPy, signs decided by limits against the floats they replace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bebert_kernels import packing
from bebert_kernels.abi.stage import available
from bebert_kernels.bitsliced.thresholds import sign_limits
from bebert_kernels.bitsliced.tile import PANEL_OUTPUTS
from bebert_kernels.bitsliced.triples import MAX_DEPTH, natural_places, order, pack_panels, panel_lanes
from bebert_kernels.reference.integers import GELU_ZERO
from bebert_kernels.rows.quantize import MINUS, NOWHERE, PLUS, ZERO

if not available():
    pytest.skip("programs are compiled code", allow_module_level=True)

from bebert_kernels.tuning.single_layer import OneLayer


def check_codes(rows: int, outputs: int, depth: int, bits: int, low: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.choice(np.array([-1, 1], np.int8), (outputs, depth))
    codes = rng.integers(0, 1 << bits, (rows, depth)).astype(np.uint8)
    layer = OneLayer(packing.pack_weight_signs(weights), depth, bits, rows, low)
    want = (codes.astype(np.int64) + low) @ weights.astype(np.int64).T
    assert np.array_equal(layer(codes, np.zeros(rows, np.uint8)), want)


def check_signs(rows: int, outputs: int, depth: int, zeros: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.choice(np.array([-1, 1], np.int8), (outputs, depth))
    signs = rng.choice(np.array([-1, 1], np.int64), (rows, depth))
    signs[(rng.random((rows, depth)) < zeros) & (rng.random((rows, 1)) < 0.7)] = 0
    codes = np.choose(signs + 1, [MINUS, ZERO, PLUS]).astype(np.uint8)
    layer = OneLayer(packing.pack_weight_signs(weights), depth, 0, rows)
    assert np.array_equal(layer(codes, (signs != 0).all(axis=1).astype(np.uint8)), signs @ weights.T.astype(np.int64))


@pytest.mark.parametrize("depth", [1, 2, 3, 63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 193, 384])
def test_products_of_all_depths(depth: int) -> None:
    for bits in (1, 2, 3, 4, 5, 8):
        check_codes(3, PANEL_OUTPUTS + 5, depth, bits, -(1 << bits) // 2, depth)
    for zeros in (0.0, 0.2):
        check_signs(5, PANEL_OUTPUTS + 5, depth, zeros, depth)


@pytest.mark.parametrize(
    "outputs",
    [1, PANEL_OUTPUTS // 2 - 1, PANEL_OUTPUTS // 2, PANEL_OUTPUTS // 2 + 1, PANEL_OUTPUTS, 2 * PANEL_OUTPUTS + 1],
)
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 129, 130])
def test_products_of_all_panels_and_rows(outputs: int, rows: int) -> None:
    check_codes(rows, outputs, 70, 4, 0, rows)
    check_signs(rows, outputs, 70, 0.05, rows)


def test_largest_sums() -> None:
    weights = np.full((2, MAX_DEPTH), -1, np.int8)
    for bits in (4, 8):
        layer = OneLayer(packing.pack_weight_signs(weights), MAX_DEPTH, bits, 1)
        codes = np.full((1, MAX_DEPTH), (1 << bits) - 1, np.uint8)
        assert layer(codes, np.zeros(1, np.uint8)).tolist() == [[-((1 << bits) - 1) * MAX_DEPTH] * 2]


def test_too_deep_a_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=f"depth is {MAX_DEPTH + 1}; accepted: 1 to {MAX_DEPTH}"):
        pack_panels(np.zeros((1, 69), np.uint64), MAX_DEPTH + 1)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 2 * PANEL_OUTPUTS),
    st.integers(1, 400),
    st.integers(0, 8),
    st.integers(0, 2**32 - 1),
)
def test_products_of_any_shape(rows: int, outputs: int, depth: int, bits: int, seed: int) -> None:
    if bits:
        check_codes(rows, outputs, depth, bits, -3, seed)
    else:
        check_signs(rows, outputs, depth, 0.1, seed)


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
    limits = sign_limits(depth, scales[:1], biases[:1], shifts[:1], np.full(1, floor, np.float32))
    low, high, below, exact = (values[0] for values in limits)
    found = np.where((low <= sums) & (sums < high), -1, np.where(sums < low if below else sums >= high, 0, 1))
    if exact:
        assert np.array_equal(found, want)
    else:  # an exact zero between the signs, which one interval cannot say
        assert (want[found != want] == 0).all()
        assert (values[found != want] == 0).all()
