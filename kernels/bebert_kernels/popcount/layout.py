"""Sizes of the popcount product."""

from bebert_kernels.packing import WORD_BITS

PANEL = 128  # outputs at a time


def plane_words(depth: int) -> int:
    """Words of a plane of a row, a whole number of cache lines."""
    return (depth + 8 * WORD_BITS - 1) // (8 * WORD_BITS) * 8
