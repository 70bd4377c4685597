"""One binary linear layer for a block of rows: product, scale, bias, and what the next stage reads.

    y[m, n] = sum over branches  scale[n] * dot[m, n]  +  add[n]          (one or two branches, `sliced_gemm.py`)

A panel of LANES outputs at a time, so that y never leaves the cache: it goes straight to *sinks*, which are floats
(before a LayerNorm), byte codes (for the next layer), codes for attention, or sign words for attention on bits. A
layer has one sink, several copies of its outputs (two branches of the next layer), or queries, keys and values.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from bebert_kernels import slots as at
from bebert_kernels.addresses import array, as_float32, as_int8, as_int64, as_uint8, as_uint64
from bebert_kernels.count_tile import LANES
from bebert_kernels.jit import kernel
from bebert_kernels.operation import call, operation
from bebert_kernels.packing import WORD_BITS
from bebert_kernels.row_codes import code_row

Table = NDArray[np.int64]
HALF = 32  # values that one step of sign_bits takes


@operation
def linear(operation_address: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Apply a layer to a block of rows whose index planes stand in this thread's memory.

    o: N, branches int64[count, 9], count (1 or 2), sinks int64[count, 9], count.
    """
    o, slots = array(as_int64(operation_address), (at.COLUMNS,)), array(as_int64(slot_address), (at.COUNT,))
    outputs = o[1]
    branches, sinks = array(as_int64(o[2]), (o[3], at.BRANCH)), array(as_int64(o[4]), (o[5], 9))
    y = array(as_float32(slots[at.Y]), (rows, LANES))
    for start in range(0, outputs, LANES):
        for b in range(branches.shape[0]):
            call(branches[b, at.PRODUCT], o[2] + 8 * at.BRANCH * b, slot_address, b, start, rows, outputs)
        for s in range(sinks.shape[0]):
            begin = max(start, sinks[s, at.START])
            end = min(min(start + LANES, outputs), sinks[s, at.START] + sinks[s, at.WIDTH])
            if begin < end:
                _drain(y, begin - start, end - begin, begin - sinks[s, at.START], sinks[s], slots, first)


@kernel
def _drain(y: NDArray[np.float32], begin: int, count: int, column: int, sink: Table, slots: Table, first: int) -> None:
    """Hand columns begin .. begin + count - 1 of y to a sink, whose columns column ... they are."""
    width, kind, rows = sink[at.WIDTH], sink[at.KIND], y.shape[0]
    row = np.int64(0) if sink[at.TO] >= at.LOCAL else first
    place = slots[sink[at.TO]]
    if kind == at.TO_FLOATS:
        floats = array(as_float32(place + 4 * row * width), (rows, width))
        for r in range(rows):
            for i in range(count):
                floats[r, column + i] = y[r, begin + i]
        return
    flags = array(as_uint8(slots[sink[at.FLAGS]] + (np.int64(0) if sink[at.FLAGS] >= at.LOCAL else first)), (rows,))
    if column == 0:
        for r in range(rows):
            flags[r] = 1
    if kind == at.TO_WORDS:
        _pack(y, begin, count, column, sink, slots, first, flags)
        return
    numbers = array(as_float32(sink[at.NUMBERS]), (at.NUMBER_COUNT,))
    shift = array(as_float32(sink[at.SHIFT] + 4 * column), (count,))
    low = np.int32(numbers[at.LOW])
    for r in range(rows):
        out = array(as_uint8(place + (row + r) * width + column), (count,))
        plain = code_row(
            y[r, begin : begin + count],
            shift,
            sink[at.RULE],
            numbers[at.STEP],
            numbers[at.MINIMUM],
            numbers[at.LOW],
            numbers[at.HIGH],
            out,
        )
        flags[r] &= np.uint8(plain)
        if kind == at.TO_CODES:  # attention wants numbers, not bytes that start at 0
            codes = array(as_int8(place + (row + r) * width + column), (count,))
            if sink[at.RULE] == at.SIGN_RULE:
                for i in range(count):
                    codes[i] = np.int8(1 - (out[i] & 1) - (out[i] >> 1))
            else:
                for i in range(count):
                    codes[i] = np.int8(np.int32(out[i]) + low)


@kernel
def _pack(
    y: NDArray[np.float32],
    begin: int,
    count: int,
    column: int,
    sink: Table,
    slots: Table,
    first: int,
    flags: NDArray[np.uint8],
) -> None:
    """Sign and non-zero words of whole or partial heads; a head begins a new word. Flags lose their 1 at a zero."""
    size = sink[at.HEAD]
    words = -(-size // WORD_BITS)
    total = sink[at.WIDTH] // size * words
    rows = y.shape[0]
    signs = array(as_uint64(slots[sink[at.TO]] + 8 * first * total), (rows, total))
    nonzero = array(as_uint64(slots[sink[at.TO] + at.NONZERO] + 8 * first * total), (rows, total))
    for r in range(rows):
        i = 0
        while i < count:
            head, inside = (column + i) // size, (column + i) % size
            bit = inside % WORD_BITS
            # No step crosses a head or a word.
            step = min(min(HALF, count - i), min(size - inside, WORD_BITS - bit))
            found = sign_bits(y.ctypes.data + 4 * (r * LANES + begin + i), np.int64(step))
            word = head * words + inside // WORD_BITS
            negative, real = np.uint64(found & 0xFFFFFFFF), np.uint64(found >> 32) & np.uint64(0xFFFFFFFF)
            if bit == 0:
                signs[r, word] = negative
                nonzero[r, word] = real
            else:
                signs[r, word] |= negative << np.uint64(bit)
                nonzero[r, word] |= real << np.uint64(bit)
            if real != (np.uint64(1) << np.uint64(step)) - np.uint64(1):
                flags[r] = 0
            i += step


@intrinsic
def sign_bits(typing_context, values, count):  # type: ignore[no-untyped-def]
    """Bits of up to 32 float32 at an address: v < 0 in the low half of the word, v != 0 in the high half.

    Always reads 32 values: the caller's row must go on behind the last.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        values, count = arguments
        word, half = ir.IntType(64), ir.IntType(HALF)
        kind = ir.VectorType(ir.FloatType(), HALF)
        x = builder.load(builder.inttoptr(values, kind.as_pointer()), align=4)
        zero = ir.Constant(kind, [0.0] * HALF)
        negative = builder.bitcast(builder.fcmp_ordered("<", x, zero), half)
        nonzero = builder.bitcast(builder.fcmp_unordered("!=", x, zero), half)
        keep = builder.sub(builder.shl(word(1), count), word(1))
        low, high = (builder.and_(builder.zext(bits, word), keep) for bits in (negative, nonzero))
        return builder.or_(low, builder.shl(high, word(HALF)))

    return types.int64(types.int64, types.int64), generate
