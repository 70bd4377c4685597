"""The stages of a program but for the products: embeddings, codes, LayerNorm, attention, classifier.

Each takes six int64: the address of its instruction (`o` below, with its arguments from o[1] on),
of the slots and of the frame, the domain (rows or sentences), and the block: first row, count of rows.
"""

import math

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from bebert_kernels.abi import layout as at
from bebert_kernels.abi.memory import array, as_float32, as_int8, as_int32, as_int64, as_uint8, as_uint64
from bebert_kernels.abi.stage import stage
from bebert_kernels.attention.boolean import boolean_attention
from bebert_kernels.attention.softmax import softmax_attention
from bebert_kernels.bitsliced.gemm import GROUP
from bebert_kernels.bitsliced.index import index_row
from bebert_kernels.bitsliced.tile import CHUNK
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import WORD_BITS
from bebert_kernels.rows.embed import embed_row
from bebert_kernels.rows.layer_norm import TOGETHER, norm_row, norm_rows
from bebert_kernels.rows.quantize import quantize_row

Table = NDArray[np.int64]


@kernel
def _tables(instruction: int, slots: int) -> tuple[Table, Table]:
    return array(as_int64(instruction), (at.COLUMNS,)), array(as_int64(slots), (at.COUNT,))


@kernel
def _floats(slots: Table, slot: int, first: int, rows: int, width: int) -> NDArray[np.float32]:
    """The present rows of a float matrix."""
    row = np.int64(0) if slot >= at.LOCAL else first
    return array(as_float32(slots[slot] + 4 * row * width), (rows, width))


@stage
def embed(instruction: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """o: tables, signs 0, scales 0, signs 1, scales 1, positions, types, gamma, beta, numbers, zeros, C, V, P, S."""
    o, slots = _tables(instruction, slot_address)
    width, vocabulary = o[12], o[13]
    words = -(-width // WORD_BITS)
    signs0, signs1 = array(as_uint64(o[2]), (vocabulary, words)), array(as_uint64(o[4]), (vocabulary, words))
    scale0, scale1 = array(as_float32(o[3]), (vocabulary,)), array(as_float32(o[5]), (vocabulary,))
    positions, types = array(as_float32(o[6]), (o[14], width)), array(as_float32(o[7]), (o[15], width))
    gamma, beta = array(as_float32(o[8]), (width,)), array(as_float32(o[9]), (width,))
    epsilon, zeros = array(as_float32(o[10]), (1,)), array(as_float32(o[11]), (width,))
    ids = array(as_int64(slots[at.IDS] + 8 * first), (rows,))
    places = array(as_int64(slots[at.POSITIONS] + 8 * first), (rows,))
    kinds = array(as_int64(slots[at.TYPES] + 8 * first), (rows,))
    out = _floats(slots, at.HIDDEN, first, rows, width)
    for r in range(rows):
        embed_row(ids[r], places[r], kinds[r], signs0, scale0, signs1, scale1, o[1], positions, types, out[r])
        norm_row(out[r], zeros, gamma, beta, epsilon[0], out[r])
    if slots[at.NOISE] != 0:
        noise = _floats(slots, at.NOISE, first, rows, width)
        for r in range(rows):
            for c in range(width):
                out[r, c] += noise[r, c]


@stage
def bitsliced_encode(instruction: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Floats or ready codes to the index planes of a product.

    o: slot, K, inputs int64[count, 9], count, planes, Gp, sign.
    """
    o, slots = _tables(instruction, slot_address)
    depth, planes, triples = o[2], o[5], o[6]
    inputs = array(as_int64(o[3]), (o[4], 9))
    x = _floats(slots, o[1], first, rows, depth)
    chain = array(as_uint8(slots[at.CHAIN]), (2 * depth + 16,))
    row_index = slots[at.CHAIN] + chain_bytes(depth, 0)
    codes = array(as_uint8(slots[at.CHAIN]), (depth,))
    for i in range(o[4]):
        source = at.INPUT * i
        rule, rule_is_sign = inputs[i, at.RULE], o[7] != 0
        plain = array(as_uint8(slots[at.PLAIN + source]), (rows,))
        ready = array(as_uint8(slots[at.BYTES + source]), (rows, depth))
        ready_plain = array(as_uint8(slots[at.READY_PLAIN + i]), (rows,))
        shift = array(as_float32(inputs[i, at.SHIFT]), (depth,))
        numbers = array(as_float32(inputs[i, at.NUMBERS]), (at.NUMBER_COUNT,))
        step, minimum, low, high = numbers[at.STEP], numbers[at.MINIMUM], numbers[at.LOW], numbers[at.HIGH]
        for r in range(rows):
            if rule == at.READY:
                for k in range(depth):
                    codes[k] = ready[r, k]
                plain[r] = ready_plain[r]
            else:
                plain[r] = quantize_row(x[r], shift, rule, step, minimum, low, high, codes)
            used = 1 if rule_is_sign and plain[r] else planes  # both planes of signs are the same without zeros
            index = array(as_uint8(row_index), (used, triples))
            parity = array(as_uint8(slots[at.PARITY + source] + r * planes), (used,))
            index_row(chain, depth, used, index, parity)
            _by_chunks(row_index, triples, planes, used, rule_is_sign, slots[at.INDEX + source], r)
        if rule_is_sign:
            _complete(plain, triples, slots[at.INDEX + source], slots[at.PARITY + source])


@kernel
def chain_bytes(depth: int, planes: int) -> int:
    """Bytes of scratch of one row: codes and their parities, then index planes."""
    return (2 * depth + 16 + 63) // 64 * 64 + planes * (depth // 2 + 64)


@intrinsic
def move_chunk(typing_context, source, to):  # type: ignore[no-untyped-def]
    """Copy CHUNK bytes from one address to another."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.VectorType(ir.IntType(8), CHUNK).as_pointer()
        source, to = (builder.inttoptr(address, kind) for address in arguments)
        builder.store(builder.load(source, align=1), to, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@kernel
def _by_chunks(source: int, triples: int, planes: int, used: int, sign: bool, index: int, row: int) -> None:
    """Index planes of a row uint8[used, Gp] to where `bitsliced_gemm` reads them, chunk by chunk."""
    for p in range(used):
        large = not sign and planes - p // GROUP * GROUP >= GROUP
        group, inside = (GROUP, p % GROUP) if large else (1, 0)
        place = index + at.INDEX_ROWS * (p - inside) * triples + (row * group + inside) * CHUNK
        for chunk in range(triples // CHUNK):
            move_chunk(source + p * triples + chunk * CHUNK, place + chunk * at.INDEX_ROWS * group * CHUNK)


@kernel
def _complete(plain: NDArray[np.uint8], triples: int, index: int, parity: int) -> None:
    """Second planes of rows of signs without zeros that make a pair with one with zeros (`bitsliced_gemm`)."""
    for r in range(plain.size):
        if plain[r] and (r ^ 1) < plain.size and not plain[r ^ 1]:
            for chunk in range(triples // CHUNK):
                place = index + (chunk * at.INDEX_ROWS + r) * CHUNK
                move_chunk(place, place + at.INDEX_ROWS * triples)
            bits = array(as_uint8(parity + 2 * r), (2,))
            bits[1] = bits[0]


@stage
def norm(instruction: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Normalize rows in place. o: slot, gamma, beta, numbers, zeros float32[TOGETHER, C], C."""
    o, slots = _tables(instruction, slot_address)
    width = o[6]
    x = _floats(slots, o[1], first, rows, width)
    gamma, beta = array(as_float32(o[2]), (width,)), array(as_float32(o[3]), (width,))
    epsilon, zeros = array(as_float32(o[4]), (1,)), array(as_float32(o[5]), (TOGETHER, width))
    for r in range(0, rows, TOGETHER):
        some = x[r : min(r + TOGETHER, rows)]
        norm_rows(some, zeros, gamma, beta, epsilon[0], 0, len(some), some)


@kernel
def _sentence(slots: Table, frame: Table, domain: int, query: int) -> tuple[int, int, int]:
    """Of a query row: behind the last query of its sentence, and the sentence's rows.

    Queries are tokens, or the first tokens of sentences, one a row.
    """
    offsets = array(as_int64(slots[at.OFFSETS]), (frame[at.SENTENCES] + 1,))
    if domain == at.SENTENCES:
        return query + 1, offsets[query], offsets[query + 1]
    low, high = np.int64(0), frame[at.SENTENCES]  # offsets[low] <= query < offsets[high]
    while high - low > 1:
        middle = (low + high) // 2
        if offsets[middle] <= query:
            low = middle
        else:
            high = middle
    return offsets[low + 1], offsets[low], offsets[low + 1]


@stage
def attend_on_bits(instruction: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """o: heads, D, slot of the queries. Leaves byte codes of the context's sign for input 0 of a product."""
    o, slots = _tables(instruction, slot_address)
    call = array(as_int64(frame), (at.FRAME,))
    heads, size, store = o[1], o[2], slots[o[3] : o[3] + at.STORE]
    shape = (call[at.ROWS], heads * -(-size // WORD_BITS))
    q, k, v = array(as_uint64(store[0]), shape), array(as_uint64(store[1]), shape), array(as_uint64(store[2]), shape)
    q_nonzero, k_nonzero = array(as_uint64(store[3]), shape), array(as_uint64(store[4]), shape)
    v_nonzero = array(as_uint64(store[5]), shape)
    plain = array(as_uint8(store[6]), (3, call[at.ROWS]))
    scratch = array(as_uint64(slots[at.ATTENTION]), (call[at.SCRATCH],))
    out = array(as_uint8(slots[at.BYTES]), (rows, heads * size))
    flags = array(as_uint8(slots[at.READY_PLAIN]), (rows,))
    query = first
    while query < first + rows:
        last, key_first, key_last = _sentence(slots, call, domain, query)
        last = min(last, first + rows)
        a, b = query - first, last - first
        boolean_attention(
            q, q_nonzero, k, k_nonzero, v, v_nonzero, plain,
            query, last, key_first, key_last, heads, size, scratch, out[a:b], flags[a:b],
        )  # fmt: skip
        query = last


@stage
def attend_on_codes(instruction: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """o: heads, D, slot of the queries, numbers. Leaves the context in FLOATS."""
    o, slots = _tables(instruction, slot_address)
    call = array(as_int64(frame), (at.FRAME,))
    heads, size, store = o[1], o[2], slots[o[3] : o[3] + at.STORE]
    numbers = array(as_float32(o[4]), (at.NUMBER_COUNT,))
    shape = (call[at.ROWS], heads * size)
    q, k, v = array(as_int8(store[0]), shape), array(as_int8(store[1]), shape), array(as_int8(store[2]), shape)
    scratch = array(as_int32(slots[at.ATTENTION]), (2 * call[at.SCRATCH],))
    out = array(as_float32(slots[at.FLOATS]), (rows, heads * size))
    query = first
    while query < first + rows:
        last, key_first, key_last = _sentence(slots, call, domain, query)
        last = min(last, first + rows)
        softmax_attention(
            q, k, v, query, last, key_first, key_last, heads,
            numbers[at.SCORE_SCALE], numbers[at.STEP], numbers[at.LOW], numbers[at.HIGH], numbers[at.CONTEXT_SCALE],
            scratch, out[query - first : last - first],
        )  # fmt: skip
        query = last


@stage
def gather(instruction: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """FIRST = the row of HIDDEN that begins each sentence. o: C."""
    o, slots = _tables(instruction, slot_address)
    width = o[1]
    offsets = array(as_int64(slots[at.OFFSETS] + 8 * first), (rows,))
    out = _floats(slots, at.FIRST, first, rows, width)
    for r in range(rows):
        row = array(as_float32(slots[at.HIDDEN] + 4 * offsets[r] * width), (width,))
        for i in range(width):
            out[r, i] = row[i]


@stage
def classify(instruction: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """LOGITS[s, n] = lane_sum(tanh(FLOATS[s]) * weight[n]) + bias[n], as `dense`. o: C, labels, weight, bias."""
    o, slots = _tables(instruction, slot_address)
    width, labels = o[1], o[2]
    x = _floats(slots, at.FLOATS, first, rows, width)
    weight, bias = array(as_float32(o[3]), (labels, width)), array(as_float32(o[4]), (labels,))
    out = _floats(slots, at.LOGITS, first, rows, labels)
    lanes = array(as_float32(slots[at.SUMS]), (16,))
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
