"""Both kinds of attention return exact integers for every head size, key count and tail."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import check

from bebert_kernels import compiled, packing
from bebert_kernels.reference import integers as reference

BACKENDS = [reference, compiled]
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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
def test_boolean_attention_equals_the_oracle(backend, size):
    q, k, v = (random_signs(seed, tokens, 2 * size) for seed, tokens in ((1, 3), (2, 5), (3, 5)))
    bits = backend.score_bits(*heads_packed(q, 2), *heads_packed(k, 2))
    expected = oracle.score_bits(q, k, 2, size)
    assert packing.unpack_bits(bits, 5).tolist() == expected
    found = backend.bit_context(bits, *heads_packed(v, 2), size)
    assert found.dtype == np.int32
    assert found.tolist() == oracle.context(expected, v, 2, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keys", KEYS)
def test_boolean_attention_agrees_with_the_reference_on_every_edge(size, keys):
    q, k, v = (random_signs(seed, tokens, 3 * size) for seed, tokens in ((1, 9), (2, keys), (3, keys)))
    bits = check("score_bits", (*heads_packed(q, 3), *heads_packed(k, 3)))
    assert bits.shape == (3, 9, packing.words(keys))
    assert not packing.unpack_bits(bits, bits.shape[2] * 64)[..., keys:].any()
    check("bit_context", (bits, *heads_packed(v, 3), size))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tie_is_no_attention_and_one_more_agreement_is(backend):
    q = np.ones((1, 64), np.int8)
    k = np.ones((3, 64), np.int8)
    k[0, :32] = -1  # dot 0
    k[1, :31] = -1  # dot 2
    k[2, :33] = -1  # dot -2
    bits = backend.score_bits(*heads_packed(q, 1), *heads_packed(k, 1))
    assert bits.tolist() == [[[0b010]]]
    k[0, 0] = 0  # 32 agreements, 31 disagreements, one zero: dot 1
    assert backend.score_bits(*heads_packed(q, 1), *heads_packed(k, 1)).tolist() == [[[0b011]]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("keys", KEYS)
def test_the_first_and_the_last_key_can_be_the_only_ones(backend, keys):
    v = random_signs(keys, keys, 40)
    for only in {0, keys - 1}:
        q, k = np.ones((2, 40), np.int8), -np.ones((keys, 40), np.int8)
        k[only] = 1
        bits = backend.score_bits(*heads_packed(q, 1), *heads_packed(k, 1))
        assert np.flatnonzero(packing.unpack_bits(bits, keys)[0, 0]).tolist() == [only]
        assert np.array_equal(backend.bit_context(bits, *heads_packed(v, 1), 40), [v[only]] * 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_bit_gives_context_zero(backend):
    v = heads_packed(random_signs(1, 70, 48), 2)
    assert not backend.bit_context(np.zeros((2, 3, 2), np.uint64), *v, 24).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_code_attention_equals_the_oracle(backend, size, dtype):
    q, k, v = (random_codes(seed, np.int8, tokens, 2 * size) for seed, tokens in ((1, 3), (2, 5), (3, 5)))
    scores = backend.code_scores(q, k, 2, 0.03)
    dots = [[[oracle.dot(oracle.head(a, h, size), oracle.head(b, h, size)) for b in k] for a in q] for h in range(2)]
    assert scores.dtype == np.float32
    assert np.array_equal(scores, np.array(dots).astype(np.float32) * np.float32(0.03))
    probs = random_codes(4, dtype, 2, 3, 5)
    found = backend.code_context(probs, v)
    assert found.dtype == np.int32
    assert found.tolist() == oracle.context(probs, v, 2, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keys", KEYS)
def test_code_attention_agrees_with_the_reference_on_every_edge(size, keys):
    q, k, v = (random_codes(seed, np.int8, tokens, 3 * size) for seed, tokens in ((1, 9), (2, keys), (3, keys)))
    check("code_scores", (q, k, 3, 0.0123))
    check("code_context", (random_codes(4, np.uint8, 3, 9, keys), v))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 130), st.integers(1, 130), st.integers(1, 3), st.sampled_from(SIZES), st.integers(0, 99))
def test_any_number_of_queries_and_keys(queries, keys, heads, size, seed):
    q, k, v = (random_signs(seed + i, t, heads * size) for i, t in enumerate((queries, keys, keys)))
    bits = check("score_bits", (*heads_packed(q, heads), *heads_packed(k, heads)))
    check("bit_context", (bits, *heads_packed(v, heads), size))
    codes = random_codes(seed, np.int8, max(queries, keys), heads * size)
    check("code_scores", (codes[:queries], codes[:keys], heads, 0.5))
    check("code_context", (random_codes(seed, np.int8, heads, queries, keys), codes[:keys]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_of_keys_does_not_change_the_context(backend):
    q, k, v = (random_signs(seed, tokens, 64) for seed, tokens in ((1, 4), (2, 100), (3, 100)))
    order = np.random.default_rng(4).permutation(100)
    contexts = [
        backend.bit_context(
            backend.score_bits(*heads_packed(q, 2), *heads_packed(keys, 2)), *heads_packed(values, 2), 32
        )
        for keys, values in ((k, v), (k[order], v[order]))
    ]
    assert np.array_equal(*contexts)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_largest_integers_of_a_long_sequence_are_exact(backend):
    probs, v = np.full((1, 1, 4096), 255, np.uint8), np.full((4096, 3), -128, np.int8)
    assert backend.code_context(probs, v).tolist() == [[-255 * 128 * 4096] * 3]
    q = np.full((1, 512), -128, np.int8)
    assert backend.code_scores(q, q, 1, 1.0).tolist() == [[[128.0 * 128 * 512]]]


Q = np.zeros((3, 2, 1), np.uint64)
K = np.zeros((5, 2, 1), np.uint64)
BITS = np.zeros((2, 3, 1), np.uint64)
CODES = np.zeros((3, 48), np.int8)
PROBS = np.zeros((2, 3, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("score_bits", (Q, Q[:2], K, K), r"q_nonzero is uint64\[2, 2, 1\]; accepted: .*\[3, 2, 1\]"),
        ("score_bits", (Q, Q, K[:, :1].copy(), K), r"k is uint64\[5, 1, 1\]; accepted: .*\[Tk, 2, 1\]"),
        ("score_bits", (Q, Q, K, K.astype(np.int64)), r"k_nonzero is int64\[5, 2, 1\]"),
        ("score_bits", (Q[::2], Q[::2], K, K), r"q is uint64\[2, 2, 1\], not contiguous"),
        ("bit_context", (BITS, K, K, 65), r"v is uint64\[5, 2, 1\]; accepted: .*\[Tk, H, 2\]"),
        ("bit_context", (BITS[:1], K, K, 64), r"bits is uint64\[1, 3, 1\]; accepted: .*\[2, Tq, 1\]"),
        ("bit_context", (BITS, K, K, 0), r"head_size is 0; accepted: an integer from 1"),
        ("code_scores", (CODES, CODES, 5, 1.0), r"heads is 5; accepted: a divisor of the width 48"),
        ("code_scores", (CODES, CODES, 0, 1.0), r"heads is 0; accepted"),
        ("code_scores", (CODES, CODES[:, :24].copy(), 2, 1.0), r"k is int8\[3, 24\]; accepted: .*\[Tk, 48\]"),
        ("code_scores", (CODES.view(np.uint8), CODES, 2, 1.0), r"q is uint8\[3, 48\]; accepted: .*int8"),
        ("code_scores", (CODES, CODES, 2, float("nan")), r"scale is nan; accepted: a number that is finite"),
        ("code_scores", (CODES, CODES, 2, None), r"scale is None; accepted: a number"),
        ("code_context", (PROBS.astype(np.float32), CODES), r"probs is float32\[2, 3, 3\]; accepted"),
        ("code_context", (PROBS, CODES[:2]), r"v is int8\[2, 48\]; accepted: .*int8\[3, C\]"),
        ("code_context", (PROBS, CODES[:, :47].copy()), r"heads is 2; accepted: a divisor of the width 47"),
        ("code_context", (PROBS.transpose(0, 2, 1), CODES), r"probs is uint8\[2, 3, 3\], not contiguous"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(compiled, name)(*arguments)
