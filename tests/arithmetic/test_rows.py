"""Row kernels equal their specifications in `reference`, bit for bit, and touch nothing outside the row."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import floats, planes

from bebert_kernels import packing
from bebert_kernels.abi import rule
from bebert_kernels.abi.rule import Numbers
from bebert_kernels.bitsliced import index as row_index
from bebert_kernels.bitsliced.triples import triple_count
from bebert_kernels.reference import floats as reference_float
from bebert_kernels.reference import integers as reference
from bebert_kernels.rows import embed as row_embed
from bebert_kernels.rows import layer_norm as row_norm
from bebert_kernels.rows import quantize as row_codes
from bebert_kernels.rows.reciprocal import multiplies_exactly

WIDTHS = [1, 2, 3, 5, 15, 16, 17, 31, 46, 47, 48, 49, 63, 64, 65, 127, 128, 129, 191, 192, 384, 768, 3072]
LIMITS = [(-8, 7), (-2, 1), (-1, 0), (-128, 127), (0, 255), (0, 15), (0, 1)]
GUARD = 0xA5


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def guarded(size: int, dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """An array of guard bytes and a view of `size` items in its middle."""
    whole = np.full(size * np.dtype(dtype).itemsize + 128, GUARD, np.uint8)
    return whole, whole[64:-64].view(dtype)


def check_guard(whole: np.ndarray) -> None:
    assert (whole[:64] == GUARD).all() and (whole[-64:] == GUARD).all(), "bytes outside the array were written"


# signs and codes


def sign_bytes(signs: np.ndarray, nonzero: np.ndarray, width: int) -> np.ndarray:
    negative, counts = packing.unpack_bits(signs, width), packing.unpack_bits(nonzero, width)
    return np.where(counts, np.where(negative, 3, 0), 2).astype(np.uint8)


def quantize_row(x: np.ndarray, shift: np.ndarray, kind: int, numbers: tuple[float, ...]) -> tuple[np.ndarray, int]:
    whole, out = guarded(x.size)
    no_zeros = row_codes.quantize_row(x, shift, kind, Numbers(*(np.float32(n) for n in numbers)), out)
    check_guard(whole)
    return out, int(no_zeros)


NO_CODES = (1.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("width", WIDTHS)
def test_sign_bytes_equal_the_sign_planes(width):
    for seed in range(4):
        x, shift = floats(rng(seed), width), floats(rng(seed + 9), width)
        if seed == 3:
            x, shift = x + np.float32(20), np.abs(shift)  # no zeros
        for move in (np.zeros_like(x), shift):
            out, no_zeros = quantize_row(x, move, rule.SIGN, NO_CODES)
            signs, nonzero, has_zero = reference.pack_signs(x[None], move)
            assert np.array_equal(out, sign_bytes(signs[0], nonzero[0], width))
            assert no_zeros == (not has_zero)


def test_one_zero_anywhere_is_found():
    for width in (1, 7, 16, 33, 64, 100):
        for place in range(width):
            x = np.where(np.arange(width) == place, 0, -1).astype(np.float32)
            assert quantize_row(x, np.zeros_like(x), rule.SIGN, NO_CODES)[1] == 0
        assert quantize_row(x - 1, np.zeros_like(x), rule.SIGN, NO_CODES)[1] == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_gelu_sign_bytes_equal_the_sign_planes(width):
    zero = reference.GELU_ZERO
    x = 3 * floats(rng(width), width)
    x[rng(0).random(width) < 0.2] = zero
    x[rng(1).random(width) < 0.2] = np.nextafter(zero, np.float32(0))
    out, no_zeros = quantize_row(x, np.zeros_like(x), rule.GELU_SIGN, NO_CODES)
    signs, nonzero, has_zero = reference.gelu_signs(x[None])
    assert np.array_equal(out, sign_bytes(signs[0], nonzero[0], width))
    assert no_zeros == (not has_zero)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("width", WIDTHS)
def test_code_bytes_equal_the_codes(width, limits):
    low, high = limits
    for step, minimum, seed in ((0.3, 0.0, 1), (-0.2, -0.5, 2), (2.0, 0.7, 3), (0.25, 0.0, 4), (1e-39, 0, 5)):
        x, shift = 2 * floats(rng(seed), width), floats(rng(seed + 9), width)
        if seed == 4:  # exact halves: ties to even
            x, shift = np.round(8 * x) / np.float32(8), np.round(8 * shift) / np.float32(8)
        for kind, row in ((rule.CODES, x), (rule.RELU_CODES, reference_float.relu(x))):
            for move in (np.zeros_like(x), shift):
                out, no_zeros = quantize_row(x, move, kind, (step, minimum, low, high))
                expected = reference.quantize(row[None], move, step, minimum, low, high)[0].astype(int) - low
                assert np.array_equal(out, expected)
                assert no_zeros == 0


def test_codes_of_every_half_and_its_neighbours():
    for step in (1.0, 0.1, 0.037, -0.7, 3e-5, 1e30):
        points = (np.arange(-300, 301) / 2).astype(np.float32) * np.float32(step)
        x = np.concatenate([points] + [np.nextafter(points, np.float32(s) * np.inf) for s in (-1, 1)])
        for low, high in LIMITS:
            out, _ = quantize_row(x, np.zeros_like(x), rule.CODES, (step, 0.0, low, high))
            expected = reference.quantize(x[None], None, step, 0.0, low, high)[0].astype(int) - low
            assert np.array_equal(out, expected)


STEPS = [1.0, 0.1, 0.037, -0.7, 0.25, 1 / 3, 2.0**-20, -3e5, 1e17]
FAR = np.float32([0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1e30, -1e30, 2.0**31, -(2.0**31), 2.0**33, -(2.0**33)])


def check_plain_codes(x: np.ndarray, step: float, low: int, high: int) -> None:
    out, no_zeros = quantize_row(x, np.zeros_like(x), rule.PLAIN_CODES, (step, 0.0, low, high))
    with np.errstate(over="ignore"):
        expected = reference.quantize(x[None], None, step, 0.0, low, high)[0].astype(int) - low
    assert np.array_equal(out, expected), (step, low, high)
    assert no_zeros == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_plain_code_bytes_equal_the_codes(width):
    """By two multiplications where the engine may: around each place where codes change, and as far as floats go."""
    for step in STEPS:
        for low, high in LIMITS:
            assert multiplies_exactly(step, low, high)
            check_plain_codes(np.resize(np.append(FAR, 2 * floats(rng(width), width)), width), step, low, high)


def around_halves(step: float, low: int, high: int) -> np.ndarray:
    """The 200 floats on either side of each place where the code changes."""
    middles = ((np.arange(low, high) + 0.5) * float(np.float32(step))).astype(np.float32)
    return (middles.view(np.int32)[:, None] + np.arange(-200, 201, dtype=np.int32)).reshape(-1).view(np.float32)


@settings(max_examples=100, deadline=None)
@given(st.floats(2.0**-19, 2.0**59, width=32), st.booleans(), st.sampled_from(LIMITS))
def test_whatever_multiplies_exactly_gives_the_codes_of_the_division(step, negative, limits):
    step = -step if negative else step
    if multiplies_exactly(step, *limits):
        check_plain_codes(around_halves(step, *limits), step, *limits)


def test_steps_that_are_too_small_or_large_are_divided_by():
    for step in (0.0, 1e-45, 2.0**-21, -(2.0**-21), 2.0**61, float("inf"), float("nan")):
        assert not multiplies_exactly(step, -8, 7)


# index planes


def chain_and_groups(codes: np.ndarray) -> tuple[list[int], list[tuple[int, int, int]], int]:
    """The specification, word for word."""
    chain = codes.tolist() + [0] * (len(codes) + 16)
    position, n, groups = 0, len(codes), []
    while n > 1:
        if n == 2:
            chain[position + 2] = 0
            n = 3
        m, r = divmod(n, 3)
        for j in range(m):
            triple = (position + j, position + m + j, position + 2 * m + j)
            groups.append(triple)
            chain[position + 3 * m + r + j] = chain[triple[0]] ^ chain[triple[1]] ^ chain[triple[2]]
        position += 3 * m
        n = r + m
    return chain, groups, chain[position]


def expected_index(codes: np.ndarray, planes: int) -> tuple[np.ndarray, list[int]]:
    chain, groups, last = chain_and_groups(codes)
    width = max(1, -(-len(groups) // 32)) * 32
    index = np.zeros((planes, width), np.uint8)
    for p in range(planes):
        for g, triple in enumerate(groups):
            index[p, g] = sum(8 << i for i, place in enumerate(triple) if chain[place] >> p & 1)
    return index, [last >> p & 1 for p in range(planes)]


def check_index(width: int, count: int, seed: int) -> None:
    codes = rng(seed).integers(0, 256, width).astype(np.uint8)
    want, parities = expected_index(codes, count)
    groups_width = triple_count(width)
    assert want.shape == (count, groups_width)
    chain_whole, chain = guarded(2 * width + 16)
    chain[:width] = codes
    whole, index = guarded(count * groups_width)
    index = index.reshape(count, groups_width)
    parity_whole, parity = guarded(count)
    row_index.index_row(chain, width, count, index, parity)
    for array in (chain_whole, whole, parity_whole):
        check_guard(array)
    assert np.array_equal(index, want), (width, count)
    assert parity.tolist() == parities
    assert np.array_equal(chain[:width], codes)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_index_planes_of_all_small_widths(count):
    for width in range(1, 200):
        check_index(width, count, width)


@pytest.mark.parametrize("width", [*WIDTHS, 200, 255, 300, 431, 432, 433, 575, 577, 1000, 2047, 3071, 4096])
def test_index_planes_of_larger_widths(width):
    for count in (1, 4, 7):
        check_index(width, count, width)


def test_index_planes_count_ones():
    """What the planes are for: ones = parity + 2 * sum of majorities, here with weights of all +1."""
    codes = rng(1).integers(0, 2, 500).astype(np.uint8)
    index, parities = expected_index(codes, 1)
    majority = np.array([0, 0, 0, 1, 0, 1, 1, 1])
    assert codes.sum() == parities[0] + 2 * majority[index[0] // 8].sum()


# layer normalization


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("target", ["new", "x", "residual"])
def test_normalized_rows_equal_the_specification(width, target):
    for seed, eps in ((1, 1e-12), (2, 0.05)):
        x, residual, gamma, beta = (floats(rng(seed + i), width) for i in range(4))
        if seed == 2:
            residual = np.zeros_like(x)
        want = reference_float.layer_norm(x[None], residual[None], gamma, beta, eps)[0]
        whole, out = guarded(width, np.float32)
        if target == "x":
            out[:] = x
            x = out
        elif target == "residual":
            out[:] = residual
            residual = out
        row_norm.norm_row(x, residual, gamma, beta, np.float32(eps), out)
        check_guard(whole)
        assert np.array_equal(out.view(np.uint32), want.view(np.uint32))


def test_norm_rows_do_the_rows_asked_for():
    x, residual = floats(rng(0), 6, 70), floats(rng(1), 6, 70)
    gamma, beta = floats(rng(2), 70), floats(rng(3), 70)
    for first, last in ((1, 5), (0, 6), (2, 3), (3, 3), (0, 5)):
        out = np.full((6, 70), 77, np.float32)
        row_norm.norm_rows(x, residual, gamma, beta, np.float32(1e-12), first, last, out)
        want = np.full((6, 70), 77, np.float32)
        want[first:last] = reference_float.layer_norm(x, residual, gamma, beta, 1e-12)[first:last]
        assert np.array_equal(out, want)


# embeddings


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tables", [1, 2])
def test_embedded_rows_equal_the_specification(width, tables):
    source = rng(width)
    signs = planes(source, 2, 11, width)
    scales = floats(source, 2, 11)
    position, token_type = floats(source, 13, width), floats(source, 3, width)
    position[2], token_type[1] = -0.0, -0.0  # the zeros keep their signs
    scales[:, 4] = 0
    ids = np.array([0, 10, 4, 4, 7, 3])
    places, kinds = np.array([0, 12, 2, 5, 2, 2]), np.array([0, 2, 1, 1, 0, 1])
    want = reference_float.embed(
        ids, places, kinds, tuple(signs[:tables]), tuple(scales[:tables]), position, token_type
    )
    second = tables - 1
    words = (signs[0], scales[0], signs[second], scales[second])
    found = row_embed.EmbeddingTables(tables, *words, position, token_type)
    whole, out = guarded(len(ids) * width, np.float32)
    out = out.reshape(len(ids), width)
    for m in range(len(ids)):
        row_embed.embed_row(ids[m], places[m], kinds[m], found, out[m])
    check_guard(whole)
    assert np.array_equal(out.view(np.uint32), want.view(np.uint32))


# other CPUs


def everything() -> None:
    """A short form of the tests above, for processes that imitate another CPU."""
    for width in (1, 2, 3, 5, 17, 49, 63, 64, 65, 127, 128, 129, 384, 768):
        test_sign_bytes_equal_the_sign_planes(width)
        test_gelu_sign_bytes_equal_the_sign_planes(width)
        test_code_bytes_equal_the_codes(width, (-8, 7))
        for count in (1, 4):
            check_index(width, count, width)
        for target in ("new", "x", "residual"):
            test_normalized_rows_equal_the_specification(width, target)
        for tables in (1, 2):
            test_embedded_rows_equal_the_specification(width, tables)
    test_codes_of_every_half_and_its_neighbours()
    test_norm_rows_do_the_rows_asked_for()


CPUS = {
    "generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "x86-64": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""},
    "haswell": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2"},
    "python": {"NUMBA_DISABLE_JIT": "1"},
}


@pytest.mark.parametrize(
    "cpu", ["generic", "python", *(pytest.param(cpu, marks=pytest.mark.long) for cpu in ("x86-64", "haswell"))]
)
def test_everything_on_another_cpu(cpu, tmp_path):
    if cpu in {"x86-64", "haswell"} and platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("an x86 processor is needed to imitate another")
    tmp_path.chmod(0o700)
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "0", "BEBERT_CACHE_DIR": str(tmp_path), **CPUS[cpu]}
    paths = (Path(__file__).parents[1] / "helpers", os.environ.get("PYTHONPATH", ""))
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    command = [sys.executable, "-c", "import test_rows; test_rows.everything()"]
    result = subprocess.run(command, env=environment, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
