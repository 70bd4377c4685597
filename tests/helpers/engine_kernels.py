"""Kernels of the engine, asked as the reference is: a row kernel for each row, a stage on tables of its own.

`kernel_cases.py` says what the reference answers. Arrays are new in each call, so any number of threads may ask.
"""

from functools import cache
from typing import Any

import numba
import numpy as np

from bebert_kernels import packing
from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.instruction import Classify
from bebert_kernels.abi.rule import Numbers, SoftmaxNumbers
from bebert_kernels.abi.stage import available
from bebert_kernels.abi.table import row
from bebert_kernels.attention import boolean, layout, softmax
from bebert_kernels.attention.sentence import Sentence
from bebert_kernels.emit.scale import make_scale
from bebert_kernels.emit.vectors import FLOAT_LANES
from bebert_kernels.rows.embed import EmbeddingTables, embed_row
from bebert_kernels.rows.layer_norm import norm_rows
from bebert_kernels.rows.layout import MINUS, ZERO
from bebert_kernels.rows.quantize import quantize_row

# What runs with the JIT off too; the rest is vector code on addresses.
ANYWHERE = {
    *("pack_signs", "gelu_signs", "quantize", "relu_quantize", "layer_norm", "embed"),
    *("boolean_attention", "softmax_attention"),
}
FUNCTIONS = ANYWHERE | ({"scale_add", "classify"} if available() else set())


def pack_signs(x, shift):
    """As `reference.pack_signs`."""
    return _signs(x, shift, rule.SIGN)


def gelu_signs(x):
    """As `reference.gelu_signs`."""
    return _signs(x, None, rule.GELU_SIGN)


def quantize(x, shift, step, minimum, low, high):
    """As `reference.quantize`."""
    codes, _ = _byte_codes(x, shift, rule.CODES, (step, minimum, low, high))
    return (codes.astype(np.int16) + low).astype(np.int8 if low < 0 else np.uint8)


def relu_quantize(x, shift, step, minimum, low, high):
    """`quantize` of max(x, 0)."""
    codes, _ = _byte_codes(x, shift, rule.RELU_CODES, (step, minimum, low, high))
    return (codes.astype(np.int16) + low).astype(np.int8 if low < 0 else np.uint8)


def layer_norm(x, residual, gamma, beta, eps):
    """As `reference.layer_norm`."""
    out = np.empty(x.shape, np.float32)
    residual = np.zeros(x.shape, np.float32) if residual is None else residual
    norm_rows(x, residual, gamma, beta, np.float32(eps), 0, len(x), out)
    return out


def embed(ids, positions, types, signs, scales, position, token_type):
    """As `reference.embed`."""
    out = np.empty((len(ids), position.shape[1]), np.float32)
    tables = EmbeddingTables(len(signs), signs[0], scales[0], signs[-1], scales[-1], position, token_type)
    for m in range(len(ids)):
        embed_row(ids[m], positions[m], types[m], tables, out[m])
    return out


def scale_add(acc, scale, add):
    """As `reference.scale_add`."""
    rows, outputs = acc.shape
    wide = -(-outputs // FLOAT_LANES) * FLOAT_LANES
    factor, offset = np.zeros(wide, np.float32), np.zeros(wide, np.int32)
    factor[:outputs] = scale
    sums, found = np.zeros((rows, wide), np.int32), np.zeros((rows, wide), np.float32)
    sums[:, :outputs], found[:, :outputs] = acc, add
    _scale_rows(wide)(sums, offset, factor, found)
    return np.ascontiguousarray(found[:, :outputs])


def classify(x, weight, bias):
    """`reference.dense` of the hyperbolic tangent, by the stage that ends a program."""
    from bebert_kernels.program.stages import classify as stage

    (rows, width), labels = x.shape, len(weight)
    kept: list[np.ndarray] = []

    def pin(array: np.ndarray) -> int:
        kept.append(array)
        return array.ctypes.data

    slots = np.zeros(slot.COUNT, np.int64)
    arguments = np.array(row(Classify(width, labels, weight, bias), pin), np.int64)
    floats, out, lanes = np.array(x), np.empty((rows, labels), np.float32), np.empty(16, np.float32)
    for place, array in ((slot.FLOATS, floats), (slot.LOGITS, out), (slot.LANES, lanes)):
        slots[place] = pin(array)
    stage(arguments.ctypes.data, slots.ctypes.data, 0, 0, 0, rows)
    return out


def boolean_attention(q, q_nonzero, k, k_nonzero, v, v_nonzero, size):
    """Signs int8[Tq, H * D] of `reference.bit_context` of `reference.score_bits`, and which rows have no 0."""
    (queries, heads, _), keys = q.shape, len(k)
    flags = np.zeros((3, max(queries, keys)), np.uint8)
    for which, (plane, rows) in enumerate(((q_nonzero, queries), (k_nonzero, keys), (v_nonzero, keys))):
        flags[which, :rows] = packing.unpack_bits(plane, size).all(axis=(1, 2))
    pairs = ((q, q_nonzero), (k, k_nonzero), (v, v_nonzero))
    signs = [
        boolean.Signs(*(part.reshape(len(part), -1) for part in pair), rows)
        for pair, rows in zip(pairs, flags, strict=True)
    ]
    scratch = np.empty(layout.boolean_words(keys, size), np.uint64)
    out, no_zeros = np.empty((queries, heads * size), np.uint8), np.empty(queries, np.uint8)
    boolean.boolean_attention(*signs, Sentence(0, queries, 0, keys), heads, scratch, out, no_zeros)
    return np.where(out == ZERO, 0, np.where(out == MINUS, -1, 1)).astype(np.int8), no_zeros.astype(bool)


def softmax_attention(q, k, v, heads, scale, step, high, context_scale):
    """Context float32[Tq, H * D] of codes; attention codes are 0 .. high, of `step` each."""
    scratch = np.empty(layout.softmax_units(len(k), q.shape[1] // heads), np.int32)
    out = np.empty(q.shape, np.float32)
    numbers = SoftmaxNumbers(*(np.float32(number) for number in (scale, step, 0, high, context_scale)))
    softmax.softmax_attention(q, k, v, Sentence(0, len(q), 0, len(k)), heads, numbers, scratch, out)
    return out


def _byte_codes(x, shift, kind, numbers):
    out, no_zeros = np.empty(x.shape, np.uint8), np.empty(len(x), np.uint8)
    shift = np.zeros(x.shape[1], np.float32) if shift is None else shift
    given = Numbers(*(np.float32(number) for number in numbers))
    for m in range(len(x)):
        no_zeros[m] = quantize_row(x[m], shift, kind, given, out[m])
    return out, no_zeros


def _signs(x, shift, kind):
    codes, no_zeros = _byte_codes(x, shift, kind, (1, 0, 0, 1))
    return packing.pack_bits(codes == MINUS), packing.pack_bits(codes != ZERO), not no_zeros.all()


@cache
def _scale_rows(count: int) -> Any:
    """Scales rows of `count` sums onto what stands in `out`."""
    scale_sums = make_scale(count)

    @numba.njit(nogil=True)
    def scale_rows(sums, offset, scale, out):
        for m in range(len(out)):
            to = out[m].ctypes.data
            scale_sums(sums[m].ctypes.data, 1, 0, offset.ctypes.data, scale.ctypes.data, to, to)

    return scale_rows
