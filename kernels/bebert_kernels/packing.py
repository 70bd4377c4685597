"""The one owner of bit order and padding: booleans and weight signs to 64-bit words and back.

Element k of a row is bit `k % 64` of word `k // 64`, the least significant bit first. A row of depth K
takes W = ceil(K / 64) words, and the bits beyond K are 0 in every packed array, so XOR and AND of padding are
0 and no dot product needs a correction. In a sign plane bit 1 means negative.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

WORD_BITS = 64


def words(depth: int) -> int:
    """Count of 64-bit words that hold `depth` bits: ceil(depth / 64)."""
    return -(-depth // WORD_BITS)


def pack_bits(bits: NDArray[np.bool_]) -> Words:
    """Pack the last axis of a boolean array into words.

    bits    : bool[..., K]
    returns : uint64[..., W], padding bits 0

    Raises ValueError for another dtype or an array without axes.

    >>> pack_bits(np.array([True, False, True]))
    array([5], dtype=uint64)
    """
    if bits.dtype != np.bool_ or bits.ndim == 0:
        raise ValueError(f"bits is {bits.dtype}{list(bits.shape)}; accepted: bool[..., K]")
    used = np.packbits(bits, axis=-1, bitorder="little")
    padded = np.zeros((*bits.shape[:-1], words(bits.shape[-1]) * 8), np.uint8)
    padded[..., : used.shape[-1]] = used
    return padded.view("<u8").astype(np.uint64, copy=False)


def unpack_bits(packed: Words, depth: int) -> NDArray[np.bool_]:
    """Undo `pack_bits`.

    packed  : uint64[..., W]
    depth   : bits per row before padding, W = ceil(depth / 64)
    returns : bool[..., depth]

    Raises ValueError for another dtype or a word count that does not belong to `depth`.

    >>> unpack_bits(np.array([5], np.uint64), 3)
    array([ True, False,  True])
    """
    if packed.dtype != np.uint64 or packed.ndim == 0 or packed.shape[-1] != words(depth):
        accepted = f"uint64[..., {words(depth)}] for depth {depth}"
        raise ValueError(f"packed is {packed.dtype}{list(packed.shape)}; accepted: {accepted}")
    octets = np.ascontiguousarray(packed.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=depth, bitorder="little").view(np.bool_)


def pack_weight_signs(signs: NDArray[np.int8]) -> Words:
    """Pack a matrix of -1 and +1 into words, bit 1 for -1.

    signs   : int8[N, K], every entry -1 or +1
    returns : uint64[N, W]

    Raises ValueError for another dtype or shape, and for any entry that is not -1 or +1: a weight of 0 has no
    sign, and choosing one is the exporter's decision.

    >>> pack_weight_signs(np.array([[1, -1, -1]], np.int8))
    array([[6]], dtype=uint64)
    """
    if signs.dtype != np.int8 or signs.ndim != 2:
        raise ValueError(f"signs is {signs.dtype}{list(signs.shape)}; accepted: int8[N, K]")
    wrong = (signs != 1) & (signs != -1)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"signs[{row}, {column}] is {signs[row, column]}; accepted: -1 and +1")
    return pack_bits(signs < 0)


def unpack_weight_signs(packed: Words, depth: int) -> NDArray[np.int8]:
    """Undo `pack_weight_signs`: uint64[N, W] to int8[N, depth] of -1 and +1."""
    return np.where(unpack_bits(packed, depth), np.int8(-1), np.int8(1))
