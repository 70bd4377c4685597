"""Products of activations with ±1 weights, as calls on the same random data: ours, and what other libraries offer.

All compute  dot[m, n] = sum_k a[m, k] * w[n, k]  on one thread: int or float [M, N], compared with NumPy before
anything is timed. Names say what is included: "from bytes" starts at one byte a value (index planes, bitplanes or
look-up tables are made inside), "from bits" at packed bits. Weights are prepared before, as when a model is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from bebert_kernels import compiled, packing
from bebert_kernels.addresses import array, as_uint8
from bebert_kernels.count_tile import LANES, TABLE
from bebert_kernels.lut_gemm import PANEL, lut_bytes, lut_gemm, lut_weights
from bebert_kernels.row_index import index_row
from bebert_kernels.sliced_gemm import CHUNK, COUNTER, count_panel, panel_row
from bebert_kernels.slots import BLOCK
from bebert_kernels.triples import aligned, pack_panels

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


@numba.njit(nogil=True)
def _sliced(at, codes, plain, made, triples, planes, signs, out_rows):  # type: ignore[no-untyped-def]
    """The loops of `stages.encode` and `linear_rows.linear` for one layer; `at` holds addresses, see `sliced`."""
    panels, index, parity, chain, table, counters, offset, scale, add, sums, out = at
    rows, depth = codes.shape
    line = array(as_uint8(chain), (2 * depth + 16,))
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        for r in range(count):
            if not made:
                for k in range(depth):
                    line[k] = codes[first + r, k]
                place = index + (first + r) * planes * triples
                into = array(as_uint8(place), (planes, triples))
                index_row(line, depth, planes, into, array(as_uint8(parity + (first + r) * planes), (planes,)))
        here, bits = index + first * planes * triples, parity + first * planes
        for start in range(0, out_rows, LANES):
            panel = panels + start // LANES * (3 * triples + 1) * (LANES // 8)
            count_panel(panel, triples, here, bits, plain[first:], count, planes, signs, table, counters)
            for r in range(count):
                place = out + 4 * ((first + r) * out_rows + start)
                lane = 4 * start
                panel_row(
                    counters + 2 * r * COUNTER, planes, signs, signs, offset + lane, scale + lane, add, sums, place
                )


def sliced(data: Data, signs: bool, made: bool = False) -> Callable[[], NDArray]:
    """The product of the native path: majority tables on bit-sliced counters, scaled to float32.

    signs : signs × signs, else codes × signs      made : index planes are there already
    """
    (rows, depth), outputs = data.signs.shape, len(data.weights)
    planes = 2 if signs else BITS
    codes = (data.signs < 0).astype(np.uint8) * 3 if signs else (data.codes - np.int8(LOW)).astype(np.uint8)
    panels = pack_panels(data.packed, depth)
    wide = len(panels.words) * LANES
    negatives = np.zeros(wide, np.int64)
    negatives[:outputs] = (data.weights < 0).sum(1)
    offset, scale, add = (aligned((wide,), kind) for kind in (np.int32, np.float32, np.float32))
    offset[:] = depth if signs else LOW * (depth - 2 * negatives) - (2**BITS - 1) * negatives
    scale[:], add[:] = 1, 0
    index, parity = aligned((rows * planes * panels.triples,), np.uint8), aligned((rows * planes,), np.uint8)
    chain, table = aligned((2 * depth + 16,), np.uint8), aligned((CHUNK * TABLE,), np.uint8)
    counters, sums = aligned((2 * min(rows, BLOCK) * COUNTER,), np.uint8), aligned((2, LANES), np.int32)
    out = aligned((rows, wide), np.float32)
    arrays = (panels.words, index, parity, chain, table, counters, offset, scale, add, sums, out)
    addresses = tuple(np.int64(values.ctypes.data) for values in arrays)
    plain = np.ones(rows, np.uint8)
    _sliced(addresses, codes, plain, False, panels.triples, planes, signs, wide)

    def call(arrays: tuple = arrays) -> NDArray:  # the addresses are good as long as the arrays live
        _sliced(addresses, codes, plain, made, panels.triples, planes, signs, wide)
        return out[:, :outputs]

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
