"""Kernels of the native path one by one under pytest-benchmark, one thread, BERT-base geometry, 128 tokens.

python -m pytest benchmarks/test_kernels.py --benchmark-enable --benchmark-columns=min,median,ops
"""

import sys
from pathlib import Path

import numba
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from products import Data, check_all, ours

from bebert_kernels.attend_bits import attend_bits, scratch_words
from bebert_kernels.attend_codes import attend_codes, scratch_units
from bebert_kernels.row_codes import code_row
from bebert_kernels.row_index import index_row
from bebert_kernels.row_norm import norm_rows
from bebert_kernels.triples import triple_count

ROWS, HEADS, SIZE = 128, 12, 64
WIDTH = HEADS * SIZE
GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((ROWS, WIDTH)).astype(np.float32)

DATA = Data.random(ROWS, WIDTH, WIDTH)
CASES = ours(DATA)
check_all(CASES, DATA)


# The row kernels are called by other kernels; a call from Python for each row would measure the call.
@numba.njit(nogil=True)
def _code_rows(x, shift, kind, step, minimum, low, high, out):
    for row in range(len(x)):
        code_row(x[row], shift, kind, step, minimum, low, high, out[row])


@numba.njit(nogil=True)
def _index_rows(codes, chain, planes, index, parity):
    depth = codes.shape[1]
    for row in range(len(codes)):
        for k in range(depth):
            chain[k] = codes[row, k]
        index_row(chain, depth, planes, index, parity)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_product(benchmark, case):
    benchmark.extra_info["macs"] = ROWS * WIDTH * WIDTH
    benchmark(case.call)


def test_layer_norm_with_residual(benchmark):
    gamma, beta = GENERATOR.standard_normal((2, WIDTH)).astype(np.float32)
    benchmark(norm_rows, X, X, gamma, beta, np.float32(1e-12), 0, ROWS, np.empty_like(X))


@pytest.mark.parametrize("kind", [0, 1, 2, 3], ids=["sign", "gelu-sign", "code", "relu-code"])
def test_floats_to_codes(benchmark, kind):
    shift, out = np.zeros(WIDTH, np.float32), np.empty((ROWS, WIDTH), np.uint8)
    step, minimum, low, high = (np.float32(value) for value in (0.3, 0, -8, 7))
    benchmark(_code_rows, X, shift, kind, step, minimum, low, high, out)


@pytest.mark.parametrize("planes", [1, 2, 4])
def test_codes_to_index_planes(benchmark, planes):
    codes = GENERATOR.integers(0, 2**planes, (ROWS, WIDTH), dtype=np.uint8)
    chain = np.empty(2 * WIDTH + 16, np.uint8)
    index, parity = np.empty((planes, triple_count(WIDTH)), np.uint8), np.empty(planes, np.uint8)
    benchmark(_index_rows, codes, chain, planes, index, parity)


def test_attention_on_bits(benchmark):
    words = GENERATOR.integers(0, 2**64, (3, ROWS, HEADS), dtype=np.uint64)
    planes = [plane for signs in words for plane in (signs, np.full_like(signs, 2**64 - 1))]
    scratch = np.empty(scratch_words(ROWS, SIZE), np.uint64)
    plain, out, out_plain = np.ones((3, ROWS), np.uint8), np.empty((ROWS, WIDTH), np.uint8), np.empty(ROWS, np.uint8)
    benchmark(attend_bits, *planes, plain, 0, ROWS, 0, ROWS, HEADS, SIZE, scratch, out, out_plain)


@pytest.mark.parametrize("heads", [6, 12])
def test_attention_on_codes(benchmark, heads):
    queries, keys, values = GENERATOR.integers(-8, 8, (3, ROWS, heads * SIZE), dtype=np.int8)
    scratch, out = np.empty(scratch_units(ROWS, SIZE), np.int32), np.empty((ROWS, heads * SIZE), np.float32)
    numbers = [np.float32(value) for value in (0.02, 1 / 15, 0, 15, 0.1)]
    benchmark(attend_codes, queries, keys, values, 0, ROWS, 0, ROWS, heads, *numbers, scratch, out)
