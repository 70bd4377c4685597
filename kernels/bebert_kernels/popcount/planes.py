"""Byte codes of a row to the bitplanes that the popcount product reads, and the total that its sums are taken from.

codes   0..15   bit 0 of every code -> plane 0, bit 1 -> plane 1, ...    total = sum of the codes
signs   0, 2, 3 (plus, zero, minus; `rows/quantize.py`) -> 1 where minus, 1 where not zero    total = how many are not
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from bebert_kernels.emit.emitter import Emitter, vector_code
from bebert_kernels.emit.vectors import I8, I64, fill
from bebert_kernels.jit.kernel import kernel, popcount
from bebert_kernels.packing import WORD_BITS, Words, pack_bits

_OCTETS = ir.VectorType(I8, WORD_BITS)


def _emit_bit_planes(e: Emitter, codes: Any, planes: ir.Value, out: Any) -> None:
    b = e.builder
    depth, stride = b.extract_value(codes.shape, 0), b.extract_value(out.shape, 1)
    whole = b.and_(depth, I64(-WORD_BITS))

    def words(octets: ir.Value, w: ir.Value) -> None:
        with e.loop(I64(0), planes) as (p, _):
            bit = e.repeat(b.shl(I8(1), b.trunc(p, I8)), WORD_BITS)
            found = b.icmp_unsigned("!=", b.and_(octets, bit), fill(_OCTETS, 0))
            b.store(b.bitcast(found, I64), b.gep(out.data, [e.place(w, p, stride)]))

    with e.loop(I64(0), whole, WORD_BITS) as (k, _):
        words(e.load(codes.data, k, _OCTETS, align=1), b.lshr(k, I64(6)))
    with b.if_then(b.icmp_signed("<", whole, depth)):
        last = cgutils.alloca_once(b, _OCTETS)
        b.store(fill(_OCTETS, 0), last)
        source, target = b.gep(codes.data, [whole]), b.bitcast(last, I8.as_pointer())
        cgutils.raw_memcpy(b, target, source, b.sub(depth, whole), 1, align=1)
        words(b.load(last), b.lshr(whole, I64(6)))


@vector_code(_emit_bit_planes, types.void)
def bit_planes(codes: NDArray[np.uint8], planes: int, out: Words) -> None:
    """Bits 0 .. planes - 1 of every code as words; bits beyond the depth are 0.

    codes : uint8[K]      out : uint64[P, S], P >= planes, S >= W; W words of each of the planes are written
    """
    for p in range(planes):
        found = pack_bits((codes >> p & 1).astype(np.bool_))
        out[p, : len(found)] = found


@kernel
def pack_row(codes: NDArray[np.uint8], signs: bool, out: Words) -> np.int32:
    """Planes of a row, as `tile.py` wants them; returns its total.

    codes : uint8[K]
    out   : uint64[P, S]     S >= W; P planes of the codes, or 2 for signs: values, then 1 where they are not zero

    The dot product with weight signs is total - 2 * sums, for codes that are counted from 0.
    """
    planes = out.shape[0]
    bit_planes(codes, planes, out)
    depth, total = codes.size, np.int64(0)
    for w in range((depth + WORD_BITS - 1) // WORD_BITS):
        if signs:
            inside = ~np.uint64(0) >> np.uint64(max(0, WORD_BITS * (w + 1) - depth))
            nonzero = ~(out[0, w] ^ out[1, w]) & inside
            out[1, w] = nonzero
            total += popcount(nonzero)
        else:
            for p in range(planes):
                total += popcount(out[p, w]) << p
    return np.int32(total)
