"""Kernels of the native path that treat a row at a time: codes, index planes, norms, embeddings, scaling.

Other kernels call them; a call from Python for each row would measure the call, so compiled loops stand around them.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from kernel_bench.case import BITS, LOW, Case, Sizes, Work, hidden, octets, shape
from numba import njit
from numpy.typing import NDArray

from bebert_kernels import packing
from bebert_kernels.abi.rule import Numbers
from bebert_kernels.bitsliced.index import index_row
from bebert_kernels.bitsliced.triples import aligned, levels, triple_count
from bebert_kernels.emit.scale import make_scale
from bebert_kernels.reference import floats as reference_float
from bebert_kernels.reference import integers as reference
from bebert_kernels.rows.embed import EmbeddingTables, embed_row
from bebert_kernels.rows.layer_norm import norm_rows
from bebert_kernels.rows.layout import MINUS, PLUS, ZERO
from bebert_kernels.rows.quantize import quantize_row

KINDS = ("sign", "gelu-sign", "code", "relu-code")  # of `quantize_row`
STEP = 0.3


@njit(nogil=True)
def _code_rows(x, shift, kind, numbers, out):  # type: ignore[no-untyped-def]
    for row in range(len(x)):
        quantize_row(x[row], shift, kind, numbers, out[row])


def _code_work(s: Sizes, kind: int) -> Work:
    x, out = _floats(*hidden(s)), np.empty(hidden(s), np.uint8)
    shift = np.zeros(s.width, np.float32)
    numbers = Numbers(*(np.float32(value) for value in (STEP, 0, LOW, -LOW - 1)))

    def call() -> NDArray:
        _code_rows(x, shift, kind, numbers, out)
        return out

    def expected() -> NDArray:
        if kind < 2:
            signs, nonzero, _ = reference.gelu_signs(x) if kind else reference.pack_signs(x, None)
            negative, counts = (packing.unpack_bits(plane, s.width) for plane in (signs, nonzero))
            return np.where(counts, np.where(negative, MINUS, PLUS), ZERO)
        return (
            reference.quantize(reference_float.relu(x) if kind == 3 else x, None, STEP, 0, LOW, -LOW - 1).astype(int)
            - LOW
        )

    return Work(call, expected, (quantize_row,), elements=x.size, octets=octets(x, out))


@njit(nogil=True)
def _index_rows(codes, chain, planes, index, parity):  # type: ignore[no-untyped-def]
    depth = codes.shape[1]
    for row in range(len(codes)):
        for k in range(depth):
            chain[k] = codes[row, k]
        index_row(chain, depth, planes, index[row], parity[row])


def _index_work(s: Sizes, planes: int) -> Work:
    codes = np.random.default_rng(0).integers(0, 2**planes, hidden(s), dtype=np.uint8)
    chain, triples = np.empty(2 * s.width + 16, np.uint8), triple_count(s.width)
    index, parity = np.empty((s.tokens, planes, triples), np.uint8), np.empty((s.tokens, planes), np.uint8)

    def call() -> tuple[NDArray, NDArray]:
        _index_rows(codes, chain, planes, index, parity)
        return index, parity

    return Work(
        call,
        lambda: index_planes(codes, planes),
        (index_row,),
        elements=codes.size,
        octets=octets(codes, index, parity),
    )


def index_planes(codes: NDArray[np.uint8], planes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Index planes uint8[M, P, Gp] and parities uint8[M, P] of rows of codes, as in `bitsliced/index.py`."""
    chain, indices = codes, []
    for level in levels(codes.shape[1]):
        used = 3 * level.triples
        chain = np.pad(chain, ((0, 0), (0, max(0, used - chain.shape[1]))))
        a, b, c = (chain[:, level.triples * i : level.triples * (i + 1)] for i in range(3))
        bits = [[(part >> p) & 1 for part in (a, b, c)] for p in range(planes)]
        indices.append(np.stack([8 * (x + 2 * y + 4 * z) for x, y, z in bits], axis=1))
        chain = np.concatenate([chain[:, used:], a ^ b ^ c], axis=1)
    found = np.concatenate(indices, axis=2)
    padding = triple_count(codes.shape[1]) - found.shape[2]
    parities = np.stack([(chain[:, 0] >> p) & 1 for p in range(planes)], axis=1)
    return np.pad(found, ((0, 0), (0, 0), (0, padding))).astype(np.uint8), parities


def _norm_work(s: Sizes) -> Work:
    x, residual = _floats(*hidden(s)), _floats(*hidden(s))[::-1].copy()
    gamma, beta = _floats(2, s.width)
    out = np.empty_like(x)

    def call() -> NDArray:
        norm_rows(x, residual, gamma, beta, np.float32(1e-12), 0, len(x), out)
        return out

    expected = lambda: reference_float.layer_norm(x, residual, gamma, beta, 1e-12)  # noqa: E731
    return Work(call, expected, (norm_rows,), elements=x.size, octets=octets(x, residual, out))


@njit(nogil=True)
def _embed_rows(places, tables, out):  # type: ignore[no-untyped-def]
    for row in range(len(out)):
        a, b, c = places[0, row], places[1, row], places[2, row]
        embed_row(a, b, c, tables, out[row])


def _embed_work(s: Sizes) -> Work:
    rng = np.random.default_rng(0)
    places = np.stack([rng.integers(0, size, s.tokens) for size in (s.vocabulary, s.tokens, 2)])
    signs = [packing.pack_bits(rng.random((s.vocabulary, s.width)) < 0.5) for _ in range(2)]
    scales, tables = [_floats(s.vocabulary), -_floats(s.vocabulary)], (_floats(*hidden(s)), _floats(2, s.width))
    out = np.empty(hidden(s), np.float32)
    found = EmbeddingTables(2, signs[0], scales[0], signs[1], scales[1], *tables)

    def call() -> NDArray:
        _embed_rows(places, found, out)
        return out

    expected = lambda: reference_float.embed(*places, tuple(signs), tuple(scales), *tables)  # noqa: E731
    used = 3 * out.nbytes + 2 * s.tokens * signs[0].shape[1] * 8  # two rows of floats, two of bits, and what comes out
    return Work(call, expected, (embed_row,), elements=out.size, octets=used)


def _scale_work(s: Sizes) -> Work:
    """Intrinsics of whole rows; rows are 64 bytes aligned, as in a program."""
    width = -(-s.width // 16) * 16
    scale_sums = make_scale(width)
    sums, out = aligned((s.tokens, width), np.int32), aligned((s.tokens, width), np.float32)
    sums[:] = np.random.default_rng(0).integers(-(2**20), 2**20, sums.shape)
    offset, (scale, add) = np.arange(width, dtype=np.int32), _floats(2, width)

    @njit(nogil=True)
    def scale_rows(sums, offset, scale, add, out):  # type: ignore[no-untyped-def]
        for row in range(len(out)):
            places = sums[row].ctypes.data, offset.ctypes.data, scale.ctypes.data, add.ctypes.data, out[row].ctypes.data
            scale_sums(places[0], np.int64(-2), np.int64(3), places[1], places[2], places[3], places[4])

    def call() -> NDArray:
        scale_rows(sums, offset, scale, add, out)
        return out

    expected = lambda: reference_float.scale_add((3 - 2 * sums + offset).astype(np.int32), scale, add)  # noqa: E731
    return Work(call, expected, (make_scale,), elements=out.size, octets=octets(sums, out))


def _floats(*size: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(size).astype(np.float32)


def cases(sizes: Sizes) -> Iterator[Case]:
    """Rows of hidden states."""
    text = shape(*hidden(sizes))
    for kind, name in enumerate(KINDS):
        yield Case("quantize_row", name, text, partial(_code_work, sizes, kind))
    for planes in (1, 2, BITS):
        yield Case("index_row", f"planes {planes}", text, partial(_index_work, sizes, planes))
    yield Case("norm_rows", "with residual", text, partial(_norm_work, sizes))
    yield Case("embed_row", "two tables", text, partial(_embed_work, sizes))
    yield Case("scale_tile", "", text, partial(_scale_work, sizes))
