"""Packed signs in the file, and the nodes that unpack them: bytes shifted, masked and made +1 or -1.

Weights are constants, so an engine unpacks them once, when it loads the file. Rows of the word table are gathered
first and unpacked then, so the table stays packed in memory.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_export.packed_onnx.graph import Graph, cast, int64s
from bebert_kernels.packing import unpack_bits

BYTE = 8
SHIFTS = np.arange(BYTE, dtype=np.uint8)  # bit k % 8 of byte k // 8, lowest first


def weight_signs(graph: Graph, words: NDArray[np.uint64], depth: int) -> str:
    """Weights int8[depth, N] of -1 and +1, from sign words uint64[N, W].

    The bytes hold the transposed matrix, which is what a product takes: no engine has to turn it around.
    """
    octets = np.packbits(unpack_bits(words, depth).T, axis=1, bitorder="little")
    bits = _unpacked(graph, octets[:, :, None], 2, len(words))
    # 0 or -1, which has all bits set; with the lowest bit set too, +1 or -1.
    return graph("BitwiseOr", graph("Neg", cast(graph, bits, np.int8)), np.array(1, np.int8))


def word_rows(graph: Graph, ids: str, words: NDArray[np.uint64], scale: NDArray[np.float32], width: int) -> str:
    """Rows float32[B, T, width] of a packed word table: -scale or +scale of the token.

    ids : int64[B, T];  words : uint64[V, W];  scale : float32[V]
    """
    table = np.packbits(unpack_bits(words, width), axis=1, bitorder="little")
    octets = graph("Unsqueeze", graph("Gather", table, ids, axis=0), int64s(-1))
    negative = cast(graph, _unpacked(graph, octets, 3, width), np.bool_)
    size = graph("Gather", scale[:, None], ids, axis=0)
    return graph("Where", negative, graph("Neg", size), size)


def _unpacked(graph: Graph, octets: str | NDArray[np.uint8], rank: int, bits: int) -> str:
    """Bits uint8[..., bits], `rank` axes, of bytes uint8[..., ceil(bits / 8), 1]."""
    each = graph("BitwiseAnd", graph("BitShift", octets, SHIFTS, direction="RIGHT"), np.array(1, np.uint8))
    flat = graph("Reshape", each, int64s(*[0] * (rank - 1), -(-bits // BYTE) * BYTE))
    return flat if bits % BYTE == 0 else graph("Slice", flat, int64s(0), int64s(bits), int64s(-1))
