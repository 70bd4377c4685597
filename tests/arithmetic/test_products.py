"""Every product computes the same integers: signs with and without zeros, codes of 1 to 8 bits, every shape and tail.

One set of sentences for the NumPy reference, popcount, bitsliced tables and byte look-up; what only one of them has
follows below, or stands in `test_lookup.py` and `test_sliced.py`.
"""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import oracle
import product_cases as cases
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from product_cases import NAMES, REFERENCE, check, multiply, plain, random_codes, random_signs, random_weights, takes

from bebert_kernels import packing
from bebert_kernels.abi.stage import available
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.jit.kernel import cpu_features
from bebert_kernels.program.layer import PRODUCTS
from bebert_kernels.tuning.single_layer import OneLayer

if not available():
    pytest.skip("programs are compiled code", allow_module_level=True)

EDGES = [1, 63, 64, 65, 127, 128, 129]
RAGGED = [1, 2, 3, 5, 7, 8, 9, 17]
BITS = [0, 1, 2, 3, 4, 5, 8]  # 0: signs
FORMS = [(lanes, adders) for lanes in ((4, 8) if "avx512bw" in cpu_features() else (4,)) for adders in (False, True)]
PAIRS = [(name, bits) for name in NAMES for bits in BITS if takes(name, bits)]
EVERY = pytest.mark.parametrize(("name", "bits"), PAIRS, ids=[f"{name}-{bits}" for name, bits in PAIRS])
SIGNS = pytest.mark.parametrize("name", [name for name in NAMES if takes(name, 0)])


def low_of(bits: int, signed: bool) -> int:
    return -(1 << (bits - 1)) if signed else 0


def values_of(seed: int, rows: int, depth: int, bits: int, low: int) -> np.ndarray:
    return random_codes(seed, rows, depth, bits, low) if bits else random_signs(seed, rows, depth, 0.1)


@EVERY
@pytest.mark.parametrize("signed", [False, True])
def test_word_edges_equal_the_oracle(name, bits, signed):
    """Signed codes, or signs with zeros; and unsigned ones, or signs without."""
    for depth in EDGES:
        weights, low = random_weights(depth, 5, depth), low_of(bits or 1, signed)
        values = random_codes(depth, 3, depth, bits, low) if bits else random_signs(depth, 3, depth, 0.3 * signed)
        assert multiply(name, values, weights, bits, low).tolist() == oracle.gemm(values, weights), depth


@EVERY
def test_ragged_rows_and_outputs(name, bits):
    for rows in RAGGED:
        for outputs in RAGGED if bits in (0, 4) else RAGGED[-1:]:
            check(name, rows, outputs, 129, bits, rows)
            check(name, rows, outputs, 64 * 7, bits, rows)


@EVERY
def test_depths_around_words_vectors_and_chunks(name, bits):
    for depth in [2, 3, 95, 96, 97, 191, 192, 193, 255, 257, 384, 511, 513, 768, 1024, 1600]:
        check(name, 3, PANEL_OUTPUTS + 5, depth, bits, depth)


@EVERY
def test_all_panels_and_blocks_of_rows(name, bits):
    half = PANEL_OUTPUTS // 2
    for outputs in (1, half - 1, half, half + 1, PANEL_OUTPUTS, 2 * PANEL_OUTPUTS + 1):
        for rows in (1, 2, 7, 8, 9, 129, 130) if bits in (0, 4) else (9,):
            check(name, rows, outputs, 70, bits, outputs)
    for rows in (1, 2, 7, 127, 128):
        check(name, rows, half + 3, 70, bits, rows)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(0, 8),
    st.integers(1, 40),
    st.integers(1, 2 * PANEL_OUTPUTS),
    st.integers(1, 900),
    st.integers(0, 2**32 - 1),
)
def test_any_shape_and_any_number_of_bits(name, bits, rows, outputs, depth, seed):
    if takes(name, bits):
        check(name, rows, outputs, depth, bits, seed)


@EVERY
def test_rows_of_one_extreme_code(name, bits):
    for depth in (768, 3072, 4369):
        weights = np.stack([np.ones(depth, np.int8), -np.ones(depth, np.int8)])
        for signed in (False, True):
            low = low_of(bits or 1, signed)
            for code in (low, low + (1 << bits) - 1) if bits else (-1, 1):
                values = np.full((2, depth), code)
                assert multiply(name, values, weights, bits, low).tolist() == [[depth * code, -depth * code]] * 2


@pytest.mark.parametrize("bits", [0, 1, 4, 8])
def test_rows_deeper_than_counters_reach(bits):
    """Popcount takes them, and byte look-up up to its own end; the bitsliced product refuses them."""
    for name, product in PRODUCTS.items():
        for depth in (4370, 15_000, 65_536):
            if takes(name, bits, depth):
                check(name, 3, 11, depth, bits, depth)
                weights = np.stack([np.ones(depth, np.int8), -np.ones(depth, np.int8)])
                largest = (1 << bits) - 1 if bits else 1
                found = multiply(name, np.full((1, depth), largest), weights, bits)
                assert found.tolist() == [[largest * depth, -largest * depth]]
            elif takes(name, bits):
                with pytest.raises(ValueError, match=f"depth is {depth}; accepted: an integer from 1 to"):
                    OneLayer(np.zeros((1, packing.words(depth)), np.uint64), depth, bits, 1, product=product)


@SIGNS
@pytest.mark.parametrize("depth", [*EDGES, 768, 3072])
def test_a_row_times_itself_is_the_depth_and_times_its_negative_minus_the_depth(name, depth):
    v = random_weights(depth, 9, depth)
    itself = multiply(name, v.astype(np.int64), v, 0)
    assert (np.diag(itself) == depth).all()
    assert np.array_equal(multiply(name, -v.astype(np.int64), v, 0), -itself)


@SIGNS
def test_all_zero_rows_give_zero(name):
    values = random_signs(6, 5, 100, 0.3)
    values[1] = values[4] = 0
    found = multiply(name, values, random_weights(7, 9, 100), 0)
    assert not found[[1, 4]].any()
    assert found[[0, 2, 3]].any(axis=1).all()


@EVERY
def test_the_order_of_rows_and_a_row_alone_give_the_same(name, bits):
    low = low_of(bits or 1, True)
    values, weights = values_of(3, 19, 200, bits, low), random_weights(4, 13, 200)
    whole = multiply(name, values, weights, bits, low)
    order = np.random.default_rng(5).permutation(19)
    assert np.array_equal(multiply(name, values[order], weights, bits, low), whole[order])
    assert np.array_equal(multiply(name, values, weights[::-1], bits, low), whole[:, ::-1])
    for m in range(19):
        assert np.array_equal(multiply(name, values[m : m + 1], weights, bits, low), whole[m : m + 1])


@pytest.mark.parametrize("name", NAMES)
def test_more_bits_than_needed_change_nothing(name):
    values, weights = random_codes(4, 9, 100, 2), random_weights(5, 9, 100)
    few, many = (multiply(name, values, weights, bits) for bits in (2, 4))
    assert np.array_equal(few, many)
    if takes(name, 8):
        assert np.array_equal(few, multiply(name, values, weights, 8))


@EVERY
def test_threads_do_not_disturb_each_other(name, bits):
    low = low_of(bits or 1, True)
    given = [
        (values_of(seed, 9 + seed, 200 + seed, bits, low), random_weights(seed, 130, 200 + seed)) for seed in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: multiply(name, *case, bits, low), given * 4))
    for result, case in zip(found, given * 4, strict=True):
        assert np.array_equal(result, plain(*case))


@pytest.mark.parametrize(("name", "bits"), [pair for pair in PAIRS if pair[0] != REFERENCE])
def test_weights_of_a_mapped_file_are_read_and_not_written(name, bits, tmp_path):
    weights = random_weights(8, 6, 100)
    packed = packing.pack_weight_signs(weights)
    packed.tofile(tmp_path / "weights")
    mapped = np.memmap(tmp_path / "weights", np.uint64, "r", shape=packed.shape)
    values = values_of(9, 3, 100, bits, 0)
    found = cases.run(OneLayer(mapped, 100, bits, 3, product=PRODUCTS[name]), values, bits)
    assert np.array_equal(found, plain(values, weights))


def test_popcount_keeps_no_weights_of_its_own():
    """They are read where the model file is mapped."""
    weights = packing.pack_weight_signs(random_weights(1, 40, 768))
    layer = OneLayer(weights, 768, 0, 3, product=PRODUCTS["popcount"])
    assert any(array is weights or array.ctypes.data == weights.ctypes.data for array in layer._pinned)


def test_codes_that_do_not_fit_are_refused():
    layer = OneLayer(np.zeros((3, 1), np.uint64), 2, 4, 1, product=PRODUCTS["popcount"])
    with pytest.raises(ValueError, match=r"codes holds 16; accepted for 4 bits: 0 to 15"):
        layer(np.array([[0, 16]], np.uint8), np.zeros(1, np.uint8))


# --- the block of the popcount product ---


def compiled_tile(*form):
    from bebert_kernels.popcount.tile import make_tile

    tile = make_tile(*form)

    @numba.njit
    def run(bits, weights, row, sums):
        tile(bits, weights, row, sums)

    return run


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(("lanes", "adders"), FORMS)
def test_every_form_of_the_tile_equals_its_numpy_twin_and_writes_its_rows_only(codes, rows, lanes, adders):
    """The form of this CPU, and those of CPUs with narrower vectors, with and without full adders."""
    from bebert_kernels.popcount.tile import plain_tile

    run, rng = compiled_tile(rows, codes, lanes, adders), np.random.default_rng(rows)
    for words in (1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 15, 16, 48, 111, 113, 260):
        for outputs in (1, 7, 8, 9, 17):
            bits = rng.integers(0, 2**64, (rows + 2, 3 if codes else 2, words + 2), dtype=np.uint64)
            weights = rng.integers(0, 2**64, (outputs, words), dtype=np.uint64)
            if words > 100:  # the largest counts of a byte
                bits[:], weights[:] = 2**64 - 1, 2**64 - 1
                bits[:, 0] *= np.uint64(codes)
            found, expected = (np.full((rows + 2, outputs + 3), -7, np.int32) for _ in range(2))
            plain_tile(bits, weights, 1, expected, rows, codes)
            run(bits, weights, 1, found)
            assert np.array_equal(found, expected), (words, outputs)
            assert (found[[0, -1]] == -7).all()


@pytest.mark.parametrize("rows", [1, 2])
def test_sign_bits_under_zeros_and_beyond_the_depth_do_not_count(rows):
    run, rng = compiled_tile(rows, False), np.random.default_rng(1)
    bits = rng.integers(0, 2**64, (rows, 2, 13), dtype=np.uint64)
    weights = rng.integers(0, 2**64, (17, 13), dtype=np.uint64)
    found = np.zeros((2, rows, 17), np.int32)
    run(bits, weights, 0, found[0])
    bits[:, 0] |= ~bits[:, 1]
    run(bits, weights, 0, found[1])
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize("bits", range(9))
def test_planes_hold_the_bits_of_the_codes_and_totals_their_sum(bits):
    from bebert_kernels.popcount.planes import pack_row

    for depth in EDGES:
        codes = random_codes(depth, 1, depth, bits or 2)[0].astype(np.uint8)
        if not bits:
            codes[codes == 1] = 0
        planes = np.zeros((bits or 2, packing.words(depth) + 1), np.uint64)
        total = pack_row(codes, not bits, planes)
        expected = [codes >> p & 1 for p in range(bits)] if bits else [codes == 3, codes != 2]
        for plane, wanted in zip(planes, expected, strict=True):
            assert plane.tolist() == [*oracle.words_of(wanted.tolist()), 0]
        assert total == (codes.sum(dtype=np.int64) if bits else (codes != 2).sum())
