"""Layer normalization in three passes over rows that stay in the cache.

The sums are lane sums (`reference.floats.lane_sum`): one vector of 16 lanes for each row, joined at the end. Each of
these additions waits for the one before, so several rows go side by side. The output holds h = x + residual between
the passes, so no scratch is needed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.emit.emitter import Emitter, Value, vector_code
from bebert_kernels.emit.vectors import F32, FLOAT_LANES, FLOATS, fill
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.reference.floats import layer_norm
from bebert_kernels.rows.layout import TOGETHER

Floats = NDArray[np.float32]


class _Norm:
    """Emits the three passes for rows side by side; all arguments are lists with an entry for each row."""

    def __init__(self, e: Emitter, size: Value, x: list[Value], residual: list[Value], out: list[Value]) -> None:
        self.e, self.size, self.x, self.residual, self.out = e, size, x, residual, out
        self.rows = len(x)
        self.count = e.builder.sitofp(size, F32)

    def emit(self, eps: Value, factors: list[Value]) -> None:
        e, b = self.e, self.e.builder
        means = [e.repeat(mean, FLOAT_LANES) for mean in self._sum_rows()]
        scales = []
        for variance in self._sum_squares(means):
            root = e.call("llvm.sqrt.f32", F32, b.fadd(variance, eps))
            scales.append(e.repeat(b.fdiv(F32(1.0), root), FLOAT_LANES))

        def body(i: Value, vectors: list[Value], inside: Value | None) -> list[Value]:
            *rows, factor, shift = vectors
            scaled = [b.fmul(b.fsub(row, mean), scale) for row, mean, scale in zip(rows, means, scales, strict=True)]
            return [b.fadd(b.fmul(row, factor), shift) for row in scaled]

        e.for_blocks(self.size, [*self.out, *factors], self.out, body)

    def _sum_rows(self) -> list[Value]:
        """Means of x + residual, which goes to the output."""
        e, b = self.e, self.e.builder
        totals = [e.variable(fill(FLOATS, 0.0)) for _ in self.x]

        def body(i: Value, vectors: list[Value], inside: Value | None) -> list[Value]:
            sums = [b.fadd(vectors[r], vectors[self.rows + r]) for r in range(self.rows)]
            for total, h in zip(totals, sums, strict=True):
                b.store(b.fadd(b.load(total), h), total)
            return sums

        e.for_blocks(self.size, [*self.x, *self.residual], self.out, body)
        return [b.fdiv(e.fold(b.load(total), b.fadd), self.count) for total in totals]

    def _sum_squares(self, means: list[Value]) -> list[Value]:
        """Variances."""
        e, b = self.e, self.e.builder
        totals = [e.variable(fill(FLOATS, 0.0)) for _ in self.x]

        def body(i: Value, vectors: list[Value], inside: Value | None) -> list[Value]:
            for row, mean, total in zip(vectors, means, totals, strict=True):
                d = b.fsub(row, mean)
                if inside is not None:
                    d = b.select(inside, d, fill(FLOATS, 0.0))
                b.store(b.fadd(b.load(total), b.fmul(d, d)), total)
            return []

        e.for_blocks(self.size, self.out, [], body)
        return [b.fdiv(e.fold(b.load(total), b.fadd), self.count) for total in totals]


def _make_norm(rows: int) -> Any:
    def emit(e: Emitter, x: Any, residual: Any, gamma: Any, beta: Any, eps: Value, first: Value, out: Any) -> None:
        b, size = e.builder, e.size(gamma)
        start = b.mul(first, size)
        ways = [[b.gep(array.data, [e.place(start, i, size)]) for i in range(rows)] for array in (x, residual, out)]
        _Norm(e, size, *ways).emit(eps, [gamma.data, beta.data])

    @vector_code(emit)
    def norm(
        x: Floats, residual: Floats, gamma: Floats, beta: Floats, eps: np.float32, first: int, out: Floats
    ) -> None:
        """Normalize rows first .. first + rows - 1 of float32[M, C], or float32[C] where first is 0."""
        x, residual, out = (a.reshape(-1, gamma.size)[first : first + rows] for a in (x, residual, out))
        out[:] = layer_norm(x, residual, gamma, beta, float(eps))

    return norm


norm_one, norm_four = _make_norm(1), _make_norm(TOGETHER)


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
