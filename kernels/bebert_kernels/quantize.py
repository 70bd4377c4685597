"""Floats to what the integer kernels read: sign bitplanes, codes, and bitplanes of codes."""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.flags import flag_word
from bebert_kernels.jit.kernel import kernel, popcount
from bebert_kernels.packing import WORD_BITS, Words

Floats = NDArray[np.float32]


@kernel
def sign_planes(x: Floats, shift: Floats, floor: np.float32, out: Words) -> bool:
    """Sign and non-zero bits of v = x + shift, where v <= floor counts as 0; returns whether any value is 0.

    x     : float32[M, K]
    shift : float32[K]
    floor : -inf for the sign of v itself, GELU_ZERO for the sign of GELU(v)
    out   : uint64[2, M, W], the sign plane and the non-zero plane, written in full

    Source: BiBERT sign quantizer; the shift is BiT's `move`.
    """
    rows, depth = x.shape
    words = out.shape[2]
    negative = np.zeros(words * WORD_BITS, np.uint8)
    nonzero = np.zeros(words * WORD_BITS, np.uint8)
    found = np.int64(0)
    for m in range(rows):
        for i in range(depth):
            value = x[m, i] + shift[i]
            counts = (value != np.float32(0)) & (value > floor)
            nonzero[i] = counts
            negative[i] = counts & (value < np.float32(0))
        for w in range(words):
            out[0, m, w] = flag_word(negative, w)
            out[1, m, w] = flag_word(nonzero, w)
            found += popcount(out[1, m, w])
    return bool(found < rows * depth)


@kernel
def quantize(
    x: Floats, shift: Floats, step: np.float32, minimum: np.float32, limits: Floats, out: NDArray[np.int8]
) -> None:
    """Codes clamp(rne((x + shift - minimum) / step), limits[0], limits[1]).

    x      : float32[M, K]
    shift  : float32[K]
    limits : float32[2]
    out    : int8[M, K] or uint8[M, K], written in full

    Source: learned step size quantization (BinaryBERT, BEBERT), elastic quantization (BiT).
    """
    low, high = limits[0], limits[1]
    rows, depth = x.shape
    for m in range(rows):
        for i in range(depth):
            value = np.rint(((x[m, i] + shift[i]) - minimum) / step)
            if value < low:
                value = low
            if value > high:
                value = high
            out[m, i] = np.int32(value)  # int32 first: vector units convert floats to nothing narrower


@kernel
def code_planes(codes: NDArray[np.uint8], signed: bool, sums: NDArray[np.int32], out: Words) -> None:
    """Bitplanes of codes, and row sums, which are the weighted counts of the planes.

    out[p, m] = bit p of codes[m],   sums[m] = sum_p c_p * popcount(out[p, m]),   c_p as in `and_gemm`

    codes  : uint8[M, K], the bytes of the codes
    signed : whether the top plane is the sign of a two's complement number
    sums   : int32[M], written in full
    out    : uint64[P, M, W], written in full
    """
    planes, rows, words = out.shape
    depth = codes.shape[1]
    flags = np.zeros(words * WORD_BITS, np.uint8)
    for m in range(rows):
        total = np.int64(0)
        for p in range(planes):
            bit = np.uint8(1 << p)
            for i in range(depth):
                flags[i] = codes[m, i] & bit
            ones = np.int64(0)
            for w in range(words):
                out[p, m, w] = flag_word(flags, w)
                ones += popcount(out[p, m, w])
            top = signed and p == planes - 1
            total += -(ones << p) if top else ones << p
        sums[m] = total
