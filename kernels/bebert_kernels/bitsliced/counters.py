"""From the state of a row (`tile.py`) to sums: carries added up, planes turned into integers, or compared.

A counter is COUNTER_PLANES planes; plane l holds bit l of the sum of each of PANEL_OUTPUTS
outputs (of half as many, twice, where a vector holds two rows).
"""

from typing import Any

from llvmlite import ir

from bebert_kernels.bitsliced.layout import COMPARED, COUNTER_PLANES, LEVELS, PANEL_OUTPUTS, PLANE, STRIP, TERNARY
from bebert_kernels.bitsliced.tile import (
    WORDS,
    full_add,
    half_add,
    load_halves,
    load_plane,
    majority,
    store_plane,
    ternary,
)
from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import I16, I32, I64, fill

_HIGH = {1: 7, 4: 6}  # planes that the carries of all chunks need
_STEP = 4  # carries that are added at once

_SHORTS = ir.VectorType(I16, PANEL_OUTPUTS // 16)
_SUMS = ir.VectorType(I32, PANEL_OUTPUTS // 32)


def make_accumulate(planes: int, half: bool) -> Any:
    """Intrinsic that adds up a state, its carries and the parities, which are what is left of the triples.

    Its arguments are int64: addresses of the state, of its first carry (the next ones lie STRIP planes apart), and of
    the parity plane of the weights; parities of the row and of the second row (half panels only), bit p that of index
    plane p; count of chunks; address of the counter.
    """
    levels, high = LEVELS[planes], _HIGH[planes]

    @emitted()
    def accumulate(
        e: Emitter,
        state: Value,
        carries: Value,
        weights: Value,
        bits: Value,
        second: Value,
        chunks: Value,
        counter: Value,
    ) -> None:
        upper = _add_carries(e, carries, chunks, high)
        parity = load_halves(e, weights, weights) if half else load_plane(e, weights)
        total = [load_plane(e, state, PLANE * level) for level in range(levels)] + upper
        flips = [_flips(e, bits, second if half else bits, p) for p in range(planes)]
        sums, over = [e.builder.xor(parity, flips[0])], None
        for level, plane in enumerate(total, start=1):
            if level < planes:
                other = e.builder.xor(parity, flips[level])
                step = half_add(e, plane, other) if over is None else full_add(e, plane, other, over)
            else:
                step = (plane, None) if over is None else half_add(e, plane, over)
            sums.append(step[0])
            over = step[1]
        for level in range(COUNTER_PLANES):
            store_plane(e, sums[level] if level < len(sums) else fill(WORDS, 0), counter, PLANE * level)

    return accumulate


def _flips(e: Emitter, bits: Value, second: Value, p: int) -> Value:
    """A plane of ones where bit p of a row's parities is 1, in either half."""
    b = e.builder
    flips = [e.repeat(b.neg(b.and_(b.lshr(word, I64(p)), I64(1))), WORDS.count // 2) for word in (bits, second)]
    return e.join(flips)


def _add_carries(e: Emitter, carries: Value, count: Value, high: int) -> list[Value]:
    """Sum of `count` planes from an address on, STRIP planes apart, as `high` planes."""
    b, apart = e.builder, STRIP * PLANE
    totals = [e.variable(fill(WORDS, 0)) for _ in range(high)]

    def ripple(level: int, plane: Value) -> None:
        for total in totals[level:]:
            new, plane = half_add(e, b.load(total), plane)
            b.store(new, total)

    def add(level: int, x: Value, y: Value) -> Value:
        new, over = full_add(e, b.load(totals[level]), x, y)
        b.store(new, totals[level])
        return over

    whole = b.and_(count, I64(-_STEP))
    with e.loop(I64(0), whole, _STEP) as (i, _):
        first = e.place(carries, i, apart)
        w, x, y, z = (load_plane(e, first, apart * k) for k in range(_STEP))
        ripple(2, add(1, add(0, w, x), add(0, y, z)))
    with e.loop(whole, count) as (i, _):
        ripple(0, load_plane(e, e.place(carries, i, apart)))
    return [b.load(total) for total in totals]


def make_planes_to_ints(half: bool) -> Any:
    """Intrinsic that turns a counter into its sums, int32[PANEL_OUTPUTS]; addresses of both.

    Each column of 16-bit elements of the 16 planes is a 16 x 16 matrix of bits; its transpose holds 16 sums. Element e
    of row i of the result is bit 16 * e + i of the planes: `triples.py` orders outputs so that they come out in their
    natural order. Two rows in halves come out one behind the other, int32[2, PANEL_OUTPUTS / 2].
    """

    @emitted()
    def planes_to_ints(e: Emitter, counter: Value, out: Value) -> None:
        b, count = e.builder, _SUMS.count
        planes = [b.bitcast(load_plane(e, counter, PLANE * i), _SHORTS) for i in range(COUNTER_PLANES)]
        for j, mask in ((8, 0x00FF), (4, 0x0F0F), (2, 0x3333), (1, 0x5555)):
            low, high, by = fill(_SHORTS, mask), fill(_SHORTS, mask ^ 0xFFFF), fill(_SHORTS, j)
            for k in (k for k in range(COUNTER_PLANES) if not k & j):
                x, y = planes[k], planes[k + j]
                planes[k] = b.or_(b.and_(x, low), b.and_(b.shl(y, by), high))
                planes[k + j] = b.or_(b.and_(b.lshr(x, by), low), b.and_(y, high))
        for i, plane in enumerate(planes):
            for part, shorts in enumerate(e.split(plane, count)):
                at = part * PANEL_OUTPUTS // 2 + i * count if half else (2 * i + part) * count
                e.store(b.zext(shorts, _SUMS), out, 4 * at, 4 * count)

    return planes_to_ints


def make_compare(half: bool) -> Any:
    """Intrinsic that tells which sums of a counter of signs lie in given intervals, low <= sum < high.

    Its arguments are int64 addresses: the counter; planes of the thresholds (COMPARED of low, COMPARED of high, one of
    sides, each a half plane for half panels); where the result goes: a plane of ones inside, and a plane of ones
    outside on the side given, 0 above, 1 below.
    """
    size = PLANE // 2 if half else PLANE

    @emitted()
    def compare(e: Emitter, counter: Value, thresholds: Value, out: Value) -> None:
        b = e.builder

        def limit(i: int) -> Value:
            if half:
                at = b.add(thresholds, I64(size * i))
                return load_halves(e, at, at)
            return load_plane(e, thresholds, size * i)

        below = []
        for first in (0, COMPARED):
            borrow = None
            for level in range(COMPARED):
                borrow = _borrow(e, load_plane(e, counter, PLANE * level), limit(first + level), borrow)
            below.append(borrow)
        low, high = below
        side = limit(2 * COMPARED)
        outside = b.or_(b.and_(side, low), b.not_(b.or_(side, high)))
        store_plane(e, b.and_(b.not_(low), high), out)
        store_plane(e, outside, out, PLANE)

    return compare


def _borrow(e: Emitter, x: Value, y: Value, borrow: Value | None) -> Value:
    """Borrow of x - y - borrow, one bit."""
    b = e.builder
    if borrow is None:
        return b.and_(b.not_(x), y)
    if TERNARY:
        return ternary(e, x, y, borrow, lambda a, b, c: majority(1 - a, b, c))
    return b.or_(b.and_(y, borrow), b.and_(b.not_(x), b.or_(y, borrow)))
