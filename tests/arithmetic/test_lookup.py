"""Byte look-ups multiply small codes with weight signs exactly, in every shape of a vector, at every depth and tail.

Instructions that this CPU lacks are replaced by a form that looks up byte by byte; that they are instructions on CPUs
that have them is seen in the code generated for those, `test_lookup_code.py`. What rows are encoded to:
`test_lookup_encode.py`.
"""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lookup_shapes import EVERY, NAMES, Scaling, dots, kernels_for, product, random_codes, random_weights

from bebert_kernels import packing
from bebert_kernels.abi.product import Weights
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.lookup import layout
from bebert_kernels.lookup.layout import SHAPE, Shape, lut_weights, runs
from bebert_kernels.lookup.product import LOOKUP
from bebert_kernels.reference import integers as reference

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the look-up product has no form without JIT")

ALL = pytest.mark.parametrize("shape", EVERY, ids=NAMES)
KINDS = [(4, 0), (4, -8), (4, -15), (4, -1), (3, -4), (2, 0), (2, -3), (1, 0), (1, -1)]  # bits, lowest code
BERT = [(768, 768), (3072, 768), (768, 3072), (384, 768)]


def check(shape: Shape, codes: np.ndarray, negative: np.ndarray, low: int = 0, bits: int = 4) -> None:
    found = product(shape, codes, negative, low, bits)
    wanted = dots(codes, negative, low)
    assert np.array_equal(found, wanted), (codes.shape, len(negative), low, bits)


def test_kernels_of_another_shape_have_names_of_their_own():
    """Two workers that compiled at once took one shape's kernel from the other's cache under the name of a second."""
    for number in (0, 1):
        names = [kernels_for(shape)[number].py_func.__qualname__ for shape in EVERY]
        assert len(set(names)) == len(set(EVERY))


@ALL
def test_every_tail_of_the_depth(shape):
    """Around the codes of a group, of eight groups, of a vector and of a word."""
    for depth in [*range(1, 50), 63, 64, 65, 127, 128, 129, 255, 257]:
        for low in (0, -8):
            check(shape, random_codes(depth, 3, depth), random_weights(depth, 5, depth), low)


@ALL
def test_every_tail_of_rows_and_outputs(shape):
    for rows in range(1, 20):
        for outputs in (1, 63, 129):
            check(shape, random_codes(rows, rows, 37), random_weights(rows, outputs, 37), -8)
    edges = sorted({shape.lanes * width + more for width in range(1, 13) for more in (-1, 0, 1)})
    for outputs in edges:
        check(shape, random_codes(outputs, 2, 37), random_weights(outputs, outputs, 37), -8)


@ALL
@pytest.mark.parametrize(("bits", "low"), KINDS)
def test_codes_of_any_bits_from_any_lowest_one(shape, bits, low):
    for depth in (5, 100, 768):
        check(shape, random_codes(depth, 4, depth, bits), random_weights(depth, 70, depth), low, bits)


@ALL
@pytest.mark.parametrize("depth", [3072, 4096, layout.DEEPEST - 1, layout.DEEPEST])
@pytest.mark.parametrize("low", [0, -8, -15])
def test_the_largest_sums_do_not_overflow(shape, depth, low):
    """All codes the highest or the lowest and all weights -1 or +1, up to where the span of sums is 2**16 - 1."""
    codes, negative = random_codes(depth, 5, depth), random_weights(depth, 5, depth)
    codes[:2], codes[2], negative[:2], negative[2] = 15, 0, True, False
    check(shape, codes, negative, low)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(EVERY),
    st.integers(1, 20),
    st.integers(1, 200),
    st.integers(1, 600),
    st.integers(1, 4),
    st.integers(0, 15),
    st.integers(0, 99),
)
def test_any_shape_and_number_of_bits(shape, rows, outputs, depth, bits, below, seed):
    codes, low = random_codes(seed, rows, depth, bits), -min(below, (1 << bits) - 1)
    check(shape, codes, random_weights(seed, outputs, depth), low, bits)


@ALL
@pytest.mark.parametrize(("outputs", "depth"), BERT)
def test_the_shapes_of_bert_equal_the_reference(shape, outputs, depth):
    codes, negative = random_codes(1, 17, depth), random_weights(1, outputs, depth)
    usual = reference.code_dots(codes.view(np.int8) - np.int8(8), packing.pack_bits(negative))
    assert np.array_equal(product(shape, codes, negative, -8), usual)


@ALL
def test_rows_of_zeros_between_others(shape):
    """Nothing is listed for them; the window that has nothing in it gives 0."""
    for low in (0, -8):
        codes, negative = random_codes(3, 7, 100), random_weights(3, 70, 100)
        codes[[0, 2, 3, 6]] = -low
        check(shape, codes, negative, low)
        assert not product(shape, codes, negative, low)[[0, 2, 3, 6]].any()


@ALL
def test_blocks_are_as_wide_as_the_weights_say_around_the_depth_where_they_become_narrower(shape):
    """Indices of deep rows would not fit into the first-level cache: `runs` and the code must draw the line alike."""
    outputs = PANEL_OUTPUTS - shape.lanes - 3  # an odd number of vectors: all widths
    span, found = layout.SPAN, set()
    depths = [
        layout.NEAR // (shape.lanes * width) * layout.INPUTS + more
        for width in shape.widths
        for more in (-span, -1, 0, 1, span + 1)
    ]
    for depth in sorted(depth for depth in depths if 0 < depth <= layout.DEEPEST):
        found.add(shape.widest(depth))
        check(shape, random_codes(depth, 2, depth), random_weights(depth, outputs, depth), -8)
    assert len(found) > 1 or shape.widths[0] <= 2, "no depth made blocks narrower"


@ALL
def test_a_panel_is_whole_blocks(shape):
    """Weights are cut into blocks from the first output to the last, and multiplied panel by panel."""
    assert PANEL_OUTPUTS % (shape.lanes * shape.widths[0]) == 0


@ALL
def test_blocks_are_all_outputs_once(shape):
    for vectors in range(1, 20):
        for widest in shape.widths:
            blocks = [
                (first + width * i, width) for first, count, width in runs(vectors, widest, shape) for i in range(count)
            ]
            assert [first for first, _ in blocks] == np.cumsum([0, *(width for _, width in blocks)])[:-1].tolist()
            assert sum(width for _, width in blocks) == vectors
            assert max(width for _, width in blocks) <= widest


def random_scaling(outputs: int, add: tuple[int, ...]) -> Scaling:
    rng = np.random.default_rng(outputs)
    return Scaling(
        rng.normal(size=outputs).astype(np.float32), rng.normal(size=add).astype(np.float32) * np.float32(100)
    )


@ALL
def test_floats_are_rounded_after_the_scale_and_after_the_sum(shape):
    """float32(dot) * scale, then + add: never in one step, which would round once."""
    codes, negative, scaling = random_codes(5, 6, 200), random_weights(5, 150, 200), random_scaling(150, (150,))
    product32 = dots(codes, negative, -8).astype(np.float32) * scaling.scale
    found = product(shape, codes, negative, -8, scaling=scaling)
    assert found.tobytes() == (product32 + scaling.add).tobytes()
    at_once = product32.astype(np.float64) * 0 + dots(codes, negative, -8) * scaling.scale.astype(np.float64)
    assert found.tobytes() != (at_once + scaling.add).astype(np.float32).tobytes(), "rounding once would look alike"


@ALL
def test_a_second_branch_adds_to_what_the_first_has_left(shape):
    codes, negative, scaling = random_codes(6, 9, 130), random_weights(6, 170, 130), random_scaling(170, (9, 170))
    found = product(shape, codes, negative, -8, scaling=scaling)
    product32 = dots(codes, negative, -8).astype(np.float32) * scaling.scale
    assert found.tobytes() == (product32 + scaling.add).tobytes()


def test_threads_do_not_disturb_each_other():
    cases = [(random_codes(seed, 9 + seed, 200 + seed), random_weights(seed, 130, 200 + seed)) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: product(SHAPE, *case), cases * 4))
    for result, case in zip(found, cases * 4, strict=True):
        assert np.array_equal(result, dots(*case))


def test_the_best_shape_of_a_cpu():
    found = [
        layout.best_shape(features.split()).shuffle
        for features in ("ssse3 avx2 avx512bw", "ssse3 avx2", "ssse3", "neon", "sse2")
    ]
    assert found == ["vpshufb 512", "vpshufb 256", "pshufb 128", "tbl", "portable"]


def test_indices_by_hand():
    """16 lanes, four inputs: output 0 is byte 0, output 1 byte 2, output 8 byte 1; two nibbles in a byte."""
    shape = layout.PORTABLE
    negative = np.zeros((9, 20), np.bool_)
    negative[0, [0, 5, 8, 15, 16]] = True
    negative[1, 1] = negative[8, 3] = True
    weights = lut_weights(packing.pack_bits(negative), 20, shape).reshape(-1, shape.lanes)
    assert weights.shape == (layout.groups_of(20) // 2, 16) == (4, 16)
    assert weights[0, :4].tolist() == [0x21, 0x08, 0x02, 0x00]
    assert weights[1, :4].tolist() == [0x81, 0x00, 0x00, 0x00]
    assert weights[2, :4].tolist() == [0x01, 0x00, 0x00, 0x00]
    assert weights.sum() == 0x21 + 0x08 + 0x02 + 0x81 + 0x01


def test_vectors_of_a_block_take_turns_group_by_group():
    """Seven vectors of 16: a block of four, one of two, one of one, the weights of each together."""
    shape, depth = layout.PORTABLE, 64
    negative = random_weights(1, 7 * shape.lanes, depth)
    found, size = lut_weights(packing.pack_bits(negative), depth, shape), shape.vector_bytes(depth)
    alone = np.stack([lut_weights(packing.pack_bits(part), depth, shape) for part in np.split(negative, 7)]).reshape(
        7, -1, shape.lanes
    )
    for first, width in ((0, 4), (4, 2), (6, 1)):
        block = found[first * size : (first + width) * size].reshape(-1, width, shape.lanes)
        assert np.array_equal(block, alone[first : first + width].transpose(1, 0, 2))


@pytest.mark.parametrize(("bits", "low", "bias"), [(4, 0, 0), (4, -8, 128), (3, -4, 128), (4, -1, 16), (4, -15, 240)])
def test_bytes_count_from_a_bias(bits, low, bias):
    assert layout.bias_of(low, bits) == bias


def test_the_sums_of_a_unit_fit_into_a_byte_from_the_bias_on():
    for bits in range(1, 5):
        for low in range(1 - (1 << bits), 1):
            bias, high = layout.bias_of(low, bits), low + (1 << bits) - 1
            codes = layout.UNIT * layout.INPUTS
            assert bias + codes * low >= 0 and bias + codes * high <= 255, (bits, low)


@pytest.mark.parametrize(("bits", "low"), [(4, 1), (4, -16), (3, -8), (2, -4)])
def test_codes_that_are_not_around_0_are_refused(bits, low):
    """A group whose codes are all 0 is left out, and so is what lies behind the last code."""
    negative = random_weights(0, 3, 8)
    floats = np.ones(3, np.float32)
    weights = Weights(packing.pack_bits(negative), 8, bits, low, floats, floats, 0)
    high = low + (1 << bits) - 1
    with pytest.raises(ValueError, match=f"codes are {low} to {high}; look-up takes codes around 0"):
        LOOKUP.branch(weights, None)
    LOOKUP.branch(weights._replace(low=max(min(low, 0), 1 - (1 << bits))), None)
