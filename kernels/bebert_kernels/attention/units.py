"""Groups of byte codes, the units of `softmax.py`, and the sum of their products.

A unit is an int32: four inputs as bytes where there is a byte product (`vpdpbusd` of AVX-512 VNNI and AVX-VNNI), else
two as int16 (`vpmaddwd`, or plain multiplication). The row's bytes are unsigned (q + 128), the panel's signed.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from bebert_kernels.attention.layout import BYTE_PRODUCT, UNIT_INPUTS
from bebert_kernels.emit.emitter import Emitter, Value
from bebert_kernels.emit.vectors import FLOAT_LANES, I8, I16, I32, I64, fill

Units = NDArray[np.int32]
Codes = NDArray[np.int8]

CHUNK_UNITS = FLOAT_LANES // UNIT_INPUTS  # units of 16 inputs

SUMS = ir.VectorType(I32, FLOAT_LANES)


class Rows(NamedTuple):
    """Rows of an array, or of the scratch where `staged` is 1: row i begins at element place + i * stride.

    Elements are those of the array. It is passed beside: a tuple that holds it would count references, row by row.
    """

    staged: int | np.int64
    place: int
    stride: int


def dot(e: Emitter, total: Value, row: Value, panel: Value) -> Value:
    """Return total + products of the groups of two vectors of 16 units."""
    b, features = e.builder, e.features
    if BYTE_PRODUCT:
        width = 16 if "+avx512vnni" in features and "+avx512bw" in features else 8
        kind = ir.VectorType(I32, width)
        return e.join(
            [
                e.call(f"llvm.x86.avx512.vpdpbusd.{32 * width}", kind, *parts)
                for parts in zip(*(e.split(value, width) for value in (total, row, panel)), strict=True)
            ]
        )
    names = {"+avx512bw": "avx512.pmaddw.d.512", "+avx2": "avx2.pmadd.wd", "+sse2": "sse2.pmadd.wd"}
    for (feature, name), width in zip(names.items(), (16, 8, 4), strict=True):
        if feature in features:
            shorts = ir.VectorType(I16, 2 * width)
            products = [
                e.call(f"llvm.x86.{name}", ir.VectorType(I32, width), *(b.bitcast(part, shorts) for part in parts))
                for parts in zip(e.split(row, width), e.split(panel, width), strict=True)
            ]
            return b.add(total, e.join(products))
    half = fill(SUMS, 16)
    for shift in (lambda value: b.ashr(b.shl(value, half), half), lambda value: b.ashr(value, half)):
        total = b.add(total, b.mul(shift(row), shift(panel)))
    return total


def units(e: Emitter, octets: Value) -> Value:
    """Signed bytes as units: the same bytes, or widened to int16."""
    if UNIT_INPUTS == 2:
        octets = e.builder.sext(octets, ir.VectorType(I16, octets.type.count))
    return e.builder.bitcast(octets, ir.VectorType(I32, octets.type.count // UNIT_INPUTS))


def octets_of(e: Emitter, scratch: Any, data: Any, rows: Any) -> Value:
    """Pointer to the bytes of the scratch where rows are staged, else of their array."""
    b = e.builder
    here, there = (b.bitcast(array.data, I8.as_pointer()) for array in (scratch, data))
    return b.select(b.icmp_signed("!=", rows.staged, I64(0)), here, there)


def flat(scratch: Units, data: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """Elements of the scratch or of the array without JIT."""
    return scratch.view(data.dtype) if rows.staged else data.reshape(-1)


def python_units(codes: NDArray[Any]) -> Units:
    """`units` without JIT, where UNIT_INPUTS is 2."""
    return codes.astype(np.int16).view(np.int32)
