"""Dot products of rows of small codes with weight sign rows: bytes, for CPUs with AVX-512 VNNI (see `dot_tile.py`)."""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.dot_tile import BLOCKS, LANES, QUAD, ROWS, one_block, two_blocks
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import Words


@kernel
def weight_panels(weights: Words, out: Words) -> None:
    """Rearrange sign rows so that one word holds 16 outputs of four inputs.

    weights : uint64[N, W]                    bit 1 = -1
    out     : uint64[ceil(N/16), ceil(K/4)]   bit 4*o + j of word (block, quad) = sign of output 16*block + o at
                                              input 4*quad + j; outputs beyond N count as +1
    """
    outputs = weights.shape[0]
    blocks, quads = out.shape
    for block in range(blocks):
        for quad in range(quads):
            word = np.uint64(0)
            for o in range(min(LANES, outputs - LANES * block)):
                nibble = (weights[LANES * block + o, quad // 16] >> np.uint64(QUAD * (quad % 16))) & np.uint64(15)
                word |= nibble << np.uint64(QUAD * o)
            out[block, quad] = word


@kernel
def dot_gemm(codes: NDArray[np.int8], panels: Words, out: NDArray[np.int32]) -> None:
    """Dot product of every row of codes with every row of weight signs.

    out[m, n] = sum_k codes[m, k] - 2 * sum_k codes[m, k] * negative[n, k]

    codes  : int8[M, K]            M a multiple of 8, K of 4, filled up with zeros
    panels : uint64[N/16, K/4]     from weight_panels
    out    : int32[M, N]           N a multiple of 16; written in full

    Source: product of LSQ codes and binary weights (BinaryBERT 1-1-4). Exact for K < 2**22.
    """
    rows, depth = codes.shape
    blocks = panels.shape[0]
    sums = np.empty(rows, np.int32)
    for m in range(rows):
        total = np.int32(0)
        for k in range(depth):
            total = np.int32(total + codes[m, k])
        sums[m] = total
    paired = blocks // BLOCKS * BLOCKS
    for row in range(0, rows, ROWS):
        for block in range(0, paired, BLOCKS):
            two_blocks(codes, panels, sums, out, row, block)
        if paired < blocks:
            one_block(codes, panels, sums, out, row, paired)
