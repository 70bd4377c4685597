"""The product by byte look-up as programs use it: for codes of 1 to 4 bits, not for signs."""

from bebert_kernels.abi import slot
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.product import Product, ThresholdPlanes, Weights, branch_in_order
from bebert_kernels.abi.stage import Stage
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.lookup.layout import DEEPEST, HIGHEST, SHAPE, lut_weights, row_layout

BLOCK_ROWS = 64  # at a time: a row takes 4 bytes a code and more, and should stay in the second-level cache


def _branch(weights: Weights, thresholds: ThresholdPlanes | None) -> Branch:
    highest = weights.low + (1 << weights.bits) - 1
    if not (-HIGHEST <= weights.low <= 0 <= highest):
        raise ValueError(f"codes are {weights.low} to {highest}; look-up takes codes around 0")
    panels = lut_weights(weights.signs, weights.depth)
    return branch_in_order(weights, Stage.named("lookup_gemm"), panels, PANEL_OUTPUTS)


def _scratch(rows: int, depth: int, bits: int) -> dict[int, int]:
    return {
        slot.ENCODED: min(rows, BLOCK_ROWS) * row_layout(depth).size,
        slot.INDICES: max(SHAPE.index_bytes(depth), 1),
        slot.STATE: 4 * BLOCK * PANEL_OUTPUTS,
    }


_ENCODE = Stage.named("lookup_encode")
LOOKUP = Product("lookup", BLOCK_ROWS, _ENCODE, lambda depth: 0, _branch, _scratch, False, range(1, 5), DEEPEST)
