"""One linear layer outside a model, by one product: for measuring (`autotune.py`, benchmarks) and for tests."""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.product import Product, Weights
from bebert_kernels.abi.sink import TO_FLOATS, Input, Sink
from bebert_kernels.abi.stage import Stage
from bebert_kernels.abi.table import row
from bebert_kernels.bitsliced.product import BITSLICED
from bebert_kernels.bitsliced.triples import aligned
from bebert_kernels.checks import array, whole
from bebert_kernels.packing import Words, pack_weight_signs, words
from bebert_kernels.program.layer import PRODUCTS, Layer


class OneLayer:
    """Products of up to `rows` rows of byte codes with weight signs.

    signs   : uint64[N, W], bit 1 = -1      depth : K
    bits    : of the codes, 1..8; 0 for signs as `rows/quantize.py` has them
    low     : what code 0 stands for
    product : one that takes such codes

    Raises ValueError for signs, depth, bits or rows that do not fit.
    Exact as long as the sums are below 2**24, which they are for all depths that are allowed.
    """

    def __init__(self, signs: Words, depth: int, bits: int, rows: int, low: int = 0, product: Product = BITSLICED):
        depth, bits = whole("depth", depth, 1, product.deepest), whole("bits", bits, product.bits[0], product.bits[-1])
        signs, rows = array("signs", signs, np.uint64, ("N", words(depth))), whole("rows", rows, 1, 1 << 30)
        outputs = whole("number of signs", len(signs), 1, 1 << 30)
        ones, zeros = np.ones(outputs, np.float32), np.zeros(outputs, np.float32)
        layer = Layer(
            slot.HIDDEN,
            [Input(rule.ALREADY_CODED)],
            [Weights(signs, depth, bits, low, ones, zeros, 0)],
            [Sink(TO_FLOATS, 0, outputs, slot.HIDDEN)],
        )
        block = min(rows, product.rows)
        memory = {
            place: aligned((size,), np.uint8)
            for place, size in (layer.shape(product).scratch(block) | {slot.HIDDEN: 4 * rows * outputs}).items()
        }
        self._slots = np.zeros(slot.COUNT, np.int64)
        for place, part in memory.items():
            part[:] = 0
            self._slots[place] = part.ctypes.data
        self._codes, self._no_zeros = memory[slot.BYTES].reshape(block, depth), memory[slot.BYTES_NO_ZEROS]
        self.result = memory[slot.HIDDEN].view(np.float32).reshape(rows, outputs)
        self._bits, self._highest = bits, (1 << bits) - 1 if bits else 3
        self._pinned: list[NDArray] = list(memory.values())
        self._encode, self._encoding = product.encode, np.array(row(layer.encode(product), self._pin), np.int64)
        self._linear = np.array(row(layer.linear(product), self._pin), np.int64)

    def _pin(self, values: NDArray) -> int:
        self._pinned.append(np.ascontiguousarray(values))
        return self._pinned[-1].ctypes.data

    def encode(self, codes: NDArray[np.uint8], no_zeros: NDArray[np.uint8]) -> None:
        """Encode uint8[M, K], M at most a block and `rows`; no_zeros[m] = 1 if row m is of signs without zeros."""
        block, depth = self._codes.shape
        codes = array("codes", codes, np.uint8, ("M", depth))
        rows = whole("number of codes", len(codes), 0, block)
        no_zeros = array("no_zeros", no_zeros, np.uint8, (rows,))
        if rows and codes.max() > self._highest:
            raise ValueError(f"codes holds {codes.max()}; accepted for {self._bits} bits: 0 to {self._highest}")
        self._codes[:rows], self._no_zeros[:rows] = codes, no_zeros
        self._encode(self._encoding.ctypes.data, self._slots.ctypes.data, 0, 0, 0, rows)

    def multiply(self, first: int, rows: int) -> None:
        """Products of the rows encoded last, to rows first .. first + rows - 1 of the result."""
        rows = whole("rows", rows, 0, len(self._codes))
        first = whole("first", first, 0, len(self.result) - rows)
        Stage.named("linear")(self._linear.ctypes.data, self._slots.ctypes.data, 0, 0, first, rows)

    def __call__(self, codes: NDArray[np.uint8], no_zeros: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return sum_k (code + low) * weight, float32[M, N], or the dot products of signs; the next call overwrites it.

        codes : uint8[M, K], M at most `rows`, counted from 0      no_zeros : uint8[M], see `encode`
        """
        whole("number of codes", len(codes), 0, len(self.result))
        for first in range(0, len(codes), len(self._codes)):
            rows = slice(first, min(first + len(self._codes), len(codes)))
            self.encode(codes[rows], no_zeros[rows])
            self.multiply(first, rows.stop - first)
        return self.result[: len(codes)]


def check_products() -> dict[str, bool]:
    """Whether each product gives the integers of NumPy here, by its name and what it multiplies; odd in every size."""
    rng, found = np.random.default_rng(0), {}
    rows, outputs, depth = 19, 71, 203
    weights = rng.choice(np.array([-1, 1], np.int8), (outputs, depth))
    for product in PRODUCTS.values():
        for bits in (bits for bits in (0, 2, 4, 8) if bits in product.bits):
            values = rng.integers(0, 1 << bits, (rows, depth)) if bits else rng.integers(-1, 2, (rows, depth))
            codes = values if bits else np.choose(values + 1, [3, 2, 0])  # signs as `rows/quantize.py` has them
            layer = OneLayer(pack_weight_signs(weights), depth, bits, rows, product=product)
            dots = layer(codes.astype(np.uint8), (values != 0).all(axis=1).astype(np.uint8))
            kind = f"{bits}-bit codes" if bits else "signs"
            found[f"{product.name} product of {kind}"] = bool(np.array_equal(dots, values @ weights.T.astype(np.int64)))
    return found
