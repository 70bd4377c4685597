"""The stages of a program but for linear layers: embeddings, LayerNorm, attention, classifier.

Each takes six int64: the address of its arguments (a row of `abi/instruction.py`), of the slots and of the frame, the
domain (rows or sentences), and the block: first row, count of rows.
"""

import math

import numpy as np

from bebert_kernels.abi import frame as frames
from bebert_kernels.abi import slot
from bebert_kernels.abi.frame import Frame
from bebert_kernels.abi.stage import stage
from bebert_kernels.abi.table import Table
from bebert_kernels.attention.boolean import Signs, boolean_attention
from bebert_kernels.attention.sentence import Sentence
from bebert_kernels.attention.softmax import softmax_attention
from bebert_kernels.emit.memory import (
    array,
    as_float32,
    as_int8,
    as_int32,
    as_int64,
    as_uint8,
    as_uint64,
    call,
    floats_at,
    slots_at,
)
from bebert_kernels.emit.tables import (
    read_attend,
    read_by_rows,
    read_classify,
    read_embed,
    read_frame,
    read_gather,
    read_norm,
    read_softmax_numbers,
)
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import WORD_BITS
from bebert_kernels.rows.embed import EmbeddingTables, embed_row
from bebert_kernels.rows.layer_norm import norm_row, norm_rows
from bebert_kernels.rows.layout import TOGETHER


@stage
def by_rows(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """What another instruction does: one for few rows, or one for many."""
    o = read_by_rows(arguments, 0)
    if rows <= o.limit:
        call(o.few, o.few_arguments, slot_address, frame, domain, first, rows)
    else:
        call(o.many, o.many_arguments, slot_address, frame, domain, first, rows)


@stage
def embed(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """HIDDEN = norm(word + position + type) + noise."""
    o, slots = read_embed(arguments, 0), slots_at(slot_address)
    width = o.width
    shape = (o.vocabulary, -(-width // WORD_BITS))
    tables = EmbeddingTables(
        o.tables,
        array(as_uint64(o.signs0), shape),
        array(as_float32(o.scale0), (o.vocabulary,)),
        array(as_uint64(o.signs1), shape),
        array(as_float32(o.scale1), (o.vocabulary,)),
        array(as_float32(o.positions), (o.position_rows, width)),
        array(as_float32(o.types), (o.type_rows, width)),
    )
    gamma, beta = array(as_float32(o.gamma), (width,)), array(as_float32(o.beta), (width,))
    epsilon, zeros = array(as_float32(o.epsilon), (1,)), array(as_float32(o.zeros), (width,))
    ids = array(as_int64(slots[slot.IDS] + 8 * first), (rows,))
    places = array(as_int64(slots[slot.POSITIONS] + 8 * first), (rows,))
    kinds = array(as_int64(slots[slot.TYPES] + 8 * first), (rows,))
    out = floats_at(slots, slot.HIDDEN, first, rows, width)
    for r in range(rows):
        embed_row(ids[r], places[r], kinds[r], tables, out[r])
        norm_row(out[r], zeros, gamma, beta, epsilon[0], out[r])
    if slots[slot.NOISE] != 0:
        noise = floats_at(slots, slot.NOISE, first, rows, width)
        for r in range(rows):
            for c in range(width):
                out[r, c] += noise[r, c]


@stage
def norm(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Normalize rows in place."""
    o, slots = read_norm(arguments, 0), slots_at(slot_address)
    x = floats_at(slots, o.rows, first, rows, o.width)
    gamma, beta = array(as_float32(o.gamma), (o.width,)), array(as_float32(o.beta), (o.width,))
    epsilon, zeros = array(as_float32(o.epsilon), (1,)), array(as_float32(o.zeros), (TOGETHER, o.width))
    for r in range(0, rows, TOGETHER):
        some = x[r : min(r + TOGETHER, rows)]
        norm_rows(some, zeros, gamma, beta, epsilon[0], 0, len(some), some)


@kernel
def sentence_of(slots: Table, call: Frame, domain: int, query: int, last: int) -> Sentence:
    """What attention does from a query row on, before row `last`: as many queries as belong to the same sentence.

    Queries are tokens, or the first tokens of sentences, one a row.
    """
    offsets = array(as_int64(slots[slot.OFFSETS]), (call.sentences + 1,))
    if domain == frames.SENTENCES:
        return Sentence(query, query + 1, offsets[query], offsets[query + 1])
    low, high = 0, call.sentences  # offsets[low] <= query < offsets[high]
    while high - low > 1:
        middle = (low + high) // 2
        if offsets[middle] <= query:
            low = middle
        else:
            high = middle
    return Sentence(query, min(last, offsets[low + 1]), offsets[low], offsets[low + 1])


@stage
def attend_on_bits(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Byte codes of the context's sign for input 0 of a layer: BYTES and BYTES_NO_ZEROS."""
    o, slots, call = read_attend(arguments, 0), slots_at(slot_address), read_frame(frame, 0)
    heads, size, store = o.heads, o.size, slots[o.store : o.store + slot.STORE]
    shape = (call.rows, heads * -(-size // WORD_BITS))
    no_zeros = array(as_uint8(store[slot.FLAGS]), (3, call.rows))
    q = Signs(array(as_uint64(store[0]), shape), array(as_uint64(store[slot.NONZERO]), shape), no_zeros[0])
    k = Signs(array(as_uint64(store[1]), shape), array(as_uint64(store[slot.NONZERO + 1]), shape), no_zeros[1])
    v = Signs(array(as_uint64(store[2]), shape), array(as_uint64(store[slot.NONZERO + 2]), shape), no_zeros[2])
    scratch = array(as_uint64(slots[slot.ATTENTION]), (call.scratch,))
    out = array(as_uint8(slots[slot.BYTES]), (rows, heads * size))
    flags = array(as_uint8(slots[slot.BYTES_NO_ZEROS]), (rows,))
    query = first
    while query < first + rows:
        sentence = sentence_of(slots, call, domain, query, first + rows)
        a, b = query - first, sentence.last - first
        boolean_attention(q, k, v, sentence, heads, scratch, out[a:b], flags[a:b])
        query = sentence.last


@stage
def attend_on_codes(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """The context in FLOATS."""
    o, slots, call = read_attend(arguments, 0), slots_at(slot_address), read_frame(frame, 0)
    heads, size, store = o.heads, o.size, slots[o.store : o.store + slot.STORE]
    numbers = read_softmax_numbers(o.numbers, 0)
    shape = (call.rows, heads * size)
    q, k, v = array(as_int8(store[0]), shape), array(as_int8(store[1]), shape), array(as_int8(store[2]), shape)
    scratch = array(as_int32(slots[slot.ATTENTION]), (2 * call.scratch,))
    out = array(as_float32(slots[slot.FLOATS]), (rows, heads * size))
    query = first
    while query < first + rows:
        sentence = sentence_of(slots, call, domain, query, first + rows)
        softmax_attention(q, k, v, sentence, heads, numbers, scratch, out[query - first : sentence.last - first])
        query = sentence.last


@stage
def gather(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """FIRST = the row of HIDDEN that begins each sentence."""
    width, slots = read_gather(arguments, 0).width, slots_at(slot_address)
    offsets = array(as_int64(slots[slot.OFFSETS] + 8 * first), (rows,))
    out = floats_at(slots, slot.FIRST, first, rows, width)
    for r in range(rows):
        row = array(as_float32(slots[slot.HIDDEN] + 4 * offsets[r] * width), (width,))
        for i in range(width):
            out[r, i] = row[i]


@stage
def classify(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """LOGITS[s, n] = lane_sum(tanh(FLOATS[s]) * weight[n]) + bias[n], as `dense`."""
    o, slots = read_classify(arguments, 0), slots_at(slot_address)
    width, labels = o.width, o.labels
    x = floats_at(slots, slot.FLOATS, first, rows, width)
    weight, bias = array(as_float32(o.weight), (labels, width)), array(as_float32(o.bias), (labels,))
    out = floats_at(slots, slot.LOGITS, first, rows, labels)
    lanes = array(as_float32(slots[slot.LANES]), (16,))
    for r in range(rows):
        for i in range(width):
            x[r, i] = np.float32(math.tanh(np.float64(x[r, i])))
        for n in range(labels):
            for j in range(16):
                lanes[j] = np.float32(0)
            for i in range(width):
                lanes[i % 16] = lanes[i % 16] + x[r, i] * weight[n, i]
            half = 8
            while half > 0:
                for j in range(half):
                    lanes[j] = lanes[j] + lanes[j + half]
                half //= 2
            out[r, n] = lanes[0] + bias[n]
