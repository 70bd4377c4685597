"""What a product is to whoever writes programs: its stages, its form of the weights, its memory."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.stage import Stage
from bebert_kernels.packing import Words

ThresholdPlanes = list[NDArray[np.uint64] | None]  # of each panel, see `bitsliced/thresholds.py`


class Weights(NamedTuple):
    """A branch before any product has given it a form: y[n] = scale[n] * sum_k (code[k] + low) * w[n, k] + add[n].

    signs : uint64[N, W], bit 1 = -1      depth : K
    bits  : of the codes, 1..8; 0 for signs as `rows/quantize.py` has them
    low   : what code 0 stands for
    scale : float32[N]      add : float32[N], or None: zeros, for the second branch only      input : 0 or 1
    """

    signs: Words
    depth: int
    bits: int
    low: int
    scale: NDArray[np.float32]
    add: NDArray[np.float32] | None
    input: int

    @property
    def negatives(self) -> NDArray[np.int64]:
        """Count of -1 of each output."""
        return np.bitwise_count(self.signs).sum(axis=1, dtype=np.int64)

    @property
    def planes(self) -> int:
        """Bits of a byte code."""
        return self.bits or 2


def branch_in_order(
    weights: Weights, gemm: Stage, panels: NDArray, panel: int, epilogue: Stage | None = None, offset: bool = False
) -> Branch:
    """Row of a product that keeps outputs in their order and decides no signs.

    panel : outputs of a panel, to which arrays are padded      offset : whether its epilogue adds what `low` makes
    """
    outputs, low = len(weights.signs), weights.low if offset and weights.bits else 0
    wide = -(-outputs // panel) * panel
    return Branch(
        gemm=gemm,
        epilogue=epilogue,
        sign_epilogue=None,
        panels=panels,
        depth=weights.depth,
        triples=0,
        planes=weights.planes,
        sign=weights.bits == 0,
        offset=padded((low * (weights.depth - 2 * weights.negatives)).astype(np.int32), wide) if low else None,
        scale=padded(weights.scale, wide),
        add=None if weights.add is None else padded(weights.add, wide),
        input=weights.input,
        outputs=outputs,
        thresholds=None,
    )


class Product(NamedTuple):
    """One way to multiply rows of codes with weight signs; `program/linear.py` says what its stages get and leave.

    rows     : most rows of a block
    encode   : stage of `instruction.Encode`
    triples  : depth -> triples of a row, 0 if this product has none
    branch   : weights, thresholds or None -> row, with the other stages; without sign epilogue they are ignored
    scratch  : rows of a block, depth, bits -> bytes of the slots that encode, gemm and epilogue need of one input and
               one branch (those of the second ones follow)
    thresholds : whether it can decide signs by thresholds
    bits     : of the codes that it takes, 0 for signs      deepest : most inputs of a row
    """

    name: str
    rows: int
    encode: Stage
    triples: Callable[[int], int]
    branch: Callable[[Weights, ThresholdPlanes | None], Branch]
    scratch: Callable[[int, int, int], dict[int, int]]
    thresholds: bool
    bits: range
    deepest: int


def padded(values: NDArray, count: int) -> NDArray:
    """Return an array with zeros behind it, `count` in all."""
    out = np.zeros(count, values.dtype)
    out[: len(values)] = values
    return out
