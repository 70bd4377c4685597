"""Heads of byte codes to what `product.py` reads: panels of keys and of values, units of queries.

A panel holds groups of 16 columns side by side: scratch[(block * groups + g) * 16 + lane].
"""

from typing import Any

import numpy as np
from llvmlite import ir

from bebert_kernels.attention.layout import BYTE_PRODUCT, UNIT_INPUTS
from bebert_kernels.attention.units import (
    CHUNK_UNITS,
    SUMS,
    Codes,
    Rows,
    Units,
    dot,
    flat,
    octets_of,
    python_units,
    units,
)
from bebert_kernels.emit.emitter import Emitter, Value, vector_code
from bebert_kernels.emit.vectors import BYTES, FLOAT_LANES, I8, I64, fill


def _smaller(e: Emitter, a: Value, b: Value) -> Value:
    return e.builder.select(e.builder.icmp_signed("<", a, b), a, b)


def _emit_key_panel(
    e: Emitter, scratch: Any, data: Any, rows: Any, keys: Value, chunks: Value, to: Value, base: Value
) -> None:
    """Transpose 16 keys times 16 bytes; keys beyond the last repeat it."""
    b, unit, octets = e.builder, ir.IntType(8 * UNIT_INPUTS), octets_of(e, scratch, data, rows)
    inputs = ir.VectorType(unit, CHUNK_UNITS)
    with e.loop(I64(0), keys, FLOAT_LANES) as (t, _):
        total = e.variable(fill(SUMS, 0))
        block = e.place(to, b.mul(t, chunks), CHUNK_UNITS)
        last = b.sub(keys, I64(1))
        starts = [e.place(rows.place, _smaller(e, b.add(t, I64(i)), last), rows.stride) for i in range(FLOAT_LANES)]
        with e.loop(I64(0), chunks) as (chunk, _):
            parts = [e.load(octets, e.place(start, chunk, FLOAT_LANES), inputs) for start in starts]
            whole = e.join(parts)
            for g in range(CHUNK_UNITS):
                column = e.shuffle(whole, whole, [CHUNK_UNITS * i + g for i in range(FLOAT_LANES)])
                panel = units(e, b.bitcast(column, ir.VectorType(I8, UNIT_INPUTS * FLOAT_LANES)))
                if BYTE_PRODUCT:
                    b.store(dot(e, b.load(total), fill(SUMS, -0x7F7F7F80), panel), total)
                e.store(
                    panel,
                    scratch.data,
                    e.place(e.place(block, chunk, CHUNK_UNITS * FLOAT_LANES), g, FLOAT_LANES),
                    align=64,
                )
        e.store(b.neg(b.load(total)), scratch.data, b.add(base, t), align=64)


@vector_code(_emit_key_panel)
def key_panel(scratch: Units, data: Codes, rows: Rows, keys: int, chunks: int, to: int, base: int) -> None:
    """Panel of keys and its base: scratch[to + (block * groups + g) * 16 + lane] = group g of key 16 * block + lane.

    rows   : int8 codes of keys      chunks : of 16 inputs each
    """
    octets, padded = flat(scratch, data, rows), -(-keys // FLOAT_LANES) * FLOAT_LANES
    for t in range(padded):
        start = rows.place + min(t, keys - 1) * rows.stride
        units = python_units(octets[start : start + FLOAT_LANES * chunks])
        first = to + t // FLOAT_LANES * FLOAT_LANES * len(units) + t % FLOAT_LANES
        scratch[first : first + FLOAT_LANES * len(units) : FLOAT_LANES] = units
        scratch[base + t] = 0


def _emit_value_panel(e: Emitter, scratch: Any, data: Any, rows: Any, keys: Value, chunks: Value, to: Value) -> None:
    """Interleave the bytes of UNIT_INPUTS keys."""
    b, octets = e.builder, octets_of(e, scratch, data, rows)
    groups = b.mul(b.lshr(b.add(keys, I64(FLOAT_LANES - 1)), I64(4)), I64(CHUNK_UNITS))
    last, order = (
        b.sub(keys, I64(1)),
        [FLOAT_LANES * j + lane for lane in range(FLOAT_LANES) for j in range(UNIT_INPUTS)],
    )
    with e.loop(I64(0), groups) as (g, _):
        numbers = [_smaller(e, e.place(I64(i), g, UNIT_INPUTS), last) for i in range(UNIT_INPUTS)]
        starts = [e.place(rows.place, number, rows.stride) for number in numbers]
        with e.loop(I64(0), chunks) as (chunk, _):
            whole = e.join([e.load(octets, e.place(start, chunk, FLOAT_LANES), BYTES) for start in starts])
            block = e.place(to, b.mul(chunk, groups), FLOAT_LANES)
            e.store(units(e, e.shuffle(whole, whole, order)), scratch.data, e.place(block, g, FLOAT_LANES), align=64)


@vector_code(_emit_value_panel)
def value_panel(scratch: Units, data: Codes, rows: Rows, keys: int, chunks: int, to: int) -> None:
    """Panel of values: scratch[to + (block * groups + g) * 16 + lane] = value 16 * block + lane of the keys of group g.

    Keys beyond the last repeat it; their attention codes are 0.
    """
    octets, padded = flat(scratch, data, rows), -(-keys // FLOAT_LANES) * FLOAT_LANES
    starts = [rows.place + min(t, keys - 1) * rows.stride for t in range(padded)]
    codes = np.stack([octets[start : start + FLOAT_LANES * chunks] for start in starts])
    for d in range(FLOAT_LANES * chunks):
        units = python_units(np.ascontiguousarray(codes[:, d]))
        first = to + d // FLOAT_LANES * FLOAT_LANES * len(units) + d % FLOAT_LANES
        scratch[first : first + FLOAT_LANES * len(units) : FLOAT_LANES] = units


def _emit_row_units(e: Emitter, scratch: Any, data: Any, rows: Any, row: Value, chunks: Value, to: Value) -> None:
    octets, start = octets_of(e, scratch, data, rows), e.place(rows.place, row, rows.stride)
    with e.loop(I64(0), chunks) as (chunk, _):
        codes = e.load(octets, e.place(start, chunk, FLOAT_LANES), BYTES)
        if BYTE_PRODUCT:
            codes = e.builder.xor(codes, fill(BYTES, 0x80))
        e.store(units(e, codes), scratch.data, e.place(to, chunk, CHUNK_UNITS), align=4)


@vector_code(_emit_row_units)
def row_units(scratch: Units, data: Codes, rows: Rows, row: int, chunks: int, to: int) -> None:
    """Units of a query: the bytes plus 128, or int16."""
    start = rows.place + row * rows.stride
    scratch[to : to + CHUNK_UNITS * chunks] = python_units(
        flat(scratch, data, rows)[start : start + FLOAT_LANES * chunks]
    )


def _emit_pad_head(e: Emitter, scratch: Any, data: Any, rows: Any, count: Value, size: Value, to: Value) -> None:
    """Chunks of 16 bytes; the last one is read from the 16 bytes that end with the head, where these belong to it."""
    b, whole = e.builder, ir.IntType(128)
    start = b.bitcast(scratch.data, I8.as_pointer())
    chunks, ragged = b.lshr(size, I64(4)), b.and_(size, I64(15))
    depth = b.and_(b.add(size, I64(15)), I64(-16))
    with e.loop(I64(0), count) as (row, _):
        source, target = e.place(rows.place, row, rows.stride), e.place(to, row, depth)
        with e.loop(I64(0), chunks) as (i, _):
            e.store(e.load(data.data, e.place(source, i, 16), BYTES), start, e.place(target, i, 16), align=16)
        last = e.place(target, chunks, 16)
        with b.if_else(b.icmp_signed(">=", size, I64(16))) as (long, short):
            with long:
                chunk = e.load(data.data, b.sub(b.add(source, size), I64(16)), whole)
                surplus = b.zext(b.shl(b.sub(I64(16), ragged), I64(3)), whole)
                e.store(b.lshr(chunk, surplus), start, last, align=16)
            with short:
                e.store(fill(BYTES, 0), start, last, align=16)
                with e.loop(I64(0), size) as (i, _):
                    b.store(b.load(b.gep(data.data, [b.add(source, i)])), b.gep(start, [b.add(last, i)]))


@vector_code(_emit_pad_head)
def pad_head(scratch: Units, data: Codes, rows: Rows, count: int, size: int, to: int) -> None:
    """Copy one head of int8 codes, padded with 0 to a multiple of 16 bytes a row, to byte `to` of the scratch.

    rows : of an array      size : bytes of the head, not a multiple of 16
    """
    depth, octets, codes = -(-size // FLOAT_LANES) * FLOAT_LANES, scratch.view(np.int8), data.reshape(-1)
    for row in range(count):
        start, target = rows.place + row * rows.stride, to + row * depth
        octets[target : target + depth] = 0
        octets[target : target + size] = codes[start : start + size]
