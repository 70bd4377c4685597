"""Signs, codes and floats follow their formulas element by element, and the engine's kernels return the same bits."""

import math

import numba
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import BACKENDS, backends, check, floats

from bebert_kernels import packing
from bebert_kernels.abi.stage import available
from bebert_kernels.attention.softmax_codes import TOGETHER, _Softmax
from bebert_kernels.bitsliced.triples import aligned
from bebert_kernels.emit.emitter import vector_code
from bebert_kernels.emit.vectors import FLOAT_LANES, I64
from bebert_kernels.reference import floats as reference_float
from bebert_kernels.reference import integers as reference

WIDTHS = [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 768]
ROWS = [1, 2, 3, 5, 8, 17]


def random_floats(seed: int, *shape: int) -> np.ndarray:
    return floats(np.random.default_rng(seed), *shape)


# signs


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("depth", WIDTHS)
def test_sign_planes_equal_the_oracle(backend, depth):
    x, shift = random_floats(depth, 3, depth), random_floats(depth + 1, depth)
    for move in (None, shift):
        signs, nonzero, has_zero = backend.pack_signs(x, move)
        values = [[oracle.sign(v) for v in row] for row in (x if move is None else x + move)]
        assert signs.tolist() == [oracle.words_of([v < 0 for v in row]) for row in values]
        assert nonzero.tolist() == [oracle.words_of([v != 0 for v in row]) for row in values]
        assert has_zero is any(v == 0 for row in values for v in row)


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_zeros_and_a_shift_that_cancels_are_zero(backend):
    x = np.array([[0.0, -0.0, 1.5, -1.5, 1e-45, -1e-45]], np.float32)
    signs, nonzero, has_zero = backend.pack_signs(x, None)
    assert (signs.tolist(), nonzero.tolist(), has_zero) == ([[0b101000]], [[0b111100]], True)
    signs, nonzero, has_zero = backend.pack_signs(x, np.array([1, 1, -1.5, 1.5, 0, 0], np.float32))
    assert (signs.tolist(), nonzero.tolist(), has_zero) == ([[0b100000]], [[0b110011]], True)
    assert backend.pack_signs(x[:, 2:].copy(), None)[2] is False


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.integers(1, 300), st.integers(0, 999))
def test_sign_planes_of_any_shape_agree_and_unpack_to_the_signs(rows, depth, seed):
    x = random_floats(seed, rows, depth)
    check("gelu_signs", (3 * x,))
    check("pack_signs", (x, random_floats(seed, depth)))
    signs, nonzero, _ = check("pack_signs", (x, None))
    unpacked = np.where(packing.unpack_bits(signs, depth), -1, 1) * packing.unpack_bits(nonzero, depth)
    assert np.array_equal(unpacked, np.sign(x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_sign_of_gelu_is_zero_up_to_the_underflow_and_at_zero(backend):
    zero = reference.GELU_ZERO
    x = np.array([[-9, zero, np.nextafter(zero, np.float32(0)), -1, -0.0, 0, 1e-30, 7]], np.float32)
    signs, nonzero, has_zero = backend.gelu_signs(x)
    assert (signs.tolist(), nonzero.tolist(), has_zero) == ([[0b00001100]], [[0b11001100]], True)
    assert backend.gelu_signs(np.ones((2, 64), np.float32))[2] is False


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_sign_of_gelu_equals_the_published_one_away_from_its_switch(backend, golden):
    case = np.load(golden / "quantizers" / "bibert_gelu_sign.npz")
    # Between -5.60 and -5.50 the switch moves with the erf implementation.
    x, expected = case["x"], case["sign"]
    away = (x < -5.60) | (x > -5.50)
    signs, nonzero, _ = backend.gelu_signs(x[None])
    depth = len(x)
    found = np.where(packing.unpack_bits(signs, depth), -1, 1) * packing.unpack_bits(nonzero, depth)
    assert np.array_equal(found[0][away], expected[away])
    # The golden values themselves switch on both sides of the constant.
    assert (expected[x <= reference.GELU_ZERO] == 0).all()
    assert (expected[(x > reference.GELU_ZERO) & (x < 0)] == -1).all()


# codes


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("step", [0.3, -0.3, 0.25, 7e-3])
@pytest.mark.parametrize(("low", "high"), [(-8, 7), (0, 15), (-128, 127), (0, 255), (-1, 1), (0, 1)])
def test_codes_equal_the_oracle(backend, step, low, high):
    x, shift = random_floats(1, 3, 65), random_floats(2, 65)
    for move, minimum in ((None, 0.0), (shift, 0.0), (shift, -1.3)):
        found = backend.quantize(x, move, step, minimum, low, high)
        moves = np.zeros(65) if move is None else move
        expected = [[oracle.code(v, s, step, minimum, low, high) for v, s in zip(row, moves, strict=True)] for row in x]
        assert found.dtype == (np.int8 if low < 0 else np.uint8)
        assert found.tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_way_values_round_to_even_and_ends_clamp(backend):
    x = np.array([[0.125, 0.375, 0.625, -0.125, -0.375, -0.625, 1.625, 1.875, -2, -2.125, 99, -99]], np.float32)
    found = backend.quantize(x, None, 0.25, 0.0, -8, 7)
    assert found.tolist() == [[0, 2, 2, 0, -2, -2, 6, 7, -8, -8, 7, -8]]
    assert backend.quantize(x, None, -0.25, 0.0, -8, 7).tolist() == [[0, -2, -2, 0, 2, 2, -6, -8, 7, 7, -8, 7]]
    assert backend.quantize(x, None, 0.25, -0.5, 0, 15).tolist() == [[2, 4, 4, 2, 0, 0, 8, 10, 0, 0, 15, 0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_beyond_every_integer_clamp(backend):
    x = np.array([[3e38, -3e38, 1e10, -1e10]], np.float32)
    assert backend.quantize(x, None, 1e-20, 0.0, -8, 7).tolist() == [[7, -8, 7, -8]]
    assert backend.quantize(x, None, -1e-20, 0.0, 0, 255).tolist() == [[0, 255, 0, 255]]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 9),
    st.integers(1, 200),
    st.floats(0.0009765625, 10, width=32),
    st.booleans(),
    st.floats(-2, 2, width=32),
    st.sampled_from([(-8, 7), (0, 15), (-128, 127), (0, 255), (-2, 1)]),
)
def test_codes_of_any_shape_agree_with_the_reference(rows, depth, step, flip, minimum, ends):
    x = random_floats(rows, rows, depth)
    check("quantize", (x, random_floats(depth, depth), -step if flip else step, minimum, *ends))
    check("quantize", (x, None, step, minimum, *ends))


# float kernels


@pytest.mark.parametrize("width", WIDTHS)
def test_lane_sums_add_in_the_declared_order(width):
    x = random_floats(width, 2, width) * np.float32(1e3)
    assert reference_float.lane_sum(x).tolist() == [oracle.lane_sum(row) for row in x]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_layer_norm_equals_the_oracle_bit_for_bit(backend, width):
    x, residual = random_floats(1, 2, width), random_floats(2, 2, width)
    gamma, beta = random_floats(3, width), random_floats(4, width)
    found = backend.layer_norm(x, residual, gamma, beta, 1e-12)
    expected = [oracle.layer_norm(a, b, gamma, beta, 1e-12) for a, b in zip(x, residual, strict=True)]
    assert found.tolist() == expected
    zero = np.zeros_like(x)
    assert np.array_equal(
        backend.layer_norm(x, None, gamma, beta, 0.05), backend.layer_norm(x, zero, gamma, beta, 0.05)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_layer_norm_is_the_textbook_one(backend):
    x, gamma, beta = random_floats(1, 4, 768), random_floats(2, 768), random_floats(3, 768)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * gamma + beta
    # float32 rounding of values up to about 30
    np.testing.assert_allclose(backend.layer_norm(x, None, gamma, beta, 1e-5), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("keys", [1, 2, 15, 16, 17, 63, 64, 65, 130])
def test_softmax_is_the_textbook_one(keys):
    scores = 4 * random_floats(keys, 2, 3, keys)
    found = reference_float.softmax(scores)
    expected = [[oracle.softmax(row) for row in block] for block in scores]
    # A difference of up to 90 from the maximum is rounded by up to 4e-6, which is the relative error of its exp;
    # below exp(-87.3) the result is 0.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-38)


def test_softmax_of_far_away_scores_is_exactly_zero_and_one():
    found = reference_float.softmax(np.array([[[0, -87.31, -1e30, -3e38]]], np.float32))
    assert found.tolist() == [[[1, 0, 0, 0]]]
    assert reference_float.softmax(np.full((1, 1, 4), -3e38, np.float32)).tolist() == [[[0.25] * 4]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_codes_of_far_away_scores_are_exactly_0_and_all_others_count(backend):
    q, k = np.ones((1, 1), np.int8), np.array([[0], [-100], [-127]], np.int8)
    v = np.array([[1], [5], [7]], np.int8)
    assert backend.softmax_attention(q, k, v, 1, 0.8731, 1e-38, 255, 1.0).tolist() == [[255]]
    assert backend.softmax_attention(q, k, v, 1, 0.8729, 1e-38, 255, 1.0).tolist() == [[255 + 5]]


def _emit_exp(e, scratch, blocks):
    softmax = _Softmax(e, scratch, I64(0), blocks)
    softmax.change(I64(0), blocks, TOGETHER, softmax.exp)


@vector_code(_emit_exp)
def exp_blocks(scratch, blocks):
    values = scratch.view(np.float32)
    values[:] = reference_float.exp(values)


@numba.njit
def emitted_exp(scratch, blocks):
    exp_blocks(scratch, blocks)


def test_exp_is_within_two_units_in_the_last_place_and_the_same_in_the_engine():
    x = np.concatenate([-np.linspace(0, 87.3, 200_003), -np.logspace(-40, 1.9, 50_001)]).astype(np.float32)
    found = reference_float.exp(x)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(found - exact) <= 2 * np.spacing(exact.astype(np.float32))).all()
    edge = np.array([0, -0.0, -87.3, -87.30001, -88, -1e38], np.float32)
    assert reference_float.exp(edge)[[0, 1, 3, 4, 5]].tolist() == [1, 1, 0, 0, 0]
    for values in (x, edge):
        blocks = -(-len(values) // FLOAT_LANES)
        scratch = aligned((blocks * FLOAT_LANES,), np.int32)
        scratch[:] = 0
        scratch[: len(values)] = values.view(np.int32)
        emitted_exp(scratch, blocks)
        assert np.array_equal(scratch.view(np.float32)[: len(values)], reference_float.exp(values))


@pytest.mark.parametrize("backend", backends("scale_add"))
def test_no_product_is_contracted_with_the_addition_that_follows(backend):
    # 4097 * 4097 = 2**24 + 8193 needs 25 bits; rounded to float32 it is 16785408, a fused multiply-add keeps 16785409.
    acc = np.full((3, 20), 4097, np.int32)
    scale = np.full(20, 4097, np.float32)
    add = np.full(20, -16785408, np.float32)
    assert not backend.scale_add(acc, scale, add).any()
    assert not backend.scale_add(acc, scale, np.tile(add, (3, 1))).any()


def test_no_product_of_a_dense_layer_is_contracted_either():
    """The products round before the sum."""
    row, bias = np.array([20, 0.5], np.float32), np.zeros(3, np.float32)
    for layer, x in [
        (reference_float.dense, np.array([1, 4097], np.float32)),
        *((backend.classify, reference_float.tanh(row)) for backend in backends("classify")),
    ]:
        weight = np.array([-x[1] * np.float32(4097), 4097], np.float32)
        assert x[0] == 1 and float(x[1]) * 4097 != -float(weight[0])
        given = (x if layer is reference_float.dense else row).repeat(16)
        assert not layer(np.tile(given, (3, 1)), np.tile(weight.repeat(16), (3, 1)), bias).any()


def test_dense_equals_the_oracle_bit_for_bit():
    for depth in WIDTHS:
        x, weight, bias = random_floats(1, 2, depth), random_floats(2, 3, depth), random_floats(3, 3)
        assert reference_float.dense(x, weight, bias).tolist() == dense(x, weight, bias)


@pytest.mark.parametrize("backend", backends("classify"))
def test_the_classifier_is_a_dense_layer_of_the_hyperbolic_tangent(backend):
    for depth in WIDTHS:
        x, weight, bias = random_floats(1, 2, depth), random_floats(2, 3, depth), random_floats(3, 3)
        bent = np.array([[math.tanh(float(v)) for v in row] for row in x], np.float32)
        assert backend.classify(x, weight, bias).tolist() == dense(bent, weight, bias)


def dense(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> list[list[np.float32]]:
    pairs = list(zip(weight, bias, strict=True))
    return [[np.float32(oracle.lane_sum(row * other) + b) for other, b in pairs] for row in x]


@pytest.mark.parametrize("backend", backends("scale_add"))
def test_scale_add_takes_a_bias_row_or_a_matrix(backend):
    acc = np.array([[1, -2], [3, 2**24 + 1]], np.int32)
    scale, row = np.array([0.5, 2], np.float32), np.array([10, 20], np.float32)
    assert backend.scale_add(acc, scale, row).tolist() == [[10.5, 16], [11.5, 2**25 + 20]]
    matrix = np.array([[1, 2], [3, 4]], np.float32)
    assert backend.scale_add(acc, scale, matrix).tolist() == [[1.5, -2], [4.5, 2**25 + 4]]


def test_activations_equal_the_oracle():
    x = np.concatenate([random_floats(1, 500), np.array([0, -0.0, -5.5, -9, -40, 40, 1e-30, 3e38], np.float32)])
    x = x.reshape(2, -1)
    assert reference_float.gelu(x).tolist() == [[oracle.gelu(v) for v in row] for row in x]
    assert reference_float.tanh(x).tolist() == [[np.float32(math.tanh(float(v))) for v in row] for row in x]
    assert reference_float.relu(x).tolist() == [[max(v, 0) for v in row] for row in x.tolist()]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [1, 63, 64, 65, 129])
@pytest.mark.parametrize("branches", [1, 2])
def test_embed_adds_branches_then_position_then_type(backend, width, branches):
    rng = np.random.default_rng(width)
    ids, positions, types = (rng.integers(0, n, 6) for n in (11, 5, 2))
    signs = [rng.choice(np.array([-1, 1], np.int8), (11, width)) for _ in range(branches)]
    scales = [random_floats(i, 11) for i in range(branches)]
    position, token_type = random_floats(8, 5, width), random_floats(9, 2, width)
    packed = tuple(packing.pack_weight_signs(branch) for branch in signs)
    found = backend.embed(ids, positions, types, packed, tuple(scales), position, token_type)
    for m in range(6):
        for i in range(width):
            total = np.float32(0)
            for branch, scale in zip(signs, scales, strict=True):
                total = np.float32(total + np.float32(branch[ids[m], i]) * scale[ids[m]])
            total = np.float32(np.float32(total + position[positions[m], i]) + token_type[types[m], i])
            assert found[m, i] == total


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", WIDTHS)
def test_float_kernels_agree_with_the_reference_on_every_edge(rows, width):
    x, residual, row = random_floats(1, rows, width), random_floats(2, rows, width), random_floats(3, width)
    check("relu_quantize", (x, row, 0.3, 0.0, -8, 7))
    check("layer_norm", (x, residual, row, row, 1e-12))
    check("layer_norm", (x, None, row, row, 0.05))
    if available():
        check("classify", (x, random_floats(4, 3, width), random_floats(5, 3)))
        acc = np.random.default_rng(7).integers(-(2**31), 2**31, (rows, width)).astype(np.int32)
        check("scale_add", (acc, row, row))
        check("scale_add", (acc, row, x))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=200), st.floats(0.0009765625, 1, width=32))
def test_any_finite_row_agrees_with_the_reference(row, eps):
    x = np.array([row], np.float32)
    ones = np.ones(len(row), np.float32)
    check("layer_norm", (x, None, ones, ones, eps))
    check("relu_quantize", (x, None, eps, 0.0, -8, 7))
    if available():
        check("classify", (x, x, np.zeros(1, np.float32)))


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
@pytest.mark.parametrize("shape", [(0,), (5,), (2, 3, 4)])
def test_activations_take_any_shape(name, shape):
    x = random_floats(1, *shape)
    found = getattr(reference_float, name)(x)
    assert (found.shape, found.dtype) == (shape, np.float32)
    assert found.ravel().tolist() == getattr(reference_float, name)(x.ravel()).tolist()
