"""A row of byte codes to the index planes of the fast product: triples, then triples of their parities, ...

The product counts popcount(bits ^ weight bits) through x1 + x2 + x3 = 2 * majority + parity. One triple of bits is
an index 0..7 into a table of the eight weight words that it can meet; the parities of all triples form a row a third
as long, which is cut into triples again until one bit is left. All planes of a code go through the XORs at once.

    codes   |a a a a|b b b b|c c c c|r|        m = 4 triples (a, b, c), one value left over
    next                             |r|p p p p|   p = a ^ b ^ c; the left over value comes first

Rows of 48 values and more are done in whole vectors, the last one overlapping the one before. What is left, at most
23 triples, is first gathered into three short rows on the stack, and then turned into indices at once.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numpy.typing import NDArray

from bebert_kernels.emit.emitter import Emitter, Value, vector_code
from bebert_kernels.emit.vectors import I8, I16, I64, fill
from bebert_kernels.jit.kernel import kernel

Octets = NDArray[np.uint8]

NARROW_TRIPLES, WIDE_TRIPLES = 16, 64  # that are indexed at once
SHORT = 3 * NARROW_TRIPLES  # rows of fewer values have fewer than 16 triples
GATHERED = SHORT + NARROW_TRIPLES  # bytes of a short row: up to 15 before it, 23 triples, padding, and an overhang


def _triples(e: Emitter, data: Value, place: Value, stride: Value, lanes: int) -> list[Value]:
    """Three vectors of bytes, `stride` apart."""
    return [e.load(data, e.place(place, stride, i), ir.VectorType(I8, lanes)) for i in range(3)]


def _xor(e: Emitter, vectors: list[Value]) -> Value:
    return e.builder.xor(e.builder.xor(vectors[0], vectors[1]), vectors[2])


def _indices(e: Emitter, vectors: list[Value], plane: Value) -> Value:
    """8 * (a + 2 * b + 4 * c) of bit `plane` of three vectors of bytes.

    Shifts are of 16-bit lanes, because x86 has none of bytes; bits that come from the neighbour are masked out.
    """
    b, lanes = e.builder, vectors[0].type.count // 2
    kind = ir.VectorType(I16, lanes)

    def repeated(byte: int) -> ir.Constant:
        return fill(kind, 257 * byte)

    def merge(mask: int, high: Value, low: Value) -> Value:
        return b.or_(b.and_(high, repeated(mask)), b.and_(low, repeated(255 - mask)))

    shift, one = e.repeat(b.trunc(plane, I16), lanes), fill(kind, 1)
    first, second, third = (b.lshr(b.bitcast(vector, kind), shift) for vector in vectors)
    two = merge(2, b.shl(third, one), second)
    three = merge(6, b.shl(two, one), first)
    found = b.and_(b.shl(three, fill(kind, 3)), repeated(56))
    return b.bitcast(found, vectors[0].type)


def _make_fold(lanes: int) -> Any:
    def emit(e: Emitter, chain: Any, place: Value, stride: Value, target: Value) -> None:
        e.store(_xor(e, _triples(e, chain.data, place, stride, lanes)), chain.data, target)

    @vector_code(emit)
    def fold(chain: Octets, place: int, stride: int, target: int) -> None:
        """chain[target + j] = XOR of chain[place + j], [place + stride + j], [place + 2 * stride + j], j < lanes."""
        x, y, z = (chain[place + i * stride :][:lanes] for i in range(3))
        chain[target : target + lanes] = x ^ y ^ z

    return fold


def _make_index(lanes: int) -> Any:
    def emit(e: Emitter, chain: Any, place: Value, stride: Value, plane: Value, index: Any, target: Value) -> None:
        e.store(_indices(e, _triples(e, chain.data, place, stride, lanes), plane), index.data, target)

    @vector_code(emit)
    def index_lanes(chain: Octets, place: int, stride: int, plane: int, index: Octets, target: int) -> None:
        """Indices of the triples of `fold`, to the flat place `target` of uint8[P, Gp]."""
        bits = ((chain[place + i * stride :][:lanes] >> plane & 1) << (3 + i) for i in range(3))
        index.reshape(-1)[target : target + lanes] = sum(bits)

    return index_lanes


fold, fold_wide = _make_fold(NARROW_TRIPLES), _make_fold(WIDE_TRIPLES)
index_block, index_wide = _make_index(NARROW_TRIPLES), _make_index(WIDE_TRIPLES)


class _Rest:
    """Emits `index_rest`: the triples of a short row, side by side in three rows of 64 bytes on the stack.

    Four rounds reduce any 47 values to one, and a round over one value changes nothing: no branches.
    """

    ROUNDS = 4

    def __init__(self, e: Emitter, data: Value, position: Value, count: Value, groups: Value) -> None:
        self.e, self.data, self.before = e, data, groups
        self.position, self.count, self.groups = (e.variable(value) for value in (position, count, groups))
        rows = [e.variable(fill(ir.VectorType(I8, GATHERED), 0)) for _ in range(3)]
        self.short = [e.builder.bitcast(row, I8.as_pointer()) for row in rows]

    def gather(self) -> None:
        """Copy the triples of all rounds, and put their parities into the chain."""
        e, b = self.e, self.e.builder
        with e.loop(I64(0), I64(self.ROUNDS)):
            position, count, groups = (b.load(variable) for variable in (self.position, self.count, self.groups))
            is_pair = b.icmp_signed("==", count, I64(2))
            padding = b.gep(self.data, [b.add(position, I64(2))])
            b.store(b.select(is_pair, I8(0), b.load(padding)), padding)
            count = b.select(is_pair, I64(3), count)
            triples = b.udiv(count, I64(3))
            used = b.mul(triples, I64(3))
            rest = b.sub(count, used)
            vectors = _triples(e, self.data, position, triples, NARROW_TRIPLES)
            inside = e.below(triples, NARROW_TRIPLES)
            for vector, row in zip(vectors, self.short, strict=True):
                e.store(b.select(inside, vector, fill(vector.type, 0)), row, groups)
            after = b.add(position, used)
            e.store(_xor(e, vectors), self.data, b.add(after, rest))
            for variable, value in (
                (self.position, after),
                (self.count, b.add(rest, triples)),
                (self.groups, b.add(groups, triples)),
            ):
                b.store(value, variable)

    def spread(self, planes: Value, out: Value, first: Value, width: Value) -> None:
        """Write index[:, first:width], keeping what is there of earlier triples."""
        e, b, lanes = self.e, self.e.builder, NARROW_TRIPLES
        kind = ir.VectorType(I8, lanes)
        with e.loop(first, width, lanes) as (at, _):
            vectors = [e.load(row, b.sub(at, first), kind) for row in self.short]
            earlier = b.and_(e.below(self.before, lanes), e.repeat(b.icmp_signed("==", at, first), lanes))
            with e.loop(I64(0), planes) as (plane, _):
                place = e.place(at, plane, width)
                indices = _indices(e, vectors, plane)
                e.store(b.select(earlier, e.load(out, place, kind), indices), out, place)


def _emit_index_rest(
    e: Emitter, chain: Any, position: Value, count: Value, planes: Value, index: Any, done: Value, width: Value
) -> Value:
    b = e.builder
    rest = _Rest(e, chain.data, position, count, b.and_(done, I64(NARROW_TRIPLES - 1)))
    rest.gather()
    rest.spread(planes, index.data, b.and_(done, I64(-NARROW_TRIPLES)), width)
    return b.load(b.gep(chain.data, [b.load(rest.position)]))


@vector_code(_emit_index_rest, types.uint8)
def index_rest(chain: Octets, position: int, count: int, planes: int, index: Octets, done: int, width: int) -> np.uint8:
    """All triples of the row of count < 48 values at `position`; returns the byte of parities.

    done  : groups before this row; indices go to index[p, done:]
    width : Gp
    """
    short = np.zeros((3, GATHERED), np.uint8)
    groups = done % NARROW_TRIPLES
    while count > 1:
        if count == 2:
            chain[position + 2], count = 0, 3
        triples, rest = divmod(count, 3)
        used = chain[position : position + 3 * triples].reshape(3, triples)
        short[:, groups : groups + triples] = used
        position += 3 * triples
        chain[position + rest : position + rest + triples] = np.bitwise_xor.reduce(used)
        count, groups = rest + triples, groups + triples
    for p in range(planes):
        bits = (short >> p & 1) << np.array([[3], [4], [5]], np.uint8)
        index[p, done:] = bits.sum(axis=0)[done % NARROW_TRIPLES :][: width - done]
    return chain[position]


@kernel
def index_row(chain: Octets, depth: int, planes: int, index: Octets, parity: Octets) -> None:
    """Index planes and parities of a row of byte codes.

    chain  : uint8[2 * K + 16 or more], the codes first; the rest is overwritten
    depth  : K >= 1
    planes : P, 1..8
    index  : uint8[P, Gp], Gp = `triples.triple_count(K)`; written in full, padding 0
             index[p, g] = 8 * (bit p of x1 + 2 * bit p of x2 + 4 * bit p of x3) of triple g
    parity : uint8[P], written in full: bit p of the XOR of all codes
    """
    position, count, done, width = 0, depth, 0, index.shape[1]
    while count >= SHORT:
        triples = count // 3
        rest = count - 3 * triples
        target = position + 3 * triples + rest
        if triples >= WIDE_TRIPLES:
            for j in range(0, triples, WIDE_TRIPLES):
                at = min(j, triples - WIDE_TRIPLES)
                fold_wide(chain, position + at, triples, target + at)
                for p in range(planes):
                    index_wide(chain, position + at, triples, p, index, p * width + done + at)
        else:
            for j in range(0, triples, NARROW_TRIPLES):
                at = min(j, triples - NARROW_TRIPLES)
                fold(chain, position + at, triples, target + at)
                for p in range(planes):
                    index_block(chain, position + at, triples, p, index, p * width + done + at)
        position += 3 * triples
        count = rest + triples
        done += triples
    last = index_rest(chain, position, count, planes, index, done, width)
    for p in range(planes):
        parity[p] = (last >> np.uint8(p)) & np.uint8(1)
