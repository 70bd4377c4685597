"""Codes split into bitplanes multiply weight signs exactly, for 1 to 8 bits, signed and unsigned, on every tail."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import check, check_code_gemm

from bebert_kernels import compiled, packing
from bebert_kernels.reference import integers as reference

EDGES = [1, 63, 64, 65, 127, 128, 129]
RAGGED = [1, 2, 3, 5, 7, 8, 9, 17]
BACKENDS = [reference, compiled]
KINDS = [(bits, signed) for bits in (1, 2, 4, 8) for signed in (False, True)]


def limits(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def random_codes(seed: int, rows: int, depth: int, bits: int, signed: bool) -> np.ndarray:
    """All codes of the range, with both extremes more often."""
    rng = np.random.default_rng(seed)
    low, high = limits(bits, signed)
    codes = rng.integers(low, high + 1, (rows, depth))
    codes = np.where(rng.random((rows, depth)) < 0.2, rng.choice([low, high], (rows, depth)), codes)
    return codes.astype(np.int8 if signed else np.uint8)


def random_weights(seed: int, outputs: int, depth: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (outputs, depth))


def product(backend, codes: np.ndarray, weights: np.ndarray, bits: int) -> np.ndarray:
    planes, sums = backend.pack_codes(codes, bits)
    signs = packing.pack_weight_signs(weights)
    by_planes = backend.and_gemm(planes, sums, signs, codes.dtype == np.int8)
    chosen = backend.code_gemm(codes, backend.code_weights(signs, codes.shape[1]), bits)
    assert np.array_equal(by_planes, chosen), "the kernel chosen for this CPU and the bitplanes differ"
    return by_planes


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("bits", "signed"), KINDS)
def test_word_edges_equal_the_oracle(backend, bits, signed):
    for depth in EDGES:
        codes, weights = random_codes(bits, 3, depth, bits, signed), random_weights(depth, 5, depth)
        assert product(backend, codes, weights, bits).tolist() == oracle.gemm(codes, weights)


@pytest.mark.parametrize(("bits", "signed"), KINDS)
def test_ragged_rows_and_outputs_agree_with_the_reference(bits, signed):
    for rows, outputs in zip(RAGGED, RAGGED[::-1], strict=True):
        codes, weights = random_codes(rows, rows, 129, bits, signed), random_weights(outputs, outputs, 129)
        planes, sums = check("pack_codes", (codes, bits))
        found = check("and_gemm", (planes, sums, packing.pack_weight_signs(weights), signed))
        assert np.array_equal(found, codes.astype(np.int32) @ weights.T.astype(np.int32))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 20), st.integers(0, 20), st.integers(1, 600), st.integers(1, 8), st.booleans(), st.integers(0, 99)
)
def test_any_shape_and_any_number_of_bits(rows, outputs, depth, bits, signed, seed):
    codes, weights = random_codes(seed, rows, depth, bits, signed), random_weights(seed, outputs, depth)
    found = product(compiled, codes, weights, bits)
    assert np.array_equal(found, codes.astype(np.int32) @ weights.T.astype(np.int32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("code", "bits"), [(-8, 4), (7, 4), (-128, 8), (127, 8), (255, 8), (-1, 1), (-2, 2)])
def test_rows_of_one_extreme_code(backend, code, bits):
    codes = np.full((2, 3072), code, np.uint8 if code > 127 else np.int8)
    weights = np.stack([np.ones(3072, np.int8), -np.ones(3072, np.int8)])
    assert product(backend, codes, weights, bits).tolist() == [[3072 * code, -3072 * code]] * 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("bits", "signed"), KINDS)
def test_planes_hold_the_bits_of_the_codes_and_sums_their_sum(backend, bits, signed):
    for depth in EDGES:
        codes = random_codes(depth, 4, depth, bits, signed)
        planes, sums = backend.pack_codes(codes, bits)
        assert (planes.dtype, planes.shape) == (np.uint64, (bits, 4, packing.words(depth)))
        for p in range(bits):
            rows = [[int(code) >> p & 1 for code in row] for row in codes]
            assert planes[p].tolist() == [oracle.words_of(row) for row in rows]
        assert sums.dtype == np.int32
        assert sums.tolist() == [sum(int(code) for code in row) for row in codes]


def test_the_order_of_rows_and_a_row_alone_give_the_same():
    codes, weights = random_codes(1, 19, 200, 4, True), random_weights(2, 11, 200)
    whole = product(compiled, codes, weights, 4)
    order = np.random.default_rng(3).permutation(19)
    assert np.array_equal(product(compiled, codes[order], weights, 4), whole[order])
    for m in range(19):
        assert np.array_equal(product(compiled, codes[m : m + 1], weights, 4), whole[m : m + 1])


def test_more_bits_than_needed_change_nothing():
    codes, weights = random_codes(4, 9, 100, 2, True), random_weights(5, 9, 100)
    assert np.array_equal(product(compiled, codes, weights, 2), product(compiled, codes, weights, 8))


CODES = np.zeros((3, 70), np.int8)
PLANES, SUMS = np.zeros((4, 3, 2), np.uint64), np.zeros(3, np.int32)
WEIGHTS = np.zeros((5, 2), np.uint64)


@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8])
def test_the_byte_product_fills_up_ragged_shapes(bits):
    """Rows to eight, inputs to four, outputs to sixteen: what is filled up never shows."""
    for rows, outputs, depth in [(1, 1, 1), (7, 15, 3), (8, 16, 4), (9, 17, 5), (16, 33, 66), (3, 48, 127)]:
        for signed in (True, False):
            codes = random_codes(rows, rows, depth, bits, signed)
            check_code_gemm(codes, packing.pack_weight_signs(random_weights(outputs, outputs, depth)), bits)


@pytest.mark.parametrize("backend", BACKENDS)
def test_codes_that_do_not_fit_are_refused(backend):
    weights = backend.code_weights(np.zeros((3, 1), np.uint64), 2)
    with pytest.raises(ValueError, match=r"codes span 0\.\.16; accepted for 4 bits: 0\.\.15"):
        backend.code_gemm(np.array([[0, 16]], np.uint8), weights, 4)
    with pytest.raises(ValueError, match=r"codes span 0\.\.16; accepted for 4 bits: 0\.\.15"):
        backend.pack_codes(np.array([[0, 16]], np.uint8), 4)
    with pytest.raises(ValueError, match=r"codes span -9\.\.0; accepted for 4 bits: -8\.\.7"):
        backend.pack_codes(np.array([[0, -9]], np.int8), 4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("pack_codes", (CODES.astype(np.int32), 4), r"codes is int32\[3, 70\]; accepted: .*int8 or uint8\[M, K\]"),
        ("pack_codes", (CODES[:, ::2], 4), r"codes is int8\[3, 35\], not contiguous"),
        ("pack_codes", (CODES, 0), r"bits is 0; accepted: an integer from 1 to 8"),
        ("pack_codes", (CODES, 9), r"bits is 9; accepted: an integer from 1 to 8"),
        ("and_gemm", (PLANES[:0], SUMS, WEIGHTS, True), r"number of planes is 0; accepted: .* 1 to 8"),
        ("and_gemm", (PLANES[0], SUMS, WEIGHTS, True), r"planes is uint64\[3, 2\]; accepted: .*\[P, M, W\]"),
        ("and_gemm", (PLANES, SUMS[:2], WEIGHTS, True), r"sums is int32\[2\]; accepted: .*int32\[3\]"),
        ("and_gemm", (PLANES, SUMS.astype(np.int64), WEIGHTS, True), r"sums is int64\[3\]"),
        ("and_gemm", (PLANES, SUMS, WEIGHTS[:, :1].copy(), True), r"weights is uint64\[5, 1\]; accepted: .*\[N, 2\]"),
        ("and_gemm", (PLANES[:, ::2], SUMS[:2], WEIGHTS, True), r"planes is uint64\[4, 2, 2\], not contiguous"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(compiled, name)(*arguments)
