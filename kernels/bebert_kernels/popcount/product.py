"""The popcount product as programs use it: for signs, codes of any bits, any depth; weights stay where they are."""

from bebert_kernels.abi import slot
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.product import Product, ThresholdPlanes, Weights, branch_in_order
from bebert_kernels.abi.stage import Stage
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.popcount.layout import PANEL, plane_words

DEEPEST = 1 << 16  # 255 * 65,536 < 2**24: a float32 holds every sum


def _branch(weights: Weights, thresholds: ThresholdPlanes | None) -> Branch:
    gemm, epilogue = Stage.named("popcount_gemm"), Stage.named("popcount_epilogue")
    return branch_in_order(weights, gemm, weights.signs, PANEL_OUTPUTS, epilogue, offset=True)


def _scratch(rows: int, depth: int, bits: int) -> dict[int, int]:
    return {
        slot.ENCODED: 8 * rows * (bits or 2) * plane_words(depth),
        slot.TOTALS: 4 * rows,
        slot.NOTHING: 4 * PANEL,  # offsets where all are 0
        slot.STATE: 4 * BLOCK * PANEL_OUTPUTS,
    }


_ENCODE = Stage.named("popcount_encode")
POPCOUNT = Product("popcount", BLOCK, _ENCODE, lambda depth: 0, _branch, _scratch, False, range(9), DEEPEST)
