"""The specification: every kernel in plain NumPy on unpacked values; `floats.py` holds the float ones.

Letters as in kernels/README.md: M rows, N outputs, K depth, W = ceil(K / 64) words, P planes, T tokens,
H heads, D head size, C = H * D. Float inputs are finite.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.packing import WORD_BITS, Words, pack_bits, unpack_bits
from bebert_kernels.reference.floats import (
    Floats,
    dense,
    embed,
    gelu,
    layer_norm,
    relu,
    scale_add,
    softmax,
    tanh,
)

__all__ = [
    "GELU_ZERO",
    "and_gemm",
    "bit_context",
    "code_context",
    "code_dots",
    "code_scores",
    "dense",
    "embed",
    "gelu",
    "gelu_signs",
    "layer_norm",
    "pack_codes",
    "pack_signs",
    "quantize",
    "relu",
    "scale_add",
    "score_bits",
    "softmax",
    "tanh",
    "xnor_gemm",
]

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


def pack_codes(codes: Codes, bits: int) -> tuple[Words, NDArray[np.int32]]:
    """Codes as bitplanes, plane p holding bit p of each code, and the sum of each row.

    codes   : int8[M, K] (two's complement) or uint8[M, K] (plain binary)
    bits    : 1..8, enough for every code
    returns : planes uint64[P, M, W] with P = bits; sums int32[M]

    Raises ValueError if a code does not fit into `bits`.
    """
    signed = codes.dtype == np.int8
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ValueError(f"codes span {codes.min()}..{codes.max()}; accepted for {bits} bits: {low}..{high}")
    raw = codes.view(np.uint8)
    planes = np.stack([pack_bits((raw >> p) & 1 != 0) for p in range(bits)])
    return planes, codes.sum(axis=1, dtype=np.int32)


def xnor_gemm(a: Words, nonzero: Words | None, weights: Words, depth: int) -> NDArray[np.int32]:
    """Dot product of every row of signs with every row of weight signs.

    out[m, n] = depth - 2 * popcount(a[m] ^ weights[n])                                    without nonzero
    out[m, n] = popcount(nonzero[m]) - 2 * popcount((a[m] ^ weights[n]) & nonzero[m])      with nonzero

    a       : uint64[M, W]   bit 1 = -1
    nonzero : uint64[M, W]   bit 0 = the value is 0; None if no value is 0
    weights : uint64[N, W]   bit 1 = -1
    depth   : K, values per row before padding
    returns : int32[M, N]

    Source: XNOR-popcount product of BiBERT and BiT. Exact for depth < 2**31.
    """
    values = 1.0 - 2.0 * unpack_bits(a, depth)
    if nonzero is not None:
        values = values * unpack_bits(nonzero, depth)
    return (values @ (1.0 - 2.0 * unpack_bits(weights, depth)).T).astype(np.int32)


def and_gemm(planes: Words, sums: NDArray[np.int32], weights: Words, signed: bool) -> NDArray[np.int32]:
    """Dot product of every row of codes with every row of weight signs.

    out[m, n] = sums[m] - 2 * sum_p c_p * popcount(planes[p, m] & weights[n]),   c_p = 2**p,
    and c_{P-1} = -2**(P-1) where signed

    planes  : uint64[P, M, W]   from `pack_codes`
    sums    : int32[M]          from `pack_codes`
    weights : uint64[N, W]      bit 1 = -1
    signed  : whether the top plane of the codes is the sign of a two's complement number
    returns : int32[M, N]

    Source: bit-serial product of LSQ codes and binary weights (BinaryBERT 1-1-4). Exact for K < 2**23.
    """
    depth = weights.shape[1] * WORD_BITS
    coefficients = [float(1 << p) for p in range(len(planes))]
    if signed:
        coefficients[-1] = -coefficients[-1]
    codes = sum(c * unpack_bits(plane, depth) for c, plane in zip(coefficients, planes, strict=True))
    negatives = codes @ unpack_bits(weights, depth).T.astype(np.float64)
    return sums[:, None] - 2 * negatives.astype(np.int32)


def code_dots(codes: Codes, signs: Words) -> NDArray[np.int32]:
    """Dot product of every row of codes with every row of weight signs: out[m, n] = sum_k codes[m, k] * sign[n, k].

    codes   : int8 or uint8 [M, K]; signs are codes -1, 0, +1
    signs   : uint64[N, ceil(K / 64)]   bit 1 = -1
    returns : int32[M, N]

    Exact: every partial sum is a whole number of at most 255 * K, which float32 holds up to K = 65,793, whatever
    order BLAS adds in; beyond, float64 does up to K = 2**45.
    """
    depth = codes.shape[1]
    kind = np.float32 if 255 * depth <= 1 << 24 else np.float64
    weights = np.float32(1) - np.float32(2) * unpack_bits(signs, depth)
    return (codes.astype(kind) @ weights.T.astype(kind, copy=False)).astype(np.int32)


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
    queries = q.reshape(len(q), heads, -1).transpose(1, 0, 2).astype(np.float64)
    keys = k.reshape(len(k), heads, -1).transpose(1, 2, 0).astype(np.float64)
    return (queries @ keys).astype(np.float32) * np.float32(scale)


def code_context(probs: Codes, v: NDArray[np.int8]) -> NDArray[np.int32]:
    """Integer sums over the keys of attention code times value code.

    probs   : int8[H, Tq, Tk] or uint8[H, Tq, Tk]
    v       : int8[Tk, C], C = H * D
    returns : int32[Tq, C]
    """
    heads, queries, keys = probs.shape
    values = v.reshape(keys, heads, -1).transpose(1, 0, 2).astype(np.float64)
    context = (probs.astype(np.float64) @ values).astype(np.int32)
    return np.ascontiguousarray(context.transpose(1, 0, 2)).reshape(queries, -1)
