"""One seeded call of every kernel function at chosen sizes, and the check that both backends return the same bits."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bebert_kernels import compiled, packing
from bebert_kernels.reference import integers as reference

FUNCTIONS = sorted(name for name in reference.__all__ if name != "GELU_ZERO")

Call = tuple[str, tuple[Any, ...]]


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Float32 with about one exact zero in eight and some large magnitudes."""
    x = rng.standard_normal(shape) * rng.choice([0.0, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 9.0], shape)
    return x.astype(np.float32)


def planes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random packed bits with padding 0: uint64[..., W] for bool[..., K]."""
    return packing.pack_bits(rng.random(shape) < 0.5)


def calls(
    seed: int, rows: int = 9, outputs: int = 7, depth: int = 70, heads: int = 2, size: int = 24, keys: int = 5
) -> Iterator[Call]:
    """Arguments for every function of the two backends, most functions with several variants."""
    rng = np.random.default_rng(seed)
    x, shift = floats(rng, rows, depth), floats(rng, depth)
    yield "pack_signs", (x, None)
    yield "pack_signs", (x, shift)
    yield "gelu_signs", (3 * x,)
    for name in ("relu", "gelu", "tanh"):
        yield name, (x,)
    for shifted in (None, shift):
        yield "quantize", (x, shifted, 0.3, 0.0, -8, 7)
        yield "quantize", (x, shifted, -0.2, -0.5, 0, 15)
    yield "pack_codes", (rng.integers(-8, 8, (rows, depth), dtype=np.int8), 4)
    yield "pack_codes", (rng.integers(0, 256, (rows, depth), dtype=np.uint8), 8)
    signs, nonzero = planes(rng, 2, rows, depth)
    weights = planes(rng, outputs, depth)
    yield "xnor_gemm", (signs, None, weights, depth)
    yield "xnor_gemm", (signs, nonzero, weights, depth)
    codes = rng.integers(-2, 2, (rows, depth), dtype=np.int8)
    yield "and_gemm", (*reference.pack_codes(codes, 2), weights, True)
    codes = rng.integers(0, 16, (rows, depth), dtype=np.uint8)
    yield "and_gemm", (*reference.pack_codes(codes, 4), weights, False)
    acc = rng.integers(-(2**25), 2**25, (rows, outputs), dtype=np.int32)
    yield "scale_add", (acc, floats(rng, outputs), floats(rng, outputs))
    yield "scale_add", (acc, floats(rng, outputs), floats(rng, rows, outputs))
    yield "layer_norm", (x, None, shift, floats(rng, depth), 1e-12)
    yield "layer_norm", (x, floats(rng, rows, depth), shift, floats(rng, depth), 0.05)
    yield "dense", (x, floats(rng, outputs, depth), floats(rng, outputs))
    places = tuple(rng.integers(0, 11, rows) for _ in range(3))
    tables = floats(rng, 11, depth), floats(rng, 11, depth)
    words = planes(rng, 2, 11, depth)
    yield "embed", (*places, (words[0],), (floats(rng, 11),), *tables)
    yield "embed", (*places, tuple(words), (floats(rng, 11), floats(rng, 11)), *tables)
    q, q_nonzero = planes(rng, 2, rows, heads, size)
    k, k_nonzero = planes(rng, 2, keys, heads, size)
    yield "score_bits", (q, q_nonzero, k, k_nonzero)
    yield "bit_context", (planes(rng, heads, rows, keys), k, k_nonzero, size)
    q_codes, k_codes = (rng.integers(-128, 128, (n, heads * size), dtype=np.int8) for n in (rows, keys))
    yield "code_scores", (q_codes, k_codes, heads, 0.037)
    yield "softmax", (3 * floats(rng, heads, rows, keys),)
    yield "code_context", (rng.integers(0, 256, (heads, rows, keys), dtype=np.uint8), k_codes)
    yield "code_context", (rng.integers(-128, 128, (heads, rows, keys), dtype=np.int8), k_codes)


def check(name: str, arguments: tuple[Any, ...]) -> Any:
    """Both backends return equal values, dtypes and shapes and leave their arguments alone; returns the result."""
    before = [np.copy(value) for value in arguments if isinstance(value, np.ndarray)]
    expected = getattr(reference, name)(*arguments)
    found = getattr(compiled, name)(*arguments)
    after = [value for value in arguments if isinstance(value, np.ndarray)]
    same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert same, f"{name} changed its arguments"
    pairs = zip(expected, found, strict=True) if isinstance(expected, tuple) else [(expected, found)]
    for want, have in pairs:
        assert type(want) is type(have), f"{name}: {type(have)} instead of {type(want)}"
        if isinstance(want, np.ndarray):
            assert (want.dtype, want.shape) == (have.dtype, have.shape), name
            assert have.flags.c_contiguous, name
        assert np.array_equal(want, have), f"{name}: {np.argwhere(np.asarray(want != have))[:3]} differ"
    return found


def check_code_gemm(codes: np.ndarray, weights: np.ndarray, bits: int) -> None:
    """Each backend prepares the weights for itself; the products are equal, whichever kernel was chosen."""
    products = [
        backend.code_gemm(codes, backend.code_weights(weights, codes.shape[1]), bits)
        for backend in (reference, compiled)
    ]
    assert products[0].dtype == products[1].dtype == np.int32
    assert products[1].flags.c_contiguous
    assert np.array_equal(*products), "code_gemm"


def check_all(seed: int = 0, **sizes: int) -> None:
    """Every call of `calls`, and no function without a call."""
    seen = set()
    for name, arguments in calls(seed, **sizes):
        check(name, arguments)
        seen.add(name)
        if name == "pack_codes":
            codes, bits = arguments
            weights = planes(np.random.default_rng(seed), 19, codes.shape[1])
            check_code_gemm(codes, weights, bits)
            seen |= {"code_weights", "code_gemm"}
    assert sorted(seen) == FUNCTIONS


if __name__ == "__main__":
    check_all()
    check_all(seed=1, rows=1, outputs=1, depth=1, heads=1, size=65, keys=65)
