"""Rows to index planes: the first stage of a bitsliced product. Rows of signs without zeros need one plane only."""

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.stage import stage
from bebert_kernels.bitsliced.index import index_row
from bebert_kernels.bitsliced.layout import CHUNK_TRIPLES, GROUP_PLANES, INDEX_ROWS, chain_bytes
from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.memory import array, as_float32, as_uint8, floats_at, slots_at
from bebert_kernels.emit.tables import read_encode, read_input, read_numbers
from bebert_kernels.emit.vectors import I8
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.rows.quantize import quantize_row


@stage
def bitsliced_encode(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Floats or ready codes to index planes (ENCODED), what triples leave over (PARITIES), and NO_ZEROS."""
    o, slots = read_encode(arguments, 0), slots_at(slot_address)
    depth, is_sign = o.depth, o.sign != 0
    x = floats_at(slots, o.source, first, rows, depth)
    chain = array(as_uint8(slots[slot.CHAIN]), (2 * depth + 16,))
    row_index = slots[slot.CHAIN] + _chain_bytes(depth, 0)
    codes = array(as_uint8(slots[slot.CHAIN]), (depth,))
    for i in range(o.input_count):
        input, place = read_input(o.inputs, i), slot.INPUT * i
        encoded, parities = slots[slot.ENCODED + place], slots[slot.PARITIES + place]
        no_zeros = array(as_uint8(slots[slot.NO_ZEROS + place]), (rows,))
        ready = array(as_uint8(slots[slot.BYTES + place]), (rows, depth))
        ready_no_zeros = array(as_uint8(slots[slot.BYTES_NO_ZEROS + place]), (rows,))
        shift = array(as_float32(input.shift), (depth,))
        for r in range(rows):
            if input.rule == rule.ALREADY_CODED:
                for k in range(depth):
                    codes[k] = ready[r, k]
                no_zeros[r] = ready_no_zeros[r]
            else:
                no_zeros[r] = quantize_row(x[r], shift, input.rule, read_numbers(input.numbers, 0), codes)
            used = 1 if is_sign and no_zeros[r] else o.planes  # both planes of signs are the same without zeros
            index = array(as_uint8(row_index), (used, o.triples))
            parity = array(as_uint8(parities + r * o.planes), (used,))
            index_row(chain, depth, used, index, parity)
            _by_chunks(row_index, o.triples, o.planes, used, is_sign, encoded, r)
        if is_sign:
            _complete(no_zeros, o.triples, encoded, parities)


_chain_bytes = kernel(chain_bytes)


@emitted()
def move_chunk(e: Emitter, source: Value, to: Value) -> None:
    """Copy CHUNK_TRIPLES bytes from one address to another."""
    e.store(e.load(source, 0, ir.VectorType(I8, CHUNK_TRIPLES)), to, 0)


@kernel
def _by_chunks(source: int, triples: int, planes: int, used: int, sign: bool, index: int, row: int) -> None:
    """Index planes of a row uint8[used, Gp] to where `bitsliced_gemm` reads them, chunk by chunk."""
    for p in range(used):
        large = not sign and planes - p // GROUP_PLANES * GROUP_PLANES >= GROUP_PLANES
        group, inside = (GROUP_PLANES, p % GROUP_PLANES) if large else (1, 0)
        place = index + INDEX_ROWS * (p - inside) * triples + (row * group + inside) * CHUNK_TRIPLES
        for chunk in range(triples // CHUNK_TRIPLES):
            move_chunk(source + p * triples + chunk * CHUNK_TRIPLES, place + chunk * INDEX_ROWS * group * CHUNK_TRIPLES)


@kernel
def _complete(no_zeros: NDArray[np.uint8], triples: int, index: int, parities: int) -> None:
    """Second planes of rows of signs without zeros that make a pair with one with zeros (`bitsliced_gemm`)."""
    for r in range(no_zeros.size):
        if no_zeros[r] and (r ^ 1) < no_zeros.size and not no_zeros[r ^ 1]:
            for chunk in range(triples // CHUNK_TRIPLES):
                place = index + (chunk * INDEX_ROWS + r) * CHUNK_TRIPLES
                move_chunk(place, place + INDEX_ROWS * triples)
            bits = array(as_uint8(parities + 2 * r), (2,))
            bits[1] = bits[0]
