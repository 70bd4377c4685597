"""Attention of one sentence in one call, as the native path has it: on signs and on codes."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from kernel_bench.case import LOW, Case, Sizes, Work, pairs, shape
from numpy.typing import NDArray

from bebert_kernels import packing
from bebert_kernels.abi.rule import SoftmaxNumbers
from bebert_kernels.attention.boolean import Signs, boolean_attention
from bebert_kernels.attention.layout import boolean_words, softmax_units
from bebert_kernels.attention.sentence import Sentence
from bebert_kernels.attention.softmax import softmax_attention
from bebert_kernels.reference import floats as reference_float
from bebert_kernels.reference import integers as reference
from bebert_kernels.rows.layout import MINUS, PLUS, ZERO

NUMBERS = (0.02, 1 / 15, 0.0, 15.0, 0.1)  # score scale, step, smallest and largest attention code, context scale


def _bits(s: Sizes, zeros: float) -> Work:
    rng = np.random.default_rng(0)
    nonzero = [rng.random((s.tokens, s.heads, s.head_size)) >= zeros for _ in range(3)]
    planes = [(packing.pack_bits(mask & (rng.random(mask.shape) < 0.5)), packing.pack_bits(mask)) for mask in nonzero]
    plain = np.stack([mask.all(axis=(1, 2)) for mask in nonzero]).astype(np.uint8)
    flat = [
        Signs(*(plane.reshape(s.tokens, -1) for plane in pair), flags)
        for pair, flags in zip(planes, plain, strict=True)
    ]
    sentence = Sentence(0, s.tokens, 0, s.tokens)
    scratch = np.empty(boolean_words(s.tokens, s.head_size), np.uint64)
    out, out_plain = np.empty((s.tokens, s.width), np.uint8), np.empty(s.tokens, np.uint8)

    def call() -> tuple[NDArray, NDArray]:
        boolean_attention(*flat, sentence, s.heads, scratch, out, out_plain)
        return out, out_plain

    def expected() -> tuple[NDArray, NDArray]:
        q, k, v = planes
        context = reference.bit_context(reference.score_bits(*q, *k), *v, s.head_size)
        codes = np.where(context > 0, PLUS, np.where(context < 0, MINUS, ZERO))
        return codes, (context != 0).all(axis=1)

    return Work(call, expected, (boolean_attention,), macs=2 * int(np.prod(pairs(s))), planes=1)


def _codes(s: Sizes, heads: int) -> Work:
    width = heads * s.head_size
    q, k, v = np.random.default_rng(0).integers(LOW, -LOW, (3, s.tokens, width), dtype=np.int8)
    scratch = np.empty(softmax_units(s.tokens, s.head_size), np.int32)
    out, numbers = np.empty((s.tokens, width), np.float32), SoftmaxNumbers(*(np.float32(n) for n in NUMBERS))
    sentence = Sentence(0, s.tokens, 0, s.tokens)

    def call() -> NDArray:
        softmax_attention(q, k, v, sentence, heads, numbers, scratch, out)
        return out

    def expected() -> NDArray:
        scale, step, _, high, out_scale = NUMBERS
        probs = reference_float.softmax(reference.code_scores(q, k, heads, scale))
        codes = reference.quantize(probs.reshape(-1, s.tokens), None, step, 0, 0, int(high)).reshape(probs.shape)
        scales = np.full(width, out_scale, np.float32)
        return reference_float.scale_add(reference.code_context(codes, v), scales, np.zeros_like(scales))

    return Work(call, expected, (softmax_attention,), macs=2 * heads * int(np.prod(pairs(s)[1:])))


def cases(sizes: Sizes) -> Iterator[Case]:
    """Whole sentences; the heads of a half-width member are half as many."""
    text = shape(*pairs(sizes))
    yield Case("boolean_attention", "", text, partial(_bits, sizes, 0.0))
    yield Case("boolean_attention", "with zeros", text, partial(_bits, sizes, 0.01))
    for heads in (sizes.heads, sizes.heads // 2):
        yield Case("softmax_attention", "", shape(heads, *pairs(sizes)[1:]), partial(_codes, sizes, heads))
