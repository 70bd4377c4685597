"""Layer normalization in three passes over rows that stay in the cache.

The sums are lane sums (`reference_float.lane_sum`): one vector of 16 lanes for each row, joined at the end. Each of
these additions waits for the one before, so several rows go side by side. The output holds h = x + residual between
the passes, so no scratch is needed.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from bebert_kernels.emit.vectors import (
    F32,
    FLOATS,
    I64,
    accumulator,
    call,
    data_of,
    fill,
    for_blocks,
    join,
    size_of,
    splat,
)
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.reference import floats as reference_float

Floats = NDArray[np.float32]

TOGETHER = 4


@kernel
def norm_row(x: Floats, residual: Floats, gamma: Floats, beta: Floats, eps: np.float32, out: Floats) -> None:
    """Normalize the row h = x + residual: d * (1 / sqrt(var + eps)) * gamma + beta; equals `reference.layer_norm`.

    mean = lane_sum(h) / C, d = h - mean, var = lane_sum(d * d) / C

    x, residual : float32[C]; zeros for no residual
    gamma, beta : float32[C]
    eps         : > 0, inside the square root
    out         : float32[C], written in full; may be x or residual itself

    Source: layer normalization of BERT, biased variance.
    """
    norm_one(x, residual, gamma, beta, eps, 0, out)


@kernel
def norm_rows(
    x: Floats, residual: Floats, gamma: Floats, beta: Floats, eps: np.float32, first: int, last: int, out: Floats
) -> None:
    """`norm_row` of rows first .. last - 1 of float32[M, C], faster than one by one."""
    whole = first + (last - first) // TOGETHER * TOGETHER
    for m in range(first, whole, TOGETHER):
        norm_four(x, residual, gamma, beta, eps, m, out)
    for m in range(whole, last):
        norm_one(x, residual, gamma, beta, eps, m, out)


def norm_one(
    x: Floats, residual: Floats, gamma: Floats, beta: Floats, eps: np.float32, first: int, out: Floats
) -> None:
    """Normalize row `first` of float32[M, C], or float32[C] where it is 0."""
    _norm_python(x, residual, gamma, beta, eps, first, 1, out)


def norm_four(
    x: Floats, residual: Floats, gamma: Floats, beta: Floats, eps: np.float32, first: int, out: Floats
) -> None:
    """Normalize rows first .. first + 3."""
    _norm_python(x, residual, gamma, beta, eps, first, TOGETHER, out)


def _norm_python(
    x: Floats, residual: Floats, gamma: Floats, beta: Floats, eps: np.float32, first: int, rows: int, out: Floats
) -> None:
    x, residual, out = (a.reshape(-1, gamma.size)[first : first + rows] for a in (x, residual, out))
    out[:] = reference_float.layer_norm(x, residual, gamma, beta, float(eps))


def _make_norm(rows: int) -> Any:
    """Intrinsic of `norm_one` or `norm_four`."""

    @intrinsic
    def norm(typing_context, x, residual, gamma, beta, eps, first, out):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            row, other, factor, shift, eps, first, target = arguments
            arrays = (row, other, target, factor, shift)
            data = data_of(context, builder, (x, residual, out, gamma, beta), arrays)
            size = size_of(context, builder, gamma, factor)
            start = builder.mul(first, size)
            ways = [
                [builder.gep(place, [builder.add(start, builder.mul(I64(i), size))]) for i in range(rows)]
                for place in data[:3]
            ]
            _Norm(builder, size, *ways).emit(eps, data[3:])
            return context.get_dummy_value()

        return types.void(x, residual, gamma, beta, types.float32, types.int64, out), generate

    return norm


class _Norm:
    """Emits the three passes for rows side by side; all arguments are lists with an entry for each row."""

    def __init__(
        self, builder: ir.IRBuilder, size: ir.Value, x: list[ir.Value], residual: list[ir.Value], out: list[ir.Value]
    ) -> None:
        self.builder, self.size, self.x, self.residual, self.out = builder, size, x, residual, out
        self.rows = len(x)
        self.count = builder.sitofp(size, F32)

    def emit(self, eps: ir.Value, factors: list[ir.Value]) -> None:
        b = self.builder
        means = [splat(b, mean) for mean in self._sum_rows()]
        scales = []
        for variance in self._sum_squares(means):
            root = call(b, "llvm.sqrt.f32", F32, b.fadd(variance, eps))
            scales.append(splat(b, b.fdiv(F32(1.0), root)))

        def body(i: ir.Value, vectors: list[ir.Value], inside: ir.Value | None) -> list[ir.Value]:
            *rows, factor, shift = vectors
            scaled = [b.fmul(b.fsub(row, mean), scale) for row, mean, scale in zip(rows, means, scales, strict=True)]
            return [b.fadd(b.fmul(row, factor), shift) for row in scaled]

        for_blocks(b, self.size, [*self.out, *factors], self.out, body)

    def _sum_rows(self) -> list[ir.Value]:
        """Means of x + residual, which goes to the output."""
        b = self.builder
        totals = [accumulator(b, FLOATS, 0.0) for _ in self.x]

        def body(i: ir.Value, vectors: list[ir.Value], inside: ir.Value | None) -> list[ir.Value]:
            sums = [b.fadd(vectors[r], vectors[self.rows + r]) for r in range(self.rows)]
            for total, h in zip(totals, sums, strict=True):
                b.store(b.fadd(b.load(total), h), total)
            return sums

        for_blocks(b, self.size, [*self.x, *self.residual], self.out, body)
        return [b.fdiv(join(b, b.load(total)), self.count) for total in totals]

    def _sum_squares(self, means: list[ir.Value]) -> list[ir.Value]:
        """Variances."""
        b = self.builder
        totals = [accumulator(b, FLOATS, 0.0) for _ in self.x]

        def body(i: ir.Value, vectors: list[ir.Value], inside: ir.Value | None) -> list[ir.Value]:
            for row, mean, total in zip(vectors, means, totals, strict=True):
                d = b.fsub(row, mean)
                if inside is not None:
                    d = b.select(inside, d, fill(FLOATS, 0.0))
                b.store(b.fadd(b.load(total), b.fmul(d, d)), total)
            return []

        for_blocks(b, self.size, self.out, [], body)
        return [b.fdiv(join(b, b.load(total)), self.count) for total in totals]


_norm_one, _norm_four = _make_norm(1), _make_norm(TOGETHER)


@overload(norm_one)
def _norm_one_overload(x, residual, gamma, beta, eps, first, out):  # type: ignore[no-untyped-def]
    return lambda x, residual, gamma, beta, eps, first, out: _norm_one(x, residual, gamma, beta, eps, first, out)


@overload(norm_four)
def _norm_four_overload(x, residual, gamma, beta, eps, first, out):  # type: ignore[no-untyped-def]
    return lambda x, residual, gamma, beta, eps, first, out: _norm_four(x, residual, gamma, beta, eps, first, out)
