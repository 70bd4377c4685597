"""One linear layer outside a model: the memory and the tables that the operations of the fast product need.

For measuring (`choice.py`, benchmarks) and for tests. Models write the same tables in `bebert_infer/native_linear.py`.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi import layout as at
from bebert_kernels.bitsliced.epilogue import bitsliced_epilogue
from bebert_kernels.bitsliced.gemm import bitsliced_gemm, state_bytes
from bebert_kernels.bitsliced.tile import PANEL_OUTPUTS
from bebert_kernels.bitsliced.triples import MAX_DEPTH, aligned, pack_panels, triple_count
from bebert_kernels.checks import array, whole
from bebert_kernels.packing import Words, words
from bebert_kernels.program.linear import SCRATCH, linear
from bebert_kernels.program.stages import bitsliced_encode, chain_bytes


class OneLayer:
    """Products of up to `rows` rows of byte codes with weight signs.

    signs : uint64[N, W], bit 1 = -1      depth : K
    bits  : of the codes, 1..8; 0 for signs as `row_codes` has them
    low   : what code 0 stands for

    Raises ValueError for signs, depth, bits or rows that do not fit.
    Exact as long as the sums are below 2**24, which they are for all depths that are allowed.
    """

    def __init__(self, signs: Words, depth: int, bits: int, rows: int, low: int = 0):
        depth, bits = whole("depth", depth, 1, MAX_DEPTH), whole("bits", bits, 0, 8)
        signs, rows = array("signs", signs, np.uint64, ("N", words(depth))), whole("rows", rows, 1, 1 << 30)
        outputs, planes = whole("number of signs", len(signs), 1, 1 << 30), bits or 2
        triples = triple_count(depth)
        self._memory: dict[int, NDArray] = {}
        block = min(rows, at.BLOCK)
        sizes = SCRATCH | {
            at.CHAIN: chain_bytes(depth, planes),
            at.STATE: at.BLOCK * state_bytes(triples, planes, not bits),
            at.INDEX: at.INDEX_ROWS * planes * triples,
            at.PARITY: block * planes,
            at.PLAIN: block,
            at.READY_PLAIN: block,
            at.BYTES: block * depth,
            at.HIDDEN: 4 * rows * outputs,
        }
        self._slots = np.zeros(at.COUNT, np.int64)
        for slot, size in sizes.items():
            memory = self._memory[slot] = aligned((size,), np.uint8)
            memory[:] = 0
            self._slots[slot] = memory.ctypes.data
        self._codes, self._plain = self._memory[at.BYTES].reshape(block, depth), self._memory[at.READY_PLAIN]
        self.result = self._memory[at.HIDDEN].view(np.float32).reshape(rows, outputs)
        negatives = np.bitwise_count(signs).sum(axis=1, dtype=np.int64)
        wide = -(-outputs // PANEL_OUTPUTS) * PANEL_OUTPUTS
        self._offset, self._scale, self._add = (
            np.zeros(wide, np.int32),
            np.ones(wide, np.float32),
            np.zeros(wide, np.float32),
        )
        self._offset[:outputs] = low * (depth - 2 * negatives) - (2**bits - 1) * negatives if bits else depth
        self._panels = pack_panels(signs, depth)
        arrays = (self._offset, self._scale, self._add)
        numbers = (triples, planes, int(not bits), *(values.ctypes.data for values in arrays), 0, outputs, 0, 0)
        self._branch = np.array(
            [[bitsliced_gemm.address, bitsliced_epilogue.address, self._panels.ctypes.data, *numbers]], np.int64
        )
        self._sinks = np.array([[0, 0, 0, at.TO_FLOATS, 0, outputs, at.HIDDEN, 0, 0]], np.int64)
        self._inputs = np.array([[at.READY, *[self._scale.ctypes.data] * 2, 0, 0, 0, 0, 0, 0]], np.int64)
        self._operations = np.zeros((2, at.COLUMNS), np.int64)
        self._operations[0, 1:8] = at.HIDDEN, depth, self._inputs.ctypes.data, 1, planes, triples, not bits
        self._operations[1, 1:6] = outputs, self._branch.ctypes.data, 1, self._sinks.ctypes.data, 1

    def encode(self, codes: NDArray[np.uint8], plain: NDArray[np.uint8]) -> None:
        """Index planes of uint8[M, K], M at most BLOCK and `rows`; plain[m] = 1 if row m is of signs without zeros."""
        block, depth = self._codes.shape
        codes = array("codes", codes, np.uint8, ("M", depth))
        rows = whole("number of codes", len(codes), 0, block)
        plain = array("plain", plain, np.uint8, (rows,))
        self._codes[:rows], self._plain[:rows] = codes, plain
        bitsliced_encode(self._operations[0].ctypes.data, self._slots.ctypes.data, 0, 0, 0, rows)

    def multiply(self, first: int, rows: int) -> None:
        """Products of the rows encoded last, to rows first .. first + rows - 1 of the result."""
        rows = whole("rows", rows, 0, len(self._codes))
        first = whole("first", first, 0, len(self.result) - rows)
        linear(self._operations[1].ctypes.data, self._slots.ctypes.data, 0, 0, first, rows)

    def __call__(self, codes: NDArray[np.uint8], plain: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return sum_k (code + low) * weight, float32[M, N], or the dot products of signs; the next call overwrites it.

        codes : uint8[M, K], M at most `rows`, counted from 0      plain : uint8[M], see `encode`
        """
        whole("number of codes", len(codes), 0, len(self.result))
        for first in range(0, len(codes), at.BLOCK):
            rows = slice(first, min(first + at.BLOCK, len(codes)))
            self.encode(codes[rows], plain[rows])
            self.multiply(first, rows.stop - first)
        return self.result[: len(codes)]
