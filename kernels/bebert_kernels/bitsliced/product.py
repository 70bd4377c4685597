"""The bitsliced product as programs use it: for signs, and for codes of any bits."""

import numpy as np

from bebert_kernels.abi import slot
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.product import Product, ThresholdPlanes, Weights, padded
from bebert_kernels.abi.stage import Stage
from bebert_kernels.bitsliced.layout import (
    CHUNK_TRIPLES,
    COUNTER,
    INDEX_ROWS,
    LEVELS,
    MAX_DEPTH,
    PANEL_OUTPUTS,
    PLANE,
    TABLE,
    chain_bytes,
    state_bytes,
)
from bebert_kernels.bitsliced.triples import natural_places, pack_panels, triple_count


def _branch(weights: Weights, thresholds: ThresholdPlanes | None) -> Branch:
    """Panels in natural order where signs are compared with thresholds, else in the order of `triples.order`."""
    outputs, depth = weights.signs.shape[0], weights.depth
    wide = -(-outputs // PANEL_OUTPUTS) * PANEL_OUTPUTS
    places = np.arange(wide) if thresholds is None else natural_places(outputs)
    if weights.bits:
        offset = weights.low * (depth - 2 * weights.negatives) - (2**weights.bits - 1) * weights.negatives
    else:
        offset = np.full(outputs, depth)
    return Branch(
        gemm=Stage.named("bitsliced_gemm"),
        epilogue=Stage.named("bitsliced_epilogue"),
        sign_epilogue=None if thresholds is None else Stage.named("bitsliced_sign_epilogue"),
        panels=pack_panels(weights.signs, depth, natural=thresholds is not None),
        depth=depth,
        triples=triple_count(depth),
        planes=weights.planes,
        sign=weights.bits == 0,
        offset=padded(offset.astype(np.int32), wide)[places],
        scale=padded(weights.scale, wide)[places],
        add=None if weights.add is None else padded(weights.add, wide)[places],
        input=weights.input,
        outputs=outputs,
        thresholds=thresholds,
    )


def _scratch(rows: int, depth: int, bits: int) -> dict[int, int]:
    planes, triples = bits or 2, triple_count(depth)
    return {
        slot.ENCODED: INDEX_ROWS * planes * triples,
        slot.PARITIES: rows * planes,
        slot.STATE: BLOCK * state_bytes(triples, planes, not bits),
        slot.CHAIN: chain_bytes(depth, planes),
        slot.TABLE: CHUNK_TRIPLES * TABLE,
        slot.NOTHING: max(LEVELS.values()) * PLANE,  # the state before the first chunk: must hold zeros
        slot.COUNTER: COUNTER,
        slot.SUMS: 4 * 2 * PANEL_OUTPUTS,
    }


_ENCODE = Stage.named("bitsliced_encode")
BITSLICED = Product("bitsliced", BLOCK, _ENCODE, triple_count, _branch, _scratch, True, range(9), MAX_DEPTH)
