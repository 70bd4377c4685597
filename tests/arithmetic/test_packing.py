"""Packed words hold element k in bit k % 64 of word k // 64, with padding 0, and unpack to what was packed."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bebert_kernels import packing

EDGES = [1, 63, 64, 65, 127, 128, 129]


def random_bits(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape) < 0.5


def test_words_is_the_depth_over_64_rounded_up():
    assert [packing.words(k) for k in [0, *EDGES]] == [0, 1, 1, 1, 2, 2, 2, 3]


def test_the_first_element_is_the_least_significant_bit_of_the_first_word():
    for k in (0, 1, 63, 64, 100):
        bits = np.zeros((1, 130), bool)
        bits[0, k] = True
        packed = packing.pack_bits(bits)
        assert packed.dtype == np.uint64
        assert packed.tolist() == [[1 << k % 64 if w == k // 64 else 0 for w in range(3)]]


@pytest.mark.parametrize("depth", EDGES)
def test_packing_equals_the_oracle_and_round_trips(depth):
    bits = random_bits(3, 2, depth)
    packed = packing.pack_bits(bits)
    assert packed.shape == (3, 2, packing.words(depth))
    assert packed.tolist() == [[oracle.words_of(row) for row in block] for block in bits]
    assert np.array_equal(packing.unpack_bits(packed, depth), bits)


@pytest.mark.parametrize("depth", EDGES)
def test_padding_bits_are_zero(depth):
    packed = packing.pack_bits(np.ones((2, depth), bool))
    assert np.bitwise_count(packed).sum() == 2 * depth
    assert not packing.unpack_bits(packed, packing.words(depth) * 64)[:, depth:].any()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), max_size=200))
def test_any_row_round_trips(row):
    bits = np.array(row, bool)
    packed = packing.pack_bits(bits)
    assert packed.tolist() == oracle.words_of(row)
    assert packing.unpack_bits(packed, len(row)).tolist() == row


def test_a_view_with_steps_packs_like_its_copy():
    bits = random_bits(4, 140)
    assert np.array_equal(packing.pack_bits(bits[::2, ::2]), packing.pack_bits(bits[::2, ::2].copy()))
    packed = packing.pack_bits(bits)
    assert np.array_equal(packing.unpack_bits(packed[::2], 140), bits[::2])


@pytest.mark.parametrize("depth", EDGES)
def test_weight_signs_round_trip_with_bit_1_for_minus_one(depth):
    signs = np.where(random_bits(5, depth), np.int8(-1), np.int8(1))
    packed = packing.pack_weight_signs(signs)
    assert np.array_equal(packed, packing.pack_bits(signs == -1))
    unpacked = packing.unpack_weight_signs(packed, depth)
    assert unpacked.dtype == np.int8
    assert np.array_equal(unpacked, signs)


def test_a_weight_of_zero_is_refused_with_its_place():
    signs = np.ones((2, 3), np.int8)
    signs[1, 2] = 0
    with pytest.raises(ValueError, match=r"signs\[1, 2\] is 0; accepted: -1 and \+1"):
        packing.pack_weight_signs(signs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: packing.pack_bits(np.zeros((2, 3), np.uint8)), r"uint8\[2, 3\]; accepted: bool"),
        (lambda: packing.pack_bits(np.array(True)), r"bool\[\]; accepted: bool"),
        (lambda: packing.unpack_bits(np.zeros((2, 2), np.uint64), 64), r"accepted: uint64\[..., 1\]"),
        (lambda: packing.unpack_bits(np.zeros((2, 1), np.int64), 64), r"int64\[2, 1\]"),
        (lambda: packing.pack_weight_signs(np.ones((2, 3), np.float32)), r"float32\[2, 3\]"),
        (lambda: packing.pack_weight_signs(np.ones(3, np.int8)), r"int8\[3\]; accepted: int8\[N, K\]"),
    ],
)
def test_wrong_arrays_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
