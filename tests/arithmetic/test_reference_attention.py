"""Both kinds of attention return exact integers for every head size, key count and tail.

The reference against an oracle, and the kernels of the engine, which hand on signs of a context or its floats.
"""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import BACKENDS, check

from bebert_kernels import packing
from bebert_kernels.reference import integers as reference

SIZES = [24, 32, 48, 64, 65, 128]
KEYS = [1, 2, 63, 64, 65, 127, 128, 129, 130]


def random_signs(seed: int, tokens: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, -1, 0, 1, 1], np.int8), (tokens, width))


def heads_packed(signs: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Sign and non-zero words [T, H, Wd] of int8[T, H * D]."""
    by_head = signs.reshape(len(signs), heads, -1)
    return packing.pack_bits(by_head < 0), packing.pack_bits(by_head != 0)


def random_codes(seed: int, dtype: type, *shape: int) -> np.ndarray:
    """The whole range of the type, with both extremes more often."""
    rng, kind = np.random.default_rng(seed), np.iinfo(dtype)
    codes = rng.integers(kind.min, kind.max + 1, shape, dtype=dtype)
    return np.where(rng.random(shape) < 0.2, rng.choice(np.array([kind.min, kind.max], dtype), shape), codes)


def packed(heads: int, *signs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Words of q, k, v."""
    return tuple(plane for part in signs for plane in heads_packed(part, heads))


@pytest.mark.parametrize("size", SIZES)
def test_boolean_attention_equals_the_oracle(size):
    q, k, v = (random_signs(seed, tokens, 2 * size) for seed, tokens in ((1, 3), (2, 5), (3, 5)))
    bits = reference.score_bits(*heads_packed(q, 2), *heads_packed(k, 2))
    expected = oracle.score_bits(q, k, 2, size)
    assert packing.unpack_bits(bits, 5).tolist() == expected
    context = oracle.context(expected, v, 2, size)
    found = reference.bit_context(bits, *heads_packed(v, 2), size)
    assert found.dtype == np.int32
    assert found.tolist() == context
    for backend in BACKENDS:
        signs, no_zeros = backend.boolean_attention(*packed(2, q, k, v), size)
        assert signs.tolist() == [[oracle.sign(value) for value in row] for row in context]
        assert no_zeros.tolist() == [0 not in row for row in context]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keys", KEYS)
def test_boolean_attention_agrees_with_the_reference_on_every_edge(size, keys):
    q, k, v = (random_signs(seed, tokens, 3 * size) for seed, tokens in ((1, 9), (2, keys), (3, keys)))
    bits = reference.score_bits(*heads_packed(q, 3), *heads_packed(k, 3))
    assert bits.shape == (3, 9, packing.words(keys))
    assert not packing.unpack_bits(bits, bits.shape[2] * 64)[..., keys:].any()
    check("boolean_attention", (*packed(3, q, k, v), size))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tie_is_no_attention_and_one_more_agreement_is(backend):
    q = np.ones((1, 64), np.int8)
    k = np.ones((3, 64), np.int8)
    k[0, :32] = -1  # dot 0
    k[1, :31] = -1  # dot 2
    k[2, :33] = -1  # dot -2
    v = np.zeros((3, 64), np.int8)
    v[np.arange(3), np.arange(3)] = [1, -1, 1]  # what a key adds says whether it counts
    assert reference.score_bits(*heads_packed(q, 1), *heads_packed(k, 1)).tolist() == [[[0b010]]]
    assert backend.boolean_attention(*packed(1, q, k, v), 64)[0][0, :3].tolist() == [0, -1, 0]
    k[0, 0] = 0  # 32 agreements, 31 disagreements, one zero: dot 1
    assert reference.score_bits(*heads_packed(q, 1), *heads_packed(k, 1)).tolist() == [[[0b011]]]
    assert backend.boolean_attention(*packed(1, q, k, v), 64)[0][0, :3].tolist() == [1, -1, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("keys", KEYS)
def test_the_first_and_the_last_key_can_be_the_only_ones(backend, keys):
    v = random_signs(keys, keys, 40)
    for only in {0, keys - 1}:
        q, k = np.ones((2, 40), np.int8), -np.ones((keys, 40), np.int8)
        k[only] = 1
        bits = reference.score_bits(*heads_packed(q, 1), *heads_packed(k, 1))
        assert np.flatnonzero(packing.unpack_bits(bits, keys)[0, 0]).tolist() == [only]
        assert np.array_equal(reference.bit_context(bits, *heads_packed(v, 1), 40), [v[only]] * 2)
        assert np.array_equal(backend.boolean_attention(*packed(1, q, k, v), 40)[0], [v[only]] * 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_bit_gives_context_zero(backend):
    v = random_signs(1, 70, 48)
    assert not reference.bit_context(np.zeros((2, 3, 2), np.uint64), *heads_packed(v, 2), 24).any()
    q, k = np.ones((3, 48), np.int8), -np.ones((70, 48), np.int8)
    signs, no_zeros = backend.boolean_attention(*packed(2, q, k, v), 24)
    assert not signs.any() and not no_zeros.any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_code_attention_equals_the_oracle(size, dtype):
    q, k, v = (random_codes(seed, np.int8, tokens, 2 * size) for seed, tokens in ((1, 3), (2, 5), (3, 5)))
    scores = reference.code_scores(q, k, 2, 0.03)
    dots = [[[oracle.dot(oracle.head(a, h, size), oracle.head(b, h, size)) for b in k] for a in q] for h in range(2)]
    assert scores.dtype == np.float32
    assert np.array_equal(scores, np.array(dots).astype(np.float32) * np.float32(0.03))
    probs = random_codes(4, dtype, 2, 3, 5)
    found = reference.code_context(probs, v)
    assert found.dtype == np.int32
    assert found.tolist() == oracle.context(probs, v, 2, size)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("high", [1, 15, 127, 255])
def test_attention_with_softmax_equals_the_oracle(backend, size, high):
    """Scores so far apart or so equal that every code is exact: all keys alike, or one alone."""
    v = random_codes(3, np.int8, 4, 2 * size)
    q, k = np.ones((3, 2 * size), np.int8), np.zeros((4, 2 * size), np.int8)
    for only, code in ((None, -(-high // 2)), (0, high), (3, high)):
        if only is not None:
            k[:], k[only] = -100, 100
        # A step of a quarter over the code: probabilities of 1/4 become the code, and 1 is clamped to `high`.
        found = backend.softmax_attention(q, k, v, 2, 1.0, 0.25 / code if only is None else 1 / high, high, 0.5)
        weights = np.full((2, 3, 4), code) if only is None else np.zeros((2, 3, 4), int)
        if only is not None:
            weights[..., only] = code
        assert (2 * found).tolist() == oracle.context(weights, v, 2, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keys", KEYS)
def test_code_attention_agrees_with_the_reference_on_every_edge(size, keys):
    q, k, v = (random_codes(seed, np.int8, tokens, 3 * size) for seed, tokens in ((1, 9), (2, keys), (3, keys)))
    for scale in (1e-6, 0.0123 / size):
        check("softmax_attention", (q, k, v, 3, scale, 1 / (64 * keys), 255, 0.7))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 130), st.integers(1, 130), st.integers(1, 3), st.sampled_from(SIZES), st.integers(0, 99))
def test_any_number_of_queries_and_keys(queries, keys, heads, size, seed):
    q, k, v = (random_signs(seed + i, t, heads * size) for i, t in enumerate((queries, keys, keys)))
    check("boolean_attention", (*packed(heads, q, k, v), size))
    q, k, v = (random_codes(seed + i, np.int8, t, heads * size) for i, t in enumerate((queries, keys, keys)))
    check("softmax_attention", (q, k, v, heads, 0.02 / size, 1 / (8 * keys), 15, 0.5))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_of_keys_does_not_change_the_context(backend):
    q, k, v = (random_signs(seed, tokens, 64) for seed, tokens in ((1, 4), (2, 100), (3, 100)))
    order = np.random.default_rng(4).permutation(100)
    contexts = [backend.boolean_attention(*packed(2, q, *both), 32)[0] for both in ((k, v), (k[order], v[order]))]
    assert np.array_equal(*contexts)
    bits = [reference.score_bits(*heads_packed(q, 2), *heads_packed(keys, 2)) for keys in (k, k[order])]
    pairs = zip(bits, (v, v[order]), strict=True)
    assert np.array_equal(*(reference.bit_context(chosen, *heads_packed(values, 2), 32) for chosen, values in pairs))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_largest_integers_of_a_long_sequence_are_exact(backend):
    probs, v = np.full((1, 1, 4096), 255, np.uint8), np.full((4096, 3), -128, np.int8)
    largest = -255 * 128 * 4096
    assert reference.code_context(probs, v).tolist() == [[largest] * 3]
    q = np.full((1, 512), -128, np.int8)
    assert reference.code_scores(q, q, 1, 1.0).tolist() == [[[128.0 * 128 * 512]]]
    # Each key has a probability of 1 / 4096, which is far above 255 steps of 2**-30; a float holds the sum.
    keys = np.full((4096, 3), -128, np.int8)
    found = backend.softmax_attention(keys[:1], keys, v, 1, 1.0, 2.0**-30, 255, 1.0)
    assert found.tolist() == [[np.float32(largest)] * 3]
    # The score 128 * 128 * 512 is clear of its neighbour 128 * (128 * 512 - 1) by 128 steps of scale: one key alone.
    k = np.concatenate([q, q])
    k[1, 0] = -127
    found = backend.softmax_attention(q, k, np.array([[1] * 512, [5] * 512], np.int8), 1, 1.0, 1.0, 1, 1.0)
    assert (found == 1).all()
