"""The XNOR product equals the dot product of signs, with and without zeros, on every shape, tail and tile form."""

import numba
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import check

from bebert_kernels import compiled, packing
from bebert_kernels.popcount.rows_tile import make_tile, popcount_tile
from bebert_kernels.reference import integers as reference

EDGES = [1, 63, 64, 65, 127, 128, 129]
RAGGED = [1, 2, 3, 5, 7, 8, 9, 17]
BACKENDS = [reference, compiled]


def random_signs(seed: int, *shape: int, zeros: bool = False) -> np.ndarray:
    choices = [-1, 0, 1] if zeros else [-1, 1]
    return np.random.default_rng(seed).choice(np.array(choices, np.int8), shape)


def packed(signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return packing.pack_bits(signs < 0), packing.pack_bits(signs != 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("depth", EDGES)
def test_word_edges_equal_the_oracle(backend, depth):
    values, weights = random_signs(1, 9, depth, zeros=True), random_signs(2, 6, depth)
    signs, nonzero = packed(values)
    expected = oracle.gemm(values, weights)
    assert backend.xnor_gemm(signs, nonzero, packed(weights)[0], depth).tolist() == expected
    values[values == 0] = 1
    expected = oracle.gemm(values, weights)
    assert backend.xnor_gemm(packed(values)[0], None, packed(weights)[0], depth).tolist() == expected


@pytest.mark.parametrize("rows", RAGGED)
@pytest.mark.parametrize("outputs", RAGGED)
def test_ragged_rows_and_outputs_equal_plain_arithmetic(rows, outputs):
    for depth in (129, 64 * 7):
        values, weights = random_signs(rows, rows, depth, zeros=True), random_signs(outputs, outputs, depth)
        signs, nonzero = packed(values)
        found = check("xnor_gemm", (signs, nonzero, packed(weights)[0], depth))
        assert np.array_equal(found, values.astype(np.int32) @ weights.T.astype(np.int32))
        check("xnor_gemm", (signs, None, packed(weights)[0], depth))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 900), st.integers(0, 2**32 - 1))
def test_any_shape_agrees_with_the_reference(rows, outputs, depth, seed):
    values, weights = random_signs(seed, rows, depth, zeros=True), random_signs(seed + 1, outputs, depth)
    signs, nonzero = packed(values)
    check("xnor_gemm", (signs, nonzero, packed(weights)[0], depth))
    check("xnor_gemm", (signs, None, packed(weights)[0], depth))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("depth", [*EDGES, 768, 3072])
def test_a_row_times_itself_is_the_depth_and_times_its_negative_minus_the_depth(backend, depth):
    v = random_signs(depth, 9, depth)
    itself = backend.xnor_gemm(packed(v)[0], None, packed(v)[0], depth)
    negative = backend.xnor_gemm(packed(v)[0], None, packed(-v)[0], depth)
    assert (np.diag(itself) == depth).all()
    assert np.array_equal(negative, -itself)


def test_the_order_of_rows_does_not_matter():
    signs, nonzero = packed(random_signs(3, 21, 200, zeros=True))
    weights = packed(random_signs(4, 13, 200))[0]
    whole = compiled.xnor_gemm(signs, nonzero, weights, 200)
    order = np.random.default_rng(5).permutation(21)
    assert np.array_equal(compiled.xnor_gemm(signs[order], nonzero[order], weights, 200), whole[order])
    for m in range(21):
        alone = compiled.xnor_gemm(signs[m : m + 1], nonzero[m : m + 1], weights, 200)
        assert np.array_equal(alone, whole[m : m + 1])
    columns = np.ascontiguousarray(weights[::-1])
    assert np.array_equal(compiled.xnor_gemm(signs, nonzero, columns, 200), whole[:, ::-1])


def test_all_zero_rows_give_zero_and_sign_bits_under_zeros_do_not_count():
    values = random_signs(6, 5, 100, zeros=True)
    signs, nonzero = packed(values)
    weights = packed(random_signs(7, 9, 100))[0]
    expected = compiled.xnor_gemm(signs, nonzero, weights, 100)
    assert np.array_equal(compiled.xnor_gemm(signs | ~nonzero, nonzero, weights, 100), expected)
    assert not compiled.xnor_gemm(signs, np.zeros_like(nonzero), weights, 100).any()


@pytest.mark.parametrize("lanes", [4, 8])
@pytest.mark.parametrize("native", [False, True])
def test_every_form_of_the_tile_equals_its_numpy_twin(lanes, native):
    emitted = make_tile(lanes, native)

    @numba.njit
    def run(values, masks, weights, factors, base, out):
        emitted(values, masks, weights, factors, base, out)

    rng = np.random.default_rng(lanes)
    for words, planes, outputs in [(1, 1, 1), (3, 2, 4), (4, 1, 7), (9, 3, 8)]:
        shapes = [(words, 8), (planes, words, 8), (outputs, words)]
        values, masks, weights = (rng.integers(0, 2**64, shape, dtype=np.uint64) for shape in shapes)
        factors, base = rng.integers(-9, 9, planes, dtype=np.int32), rng.integers(-9, 9, 8, dtype=np.int32)
        expected, found = np.zeros((8, outputs), np.int32), np.ones((8, outputs), np.int32)
        plain = getattr(popcount_tile, "py_func", popcount_tile)
        plain(values, masks, weights, factors, base, expected)
        run(values, masks, weights, factors, base, found)
        assert np.array_equal(found, expected)


def test_read_only_arrays_and_memory_maps_are_fine(tmp_path):
    weights = packed(random_signs(8, 6, 100))[0]
    weights.tofile(tmp_path / "weights")
    mapped = np.memmap(tmp_path / "weights", np.uint64, "r", shape=weights.shape)
    signs = packed(random_signs(9, 3, 100))[0]
    found = compiled.xnor_gemm(signs, None, mapped, 100)
    assert np.array_equal(found, reference.xnor_gemm(signs, None, weights, 100))


WORDS = np.zeros((3, 2), np.uint64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((WORDS.astype(np.int64), None, WORDS, 128), r"a is int64\[3, 2\]; accepted: C-contiguous uint64\[M, 2\]"),
        ((WORDS, None, WORDS[:, :1], 128), r"weights is uint64\[3, 1\], not contiguous; accepted"),
        ((WORDS, None, WORDS[:, :1].copy(), 128), r"weights is uint64\[3, 1\]; accepted: .*\[N, 2\]"),
        ((WORDS[::2], WORDS[::2].copy(), WORDS, 128), r"a is uint64\[2, 2\], not contiguous"),
        ((WORDS, WORDS[:2], WORDS, 128), r"nonzero is uint64\[2, 2\]; accepted: C-contiguous uint64\[3, 2\]"),
        ((WORDS, None, WORDS, 64), r"a is uint64\[3, 2\]; accepted: C-contiguous uint64\[M, 1\]"),
        ((WORDS, None, WORDS, 0), r"depth is 0; accepted: an integer from 1"),
        ((WORDS, None, WORDS, 128.0), r"depth is 128.0; accepted: an integer"),
        (([[1, 2]], None, WORDS, 128), r"a is list \[\[1, 2\]\]; accepted"),
        ((WORDS[0], None, WORDS, 128), r"a is uint64\[2\]; accepted"),
        ((WORDS.astype(">u8"), None, WORDS, 128), r"a is >u8\[3, 2\]; accepted"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        compiled.xnor_gemm(*arguments)
