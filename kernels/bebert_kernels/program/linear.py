"""One binary linear layer for a block of rows: product, scale, bias, and what the next stage reads.

    y[m, n] = sum over branches  scale[n] * dot[m, n]  +  add[n]          (one or two branches, `sliced_gemm.py`)

A panel of PANEL_OUTPUTS outputs at a time for all rows, then a strip of a few rows of it at a time, so that y never
leaves the first-level cache: it goes straight to *sinks*: floats, sums (added to the residual before a LayerNorm),
byte codes (for the next layer), codes for attention, or sign words for attention on bits. A layer has one sink, several
copies of its outputs (two branches of the next layer), or queries, keys and values. Where only signs are wanted, no y
is made: sums are compared with limits (`thresholds.py`).
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from bebert_kernels.abi import layout as at
from bebert_kernels.abi.memory import array, as_float32, as_int8, as_int64, as_uint8, as_uint64
from bebert_kernels.abi.stage import call, stage
from bebert_kernels.bitsliced.counters import COUNTER, STRIP
from bebert_kernels.bitsliced.gemm import is_half
from bebert_kernels.bitsliced.tile import CHUNK, LEVELS, PANEL_OUTPUTS, PLANE, TABLE
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import WORD_BITS
from bebert_kernels.rows.quantize import MINUS, PLUS, ZERO, quantize_row

Table = NDArray[np.int64]
HALF = 32  # values that `sign_bits` takes

# Bytes of the scratch of a layer that depend on the machine only; NOTHING must hold zeros.
SCRATCH = {
    at.TABLE: CHUNK * TABLE,
    at.NOTHING: max(LEVELS.values()) * PLANE,  # the state before the first chunk
    at.COUNTER: COUNTER,
    at.SUMS: 4 * 2 * PANEL_OUTPUTS,
    at.BITS: STRIP * 2 * PLANE,
    at.Y: 4 * STRIP * PANEL_OUTPUTS,
}


@stage
def linear(instruction: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Apply a layer to a block of rows whose index planes stand in this thread's memory.

    o: N, branches int64[count, 13], count (1 or 2), sinks int64[count, 9], count.
    """
    o, slots = array(as_int64(instruction), (at.COLUMNS,)), array(as_int64(slot_address), (at.COUNT,))
    outputs, branch_bytes = o[1], 8 * at.BRANCH
    branches, sinks = array(as_int64(o[2]), (o[3], at.BRANCH)), array(as_int64(o[4]), (o[5], 9))
    plain = array(as_uint8(slots[at.PLAIN + at.INPUT * branches[0, at.FROM]]), (rows,))
    direct = sinks.shape[0] == 1 and sinks[0, at.KIND] == at.TO_FLOATS
    for start in range(0, outputs, PANEL_OUTPUTS):
        end = min(start + PANEL_OUTPUTS, outputs)
        # A panel whose lanes are all outputs goes straight to a matrix of floats.
        whole = direct and (
            end - start == PANEL_OUTPUTS or (is_half(start, outputs) and end - start == PANEL_OUTPUTS // 2)
        )
        for b in range(branches.shape[0]):
            call(branches[b, at.PRODUCT], o[2] + branch_bytes * b, slot_address, b, start, rows, outputs)
        limits = np.int64(0)
        if branches[0, at.LIMITS] != 0:
            limits = array(as_int64(branches[0, at.LIMITS]), (-(-outputs // PANEL_OUTPUTS),))[start // PANEL_OUTPUTS]
        for row in range(0, rows, STRIP):
            strip = min(STRIP, rows - row)
            decided = limits != 0
            for r in range(row, row + strip):
                decided = decided and plain[r] != 0
            if decided:
                call(branches[0, at.DECIDE], o[2], slot_address, limits, start, row, strip)
            else:
                slots[at.OUT], slots[at.OUT_STRIDE] = slots[at.Y], 4 * PANEL_OUTPUTS
                if whole:
                    to = np.int64(0) if sinks[0, at.TO] >= at.LOCAL else first
                    slots[at.OUT] = slots[sinks[0, at.TO]] + 4 * ((to + row) * outputs + start)
                    slots[at.OUT_STRIDE] = 4 * outputs
                for b in range(branches.shape[0]):
                    call(branches[b, at.FINISH], o[2] + branch_bytes * b, slot_address, b, start, row, strip)
                if whole:
                    continue
            for s in range(sinks.shape[0]):
                sink = sinks[s]
                begin, stop = max(start, sink[at.START]), min(end, sink[at.START] + sink[at.WIDTH])
                if begin < stop:
                    store_outputs(
                        decided, begin - start, stop - begin, begin - sink[at.START], sink, slots, first, row, strip
                    )


@kernel
def store_outputs(
    decided: bool, begin: int, count: int, column: int, sink: Table, slots: Table, first: int, row: int, strip: int
) -> None:
    """Hand columns begin .. begin + count - 1 of a strip of a panel to a sink, whose columns column ... they are.

    decided : whether the strip is signs in BITS, else it is floats in Y
    first   : row of the batch with which the block begins;     row : row of the block with which the strip begins
    """
    width, kind = sink[at.WIDTH], sink[at.KIND]
    y = array(as_float32(slots[at.Y]), (strip, PANEL_OUTPUTS))
    to = row if sink[at.TO] >= at.LOCAL else first + row
    place = slots[sink[at.TO]]
    if kind == at.TO_FLOATS or kind == at.TO_SUM:
        floats = array(as_float32(place + 4 * to * width), (strip, width))
        for r in range(strip):
            out, row_of_y = floats[r, column : column + count], y[r, begin : begin + count]
            if kind == at.TO_SUM:
                for i in range(count):
                    out[i] = out[i] + row_of_y[i]
            else:
                for i in range(count):
                    out[i] = row_of_y[i]
        return
    flags = array(as_uint8(slots[sink[at.FLAGS]] + (row if sink[at.FLAGS] >= at.LOCAL else first + row)), (strip,))
    if column == 0:
        for r in range(strip):
            flags[r] = 1
    if kind == at.TO_WORDS:
        if not decided:
            _decide(y, slots[at.BITS])
        signs_to_words(slots[at.BITS], begin, count, column, sink, slots, to, flags)
        return
    if decided:
        signs_to_bytes(slots[at.BITS], count, place + to * width + column, width, flags)
        return
    _code(y, begin, count, column, sink, place + to * width, flags)


@kernel
def _code(
    y: NDArray[np.float32], begin: int, count: int, column: int, sink: Table, place: int, flags: NDArray[np.uint8]
) -> None:
    """Byte codes, or codes for attention, of a strip of floats, to rows at an address."""
    width = sink[at.WIDTH]
    numbers = array(as_float32(sink[at.NUMBERS]), (at.NUMBER_COUNT,))
    shift = array(as_float32(sink[at.SHIFT] + 4 * column), (count,))
    low = np.int32(numbers[at.LOW])
    for r in range(y.shape[0]):
        out = array(as_uint8(place + r * width + column), (count,))
        plain = quantize_row(
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
        if sink[at.KIND] == at.TO_CODES:  # attention wants numbers, not bytes that start at 0
            codes = array(as_int8(place + r * width + column), (count,))
            if sink[at.RULE] == at.SIGN_RULE:
                for i in range(count):
                    codes[i] = np.int8(1 - (out[i] & 1) - (out[i] >> 1))
            else:
                for i in range(count):
                    codes[i] = np.int8(np.int32(out[i]) + low)


@kernel
def _decide(y: NDArray[np.float32], place: int) -> None:
    """Signs of floats, as `bitsliced_sign_epilogue` leaves them."""
    bits = array(as_uint64(place), (y.shape[0], 2, PANEL_OUTPUTS // WORD_BITS))
    half = np.uint64(0xFFFFFFFF)
    for r in range(y.shape[0]):
        for w in range(PANEL_OUTPUTS // WORD_BITS):
            low = sign_bits(y.ctypes.data + 4 * (r * PANEL_OUTPUTS + WORD_BITS * w))
            high = sign_bits(y.ctypes.data + 4 * (r * PANEL_OUTPUTS + WORD_BITS * w + HALF))
            bits[r, 0, w] = (low & half) | (high << np.uint64(HALF))
            bits[r, 1, w] = (low >> np.uint64(HALF)) | (high & ~half)


@kernel
def _bits(row: NDArray[np.uint64], first: int, count: int) -> np.uint64:
    """Bits first .. first + count - 1 of a row of words; count is 1..64."""
    word, shift = first // WORD_BITS, np.uint64(first % WORD_BITS)
    found = row[word] >> shift
    if first % WORD_BITS + count > WORD_BITS:
        found |= row[word + 1] << (np.uint64(WORD_BITS) - shift)
    return found & (~np.uint64(0) >> np.uint64(WORD_BITS - count))


@kernel
def signs_to_words(
    place: int,
    begin: int,
    count: int,
    column: int,
    sink: Table,
    slots: Table,
    to: int,
    flags: NDArray[np.uint8],
) -> None:
    """Sign and non-zero words of whole or partial heads; a head begins a new word. Flags lose their 1 at a zero."""
    size = sink[at.HEAD]
    words = -(-size // WORD_BITS)
    total = sink[at.WIDTH] // size * words
    rows = flags.size
    bits = array(as_uint64(place), (rows, 2, PANEL_OUTPUTS // WORD_BITS))
    signs = array(as_uint64(slots[sink[at.TO]] + 8 * to * total), (rows, total))
    nonzero = array(as_uint64(slots[sink[at.TO] + at.NONZERO] + 8 * to * total), (rows, total))
    if size == WORD_BITS and column % size == 0 and begin % WORD_BITS == 0:
        for r in range(rows):
            for i in range(count // WORD_BITS):
                zero = bits[r, 1, begin // WORD_BITS + i]
                signs[r, column // WORD_BITS + i] = bits[r, 0, begin // WORD_BITS + i]
                nonzero[r, column // WORD_BITS + i] = ~zero
                if zero != 0:
                    flags[r] = 0
        return
    for r in range(rows):
        i = 0
        while i < count:
            head, inside = (column + i) // size, (column + i) % size
            bit = inside % WORD_BITS
            # No step crosses a head or a word.
            step = min(count - i, min(size - inside, WORD_BITS - bit))
            negative, zero = _bits(bits[r, 0], begin + i, step), _bits(bits[r, 1], begin + i, step)
            real = zero ^ (~np.uint64(0) >> np.uint64(WORD_BITS - step))
            word = head * words + inside // WORD_BITS
            if bit == 0:
                signs[r, word] = negative
                nonzero[r, word] = real
            else:
                signs[r, word] |= negative << np.uint64(bit)
                nonzero[r, word] |= real << np.uint64(bit)
            if zero != 0:
                flags[r] = 0
            i += step


@kernel
def signs_to_bytes(place: int, count: int, out: int, stride: int, flags: NDArray[np.uint8]) -> None:
    """Signs as bytes (`row_codes.py`). Flags lose their 1 at a zero."""
    bits = array(as_uint64(place), (flags.size, 2, PANEL_OUTPUTS // WORD_BITS))
    for r in range(flags.size):
        target, any_zero = out + r * stride, np.uint64(0)
        for w in range(-(-count // WORD_BITS)):  # such sinks take all columns: `begin` is 0
            negative, zero = bits[r, 0, w], bits[r, 1, w]
            any_zero |= zero
            if WORD_BITS * (w + 1) <= count:
                spread_word(negative, zero, target + WORD_BITS * w)
                continue
            octets = array(as_uint8(target + WORD_BITS * w), (count - WORD_BITS * w,))
            for k in range(octets.size):
                minus, nothing = (negative >> np.uint64(k)) & np.uint64(1), (zero >> np.uint64(k)) & np.uint64(1)
                octets[k] = np.uint8(MINUS * minus + ZERO * nothing)
        if any_zero != 0:
            flags[r] = 0


@intrinsic
def spread_word(typing_context, negative, zero, out):  # type: ignore[no-untyped-def]
    """Write 64 bytes of signs from two words of bits to an address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        negative, zero, out = arguments
        kind, bits = ir.VectorType(ir.IntType(8), WORD_BITS), ir.VectorType(ir.IntType(1), WORD_BITS)
        constants = [ir.Constant(kind, [byte] * WORD_BITS) for byte in (PLUS, ZERO, MINUS)]
        found = builder.select(builder.bitcast(zero, bits), constants[1], constants[0])
        found = builder.select(builder.bitcast(negative, bits), constants[2], found)
        builder.store(found, builder.inttoptr(out, kind.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.int64), generate


@intrinsic
def sign_bits(typing_context, values):  # type: ignore[no-untyped-def]
    """Bits of 32 float32 at an address: v < 0 in the low half of the word, v == 0 in the high half."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        word, half = ir.IntType(64), ir.IntType(HALF)
        kind = ir.VectorType(ir.FloatType(), HALF)
        x = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), align=4)
        zero = ir.Constant(kind, [0.0] * HALF)
        found = [builder.bitcast(builder.fcmp_ordered(relation, x, zero), half) for relation in ("<", "==")]
        low, high = (builder.zext(bits, word) for bits in found)
        return builder.or_(low, builder.shl(high, word(HALF)))

    return types.uint64(types.int64), generate
