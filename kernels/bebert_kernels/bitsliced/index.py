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
from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from bebert_kernels.emit.vectors import I8, I16, I64, below, data_of, fill, load, splat, store
from bebert_kernels.jit.kernel import kernel

Octets = NDArray[np.uint8]

BLOCK = 16
WIDE = 64
SHORT = 3 * BLOCK  # rows below this have fewer than 16 triples
GATHERED = 3 * BLOCK + BLOCK  # bytes of a short row: up to 15 before it, 23 triples, padding, and an overhang


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
        if triples >= WIDE:
            for j in range(0, triples, WIDE):
                at = min(j, triples - WIDE)
                fold_wide(chain, position + at, triples, target + at)
                for p in range(planes):
                    index_wide(chain, position + at, triples, p, index, p * width + done + at)
        else:
            for j in range(0, triples, BLOCK):
                at = min(j, triples - BLOCK)
                fold(chain, position + at, triples, target + at)
                for p in range(planes):
                    index_block(chain, position + at, triples, p, index, p * width + done + at)
        position += 3 * triples
        count = rest + triples
        done += triples
    last = index_rest(chain, position, count, planes, index, done, width)
    for p in range(planes):
        parity[p] = (last >> np.uint8(p)) & np.uint8(1)


def fold(chain: Octets, place: int, stride: int, target: int) -> None:
    """chain[target + j] = XOR of chain[place + j], [place + stride + j], [place + 2 * stride + j], j = 0..15."""
    _fold_python(chain, place, stride, target, BLOCK)


def fold_wide(chain: Octets, place: int, stride: int, target: int) -> None:
    """`fold` of 64 bytes."""
    _fold_python(chain, place, stride, target, WIDE)


def index_block(chain: Octets, place: int, stride: int, plane: int, index: Octets, target: int) -> None:
    """Indices of the 16 triples of `fold`, to the flat place `target` of uint8[P, Gp]."""
    _index_python(chain, place, stride, plane, index, target, BLOCK)


def index_wide(chain: Octets, place: int, stride: int, plane: int, index: Octets, target: int) -> None:
    """`index_block` of 64 triples."""
    _index_python(chain, place, stride, plane, index, target, WIDE)


def index_rest(chain: Octets, position: int, count: int, planes: int, index: Octets, done: int, width: int) -> np.uint8:
    """All triples of the row of count < 48 values at `position`; returns the byte of parities.

    done  : groups before this row; indices go to index[p, done:]
    width : Gp
    """
    short = np.zeros((3, GATHERED), np.uint8)
    groups = done % BLOCK
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
        index[p, done:] = bits.sum(axis=0)[done % BLOCK :][: width - done]
    return chain[position]


def _fold_python(chain: Octets, place: int, stride: int, target: int, lanes: int) -> None:
    a, b, c = (chain[place + i * stride :][:lanes] for i in range(3))
    chain[target : target + lanes] = a ^ b ^ c


def _index_python(chain: Octets, place: int, stride: int, plane: int, index: Octets, target: int, lanes: int) -> None:
    bits = ((chain[place + i * stride :][:lanes] >> plane & 1) << (3 + i) for i in range(3))
    index.reshape(-1)[target : target + lanes] = sum(bits)


def _triples(builder: ir.IRBuilder, data: ir.Value, place: ir.Value, stride: ir.Value, lanes: int) -> list[ir.Value]:
    """Three vectors of bytes, `stride` apart."""
    places = place, builder.add(place, stride), builder.add(place, builder.shl(stride, I64(1)))
    return [load(builder, data, at, ir.VectorType(I8, lanes)) for at in places]


def _xor(builder: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    a, b, c = vectors
    return builder.xor(builder.xor(a, b), c)


def _indices(builder: ir.IRBuilder, vectors: list[ir.Value], plane: ir.Value) -> ir.Value:
    """8 * (a + 2 * b + 4 * c) of bit `plane` of three vectors of bytes.

    Shifts are of 16-bit lanes, because x86 has none of bytes; bits that come from the neighbour are masked out.
    """
    lanes = vectors[0].type.count // 2
    kind = ir.VectorType(I16, lanes)

    def repeated(byte: int) -> ir.Constant:
        return fill(kind, 257 * byte)

    def merge(mask: int, high: ir.Value, low: ir.Value) -> ir.Value:
        return builder.or_(builder.and_(high, repeated(mask)), builder.and_(low, repeated(255 - mask)))

    shift, one = splat(builder, builder.trunc(plane, I16), lanes), fill(kind, 1)
    a, b, c = (builder.lshr(builder.bitcast(vector, kind), shift) for vector in vectors)
    two = merge(2, builder.shl(c, one), b)
    three = merge(6, builder.shl(two, one), a)
    found = builder.and_(builder.shl(three, fill(kind, 3)), repeated(56))
    return builder.bitcast(found, vectors[0].type)


def _make_fold(lanes: int) -> Any:
    @intrinsic
    def fold(typing_context, chain, place, stride, target):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            data = data_of(context, builder, [chain], arguments[:1])[0]
            _, place, stride, target = arguments
            store(builder, _xor(builder, _triples(builder, data, place, stride, lanes)), data, target)
            return context.get_dummy_value()

        return types.void(chain, types.int64, types.int64, types.int64), generate

    return fold


def _make_index(lanes: int) -> Any:
    @intrinsic
    def index_lanes(typing_context, chain, place, stride, plane, index, target):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            row, place, stride, plane, planes, target = arguments
            data, out = data_of(context, builder, (chain, index), (row, planes))
            vectors = _triples(builder, data, place, stride, lanes)
            store(builder, _indices(builder, vectors, plane), out, target)
            return context.get_dummy_value()

        return types.void(chain, types.int64, types.int64, types.int64, index, types.int64), generate

    return index_lanes


@intrinsic
def _index_rest(typing_context, chain, position, count, planes, index, done, width):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        row, position, count, planes, found, done, width = arguments
        data, out = data_of(context, builder, (chain, index), (row, found))
        rest = _Rest(builder, data, position, count, builder.and_(done, I64(BLOCK - 1)))
        rest.gather()
        rest.spread(planes, out, builder.and_(done, I64(-BLOCK)), width)
        return builder.load(builder.gep(data, [builder.load(rest.position)]))

    numbers = (types.int64,) * 3
    return types.uint8(chain, *numbers, index, types.int64, types.int64), generate


class _Rest:
    """Emits `index_rest`: the triples of a short row, side by side in three rows of 64 bytes on the stack.

    Four rounds reduce any 47 values to one, and a round over one value changes nothing: no branches.
    """

    ROUNDS = 4

    def __init__(
        self, builder: ir.IRBuilder, data: ir.Value, position: ir.Value, count: ir.Value, groups: ir.Value
    ) -> None:
        self.builder, self.data, self.before = builder, data, groups
        self.position, self.count, self.groups = places = [cgutils.alloca_once(builder, I64) for _ in range(3)]
        for value, place in zip((position, count, groups), places, strict=True):
            builder.store(value, place)
        kind = ir.VectorType(I8, GATHERED)
        self.short = []
        for _ in range(3):
            place = cgutils.alloca_once(builder, kind)
            builder.store(fill(kind, 0), place)
            self.short.append(builder.bitcast(place, I8.as_pointer()))

    def gather(self) -> None:
        """Copy the triples of all rounds, and put their parities into the chain."""
        b = self.builder
        with cgutils.for_range(b, I64(self.ROUNDS), intp=I64):
            position, count, groups = (b.load(variable) for variable in (self.position, self.count, self.groups))
            is_pair = b.icmp_signed("==", count, I64(2))
            padding = b.gep(self.data, [b.add(position, I64(2))])
            b.store(b.select(is_pair, I8(0), b.load(padding)), padding)
            count = b.select(is_pair, I64(3), count)
            triples = b.udiv(count, I64(3))
            used = b.mul(triples, I64(3))
            rest = b.sub(count, used)
            vectors = _triples(b, self.data, position, triples, BLOCK)
            inside = below(b, triples, BLOCK)
            for vector, row in zip(vectors, self.short, strict=True):
                store(b, b.select(inside, vector, fill(vector.type, 0)), row, groups)
            after = b.add(position, used)
            store(b, _xor(b, vectors), self.data, b.add(after, rest))
            for variable, value in (
                (self.position, after),
                (self.count, b.add(rest, triples)),
                (self.groups, b.add(groups, triples)),
            ):
                b.store(value, variable)

    def spread(self, planes: ir.Value, out: ir.Value, first: ir.Value, width: ir.Value) -> None:
        """Write index[:, first:width], keeping what is there of earlier triples."""
        b = self.builder
        kind = ir.VectorType(I8, BLOCK)
        with cgutils.for_range_slice(b, first, width, I64(BLOCK), I64) as (at, _):
            vectors = [load(b, row, b.sub(at, first), kind) for row in self.short]
            earlier = b.and_(below(b, self.before, BLOCK), splat(b, b.icmp_signed("==", at, first), BLOCK))
            with cgutils.for_range(b, planes, intp=I64) as plane:
                place = b.add(b.mul(plane.index, width), at)
                indices = _indices(b, vectors, plane.index)
                store(b, b.select(earlier, load(b, out, place, kind), indices), out, place)


_fold, _fold_wide = _make_fold(BLOCK), _make_fold(WIDE)
_index_block, _index_wide = _make_index(BLOCK), _make_index(WIDE)


@overload(fold)
def _fold_overload(chain, place, stride, target):  # type: ignore[no-untyped-def]
    return lambda chain, place, stride, target: _fold(chain, place, stride, target)


@overload(fold_wide)
def _fold_wide_overload(chain, place, stride, target):  # type: ignore[no-untyped-def]
    return lambda chain, place, stride, target: _fold_wide(chain, place, stride, target)


@overload(index_block)
def _index_block_overload(chain, place, stride, plane, index, target):  # type: ignore[no-untyped-def]
    return lambda chain, place, stride, plane, index, target: _index_block(chain, place, stride, plane, index, target)


@overload(index_wide)
def _index_wide_overload(chain, place, stride, plane, index, target):  # type: ignore[no-untyped-def]
    return lambda chain, place, stride, plane, index, target: _index_wide(chain, place, stride, plane, index, target)


@overload(index_rest)
def _index_rest_overload(chain, position, count, planes, index, done, width):  # type: ignore[no-untyped-def]
    return lambda chain, position, count, planes, index, done, width: _index_rest(  # type: ignore[call-arg]
        chain, position, count, planes, index, done, width
    )
