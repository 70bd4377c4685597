"""Scores to attention codes: softmax and rounding with exactly the steps of `reference.softmax` and `quantize`.

Two divisions for each code would cost more than the products around them, so codes are first estimated as
e * (1 / (total * step)), off by less than a millionth; only a row with an estimate that near to a rounding boundary is
divided out.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from bebert_kernels.attention.layout import UNIT_INPUTS
from bebert_kernels.attention.units import CHUNK_UNITS, SUMS, Units, python_units
from bebert_kernels.emit.emitter import Emitter, Value, vector_code
from bebert_kernels.emit.vectors import F32, FLOAT_LANES, FLOATS, I16, I32, I64, fill
from bebert_kernels.machine_code import code_features
from bebert_kernels.reference.floats import EXP_LOWEST, EXP_TERMS, LN2_HIGH, LN2_LOW, LOG2_E, lane_sum
from bebert_kernels.reference.floats import exp as reference_exp

# Blocks of scores whose exponentials are computed in step: one alone is a chain of 25 dependent instructions.
TOGETHER = 8 if "avx512bw" in code_features() else 2 if "avx2" in code_features() else 1
_MAGIC = float(3 << 22)  # adding it to a float32 rounds to whole numbers, half to even, in the lowest bits


class Rounding(NamedTuple):
    """Numbers of the quantizer of probabilities, float32.

    inverse : 1 / step      bound : estimates further than this from a whole number are divided out
    """

    step: float
    inverse: float | np.floating
    low: float
    high: float
    bound: float | np.floating


class _Softmax:
    """Emits passes over rows of scores in blocks of 16; a pass over all rows lets rows overlap in the pipeline."""

    def __init__(self, e: Emitter, scratch: Any, scores: Value, blocks: Value) -> None:
        self.e, self.data, self.scores, self.blocks = e, scratch.data, scores, blocks

    def row(self, row: Value) -> Value:
        return self.e.place(self.scores, row, self.e.builder.mul(self.blocks, I64(FLOAT_LANES)))

    def fold(self, row: Value, start: float, combine: Any) -> Value:
        """Combine the blocks of a row in order, then the lanes in pairs."""
        e, b = self.e, self.e.builder
        total = e.variable(fill(FLOATS, start))
        first = self.row(row)
        with e.loop(I64(0), self.blocks) as (i, _):
            block = e.load(self.data, e.place(first, i, FLOAT_LANES), FLOATS, align=64)
            b.store(combine(b.load(total), block), total)
        return e.fold(b.load(total), combine)

    def change(self, place: Value, blocks: Value, together: int, function: Any) -> None:
        """Replace blocks by function(block), `together` at a time."""
        e, b = self.e, self.e.builder
        whole = b.and_(blocks, I64(-together))
        for begin, end, count in ((I64(0), whole, together), (whole, blocks, 1))[: 1 + (together > 1)]:
            kind = ir.VectorType(F32, count * FLOAT_LANES)
            with e.loop(begin, end, count) as (i, _):
                here = e.place(place, i, FLOAT_LANES)
                e.store(function(e.load(self.data, here, kind, align=64)), self.data, here, align=64)

    def largest(self, a: Value, b: Value) -> Value:
        return self.e.builder.select(self.e.builder.fcmp_ordered(">", a, b), a, b)

    def exp(self, y: Value) -> Value:
        """Exponential of y <= 0 by the steps of `reference.floats.exp`; 2**n is added to the exponent bits."""
        b, count = self.e.builder, y.type.count
        units = ir.VectorType(I32, count)
        magic, lowest, log2_e, ln2_high, ln2_low, one = (
            fill(y.type, float(number)) for number in (_MAGIC, EXP_LOWEST, LOG2_E, LN2_HIGH, LN2_LOW, 1)
        )
        bounded = self.largest(y, lowest)
        shifted = b.fadd(b.fmul(bounded, log2_e), magic)
        n = b.fsub(shifted, magic)
        r = b.fsub(b.fsub(bounded, b.fmul(n, ln2_high)), b.fmul(n, ln2_low))
        p = fill(y.type, float(EXP_TERMS[0]))
        for term in EXP_TERMS[1:]:
            p = b.fadd(b.fmul(p, r), fill(y.type, float(term)))
        p = b.fadd(b.fadd(b.fmul(p, b.fmul(r, r)), r), one)
        power = b.shl(b.bitcast(shifted, units), fill(units, 23))  # never makes a subnormal number: y >= -87.3
        p = b.bitcast(b.add(b.bitcast(p, units), power), y.type)
        return b.select(b.fcmp_ordered(">=", y, lowest), p, fill(y.type, 0.0))

    def codes(self, row: Value, to: Value, high: Value, estimate: Any) -> Value:
        """Store rne(min(estimate(e), high)) as units; return the largest distances to a whole number."""
        e, b = self.e, self.e.builder
        far = e.variable(fill(FLOATS, 0.0))
        narrow = ir.VectorType(ir.IntType(32 // UNIT_INPUTS), FLOAT_LANES)
        first, to = self.row(row), e.place(to, row, b.mul(self.blocks, I64(CHUNK_UNITS)))
        with e.loop(I64(0), self.blocks) as (i, _):
            value = estimate(e.load(self.data, e.place(first, i, FLOAT_LANES), FLOATS, align=64))
            value = b.select(b.fcmp_ordered("<", value, high), value, high)
            shifted = b.fadd(value, fill(FLOATS, _MAGIC))
            distance = b.bitcast(b.fsub(value, b.fsub(shifted, fill(FLOATS, _MAGIC))), SUMS)
            distance = b.bitcast(b.and_(distance, fill(SUMS, 0x7FFFFFFF)), FLOATS)
            b.store(self.largest(b.load(far), distance), far)
            e.store(b.trunc(b.bitcast(shifted, SUMS), narrow), self.data, e.place(to, i, CHUNK_UNITS), align=4)
        return b.load(far)


def _emit_softmax_codes(
    e: Emitter, scratch: Any, scores: Value, rows: Value, blocks: Value, rounding: Any, to: Value, kept: Value
) -> None:
    """Pass after pass over all rows: neighbouring rows overlap, and exponentials need not know where a row ends."""
    step, inverse, low, high, bound = (e.repeat(value, FLOAT_LANES) for value in rounding)
    b, softmax = e.builder, _Softmax(e, scratch, scores, blocks)
    with e.loop(I64(0), rows) as (row, _):
        top = e.repeat(softmax.fold(row, -np.inf, softmax.largest), FLOAT_LANES)
        softmax.change(softmax.row(row), blocks, 1, lambda value: b.fsub(value, top))
    softmax.change(scores, b.mul(rows, blocks), TOGETHER, softmax.exp)
    with e.loop(I64(0), rows) as (row, _):
        e.store(softmax.fold(row, 0.0, b.fadd), scratch.data, b.add(kept, row), align=4)
    with e.loop(I64(0), rows) as (row, _):
        total = e.repeat(e.load(scratch.data, b.add(kept, row), F32, align=4), FLOAT_LANES)
        factor = b.fdiv(inverse, total)
        far = softmax.codes(row, to, high, lambda value: b.fmul(value, factor))
        near = b.bitcast(b.fcmp_ordered(">", far, bound), I16)
        with b.if_then(b.icmp_unsigned("!=", near, I16(0)), likely=False):
            exact = lambda value: softmax.largest(b.fdiv(b.fdiv(value, total), step), low)  # noqa: E731
            softmax.codes(row, to, high, exact)


@vector_code(_emit_softmax_codes)
def softmax_codes(scratch: Units, scores: int, rows: int, blocks: int, rounding: Rounding, to: int, kept: int) -> None:
    """Attention codes clamp(rne(softmax(scores) / step), low, high) as units, row by row from scratch[to] on.

    scores  : place of float32[rows, 16 * blocks], -inf beyond the keys; overwritten
    kept    : place of one number for each row
    """
    for row in range(rows):
        start = scores + row * FLOAT_LANES * blocks
        values = scratch[start : start + FLOAT_LANES * blocks].view(np.float32)
        e = reference_exp(values - values.max())
        with np.errstate(over="ignore"):
            codes = np.clip(np.rint(e / lane_sum(e) / rounding.step), rounding.low, rounding.high)
        start = to + row * CHUNK_UNITS * blocks
        scratch[start : start + CHUNK_UNITS * blocks] = python_units(codes)
