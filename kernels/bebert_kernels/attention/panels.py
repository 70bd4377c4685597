"""Heads of byte codes to what the product of `code_product.py` reads: panels of keys and of values, units of queries.

A panel holds groups of 16 columns side by side: scratch[(block * groups + g) * 16 + lane].
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from bebert_kernels.attention.units import (
    BYTE_PRODUCT,
    CHUNK,
    GROUP,
    SUMS,
    Codes,
    Units,
    dot,
    octets_of,
    python_octets,
    python_units,
    units,
)
from bebert_kernels.emit.emitter import Emitter, vector_code
from bebert_kernels.emit.vectors import BYTES as OCTETS
from bebert_kernels.emit.vectors import I8, I64, LANES, fill


def _smaller(e: Emitter, a: ir.Value, b: ir.Value) -> ir.Value:
    return e.builder.select(e.builder.icmp_signed("<", a, b), a, b)


def _emit_key_panel(
    e: Emitter,
    scratch: Any,
    data: Any,
    staged: Any,
    place: Any,
    stride: Any,
    keys: Any,
    chunks: Any,
    to: Any,
    base: Any,
) -> None:
    """Transpose 16 keys times 16 bytes; keys beyond the last repeat it."""
    b, unit, octets = e.builder, ir.IntType(8 * GROUP), octets_of(e, scratch, data, staged)
    inputs = ir.VectorType(unit, CHUNK)
    with e.loop(I64(0), keys, LANES) as (t, _):
        total = cgutils.alloca_once(b, SUMS)
        b.store(fill(SUMS, 0), total)
        block = e.place(to, b.mul(t, chunks), CHUNK)
        rows = [e.place(place, _smaller(e, b.add(t, I64(i)), b.sub(keys, I64(1))), stride) for i in range(LANES)]
        with e.loop(I64(0), chunks) as (chunk, _):
            parts = [e.load(octets, e.place(row, chunk, LANES), inputs, align=1) for row in rows]
            whole = e.join(parts)
            for g in range(CHUNK):
                column = e.shuffle(whole, whole, [CHUNK * i + g for i in range(LANES)])
                panel = units(e, b.bitcast(column, ir.VectorType(I8, GROUP * LANES)))
                if BYTE_PRODUCT:
                    b.store(dot(e, b.load(total), fill(SUMS, -0x7F7F7F80), panel), total)
                e.store(panel, scratch.data, e.place(e.place(block, chunk, CHUNK * LANES), g, LANES), align=64)
        e.store(b.neg(b.load(total)), scratch.data, b.add(base, t), align=64)


@vector_code(_emit_key_panel)
def key_panel(
    scratch: Units, data: Codes, staged: int, place: int, stride: int, keys: int, chunks: int, to: int, base: int
) -> None:
    """Panel of keys and its base: scratch[to + (block * groups + g) * 16 + lane] = group g of key 16 * block + lane.

    data, staged  : the array, or 1 where the codes lie in the scratch instead
    place, stride : codes of key t begin at byte place + t * stride
    chunks        : 16 inputs each
    """
    flat, padded = python_octets(scratch, data, staged), -(-keys // LANES) * LANES
    for t in range(padded):
        start = place + min(t, keys - 1) * stride
        units = python_units(flat[start : start + LANES * chunks])
        first = to + t // LANES * LANES * len(units) + t % LANES
        scratch[first : first + LANES * len(units) : LANES] = units
        scratch[base + t] = 0


def _emit_value_panel(
    e: Emitter, scratch: Any, data: Any, staged: Any, place: Any, stride: Any, keys: Any, chunks: Any, to: Any
) -> None:
    """Interleave the bytes of GROUP keys."""
    b, octets = e.builder, octets_of(e, scratch, data, staged)
    groups = b.mul(b.lshr(b.add(keys, I64(LANES - 1)), I64(4)), I64(CHUNK))
    last, order = b.sub(keys, I64(1)), [LANES * j + lane for lane in range(LANES) for j in range(GROUP)]
    with e.loop(I64(0), groups) as (g, _):
        rows = [e.place(place, _smaller(e, e.place(I64(i), g, GROUP), last), stride) for i in range(GROUP)]
        with e.loop(I64(0), chunks) as (chunk, _):
            whole = e.join([e.load(octets, e.place(row, chunk, LANES), OCTETS, align=1) for row in rows])
            block = e.place(to, b.mul(chunk, groups), LANES)
            e.store(units(e, e.shuffle(whole, whole, order)), scratch.data, e.place(block, g, LANES), align=64)


@vector_code(_emit_value_panel)
def value_panel(
    scratch: Units, data: Codes, staged: int, place: int, stride: int, keys: int, chunks: int, to: int
) -> None:
    """Panel of values: scratch[to + (block * groups + g) * 16 + lane] = value 16 * block + lane of the keys of group g.

    Keys beyond the last repeat it; their attention codes are 0.
    """
    flat, padded = python_octets(scratch, data, staged), -(-keys // LANES) * LANES
    starts = [place + min(t, keys - 1) * stride for t in range(padded)]
    codes = np.stack([flat[start : start + LANES * chunks] for start in starts])
    for d in range(LANES * chunks):
        units = python_units(np.ascontiguousarray(codes[:, d]))
        first = to + d // LANES * LANES * len(units) + d % LANES
        scratch[first : first + LANES * len(units) : LANES] = units


def _emit_row_units(e: Emitter, scratch: Any, data: Any, staged: Any, place: Any, chunks: Any, to: Any) -> None:
    octets = octets_of(e, scratch, data, staged)
    with e.loop(I64(0), chunks) as (chunk, _):
        codes = e.load(octets, e.place(place, chunk, LANES), OCTETS, align=1)
        if BYTE_PRODUCT:
            codes = e.builder.xor(codes, fill(OCTETS, 0x80))
        e.store(units(e, codes), scratch.data, e.place(to, chunk, CHUNK), align=4)


@vector_code(_emit_row_units)
def row_units(scratch: Units, data: Codes, staged: int, place: int, chunks: int, to: int) -> None:
    """Units of a query: the bytes plus 128, or int16."""
    scratch[to : to + CHUNK * chunks] = python_units(
        python_octets(scratch, data, staged)[place : place + LANES * chunks]
    )


def _emit_stage(e: Emitter, scratch: Any, data: Any, place: Any, stride: Any, rows: Any, size: Any, to: Any) -> None:
    """Chunks of 16 bytes; the last one is read from the 16 bytes that end with the head, where these belong to it."""
    b, whole = e.builder, ir.IntType(128)
    start = b.bitcast(scratch.data, I8.as_pointer())
    chunks, ragged = b.lshr(size, I64(4)), b.and_(size, I64(15))
    depth = b.and_(b.add(size, I64(15)), I64(-16))
    with e.loop(I64(0), rows) as (row, _):
        source, target = e.place(place, row, stride), e.place(to, row, depth)
        with e.loop(I64(0), chunks) as (i, _):
            chunk = e.load(data.data, e.place(source, i, 16), OCTETS, align=1)
            e.store(chunk, start, e.place(target, i, 16), align=16)
        last = e.place(target, chunks, 16)
        with b.if_else(b.icmp_signed(">=", size, I64(16))) as (long, short):
            with long:
                chunk = e.load(data.data, b.sub(b.add(source, size), I64(16)), whole, align=1)
                surplus = b.zext(b.shl(b.sub(I64(16), ragged), I64(3)), whole)
                e.store(b.lshr(chunk, surplus), start, last, align=16)
            with short:
                e.store(fill(OCTETS, 0), start, last, align=16)
                with e.loop(I64(0), size) as (i, _):
                    b.store(b.load(b.gep(data.data, [b.add(source, i)])), b.gep(start, [b.add(last, i)]))


@vector_code(_emit_stage)
def stage(scratch: Units, data: Codes, place: int, stride: int, rows: int, size: int, to: int) -> None:
    """Copy one head, padded with 0 to a multiple of 16 bytes a row, to byte `to` of the scratch.

    size : bytes of the head, not a multiple of 16
    """
    depth, octets, flat = -(-size // LANES) * LANES, scratch.view(np.int8), data.reshape(-1)
    for row in range(rows):
        octets[to + row * depth : to + (row + 1) * depth] = 0
        octets[to + row * depth : to + row * depth + size] = flat[place + row * stride : place + row * stride + size]
