"""Products of activations with ±1 weights, as calls on the same random data: ours, and what other libraries offer.

All compute  dot[m, n] = sum_k a[m, k] * w[n, k]  on one thread: int or float [M, N], compared with NumPy before
anything is timed. Names say what is included: "from bytes" starts at one byte a value (index planes, bitplanes or
look-up tables are made inside), "from bits" at packed bits. Weights are prepared before, as when a model is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebert_kernels import compiled, packing
from bebert_kernels.lut_gemm import PANEL, lut_bytes, lut_gemm, lut_weights
from bebert_kernels.one_layer import OneLayer
from bebert_kernels.slots import BLOCK
from bebert_kernels.triples import aligned

SHAPES = {  # outputs × depth of BERT-base, and of its half-width members
    "768×768": (768, 768),
    "3072×768": (3072, 768),
    "768×3072": (768, 3072),
    "2304×768": (2304, 768),
    "384×768": (384, 768),
    "768×384": (768, 384),
    "1536×768": (1536, 768),
    "768×1536": (768, 1536),
}
LOW, BITS = -8, 4  # 4-bit codes as BinaryBERT's


@dataclass(frozen=True)
class Case:
    """One product to time.

    name   : what tables show              call : returns float or int [M, N]
    planes : bitplanes of the activations, to be held against the bound of the fast product; 0 where that does not apply
    dot    : whether the call returns the dot product (other libraries may count something from which it follows)
    """

    name: str
    call: Callable[[], NDArray]
    planes: int = 0
    dot: bool = True


@dataclass(frozen=True)
class Data:
    """Random signs int8[M, K], codes int8[M, K] and weights int8[N, K] in ±1, packed as well."""

    signs: NDArray[np.int8]
    codes: NDArray[np.int8]
    weights: NDArray[np.int8]

    @staticmethod
    def random(rows: int, outputs: int, depth: int) -> "Data":
        """Return reproducible values of a shape."""
        generator = np.random.default_rng(0)
        signs, weights = (generator.choice(np.array([-1, 1], np.int8), (n, depth)) for n in (rows, outputs))
        return Data(signs, generator.integers(LOW, LOW + 2**BITS, (rows, depth), dtype=np.int8), weights)

    @property
    def packed(self) -> NDArray[np.uint64]:
        """Weight signs uint64[N, W]."""
        return packing.pack_weight_signs(self.weights)


def sliced(data: Data, signs: bool, made: bool = False) -> Callable[[], NDArray]:
    """The product of the native path: majority tables on bit-sliced counters, scaled to float32.

    signs : signs × signs, else codes × signs      made : index planes are there already
    """
    rows, depth = data.signs.shape
    codes = (data.signs < 0).astype(np.uint8) * 3 if signs else (data.codes - np.int8(LOW)).astype(np.uint8)
    layer, plain = OneLayer(data.packed, depth, 0 if signs else BITS, rows, LOW), np.ones(rows, np.uint8)
    if made and rows > BLOCK:
        raise ValueError(f"{rows} rows, but index planes are kept for {BLOCK} at most")

    def call() -> NDArray:
        if not made:
            return layer(codes, plain)
        layer.multiply(0, rows)
        return layer.result[:rows]

    layer(codes, plain)
    return call


def look_up(data: Data) -> Callable[[], NDArray]:
    """Byte look-up tables of the activations, built inside; returns the product of the codes counted from 0."""
    (rows, depth), outputs = data.codes.shape, len(data.weights)
    codes = (data.codes - np.int8(LOW)).astype(np.uint8)
    panels = lut_weights(data.packed, depth).reshape(-1)
    tables, sums = aligned((lut_bytes(BLOCK, depth),), np.uint8), aligned((BLOCK, PANEL), np.int32)
    totals, out = np.empty(BLOCK, np.int32), np.empty((rows, outputs), np.int32)

    def call() -> NDArray:
        lut_gemm(codes, panels, tables, sums, totals, out)
        return out

    return call


def ours(data: Data) -> list[Case]:
    """Every packed product of this project; a new one gets its line here."""
    depth = data.signs.shape[1]
    weights = data.packed
    packed = packing.pack_weight_signs(data.signs)
    prepared = compiled.code_weights(weights, depth)
    found = [
        Case("signs: popcount, from bits", lambda: compiled.xnor_gemm(packed, None, weights, depth)),
        Case("signs: sliced, from index planes", sliced(data, True, True), 1),
        Case("signs: sliced, from bytes", sliced(data, True), 1),
        Case("4-bit codes: sliced, from bytes", sliced(data, False), BITS),
        Case("4-bit codes: look-up, from bytes", look_up(data), dot=False),
        Case(
            "4-bit codes: popcount, from bytes",
            lambda: compiled.and_gemm(*compiled.pack_codes(data.codes, BITS), weights, True),
        ),
    ]
    if prepared.panels is not None:
        found.append(Case("4-bit codes: int8, from bytes", lambda: compiled.code_gemm(data.codes, prepared, BITS)))
    return found


def numkong(data: Data) -> list[Case]:
    """NumKong's packed u1 products, one thread by design: mismatches (from which the dot product follows) and ANDs."""
    import numkong as nk

    rows, weights = (np.packbits(values < 0, axis=1) for values in (data.signs, data.weights))
    bits = nk.Tensor(rows, dtype="uint1")
    hammings, dots = nk.hammings_pack(weights), nk.dots_pack(weights, dtype="uint1")
    depth = data.signs.shape[1]
    mismatches = np.asarray(nk.hammings_packed(rows, hammings)).astype(np.int64)
    check(depth - 2 * mismatches, data.signs, data.weights, "NumKong")
    check(np.asarray(nk.dots_packed(bits, dots)), data.signs < 0, data.weights < 0, "NumKong")
    return [
        Case("NumKong u1 hamming, from bits", lambda: nk.hammings_packed(rows, hammings), dot=False),
        Case("NumKong u1 dot, from bits", lambda: nk.dots_packed(bits, dots), dot=False),
    ]


def torch_int8(data: Data) -> list[Case]:
    """PyTorch's int8 product in both layouts of the weights, and oneDNN's with prepacked weights."""
    import torch

    torch.set_num_threads(1)
    codes, weights = torch.from_numpy(data.codes), torch.from_numpy(data.weights)
    by_rows, by_columns = weights.t().contiguous(), weights.t()
    found = [
        Case("torch._int_mm, weights [K, N]", lambda: torch._int_mm(codes, by_rows).numpy()),
        Case("torch._int_mm, weights [N, K]", lambda: torch._int_mm(codes, by_columns).numpy()),
    ]
    packed = torch.ops.onednn.qlinear_prepack(weights, list(data.codes.shape))
    unsigned = torch.from_numpy((data.codes - np.int8(LOW)).astype(np.uint8))
    scales, zeros = torch.ones(len(weights)), torch.zeros(len(weights), dtype=torch.int32)

    def onednn() -> NDArray:
        linear = torch.ops.onednn.qlinear_pointwise
        kind = torch.float32
        return linear(unsigned, 1.0, -LOW, packed, scales, zeros, None, 1.0, 0, kind, "none", [], "").numpy()

    return [*found, Case("oneDNN int8 linear", onednn)]


def check(found: NDArray, activations: NDArray, weights: NDArray, name: str) -> None:
    """Raise SystemExit unless `found` is the dot product."""
    if not np.array_equal(found, activations.astype(np.int64) @ weights.astype(np.int64).T):
        raise SystemExit(f"{name} computes something else")


def check_all(cases: list[Case], data: Data) -> None:
    """Compare every case that returns dot products with NumPy."""
    for case in cases:
        if case.dot:
            check(case.call(), data.signs if case.name.startswith("signs") else data.codes, data.weights, case.name)
        elif case.name.startswith("4-bit"):
            check(case.call(), data.codes.astype(np.int64) - LOW, data.weights, case.name)
