"""Attention of one sentence in one call equals the twins of `reference`, bit for bit, on every edge.

Run as a script, this file checks a smaller set of cases; tests do so for CPUs that they imitate, and without JIT.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bebert_kernels import packing
from bebert_kernels.abi.rule import SoftmaxNumbers
from bebert_kernels.attention import boolean as boolean_attention
from bebert_kernels.attention import layout
from bebert_kernels.attention import softmax as softmax_attention
from bebert_kernels.attention.sentence import Sentence
from bebert_kernels.jit import kernel as jit
from bebert_kernels.reference import floats as reference_float
from bebert_kernels.reference import integers as reference

SIZES = [1, 5, 32, 63, 64, 65, 128]
KEYS = [1, 63, 64, 65, 129, 512, 700]
CODES = [  # smallest and largest code of q, k, v; score scale for 64 values; step and largest attention code
    (-8, 7, 0.02, 1 / 15, 15),
    (-2, 1, 0.3, 0.02, 1),
    (-128, 127, 0.0003, 1 / 255, 255),
    (-128, 127, 0.02, 0.004, 255),  # exponentials reach 0
    (-8, 7, 0.02, -0.3, 15),
    (-8, 7, -0.02, 1e-20, 15),
]


def random_signs(rng: np.random.Generator, zeros: float, *shape: int) -> np.ndarray:
    """Signs of which some are 0, but none in every third row."""
    signs = np.where(rng.random(shape) < 0.5, np.int8(-1), np.int8(1))
    signs[rng.random(shape) < zeros] = 0
    signs[::3][signs[::3] == 0] = -1
    return signs


def packed(signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = len(signs)
    return packing.pack_bits(signs < 0).reshape(rows, -1), packing.pack_bits(signs != 0).reshape(rows, -1)


def check_bits(signs: list[np.ndarray], queries: slice, keys: slice) -> np.ndarray:
    """Signs int8[R, H, D] of q, k, v; returns the byte codes."""
    rows, heads, size = signs[0].shape
    planes = [packed(part) for part in signs]
    q, k, v = ([plane[part].reshape(-1, heads, packing.words(size)) for plane in pair]
               for pair, part in zip(planes, (queries, keys, keys), strict=True))  # fmt: skip
    context = reference.bit_context(reference.score_bits(*q, *k), *v, size)
    expected = np.where(context > 0, 0, np.where(context < 0, 3, 2)).astype(np.uint8)
    plain = np.stack([(part != 0).all(axis=(1, 2)) for part in signs]).astype(np.uint8)
    for (_, nonzero), flags in zip(planes, plain, strict=True):
        nonzero[flags == 1] = 0x5555555555555555  # must not be read
    length = layout.boolean_words(keys.stop - keys.start, size)
    scratch = np.random.default_rng(0).integers(0, 2**63, length + 1, dtype=np.uint64)
    guard = scratch[length]
    out, out_plain = np.full(expected.shape, 99, np.uint8), np.full(len(expected), 99, np.uint8)
    arrays = [boolean_attention.Signs(*pair, flags) for pair, flags in zip(planes, plain, strict=True)]
    sentence = Sentence(queries.start, queries.stop, keys.start, keys.stop)
    boolean_attention.boolean_attention(*arrays, sentence, heads, scratch[:length], out, out_plain)
    assert np.array_equal(out, expected)
    assert np.array_equal(out_plain, (context != 0).all(axis=1))
    assert scratch[length] == guard
    return out


def check_codes(
    codes: list[np.ndarray],
    heads: int,
    queries: slice,
    keys: slice,
    scales: tuple[float, float],
    step: float,
    high: int,
) -> np.ndarray:
    """Codes int8[R, A] of q, k, v; returns the attention codes."""
    q, k, v = codes
    probs = reference_float.softmax(reference.code_scores(q[queries], k[keys], heads, scales[0]))
    attention = reference.quantize(probs.reshape(-1, probs.shape[2]), None, step, 0.0, 0, high).reshape(probs.shape)
    dots = reference.code_context(attention, v[keys])
    width = dots.shape[1]
    expected = reference_float.scale_add(dots, np.full(width, scales[1], np.float32), np.zeros(width, np.float32))
    length = layout.softmax_units(keys.stop - keys.start, width // heads)
    scratch = np.random.default_rng(0).integers(-(2**31), 2**31, length + 1).astype(np.int32)
    guard = scratch[length]
    out = np.full(expected.shape, np.nan, np.float32)
    sentence = Sentence(queries.start, queries.stop, keys.start, keys.stop)
    numbers = SoftmaxNumbers(*(np.float32(number) for number in (scales[0], step, 0, high, scales[1])))
    softmax_attention.softmax_attention(*codes, sentence, heads, numbers, scratch[:length], out)
    assert np.array_equal(out.view(np.int32), expected.view(np.int32))
    assert scratch[length] == guard
    return attention


def spans(keys: int, queries: int) -> tuple[slice, slice]:
    """A sentence that begins at row 3, and query rows inside it."""
    first = 3 + (keys - min(keys, queries)) // 2
    return slice(first, first + min(keys, queries)), slice(3, 3 + keys)


def check_both(size: int, keys: int, queries: int, heads: int = 2) -> None:
    rng = np.random.default_rng(1000 * size + keys)
    shape = (keys + 5, heads, size)
    for zeros in ((0, 0, 0), (0.3, 0, 0), (0, 0.3, 0), (0, 0, 0.3), (0.2, 0.2, 0.2)):
        check_bits([random_signs(rng, share, *shape) for share in zeros], *spans(keys, queries))
    for low, high, scale, step, largest in CODES:
        codes = [rng.integers(low, high + 1, (keys + 5, heads * size)).astype(np.int8) for _ in "qkv"]
        check_codes(codes, heads, *spans(keys, queries), (scale * 8 / size**0.5, 0.37), step, largest)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keys", KEYS)
def test_attention_equals_the_reference(size, keys):
    check_both(size, keys, queries=37 if keys < 200 else 9)


@pytest.mark.parametrize("queries", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64])
def test_any_number_of_queries(queries):
    check_both(64, 70, queries, heads=3)


@pytest.mark.parametrize("keys", [2, 3, 15, 16, 17, 31, 32, 33, 48, 80, 127])
def test_any_number_of_keys(keys):
    check_both(40, keys, 5)


def test_three_words_a_head():
    check_both(257, 33, 9, heads=1)


def test_a_tie_does_not_count_and_no_key_gives_zero():
    ones = np.ones((3, 1, 64), np.int8)
    k = ones.copy()
    k[0, 0, :32] = -1  # dot 0
    k[1, 0, :31] = -1  # dot 2
    k[2] = -1
    v = ones.copy()
    v[1] = -1
    assert (check_bits([ones, k, v], slice(0, 1), slice(0, 3)) == 3).all()
    assert (check_bits([ones, -ones, v], slice(0, 3), slice(0, 3)) == 2).all()


@pytest.mark.parametrize("keys", [64, 128, 1000])
def test_all_keys_agree(keys):
    ones = np.ones((keys, 1, 128), np.int8)
    assert (check_bits([ones, ones, ones], slice(0, 5), slice(0, keys)) == 0).all()
    assert (check_bits([ones, ones, -ones], slice(0, 5), slice(0, keys)) == 3).all()


def test_probabilities_on_a_rounding_boundary():
    # Equal scores: each probability is 1 / 32 = 2.5 steps and every partial sum is exact; half goes to even.
    codes = [np.zeros((32, 64), np.int8), np.zeros((32, 64), np.int8), np.ones((32, 64), np.int8)]
    attention = check_codes(codes, 1, slice(0, 32), slice(0, 32), (1.0, 1.0), 1 / 80, 15)
    assert (attention == 2).all()


@pytest.mark.parametrize("high", [1, 3, 15, 255])
def test_probabilities_near_a_rounding_boundary(high):
    """One row after the other with a step that puts one of its own probabilities on a boundary, or just beside it."""
    rng = np.random.default_rng(high)
    codes = [rng.integers(-8, 8, (40, 64)).astype(np.int8) for _ in "qkv"]
    probs = reference_float.softmax(reference.code_scores(codes[0], codes[1], 1, 0.01))
    for row in range(0, 40, 3):
        p = probs[0, row, row]
        step = p / np.float32(rng.integers(0, high) + 0.5)
        for near in (np.nextafter(step, np.float32(0)), step, np.nextafter(step, np.float32(1))):
            check_codes(codes, 1, slice(row, row + 1), slice(0, 40), (0.01, 1.0), float(near), high)


def test_the_largest_integers_are_exact():
    extreme = np.full((600, 64), -128, np.int8)
    check_codes([extreme] * 3, 1, slice(0, 9), slice(0, 600), (1e-5, 1e-3), 1e-6, 255)


def test_an_estimate_costs_no_exactness_with_random_numbers():
    rng = np.random.default_rng(5)
    for _ in range(20):
        codes = [rng.integers(-8, 8, (130, 64)).astype(np.int8) for _ in "qkv"]
        scale, step = rng.uniform(0.001, 0.05), rng.uniform(0.0005, 0.05)
        check_codes(codes, 2, slice(0, 130), slice(0, 130), (scale, -0.01), step, int(rng.choice([1, 3, 15, 255])))


IMITATED = {  # CPU name: the features that the kernels look at; none: vectors in LLVM's own operations alone
    "skylake-avx512": "avx512bw avx512f avx2 ssse3 sse2",
    "haswell": "avx2 ssse3 sse2",
    "nehalem": "ssse3 sse2",
    "x86-64": "",
}


def run_as_script(tmp_path: Path, **environment: str) -> str:
    tmp_path.chmod(0o700)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "BEBERT_ISA"))}
    environment = {**kept, "BEBERT_CACHE_DIR": str(tmp_path), "BEBERT_KERNELS": "jit", **environment}
    command = [sys.executable, "-W", "error", str(Path(__file__))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "x86-64" else pytest.mark.long) for name in IMITATED]
)
def test_smaller_cpus(name, tmp_path):
    wanted = set(IMITATED[name].split())
    if platform.machine() not in ("x86_64", "AMD64") or not wanted <= jit.cpu_features():
        pytest.skip(f"this CPU, {platform.machine()}, has not all of {sorted(wanted)}")
    features = ",".join("+" + feature for feature in wanted)
    assert set(run_as_script(tmp_path, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features).split()) == wanted


def test_plain_python(tmp_path):
    assert run_as_script(tmp_path, NUMBA_DISABLE_JIT="1").split() == []


if __name__ == "__main__":
    few = "NUMBA_DISABLE_JIT" in os.environ
    for head_size, key_count in (
        ((5, 17), (64, 65)) if few else ((1, 1), (5, 17), (32, 64), (64, 129), (65, 65), (128, 80))
    ):
        check_both(head_size, key_count, 3 if few else 19)
    print(*sorted(jit.cpu_features()))
