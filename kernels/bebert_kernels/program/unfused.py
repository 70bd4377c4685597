"""Stages of unfused programs: floats stand between quantizers, so that a quantizer may ask about a whole sentence.

A linear layer is, for each branch, `quantize_rows`, a product's encode stage (of ready codes) and `linear`, which
leaves the dot products as floats (scale 1, nothing added); then `combine_branches` applies what depends on the row:

    y[m, n] = sum over branches  dot[m, n] * (step[m] * scale[n])  +  (minimum[m] * scale[n]) * sum of signs[n]

Statistics of a sentence are put together from those of its rows (`measure_rows`), which a phase before has left: so any
thread may compute any row. Attention takes whole sentences.
"""

import math

import numpy as np

from bebert_kernels.abi import frame as frames
from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.stage import stage
from bebert_kernels.attention.floats import attend_sentence
from bebert_kernels.emit.memory import array, as_float32, as_int64, as_uint8, floats_at, slots_at
from bebert_kernels.emit.tables import (
    read_activate,
    read_attend_floats,
    read_combine,
    read_frame,
    read_measure,
    read_numbers,
    read_quantize,
)
from bebert_kernels.program.stages import sentence_of
from bebert_kernels.rows.quantize import quantize_row
from bebert_kernels.rows.ranges import clip, join_ranges, row_range, sentence_numbers


@stage
def measure_rows(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """RANGES of the rows of a slot."""
    o, slots = read_measure(arguments, 0), slots_at(slot_address)
    x = floats_at(slots, o.source, first, rows, o.width)
    ranges = array(as_float32(slots[slot.RANGES]), (2, read_frame(frame, 0).rows, 2))[o.half]
    for r in range(rows):
        row_range(x[r], ranges[first + r])


@stage
def quantize_rows(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """BYTES and BYTES_NO_ZEROS of input 0, and CODED. The place of this branch's dots is scratch until they come."""
    o, slots, call = read_quantize(arguments, 0), slots_at(slot_address), read_frame(frame, 0)
    x = floats_at(slots, o.source, first, rows, o.width)
    ranges = array(as_float32(slots[slot.RANGES]), (2, call.rows, 2))[o.half]
    codes = array(as_uint8(slots[slot.BYTES]), (rows, o.width))
    no_zeros = array(as_uint8(slots[slot.BYTES_NO_ZEROS]), (rows,))
    coded = array(as_float32(slots[slot.CODED]), (2, frames.BLOCK, 2))[o.branch]
    shift, limits = array(as_float32(o.shift), (o.width,)), array(as_float32(o.clip), (2,))
    clipped = array(as_float32(slots[slot.DOTS + o.branch]), (o.width + 2,))
    found = clipped[o.width :]
    stored = read_numbers(o.numbers, 0)
    numbers, last = stored, first  # rows before `last` have these numbers
    for r in range(rows):
        if o.source_of_numbers == rule.STORED:
            no_zeros[r] = quantize_row(x[r], shift, o.rule, stored, codes[r])
            coded[r, 0], coded[r, 1] = stored.step, stored.minimum
            continue
        if first + r >= last:
            start, last = first + r, first + r + 1
            if domain == frames.ROWS:
                sentence = sentence_of(slots, call, domain, first + r, call.rows)
                last, start = sentence.last, sentence.key_first
            join_ranges(ranges[start:last], found)
            numbers = sentence_numbers(o.source_of_numbers, found, limits, stored)
        for k in range(o.width):
            clipped[k] = clip(x[r, k], limits)
        no_zeros[r] = quantize_row(clipped[: o.width], shift, o.rule, numbers, codes[r])
        coded[r, 0], coded[r, 1] = numbers.step, numbers.minimum


@stage
def combine_branches(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Dot products of one or two branches to outputs, see the top of this file."""
    o, slots = read_combine(arguments, 0), slots_at(slot_address)
    scales, sums = array(as_int64(o.scales), (2,)), array(as_int64(o.sums), (2,))
    bias = array(as_float32(o.bias), (o.outputs,))
    out = floats_at(slots, o.to, first, rows, o.outputs)
    for b in range(o.branch_count):
        dots = array(as_float32(slots[slot.DOTS + b]), (rows, o.outputs))
        coded = array(as_float32(slots[slot.CODED]), (2, frames.BLOCK, 2))[b]
        scale, total = array(as_float32(scales[b]), (o.outputs,)), array(as_float32(sums[b]), (o.outputs,))
        before = array(as_float32(slots[slot.DOTS]), (rows, o.outputs))
        for r in range(rows):
            step, minimum = coded[r, 0], coded[r, 1]
            for n in range(o.outputs):
                add = bias[n] if b == 0 else before[r, n]
                if minimum != 0:
                    add = add + minimum * scale[n] * total[n]
                before[r, n] = dots[r, n] * (step * scale[n]) + add
    y = array(as_float32(slots[slot.DOTS]), (rows, o.outputs))
    for r in range(rows):
        for n in range(o.outputs):
            value = y[r, n]
            if o.adds:
                value = out[r, n] + value
            elif o.relu:
                value = max(value, np.float32(0))
            out[r, n] = value


@stage
def activate(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """ACTIVATED = GELU(WIDE): 0.5 * x * (1 + erf(x / sqrt2)) in float64, rounded once."""
    width, slots = read_activate(arguments, 0).width, slots_at(slot_address)
    x, out = floats_at(slots, slot.WIDE, first, rows, width), floats_at(slots, slot.ACTIVATED, first, rows, width)
    for r in range(rows):
        for i in range(width):
            wide = np.float64(x[r, i])
            out[r, i] = np.float32(0.5 * wide * (1.0 + math.erf(wide / math.sqrt(2.0))))


@stage
def attend_on_floats(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """QUERY_FLOATS become the context, sentence by sentence; RANGES of its rows."""
    o, slots, call = read_attend_floats(arguments, 0), slots_at(slot_address), read_frame(frame, 0)
    offsets = array(as_int64(slots[slot.OFFSETS]), (call.sentences + 1,))
    ranges = array(as_float32(slots[slot.RANGES]), (2, call.rows, 2))[o.half]
    width = o.heads * o.size
    for s in range(first, first + rows):
        start, tokens = offsets[s], offsets[s + 1] - offsets[s]
        q = floats_at(slots, slot.QUERY_FLOATS, start, tokens, width)
        k = floats_at(slots, slot.KEY_FLOATS, start, tokens, width)
        v = floats_at(slots, slot.VALUE_FLOATS, start, tokens, width)
        attend_sentence(q, k, v, o.heads, o.sites, slots[slot.ATTENTION])
        for t in range(tokens):
            row_range(q[t], ranges[start + t])
