"""Products of activations with ±1 weights: ours, and what other libraries offer, on the same random data.

All compute  dot[m, n] = sum_k a[m, k] * w[n, k]  on one thread: int or float [M, N]. Names say what is included: "from
bytes" starts at one byte a value (index planes, bitplanes or look-up tables are made inside), "from bits" and "from
planes" at packed bits. Weights are prepared before, as when a model is loaded.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial

import numpy as np
from kernel_bench.case import BITS, LOW, Case, Sizes, Work, shape
from numpy.typing import NDArray

from bebert_kernels import packing
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.product import Product
from bebert_kernels.bitsliced.epilogue import bitsliced_epilogue
from bebert_kernels.bitsliced.gemm import bitsliced_gemm
from bebert_kernels.bitsliced.product import BITSLICED
from bebert_kernels.lookup.product import LOOKUP
from bebert_kernels.lookup.stages import lookup_gemm
from bebert_kernels.popcount.product import POPCOUNT
from bebert_kernels.popcount.stages import popcount_epilogue, popcount_gemm
from bebert_kernels.program.linear import linear
from bebert_kernels.rows.layout import MINUS, PLUS, ZERO
from bebert_kernels.tuning.single_layer import OneLayer

ZEROS = "signs with zeros"
STAGES = {  # of each product, beside its encode stage
    POPCOUNT.name: (popcount_gemm, popcount_epilogue),
    BITSLICED.name: (bitsliced_gemm, bitsliced_epilogue),
    LOOKUP.name: (lookup_gemm,),
}
NUMKONG_U1 = "NumKong u1"  # the peer that tables compare with


@dataclass(frozen=True)
class Data:
    """Random signs int8[M, K], codes int8[M, K] and weights int8[N, K] in ±1, packed as well."""

    signs: NDArray[np.int8]
    codes: NDArray[np.int8]
    weights: NDArray[np.int8]

    @staticmethod
    @cache
    def random(rows: int, outputs: int, depth: int) -> "Data":
        """Return reproducible values of a shape."""
        generator = np.random.default_rng(0)
        signs, weights = (generator.choice(np.array([-1, 1], np.int8), (n, depth)) for n in (rows, outputs))
        return Data(signs, generator.integers(LOW, LOW + 2**BITS, (rows, depth), dtype=np.int8), weights)

    @cached_property
    def packed(self) -> NDArray[np.uint64]:
        """Weight signs uint64[N, W]."""
        return packing.pack_weight_signs(self.weights)

    @property
    def unsigned(self) -> NDArray[np.uint8]:
        """Codes counted from 0."""
        return (self.codes - np.int8(LOW)).astype(np.uint8)

    def with_zeros(self, kind: str) -> NDArray[np.int8]:
        """The signs, a tenth of them 0 for the kind "signs with zeros"."""
        zero = np.random.default_rng(1).random(self.signs.shape) < 0.1
        return np.where(zero & (kind == "signs with zeros"), np.int8(0), self.signs)

    def dots(self, activations: NDArray) -> NDArray[np.int64]:
        """Dot products with the weights, by NumPy; float64 holds them exactly."""
        return (activations.astype(np.float64) @ self.weights.T.astype(np.float64)).astype(np.int64)


def of_engine(data: Data, product: Product, kind: str, made: bool = False) -> Callable[[], NDArray]:
    """A product of the native path, scaled to float32.

    kind : "signs", "signs with zeros" or "4-bit codes", times signs      made : the rows are encoded already
    """
    rows, depth = data.signs.shape
    codes = data.unsigned if kind == "4-bit codes" else np.choose(data.with_zeros(kind) + 1, [MINUS, ZERO, PLUS])
    layer = OneLayer(data.packed, depth, BITS if kind == "4-bit codes" else 0, rows, LOW, product)
    codes, no_zeros = codes.astype(np.uint8), np.full(rows, kind == "signs", np.uint8)
    if made and rows > BLOCK:
        raise ValueError(f"{rows} rows, but encoded ones are kept for {BLOCK} at most")

    def call() -> NDArray:
        if not made:
            return layer(codes, no_zeros)
        layer.multiply(0, rows)
        return layer.result[:rows]

    layer(codes, no_zeros)
    return call


def _of_engine(data: Data, product: Product, kind: str, made: bool = False) -> Work:
    expected = partial(data.dots, data.codes if kind == "4-bit codes" else data.with_zeros(kind))
    functions = (linear, *STAGES[product.name], *(() if made else (product.encode,)))
    planes = BITS if kind == "4-bit codes" else 1
    return Work(of_engine(data, product, kind, made), expected, functions, macs=_macs(data), planes=planes)


def _macs(data: Data) -> int:
    return data.signs.size * len(data.weights)


def _numkong_hamming(data: Data) -> Work:
    """Mismatches, from which the dot product follows."""
    import numkong as nk

    rows, weights = (np.packbits(values < 0, axis=1) for values in (data.signs, data.weights))
    packed, depth = nk.hammings_pack(weights), data.signs.shape[1]
    expected = lambda: (depth - data.dots(data.signs)) // 2  # noqa: E731
    return Work(lambda: nk.hammings_packed(rows, packed), expected, macs=_macs(data))


def _numkong_dot(data: Data) -> Work:
    """Counts of common ones, as an AND product of bitplanes needs them."""
    import numkong as nk

    rows, weights = (np.packbits(values < 0, axis=1) for values in (data.signs, data.weights))
    bits, packed = nk.Tensor(rows, dtype="uint1"), nk.dots_pack(weights, dtype="uint1")
    expected = lambda: (data.signs < 0).astype(np.float64) @ (data.weights < 0).T  # noqa: E731
    return Work(lambda: nk.dots_packed(bits, packed), expected, macs=_macs(data))


def _numkong_int8(data: Data) -> Work:
    import numkong as nk

    packed = nk.dots_pack(data.weights, dtype="int8")
    return Work(lambda: nk.dots_packed(data.codes, packed), lambda: data.dots(data.codes), macs=_macs(data))


def _torch_int8(data: Data, by_rows: bool) -> Work:
    """PyTorch's int8 product in both layouts of the weights."""
    import torch

    torch.set_num_threads(1)
    codes, weights = torch.from_numpy(data.codes), torch.from_numpy(data.weights).t()
    if by_rows:
        weights = weights.contiguous()
    return Work(lambda: torch._int_mm(codes, weights), lambda: data.dots(data.codes), macs=_macs(data))


def _onednn_int8(data: Data) -> Work:
    """PyTorch's oneDNN linear layer with prepacked weights; it returns float32."""
    import torch

    torch.set_num_threads(1)
    packed = torch.ops.onednn.qlinear_prepack(torch.from_numpy(data.weights), list(data.codes.shape))
    codes, outputs = torch.from_numpy(data.unsigned), len(data.weights)
    scales, zeros = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int32)
    linear = torch.ops.onednn.qlinear_pointwise
    rest = (1.0, -LOW, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")
    return Work(lambda: linear(codes, *rest), lambda: data.dots(data.codes), macs=_macs(data))


PRODUCTS: list[tuple[str, str, Callable[[Data], Work], str]] = [  # a new one gets its line here
    ("popcount", "signs from planes", partial(_of_engine, product=POPCOUNT, kind="signs", made=True), ""),
    ("popcount", "signs with zeros from planes", partial(_of_engine, product=POPCOUNT, kind=ZEROS, made=True), ""),
    ("popcount", "signs from bytes", partial(_of_engine, product=POPCOUNT, kind="signs"), ""),
    ("popcount", "4-bit codes from bytes", partial(_of_engine, product=POPCOUNT, kind="4-bit codes"), ""),
    ("bitsliced", "signs from index planes", partial(_of_engine, product=BITSLICED, kind="signs", made=True), ""),
    ("bitsliced", "signs from bytes", partial(_of_engine, product=BITSLICED, kind="signs"), ""),
    ("bitsliced", "4-bit codes from bytes", partial(_of_engine, product=BITSLICED, kind="4-bit codes"), ""),
    ("lookup", "4-bit codes from bytes", partial(_of_engine, product=LOOKUP, kind="4-bit codes"), ""),
    (NUMKONG_U1, "hamming from bits", _numkong_hamming, "numkong"),
    (NUMKONG_U1, "dot from bits", _numkong_dot, "numkong"),
    ("NumKong int8", "from bytes", _numkong_int8, "numkong"),
    ("torch._int_mm", "weights K×N", partial(_torch_int8, by_rows=True), "torch"),
    ("torch._int_mm", "weights N×K", partial(_torch_int8, by_rows=False), "torch"),
    ("oneDNN int8", "linear from bytes", _onednn_int8, "torch"),
]


def cases(sizes: Sizes) -> Iterator[Case]:
    """Products at all shapes, those of one shape one after the other."""
    for outputs, depth in sizes.layers:
        for rows in sizes.rows:
            for kernel, what, make, needs in PRODUCTS:
                prepare = lambda make=make, size=(rows, outputs, depth): make(Data.random(*size))  # noqa: E731
                yield Case(kernel, what, shape(rows, outputs, depth), prepare, needs)
