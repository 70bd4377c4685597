"""The popcount product as programs use it: for signs, codes of any bits, any depth; weights stay where they are."""

import numpy as np

from bebert_kernels.abi import slot
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.product import Product, ThresholdPlanes, Weights, padded
from bebert_kernels.abi.stage import Stage
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.popcount.layout import PANEL, plane_words

DEEPEST = 1 << 16  # 255 * 65,536 < 2**24: a float32 holds every sum


def _branch(weights: Weights, thresholds: ThresholdPlanes | None) -> Branch:
    outputs, depth = weights.signs.shape[0], weights.depth
    wide = -(-outputs // PANEL_OUTPUTS) * PANEL_OUTPUTS
    low = weights.low if weights.bits else 0
    return Branch(
        gemm=Stage.named("popcount_gemm"),
        epilogue=Stage.named("popcount_epilogue"),
        sign_epilogue=None,
        panels=weights.signs,
        depth=depth,
        triples=0,
        planes=weights.planes,
        sign=weights.bits == 0,
        offset=padded((low * (depth - 2 * weights.negatives)).astype(np.int32), wide) if low else None,
        scale=padded(weights.scale, wide),
        add=None if weights.add is None else padded(weights.add, wide),
        input=weights.input,
        outputs=outputs,
        thresholds=None,
    )


def _scratch(rows: int, depth: int, bits: int) -> dict[int, int]:
    return {
        slot.ENCODED: 8 * rows * (bits or 2) * plane_words(depth),
        slot.TOTALS: 4 * rows,
        slot.NOTHING: 4 * PANEL,  # offsets where all are 0
        slot.STATE: 4 * BLOCK * PANEL_OUTPUTS,
    }


_ENCODE = Stage.named("popcount_encode")
POPCOUNT = Product("popcount", BLOCK, _ENCODE, lambda depth: 0, _branch, _scratch, False, range(9), DEEPEST)
