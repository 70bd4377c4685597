"""Dot products of rows of codes with weight signs, by every product and by the reference, on plain integers."""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels import packing
from bebert_kernels.program.layer import PRODUCTS
from bebert_kernels.reference import integers as reference
from bebert_kernels.rows.layout import MINUS, PLUS, ZERO
from bebert_kernels.tuning.single_layer import OneLayer

REFERENCE = "reference"
NAMES = (REFERENCE, *PRODUCTS)

Integers = NDArray[np.int64]


def takes(name: str, bits: int, depth: int = 1) -> bool:
    """Whether a product multiplies codes of so many bits (0: signs) in rows so deep."""
    return name == REFERENCE or (bits in PRODUCTS[name].bits and depth <= PRODUCTS[name].deepest)


def multiply(name: str, values: NDArray, weights: NDArray[np.int8], bits: int, low: int = 0) -> Integers:
    """Dot products int64[M, N] of int[M, K] with int8[N, K] of -1 and +1.

    bits : 0 for values -1, 0, 1; else values are low .. low + 2**bits - 1
    """
    signs, (rows, depth) = packing.pack_weight_signs(weights), values.shape
    if name == REFERENCE:
        if not bits:
            return reference.code_dots(values.astype(np.int8), signs).astype(np.int64)
        found = reference.code_dots((values - low).astype(np.uint8), signs)
        return found.astype(np.int64) + low * weights.sum(axis=1, dtype=np.int64)
    layer = OneLayer(signs, depth, bits, max(rows, 1), low, PRODUCTS[name])
    return run(layer, values, bits, low).astype(np.int64)


def run(layer: OneLayer, values: NDArray, bits: int, low: int = 0) -> NDArray[np.float32]:
    """What a layer makes of plain integers."""
    if bits:
        return layer((values - low).astype(np.uint8), np.zeros(len(values), np.uint8))
    codes = np.choose(values + 1, [MINUS, ZERO, PLUS]).astype(np.uint8)
    return layer(codes, (values != 0).all(axis=1).astype(np.uint8))


def plain(values: NDArray, weights: NDArray[np.int8]) -> Integers:
    """The same by NumPy."""
    return values.astype(np.int64) @ weights.T.astype(np.int64)


def random_weights(seed: int, outputs: int, depth: int) -> NDArray[np.int8]:
    """Signs -1 and +1."""
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (outputs, depth))


def random_signs(seed: int, rows: int, depth: int, zeros: float = 0.0) -> Integers:
    """Signs of which a share is 0, in most rows but not in all."""
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1, 1], np.int64), (rows, depth))
    signs[(rng.random((rows, depth)) < zeros) & (rng.random((rows, 1)) < 0.7)] = 0
    return signs


def random_codes(seed: int, rows: int, depth: int, bits: int, low: int = 0) -> Integers:
    """All codes of the range, with both extremes more often."""
    rng = np.random.default_rng(seed)
    ends = [low, low + (1 << bits) - 1]
    codes = rng.integers(low, ends[1] + 1, (rows, depth))
    return np.where(rng.random((rows, depth)) < 0.2, rng.choice(ends, (rows, depth)), codes)


def check(name: str, rows: int, outputs: int, depth: int, bits: int, seed: int = 0) -> None:
    """Random values of one kind: signed codes, or signs with zeros; the product is what NumPy says."""
    weights, low = random_weights(seed, outputs, depth), -(1 << bits) // 2
    values = random_codes(seed, rows, depth, bits, low) if bits else random_signs(seed, rows, depth, 0.1)
    found = multiply(name, values, weights, bits, low)
    assert np.array_equal(found, plain(values, weights)), (name, rows, outputs, depth, bits)


def check_all() -> None:
    """Every product on word edges, ragged rows and outputs, signs and codes."""
    for name in NAMES:
        for bits in (0, 1, 3, 4, 8):
            for rows, outputs, depth in ((1, 7, 63), (2, 9, 64), (3, 17, 65), (5, 130, 129), (9, 600, 777)):
                if takes(name, bits, depth):
                    check(name, rows, outputs, depth, bits, depth)


if __name__ == "__main__":
    check_all()
