"""Functions of `bebert_kernels.compiled` other than the products; the twins in `reference` take the same arguments."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from kernel_bench.case import BITS, LOW, Case, Sizes, Work, octets, shape

from bebert_kernels import compiled, packing
from bebert_kernels.reference import integers as reference

Shape = Callable[[Sizes], tuple[int, ...]]


def _floats(*size: int) -> np.ndarray:
    return np.random.default_rng(len(size)).standard_normal(size).astype(np.float32)


def _codes(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(LOW, LOW + 2**BITS, size, dtype=np.int8)


def _planes(count: int, *size: int) -> tuple[np.ndarray, ...]:
    return tuple(packing.pack_bits(np.random.default_rng(0).random((count, *size)) < 0.5))


def hidden(s: Sizes) -> tuple[int, ...]:
    """Hidden states."""
    return s.tokens, s.width


def wide(s: Sizes) -> tuple[int, ...]:
    """Inside the feed-forward."""
    return s.tokens, s.wide


def scores(s: Sizes) -> tuple[int, ...]:
    """Scores of attention."""
    return s.heads, s.tokens, s.tokens


def pairs(s: Sizes) -> tuple[int, ...]:
    """Heads, queries, keys, values of a head: the multiply-adds of one product of attention."""
    return *scores(s), s.head_size


def heads(s: Sizes) -> tuple[int, ...]:
    """Queries, keys or values head by head."""
    return s.tokens, s.heads, s.head_size


def pooler(s: Sizes) -> tuple[int, ...]:
    """One row of hidden states, as many outputs."""
    return 1, s.width, s.width


def _embed(s: Sizes) -> tuple[Any, ...]:
    """Two word tables, as BinaryBERT's."""
    rng = np.random.default_rng(0)
    ids, positions, types = (rng.integers(0, size, s.tokens) for size in (s.vocabulary, s.tokens, 2))
    signs = tuple(packing.pack_bits(rng.random((s.vocabulary, s.width)) < 0.5) for _ in range(2))
    return ids, positions, types, signs, (_floats(s.vocabulary),) * 2, _floats(s.tokens, s.width), _floats(2, s.width)


# Name, shape, arguments; with multiply-adds, as many as the product of the shape, also the planes of the activations
# (0: weights or keys are not signs). A new function gets its line here.
FUNCTIONS: list[tuple[str, Shape, Callable[[Sizes], tuple[Any, ...]]] | tuple[str, Shape, Any, int]] = [
    ("pack_signs", hidden, lambda s: (_floats(*hidden(s)), _floats(s.width))),
    ("gelu_signs", wide, lambda s: (_floats(*wide(s)),)),
    ("quantize", hidden, lambda s: (_floats(*hidden(s)), _floats(s.width), 0.3, 0.0, LOW, -LOW - 1)),
    ("pack_codes", wide, lambda s: (_codes(*wide(s)), BITS)),
    ("scale_add", hidden, lambda s: (_codes(*hidden(s)).astype(np.int32), _floats(s.width), _floats(s.width))),
    ("layer_norm", hidden, lambda s: (_floats(*hidden(s)), _floats(*hidden(s)), *[_floats(s.width)] * 2, 1e-12)),
    ("embed", hidden, _embed),
    ("relu", wide, lambda s: (_floats(*wide(s)),)),
    ("gelu", wide, lambda s: (_floats(*wide(s)),)),
    ("tanh", hidden, lambda s: (_floats(*hidden(s)),)),
    ("softmax", scores, lambda s: (_floats(*scores(s)),)),
    ("dense", pooler, lambda s: (_floats(1, s.width), _floats(s.width, s.width), _floats(s.width)), 0),
    ("score_bits", pairs, lambda s: _planes(4, *heads(s)), 1),
    ("bit_context", pairs, lambda s: (*_planes(1, *scores(s)), *_planes(2, *heads(s)), s.head_size), 1),
    ("code_scores", pairs, lambda s: (*[_codes(*hidden(s))] * 2, s.heads, 0.02), 0),
    ("code_context", pairs, lambda s: (_codes(*scores(s)).view(np.uint8) & np.uint8(15), _codes(*hidden(s))), 0),
]  # fmt: skip


def _prepare(name: str, size: tuple[int, ...], arguments: Callable[[], tuple[Any, ...]], planes: int | None) -> Work:
    found = arguments()
    function, twin = getattr(compiled, name), getattr(reference, name)
    count, call = math.prod(size), partial(function, *found)
    work = Work(call, partial(twin, *found), (function,))
    if planes is not None:
        return replace(work, macs=count, planes=planes)
    # Of the word tables a call reads as many rows as it has tokens.
    used = 4 * count if name == "embed" else octets(found)
    return replace(work, elements=count, octets=used + octets(call()))


def _weights(s: Sizes) -> Work:
    """Rearranging the weights of a layer when a model is loaded; what comes out is compared by its product."""
    outputs, depth = s.layers[0]
    signs, codes = packing.pack_bits(np.random.default_rng(0).random((outputs, depth)) < 0.5), _codes(3, depth)
    return Work(
        call=lambda: compiled.code_weights(signs, depth),
        result=lambda: compiled.code_gemm(codes, compiled.code_weights(signs, depth), BITS),
        expected=lambda: reference.code_gemm(codes, reference.code_weights(signs, depth), BITS),
        functions=(compiled.code_weights,),
        elements=outputs * depth,
        octets=2 * octets(signs),
    )


def cases(sizes: Sizes) -> Iterator[Case]:
    """One case a function."""
    for name, size, arguments, *planes in FUNCTIONS:
        made = size(sizes)
        found = partial(arguments, sizes)
        yield Case(name, "", shape(*made), partial(_prepare, name, made, found, planes[0] if planes else None))
    yield Case("code_weights", "", shape(*sizes.layers[0]), partial(_weights, sizes))
