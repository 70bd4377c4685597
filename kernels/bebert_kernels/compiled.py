"""The compiled kernels behind checks: names, signatures and results, bit for bit, those of `reference`.

Every function raises ValueError that names the argument, its value and what is accepted. Arrays are
C-contiguous; inputs are never written; results are new arrays. Formulas, shapes and sources are in the
docstrings of `reference`. All functions release the GIL and may run in many Python threads at once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_kernels import boolean_attention as _boolean
from bebert_kernels import code_attention as _code
from bebert_kernels import dot_gemm as _dot
from bebert_kernels import elementwise as _elementwise
from bebert_kernels import embed as _embed
from bebert_kernels import float_rows as _rows
from bebert_kernels import quantize as _quantize
from bebert_kernels.checks import array, real, rows, whole
from bebert_kernels.dot_tile import LANES, QUAD, ROWS
from bebert_kernels.jit.kernel import cpu_features
from bebert_kernels.packing import CodeWeights, Words, words
from bebert_kernels.popcount import and_gemm as _and
from bebert_kernels.popcount import xnor_gemm as _xnor
from bebert_kernels.reference.floats import Floats
from bebert_kernels.reference.integers import GELU_ZERO, Codes, Signs

CODES = (np.int8, np.uint8)
MAX_DEPTH = 2**23  # at 8 bits the integer sums of this depth still fit into int32


def pack_signs(x: Floats, shift: Floats | None) -> Signs:
    """Sign and non-zero bitplanes of x + shift, and whether any sum is 0."""
    x = array("x", x, np.float32, ("M", "K"))
    return _sign_planes(x, _row_or_zeros("shift", shift, x.shape[1]), np.float32(-np.inf))


def gelu_signs(x: Floats) -> Signs:
    """Sign and non-zero bitplanes of GELU(x), and whether any value is 0."""
    x = array("x", x, np.float32, ("M", "K"))
    return _sign_planes(x, _row_or_zeros("shift", None, x.shape[1]), GELU_ZERO)


def quantize(x: Floats, shift: Floats | None, step: float, minimum: float, low: int, high: int) -> Codes:
    """Integer codes of x + shift, int8 if low < 0, else uint8."""
    x = array("x", x, np.float32, ("M", "K"))
    low = whole("low", low, -128, 127)
    high = whole("high", high, low + 1, 127 if low < 0 else 255)
    narrow = real("step", step)
    if narrow == 0:
        raise ValueError(f"step is {step!r}; accepted: a number that is not 0 in float32")
    out: Any = np.empty(x.shape, np.int8 if low < 0 else np.uint8)
    limits = np.array([low, high], np.float32)
    _quantize.quantize(x, _row_or_zeros("shift", shift, x.shape[1]), narrow, real("minimum", minimum), limits, out)
    return out


def pack_codes(codes: Codes, bits: int) -> tuple[Words, NDArray[np.int32]]:
    """Bitplanes and row sums of codes."""
    codes, bits = _codes(codes, bits, "K")
    planes = np.empty((bits, codes.shape[0], words(codes.shape[1])), np.uint64)
    sums = np.empty(codes.shape[0], np.int32)
    _quantize.code_planes(codes.view(np.uint8), codes.dtype == np.int8, sums, planes)
    return planes, sums


def code_weights(signs: Words, depth: int) -> CodeWeights:
    """Weight signs as `code_gemm` wants them: with panels where the byte product is faster than bitplanes.

    It is on CPUs with AVX-512 VNNI that lack a vector popcount (`benchmarks/results/gemm.jsonl`).
    """
    depth = whole("depth", depth, 1, MAX_DEPTH)
    signs = array("signs", signs, np.uint64, ("N", words(depth)))
    features = cpu_features()
    if "avx512vnni" not in features or "avx512vpopcntdq" in features:
        return CodeWeights(signs, depth, None)
    panels = np.empty((-(-signs.shape[0] // LANES), -(-depth // QUAD)), np.uint64)
    _dot.weight_panels(signs, panels)
    return CodeWeights(signs, depth, panels)


def code_gemm(codes: Codes, weights: CodeWeights, bits: int) -> NDArray[np.int32]:
    """Dot products of code rows with weight sign rows."""
    depth = whole("weights.depth", weights.depth, 1, MAX_DEPTH)
    signs = array("weights.signs", weights.signs, np.uint64, ("N", words(depth)))
    codes, _ = _codes(codes, bits, depth)
    if weights.panels is None or (codes.dtype == np.uint8 and bits == 8):  # codes above 127 are no signed bytes
        planes, sums = pack_codes(codes, bits)
        return and_gemm(planes, sums, signs, codes.dtype == np.int8)
    rows, outputs = len(codes), len(signs)
    tall, deep, wide = (-(-size // unit) * unit for size, unit in ((rows, ROWS), (depth, QUAD), (outputs, LANES)))
    panels = array("weights.panels", weights.panels, np.uint64, (wide // LANES, deep // QUAD))
    if (tall, deep) != (rows, depth):  # codes of 0 add nothing
        padded = np.zeros((tall, deep), np.int8)
        padded[:rows, :depth] = codes.view(np.int8)
        codes = padded
    out = np.empty((tall, wide), np.int32)
    _dot.dot_gemm(array("codes", codes.view(np.int8), np.int8, (tall, deep)), panels, out)
    return np.ascontiguousarray(out[:rows, :outputs])


def xnor_gemm(a: Words, nonzero: Words | None, weights: Words, depth: int) -> NDArray[np.int32]:
    """Dot products of sign rows with weight sign rows."""
    depth = whole("depth", depth, 1, MAX_DEPTH)
    a = array("a", a, np.uint64, ("M", words(depth)))
    weights = array("weights", weights, np.uint64, ("N", words(depth)))
    mask = a[:0] if nonzero is None else array("nonzero", nonzero, np.uint64, a.shape)
    out = np.empty((a.shape[0], weights.shape[0]), np.int32)
    _xnor.xnor_gemm(a, mask, weights, depth, out)
    return out


def and_gemm(planes: Words, sums: NDArray[np.int32], weights: Words, signed: bool) -> NDArray[np.int32]:
    """Dot products of code rows with weight sign rows."""
    planes = array("planes", planes, np.uint64, ("P", "M", "W"))
    whole("number of planes", planes.shape[0], 1, 8)
    sums = array("sums", sums, np.int32, (planes.shape[1],))
    weights = array("weights", weights, np.uint64, ("N", planes.shape[2]))
    out = np.empty((planes.shape[1], weights.shape[0]), np.int32)
    _and.and_gemm(planes, sums, weights, bool(signed), out)
    return out


def scale_add(acc: NDArray[np.int32], scale: Floats, add: Floats) -> Floats:
    """float32(acc) * scale + add."""
    acc = array("acc", acc, np.int32, ("M", "N"))
    scale = array("scale", scale, np.float32, (acc.shape[1],))
    is_matrix = isinstance(add, np.ndarray) and add.ndim == 2
    add = array("add", add, np.float32, acc.shape if is_matrix else acc.shape[1:])
    out = np.empty(acc.shape, np.float32)
    _elementwise.scale_add(acc, scale, add.reshape(-1, acc.shape[1]), out)
    return out


def layer_norm(x: Floats, residual: Floats | None, gamma: Floats, beta: Floats, eps: float) -> Floats:
    """Layer normalization of x + residual."""
    x = array("x", x, np.float32, ("M", "C"))
    residual = np.zeros_like(x) if residual is None else residual
    residual = array("residual", residual, np.float32, x.shape)
    gamma = array("gamma", gamma, np.float32, x.shape[1:])
    beta = array("beta", beta, np.float32, x.shape[1:])
    narrow = real("eps", eps)
    if narrow <= 0:
        raise ValueError(f"eps is {eps!r}; accepted: a number above 0 in float32")
    out = np.empty(x.shape, np.float32)
    _rows.layer_norm(x, residual, gamma, beta, narrow, out)
    return out


def embed(
    ids: NDArray[np.int64],
    positions: NDArray[np.int64],
    types: NDArray[np.int64],
    signs: tuple[Words, ...],
    scales: tuple[Floats, ...],
    position: Floats,
    token_type: Floats,
) -> Floats:
    """Word branches + position + token type."""
    if not 1 <= len(signs) <= 2 or len(scales) != len(signs):
        raise ValueError(f"{len(signs)} signs, {len(scales)} scales; accepted: one or two of both")
    position = array("position", position, np.float32, ("P", "C"))
    width = position.shape[1]
    token_type = array("token_type", token_type, np.float32, ("S", width))
    vocabulary = array("signs[0]", signs[0], np.uint64, ("V", words(width))).shape[0]
    ids = rows("ids", ids, "M", "the word tables", vocabulary)
    positions = rows("positions", positions, len(ids), "position", position.shape[0])
    types = rows("types", types, len(ids), "token_type", token_type.shape[0])
    out = np.zeros((len(ids), width), np.float32)
    for i, (plane, scale) in enumerate(zip(signs, scales, strict=True)):
        plane = array(f"signs[{i}]", plane, np.uint64, (vocabulary, words(width)))
        _embed.add_signs(ids, plane, array(f"scales[{i}]", scale, np.float32, (vocabulary,)), out)
    _embed.add_rows(positions, position, out)
    _embed.add_rows(types, token_type, out)
    return out


def score_bits(q: Words, q_nonzero: Words, k: Words, k_nonzero: Words) -> Words:
    """Boolean attention weights: bit 1 iff the dot product of signs is > 0."""
    q = array("q", q, np.uint64, ("Tq", "H", "Wd"))
    q_nonzero = array("q_nonzero", q_nonzero, np.uint64, q.shape)
    k = array("k", k, np.uint64, ("Tk", *q.shape[1:]))
    k_nonzero = array("k_nonzero", k_nonzero, np.uint64, k.shape)
    out = np.empty((q.shape[1], q.shape[0], words(k.shape[0])), np.uint64)
    _boolean.score_bits(q, q_nonzero, k, k_nonzero, out)
    return out


def bit_context(bits: Words, v: Words, v_nonzero: Words, head_size: int) -> NDArray[np.int32]:
    """Sums of the value signs of the chosen keys."""
    head_size = whole("head_size", head_size, 1, MAX_DEPTH)
    v = array("v", v, np.uint64, ("Tk", "H", words(head_size)))
    v_nonzero = array("v_nonzero", v_nonzero, np.uint64, v.shape)
    bits = array("bits", bits, np.uint64, (v.shape[1], "Tq", words(v.shape[0])))
    out = np.empty((bits.shape[1], v.shape[1], head_size), np.int32)
    _boolean.bit_context(bits, v, v_nonzero, out)
    return out.reshape(len(out), -1)


def code_scores(q: NDArray[np.int8], k: NDArray[np.int8], heads: int, scale: float) -> Floats:
    """Scaled dot products of query and key codes, head by head."""
    q = array("q", q, np.int8, ("Tq", "C"))
    k = array("k", k, np.int8, ("Tk", q.shape[1]))
    heads = _heads(heads, q.shape[1])
    out = np.empty((heads, q.shape[0], k.shape[0]), np.float32)
    _code.code_scores(_by_head(q, heads), _by_head(k, heads), real("scale", scale), out)
    return out


def code_context(probs: Codes, v: NDArray[np.int8]) -> NDArray[np.int32]:
    """Sums over the keys of attention code times value code."""
    probs = array("probs", probs, CODES, ("H", "Tq", "Tk"))
    v = array("v", v, np.int8, (probs.shape[2], "C"))
    heads = _heads(probs.shape[0], v.shape[1])
    out = np.empty((probs.shape[1], v.shape[1]), np.int32)
    _code.code_context(probs, _by_head(v, heads), _by_head(out, heads))
    return out


def softmax(scores: Floats) -> Floats:
    """Softmax over the last axis."""
    scores = array("scores", scores, np.float32, ("H", "Tq", "Tk"))
    out = np.empty(scores.shape, np.float32)
    _rows.softmax(scores, out)
    return out


def dense(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Small float32 linear layer."""
    x = array("x", x, np.float32, ("M", "K"))
    weight = array("weight", weight, np.float32, ("N", x.shape[1]))
    bias = array("bias", bias, np.float32, weight.shape[:1])
    out = np.empty((x.shape[0], weight.shape[0]), np.float32)
    _rows.dense(x, weight, bias, out)
    return out


def relu(x: Floats) -> Floats:
    """max(x, 0)."""
    return _each(_elementwise.relu, x)


def gelu(x: Floats) -> Floats:
    """GELU in the erf form."""
    return _each(_elementwise.gelu, x)


def tanh(x: Floats) -> Floats:
    """Hyperbolic tangent."""
    return _each(_elementwise.tanh, x)


def _each(run: Any, x: Floats) -> Floats:
    shape = x.shape if isinstance(x, np.ndarray) else ("...",)
    x = array("x", x, np.float32, shape)
    out = np.empty(x.shape, np.float32)
    run(x.reshape(-1), out.reshape(-1))
    return out


def _sign_planes(x: Floats, shift: Floats, floor: np.float32) -> Signs:
    planes = np.empty((2, x.shape[0], words(x.shape[1])), np.uint64)
    has_zero = bool(_quantize.sign_planes(x, shift, floor, planes))
    return planes[0], planes[1], has_zero


def _row_or_zeros(name: str, row: Floats | None, size: int) -> Floats:
    return array(name, np.zeros(size, np.float32) if row is None else row, np.float32, (size,))


def _heads(heads: int, width: int) -> int:
    heads = whole("heads", heads, 1, max(width, 1))
    if width % heads:
        raise ValueError(f"heads is {heads}; accepted: a divisor of the width {width}")
    return heads


def _by_head(x: NDArray[Any], heads: int) -> NDArray[Any]:
    return x.reshape(x.shape[0], heads, x.shape[1] // heads)


def _codes(codes: Codes, bits: int, depth: int | str) -> tuple[Codes, int]:
    """Checked codes [M, depth] and their bits."""
    codes = array("codes", codes, CODES, ("M", depth))
    bits = whole("bits", bits, 1, 8)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if codes.dtype == np.int8 else (0, (1 << bits) - 1)
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ValueError(f"codes span {codes.min()}..{codes.max()}; accepted for {bits} bits: {low}..{high}")
    return codes, bits
