"""The specification of the float kernels: float32 throughout, every sum in one fixed order.

A float sum depends on its order. Here every sum along a row is a `lane_sum`, which a 16-wide vector unit
computes without any reordering, and no product is contracted with an addition (no FMA): the compiled kernels
return the same bits on every machine.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.packing import unpack_bits

Floats = NDArray[np.float32]

LANES = 16

# exp: x = n*ln2 + r, |r| <= ln2/2. LN2_HIGH has 10 significant bits, so n * LN2_HIGH is exact.
LOG2_E = np.float32(1.44269504088896341)
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
EXP_LOWEST = np.float32(-87.3)
# Minimax polynomial of (exp(r) - 1 - r) / r**2, highest power first (Cephes expf).
EXP_TERMS = tuple(
    np.float32(c)
    for c in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)


def lane_sum(x: Floats) -> Floats:
    """Sum over the last axis in the fixed order of all kernels: float32[..., C] to float32[...].

    Lane j of 16 adds elements j, j + 16, j + 32, ... in that order, starting from 0; then the lanes are added
    in pairs 8 apart, 4 apart, 2 apart, 1 apart.
    """
    lanes: Floats = np.zeros((*x.shape[:-1], LANES), np.float32)
    for start in range(0, x.shape[-1], LANES):
        part = x[..., start : start + LANES]
        lanes[..., : part.shape[-1]] += part
    for half in (8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
    return lanes[..., 0]


def exp(x: Floats) -> Floats:
    """Exponential of float32 x <= 0, within 2 units in the last place; exactly 0 below -87.3."""
    bounded = np.maximum(x, EXP_LOWEST)
    n: Floats = np.rint(bounded * LOG2_E)
    r: Floats = (bounded - n * LN2_HIGH) - n * LN2_LOW
    p: Floats = np.full_like(x, EXP_TERMS[0])
    for term in EXP_TERMS[1:]:
        p = p * r + term
    e = (p * (r * r) + r) + np.float32(1)
    return np.where(x < EXP_LOWEST, np.float32(0), np.ldexp(e, n.astype(np.int32)))


def relu(x: Floats) -> Floats:
    """max(x, 0), float32 of any shape."""
    return np.maximum(x, np.float32(0))


def gelu(x: Floats) -> Floats:
    """0.5 * x * (1 + erf(x / sqrt2)), float32 of any shape, evaluated in float64 and rounded once."""
    wide = x.astype(np.float64)
    erf = np.array([math.erf(value) for value in (wide / math.sqrt(2.0)).ravel().tolist()]).reshape(x.shape)
    return (0.5 * wide * (1.0 + erf)).astype(np.float32)


def tanh(x: Floats) -> Floats:
    """Hyperbolic tangent, float32 of any shape, evaluated in float64 and rounded once."""
    values = [math.tanh(value) for value in x.ravel().tolist()]
    return np.array(values, np.float32).reshape(x.shape)


def scale_add(acc: NDArray[np.int32], scale: Floats, add: Floats) -> Floats:
    """float32(acc) * scale + add: what follows an integer product.

    acc     : int32[M, N]
    scale   : float32[N]
    add     : float32[N] (a bias) or float32[M, N] (an earlier branch or a residual)
    returns : float32[M, N]
    """
    return acc.astype(np.float32) * scale + add


def layer_norm(x: Floats, residual: Floats | None, gamma: Floats, beta: Floats, eps: float) -> Floats:
    """Normalize each row of h = x + residual: d * (1 / sqrt(var + eps)) * gamma + beta.

    mean = lane_sum(h) / C, d = h - mean, var = lane_sum(d * d) / C

    x, residual : float32[M, C]; residual None for 0
    gamma, beta : float32[C]
    eps         : > 0, inside the square root
    returns     : float32[M, C]

    Source: layer normalization of BERT, biased variance.
    """
    h = x if residual is None else x + residual
    count = np.float32(x.shape[1])
    d = h - (lane_sum(h) / count)[:, None]
    variance = lane_sum(d * d) / count
    inverse = np.float32(1) / np.sqrt(variance + np.float32(eps))
    return d * inverse[:, None] * gamma + beta


def embed(
    ids: NDArray[np.int64],
    positions: NDArray[np.int64],
    types: NDArray[np.int64],
    signs: tuple[NDArray[np.uint64], ...],
    scales: tuple[Floats, ...],
    position: Floats,
    token_type: Floats,
) -> Floats:
    """Sum of the embeddings of a token, added in this order: word branches, position, token type.

    ids, positions, types : int64[M], rows of the tables
    signs      : one or two uint64[V, ceil(C / 64)], bit 1 = negative
    scales     : as many float32[V]; a word branch is -scale or +scale
    position   : float32[P, C]
    token_type : float32[S, C]
    returns    : float32[M, C]

    Source: BinaryBERT (two branches of binary word embeddings), BiBERT and BiT (one).
    """
    total = np.zeros((len(ids), position.shape[1]), np.float32)
    for plane, scale in zip(signs, scales, strict=True):
        negative = unpack_bits(plane[ids], position.shape[1])
        total = total + np.where(negative, -scale[ids, None], scale[ids, None])
    return (total + position[positions]) + token_type[types]


def softmax(scores: Floats) -> Floats:
    """Softmax over the last axis: e = exp(score - row maximum); e / lane_sum(e).

    scores  : float32[H, Tq, Tk]
    returns : float32[H, Tq, Tk]
    """
    e = exp(scores - scores.max(axis=-1, keepdims=True))
    return e / lane_sum(e)[..., None]


def dense(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Small float32 linear layer: out[m, n] = lane_sum(x[m] * weight[n]) + bias[n].

    x       : float32[M, K]
    weight  : float32[N, K]
    bias    : float32[N]
    returns : float32[M, N]
    """
    return np.stack([lane_sum(x * row) for row in weight], axis=1) + bias
