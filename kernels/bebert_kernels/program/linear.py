"""One binary linear layer for a block of rows: product, scale, bias, and what the next stage reads.

    y[m, n] = sum over branches  scale[n] * dot[m, n]  +  add[n]          (one or two branches, each with its input)

How to multiply is the business of a *product* (`bitsliced/`, `lookup/`), which is three stages and its form of the
weights (`abi/product.py`). `program/layer.py` writes them into the rows of a layer; `linear` calls what stands there.
All products give the same integers. For each input i, with place = INPUT * i, and each branch b:

    encode    called once a block, an instruction of its own, before `linear`
              gets     instruction.Encode, and the rows: float32[rows, K] in the slot `source`, to be coded by the rule
                       of each input; or with ALREADY_CODED byte codes in BYTES + place, with flags BYTES_NO_ZEROS
              leaves   ENCODED + place: what its gemm reads, in any form; whatever its epilogue needs of a row
                       (PARITIES or TOTALS + place); NO_ZEROS + place if codes are signs
    gemm      called for each panel of PANEL_OUTPUTS outputs, which begins with output `start`:
              (branches, slots, b, start, rows, N)
              leaves   STATE + b: sums of all rows of the block for this panel, in any form; or, if the branch has no
                       epilogue, in STATE what an epilogue leaves: float32[rows, PANEL_OUTPUTS]
    epilogue  called for each strip of at most STRIP rows of the panel: (branches, slots, b, start, row, rows)
              leaves   float32[rows, PANEL_OUTPUTS] = float32(dot) * scale + add at the address OUT, rows OUT_STRIDE
                       bytes apart; branch 1 adds to what branch 0 has left there. dot is an int32 that includes `low`,
                       what code 0 stands for. OUT has room for all lanes of the panel: half of them where `is_half`
    sign epilogue, instead of the epilogue where only signs are wanted, no sign of the strip's rows is 0 (NO_ZEROS) and
              the panel has thresholds (`bitsliced/thresholds.py`): (branches, slots, thresholds, start, row, rows)
              leaves   uint64[rows, 2, PANEL_OUTPUTS / 64] in BITS: negative, zero

A panel at a time for all rows, then a strip of a few rows of it at a time, so that y never leaves the first-level
cache: it goes straight to *sinks* (`abi/sink.py`): floats, sums (added to the residual before a LayerNorm), byte codes
(for the next layer), codes for attention, or sign words for attention on bits. A layer has one sink, several copies of
its outputs (two branches of the next layer), or queries, keys and values.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.sink import TO_CODES, TO_FLOATS, TO_SUM, TO_WORDS, Sink
from bebert_kernels.abi.stage import stage
from bebert_kernels.abi.table import Table
from bebert_kernels.bitsliced.gemm import is_half
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS, STRIP
from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.memory import array, as_float32, as_int8, as_int64, as_uint8, as_uint64, call, row_of, slots_at
from bebert_kernels.emit.tables import read_branch, read_linear, read_numbers, read_sink
from bebert_kernels.emit.vectors import F32, I1, I8, I32, I64, fill
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import WORD_BITS
from bebert_kernels.rows.layout import MINUS, PLUS, ZERO
from bebert_kernels.rows.quantize import quantize_row

HALF_WORD = 32  # values that `sign_bits` takes


@stage
def linear(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Apply a layer to a block of rows that an encode stage has left in this thread's memory."""
    o, slots = read_linear(arguments, 0), slots_at(slot_address)
    outputs, branch, sink = o.outputs, read_branch(o.branches, 0), read_sink(o.sinks, 0)
    no_zeros = array(as_uint8(slots[slot.NO_ZEROS + slot.INPUT * branch.input]), (rows,))
    finished = branch.epilogue == 0
    direct = o.sink_count == 1 and sink.kind == TO_FLOATS and not finished
    for start in range(0, outputs, PANEL_OUTPUTS):
        end = min(start + PANEL_OUTPUTS, outputs)
        # A panel whose lanes are all outputs goes straight to a matrix of floats.
        whole = direct and (
            end - start == PANEL_OUTPUTS or (is_half(start, outputs) and end - start == PANEL_OUTPUTS // 2)
        )
        for b in range(o.branch_count):
            call(read_branch(o.branches, b).gemm, o.branches, slot_address, b, start, rows, outputs)
        thresholds = _thresholds_of(branch, start)
        for row in range(0, rows, STRIP):
            strip = min(STRIP, rows - row)
            decided, y = thresholds != 0 and no_zeros[row : row + strip].all(), slots[slot.Y]
            if decided:
                call(branch.sign_epilogue, o.branches, slot_address, thresholds, start, row, strip)
            elif finished:
                y = slots[slot.STATE] + 4 * PANEL_OUTPUTS * row
            else:
                slots[slot.OUT], slots[slot.OUT_STRIDE] = y, 4 * PANEL_OUTPUTS
                if whole:
                    to = row_of(sink.to, first) + row
                    slots[slot.OUT] = slots[sink.to] + 4 * (to * outputs + start)
                    slots[slot.OUT_STRIDE] = 4 * outputs
                for b in range(o.branch_count):
                    call(read_branch(o.branches, b).epilogue, o.branches, slot_address, b, start, row, strip)
                if whole:
                    continue
            for s in range(o.sink_count):
                part = read_sink(o.sinks, s)
                begin, stop = max(start, part.start), min(end, part.start + part.width)
                if begin < stop:
                    columns = (begin - start, stop - begin, begin - part.start)
                    store_outputs(decided, y, columns, part, slots, first, row, strip)


@kernel
def _thresholds_of(branch: Branch, start: int) -> int:
    """Address of the thresholds of the panel that begins with an output, 0 if it has none."""
    panel = start // PANEL_OUTPUTS
    if branch.thresholds == 0:
        return 0
    return array(as_int64(branch.thresholds), (panel + 1,))[panel]  # type: ignore[no-any-return]


@kernel
def store_outputs(
    signs: bool, floats: int, columns: tuple[int, int, int], sink: Sink, slots: Table, first: int, row: int, strip: int
) -> None:
    """Hand some columns of a strip of a panel to a sink.

    signs   : whether the strip is signs in BITS, else it is floats float32[strip, PANEL_OUTPUTS] at an address
    columns : the first of the panel, how many, and the first of the sink
    first   : row of the batch with which the block begins;     row : row of the block with which the strip begins
    """
    begin, count, column = columns
    width = sink.width
    y = array(as_float32(floats), (strip, PANEL_OUTPUTS))
    to = row_of(sink.to, first) + row
    place = slots[sink.to]
    if sink.kind == TO_FLOATS or sink.kind == TO_SUM:
        target = array(as_float32(place + 4 * to * width), (strip, width))
        for r in range(strip):
            out, row_of_y = target[r, column : column + count], y[r, begin : begin + count]
            if sink.kind == TO_SUM:
                for i in range(count):
                    out[i] = out[i] + row_of_y[i]
            else:
                for i in range(count):
                    out[i] = row_of_y[i]
        return
    flags = array(as_uint8(slots[sink.flags] + row_of(sink.flags, first) + row), (strip,))
    if column == 0:
        for r in range(strip):
            flags[r] = 1
    if sink.kind == TO_WORDS:
        if not signs:
            _signs_of_floats(y, slots[slot.BITS])
        signs_to_words(columns, sink, slots, to, flags)
        return
    if signs:
        signs_to_bytes(slots[slot.BITS], count, place + to * width + column, width, flags)
        return
    _store_codes(y, columns, sink, place + to * width, flags)


@kernel
def _store_codes(
    y: NDArray[np.float32], columns: tuple[int, int, int], sink: Sink, place: int, flags: NDArray[np.uint8]
) -> None:
    """Byte codes, or codes for attention, of a strip of floats, to rows at an address."""
    begin, count, column = columns
    width, numbers = sink.width, read_numbers(sink.numbers, 0)
    shift = array(as_float32(sink.shift + 4 * column), (count,))
    low = np.int32(numbers.low)
    for r in range(y.shape[0]):
        out = array(as_uint8(place + r * width + column), (count,))
        flags[r] &= np.uint8(quantize_row(y[r, begin : begin + count], shift, sink.rule, numbers, out))
        if sink.kind == TO_CODES:  # attention wants numbers, not bytes that start at 0
            codes = array(as_int8(place + r * width + column), (count,))
            if sink.rule == rule.SIGN:
                for i in range(count):
                    codes[i] = np.int8(1 - (out[i] & 1) - (out[i] >> 1))
            else:
                for i in range(count):
                    codes[i] = np.int8(np.int32(out[i]) + low)


@kernel
def _signs_of_floats(y: NDArray[np.float32], place: int) -> None:
    """Signs of floats, as a sign epilogue leaves them."""
    bits = array(as_uint64(place), (y.shape[0], 2, PANEL_OUTPUTS // WORD_BITS))
    half = np.uint64(0xFFFFFFFF)
    for r in range(y.shape[0]):
        for w in range(PANEL_OUTPUTS // WORD_BITS):
            low = sign_bits(y.ctypes.data + 4 * (r * PANEL_OUTPUTS + WORD_BITS * w))
            high = sign_bits(y.ctypes.data + 4 * (r * PANEL_OUTPUTS + WORD_BITS * w + HALF_WORD))
            bits[r, 0, w] = (low & half) | (high << np.uint64(HALF_WORD))
            bits[r, 1, w] = (low >> np.uint64(HALF_WORD)) | (high & ~half)


@kernel
def _bits(row: NDArray[np.uint64], first: int, count: int) -> np.uint64:
    """Bits first .. first + count - 1 of a row of words; count is 1..64."""
    word, shift = first // WORD_BITS, np.uint64(first % WORD_BITS)
    found = row[word] >> shift
    if first % WORD_BITS + count > WORD_BITS:
        found |= row[word + 1] << (np.uint64(WORD_BITS) - shift)
    return found & (~np.uint64(0) >> np.uint64(WORD_BITS - count))


@kernel
def signs_to_words(columns: tuple[int, int, int], sink: Sink, slots: Table, to: int, flags: NDArray[np.uint8]) -> None:
    """Sign and non-zero words of whole or partial heads; a head begins a new word. Flags lose their 1 at a zero."""
    begin, count, column = columns
    size = sink.head
    words = -(-size // WORD_BITS)
    total = sink.width // size * words
    rows = flags.size
    bits = array(as_uint64(slots[slot.BITS]), (rows, 2, PANEL_OUTPUTS // WORD_BITS))
    signs = array(as_uint64(slots[sink.to] + 8 * to * total), (rows, total))
    nonzero = array(as_uint64(slots[sink.to + slot.NONZERO] + 8 * to * total), (rows, total))
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
    """Signs as bytes (`rows/quantize.py`). Flags lose their 1 at a zero."""
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


@emitted()
def spread_word(e: Emitter, negative: Value, zero: Value, out: Value) -> None:
    """Write 64 bytes of signs from two words of bits to an address."""
    b, kind, bits = e.builder, ir.VectorType(I8, WORD_BITS), ir.VectorType(I1, WORD_BITS)
    found = b.select(b.bitcast(zero, bits), fill(kind, ZERO), fill(kind, PLUS))
    e.store(b.select(b.bitcast(negative, bits), fill(kind, MINUS), found), out, 0)


@emitted(types.uint64)
def sign_bits(e: Emitter, values: Value) -> Value:
    """Bits of 32 float32 at an address: v < 0 in the low half of the word, v == 0 in the high half."""
    b, kind = e.builder, ir.VectorType(F32, HALF_WORD)
    x = e.load(values, 0, kind, 4)
    found = [b.bitcast(b.fcmp_ordered(relation, x, fill(kind, 0.0)), I32) for relation in ("<", "==")]
    low, high = (b.zext(bits, I64) for bits in found)
    return b.or_(low, b.shl(high, I64(HALF_WORD)))
