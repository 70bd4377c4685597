"""The specification: every kernel in plain NumPy on unpacked values; `floats.py` holds the float ones.

Letters as in kernels/README.md: M rows, N outputs, K depth, W = ceil(K / 64) words, P planes, T tokens,
H heads, D head size, C = H * D. Float inputs are finite.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.packing import WORD_BITS, Words, pack_bits, unpack_bits, unpack_weight_signs
from bebert_kernels.reference.floats import Floats

Signs = tuple[Words, Words, bool]
Codes = NDArray[np.int8] | NDArray[np.uint8]

GELU_ZERO = np.float32(-5.554655)
"""Largest x at which the published float32 GELU, 0.5*x*(1 + erf(x/sqrt2)), is exactly 0 because erf is -1.

The golden values of BiBERT's GELU sign (quantizers/bibert_gelu_sign.npz) have the last zero at -5.55475 and
the first -1 at -5.5545; this value between them was measured with the erf that made those values.
"""


def pack_signs(x: Floats, shift: Floats | None) -> Signs:
    """Sign of x + shift as two bitplanes.

    x       : float32[M, K]
    shift   : float32[K] or None for 0
    returns : signs uint64[M, W], bit 1 iff the sum is < 0; nonzero uint64[M, W], bit 1 iff it is != 0;
              has_zero, True iff any of the M * K sums is exactly 0 (then the second plane is needed)

    Source: BiBERT sign quantizer (sgn of 0 is 0); the shift is BiT's `move`.
    """
    shifted = x if shift is None else x + shift
    return pack_bits(shifted < 0), pack_bits(shifted != 0), bool((shifted == 0).any())


def gelu_signs(x: Floats) -> Signs:
    """Sign of GELU(x) as two bitplanes: 0 where x == 0 or x <= GELU_ZERO, else the sign of x.

    x       : float32[M, K]
    returns : as `pack_signs`

    Source: BiBERT feed-forward, sign of the erf-form GELU in float32, which underflows to exact 0.
    """
    nonzero = (x != 0) & (x > GELU_ZERO)
    return pack_bits((x < 0) & nonzero), pack_bits(nonzero), not bool(nonzero.all())


def quantize(x: Floats, shift: Floats | None, step: float, minimum: float, low: int, high: int) -> Codes:
    """Integer codes clamp(rne((x + shift - minimum) / step), low, high), rounding half to even, in float32.

    x       : float32[M, K]
    shift   : float32[K] or None for 0
    step    : not 0; may be negative
    low     : int8 codes if negative, else uint8
    returns : int8[M, K] or uint8[M, K]

    Source: learned step size quantization (BinaryBERT, BEBERT) and elastic quantization (BiT).
    """
    shifted = x if shift is None else x + shift
    with np.errstate(over="ignore"):
        steps = np.rint((shifted - np.float32(minimum)) / np.float32(step))
    return np.clip(steps, low, high).astype(np.int8 if low < 0 else np.uint8)


def code_dots(codes: Codes, signs: Words) -> NDArray[np.int32]:
    """Dot product of every row of codes with every row of weight signs: out[m, n] = sum_k codes[m, k] * sign[n, k].

    codes   : int8 or uint8 [M, K]; signs are codes -1, 0, +1
    signs   : uint64[N, ceil(K / 64)]   bit 1 = -1
    returns : int32[M, N]

    Exact for K < 2**45.
    """
    return _product(codes, unpack_weight_signs(signs, codes.shape[1]).T, 255)


def _product(a: Codes, b: Codes, largest: int) -> NDArray[np.int32]:
    """Product [..., M, N] of whole numbers [..., M, K] and [..., K, N] whose products are at most `largest`.

    Exact: every partial sum is a whole number of at most K * largest, which float32 holds up to 2**24 and float64 up
    to 2**53, whatever order BLAS adds in.
    """
    kind = np.float32 if a.shape[-1] * largest <= 1 << 24 else np.float64
    return (a.astype(kind) @ b.astype(kind)).astype(np.int32)


def score_bits(q: Words, q_nonzero: Words, k: Words, k_nonzero: Words) -> Words:
    """Boolean attention weights: bit 1 iff the dot product of query signs and key signs is > 0, strictly.

    q, q_nonzero : uint64[Tq, H, Wd]   Wd = ceil(D / 64); a value with nonzero bit 0 counts 0
    k, k_nonzero : uint64[Tk, H, Wd]
    returns      : uint64[H, Tq, ceil(Tk / 64)], keys along the bits, padding bits 0

    Source: BiBERT attention, bool(sign(Q) sign(K)^T) with the strict threshold of the published code.
    """
    depth = q.shape[-1] * WORD_BITS
    queries = (1.0 - 2.0 * unpack_bits(q, depth)) * unpack_bits(q_nonzero, depth)
    keys = (1.0 - 2.0 * unpack_bits(k, depth)) * unpack_bits(k_nonzero, depth)
    return pack_bits(queries.transpose(1, 0, 2) @ keys.transpose(1, 2, 0) > 0)


def bit_context(bits: Words, v: Words, v_nonzero: Words, head_size: int) -> NDArray[np.int32]:
    """Sum of the value signs of all keys whose attention bit is 1.

    bits         : uint64[H, Tq, ceil(Tk / 64)]   from `score_bits`
    v, v_nonzero : uint64[Tk, H, ceil(D / 64)]    signs of the values; nonzero bit 0 counts 0
    head_size    : D
    returns      : int32[Tq, H * D]

    Source: BiBERT attention, context = bool(A) sign(V).
    """
    keys, heads, _ = v.shape
    chosen = unpack_bits(bits, keys).astype(np.float64)
    values = (1.0 - 2.0 * unpack_bits(v, head_size)) * unpack_bits(v_nonzero, head_size)
    context = (chosen @ values.transpose(1, 0, 2)).astype(np.int32)
    return context.transpose(1, 0, 2).reshape(-1, heads * head_size)


def code_scores(q: NDArray[np.int8], k: NDArray[np.int8], heads: int, scale: float) -> Floats:
    """Scaled dot products of query and key codes, head by head: float32(integer dot) * float32(scale).

    q       : int8[Tq, C]
    k       : int8[Tk, C]
    heads   : H, divides C
    returns : float32[H, Tq, Tk]

    Source: BinaryBERT and BiT attention on quantized Q and K; scale = step_q * step_k / sqrt(D).
    """
    queries = q.reshape(len(q), heads, -1).transpose(1, 0, 2)
    keys = k.reshape(len(k), heads, -1).transpose(1, 2, 0)
    return _product(queries, keys, 128 * 128).astype(np.float32) * np.float32(scale)


def code_context(probs: Codes, v: NDArray[np.int8]) -> NDArray[np.int32]:
    """Integer sums over the keys of attention code times value code.

    probs   : int8[H, Tq, Tk] or uint8[H, Tq, Tk]
    v       : int8[Tk, C], C = H * D
    returns : int32[Tq, C]
    """
    heads, queries, keys = probs.shape
    values = v.reshape(keys, heads, -1).transpose(1, 0, 2)
    context = _product(probs, values, 255 * 128)
    return np.ascontiguousarray(context.transpose(1, 0, 2)).reshape(queries, -1)
