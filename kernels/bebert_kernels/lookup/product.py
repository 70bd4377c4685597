"""The product by byte look-up as programs use it: for codes of 1 to 4 bits, not for signs."""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi import slot
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.product import Product, ThresholdPlanes, Weights, padded
from bebert_kernels.abi.stage import Stage
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.lookup.layout import FIELD_WORDS, PANEL, lut_bytes, lut_weights

BLOCK_ROWS = 64  # at a time: a row's tables are 4 bytes a code and should stay in the second-level cache

DEEPEST = 8 * FIELD_WORDS  # where totals would overflow


def totals_branch(weights: Weights, gemm: Stage, panels: NDArray) -> Branch:
    """Row of a product whose gemm leaves sums of the codes whose weight is -1, for `lookup_epilogue`."""
    outputs, depth = weights.signs.shape[0], weights.depth
    wide = -(-outputs // PANEL_OUTPUTS) * PANEL_OUTPUTS
    low = weights.low if weights.bits else 0
    return Branch(
        gemm=gemm,
        epilogue=Stage.named("lookup_epilogue"),
        sign_epilogue=None,
        panels=panels,
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


def _branch(weights: Weights, thresholds: ThresholdPlanes | None) -> Branch:
    return totals_branch(weights, Stage.named("lookup_gemm"), lut_weights(weights.signs, weights.depth))


def _scratch(rows: int, depth: int, bits: int) -> dict[int, int]:
    return {
        slot.ENCODED: lut_bytes(min(rows, BLOCK_ROWS), depth),
        slot.TOTALS: 4 * rows,
        slot.NOTHING: 4 * PANEL,  # offsets where all are 0
        slot.STATE: 4 * BLOCK * PANEL_OUTPUTS,
    }


_ENCODE = Stage.named("lookup_encode")
LOOKUP = Product("lookup", BLOCK_ROWS, _ENCODE, lambda depth: 0, _branch, _scratch, False, range(1, 5), DEEPEST)
