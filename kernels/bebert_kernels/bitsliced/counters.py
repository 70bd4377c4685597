"""From the state of a row (`tile.py`) to sums: carries added up, planes turned into integers, or compared.

A counter is COUNTER_PLANES planes; plane l holds bit l of the sum of each of PANEL_OUTPUTS
outputs (of half as many, twice, where a vector holds two rows).
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from bebert_kernels.bitsliced.tile import (
    LEVELS,
    PANEL_OUTPUTS,
    PLANE,
    TERNARY,
    WORDS,
    full_add,
    half_add,
    load_halves,
    load_plane,
    majority,
    place,
    store_plane,
    ternary,
)

STRIP = 8  # rows whose carries of one chunk lie side by side
COUNTER_PLANES = 16  # sums below 2**16
COUNTER = COUNTER_PLANES * PLANE  # bytes
COMPARED = 13  # planes of a counter of signs: `triples.MAX_DEPTH` is below 2**13
_HIGH = {1: 7, 4: 6}  # planes that the carries of all chunks need
_STEP = 4  # carries that are added at once

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_SHORTS = ir.VectorType(ir.IntType(16), PANEL_OUTPUTS // 16)


def make_accumulate(planes: int, half: bool) -> Any:
    """Intrinsic that adds up a state, its carries and the parities, which are what is left of the triples.

    Its arguments are int64: addresses of the state, of its first carry (the next ones lie STRIP planes apart), and of
    the parity plane of the weights; parities of the row and of the second row (half panels only), bit p that of index
    plane p; count of chunks; address of the counter.
    """
    levels, high = LEVELS[planes], _HIGH[planes]

    @intrinsic
    def settle(typing_context, state, carries, weights, bits, second, chunks, counter):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            state, carries, weights, bits, second, chunks, counter = arguments
            upper = _add_carries(builder, carries, chunks, high)
            parity = load_halves(builder, weights, weights) if half else load_plane(builder, weights)
            total = [load_plane(builder, state, PLANE * level) for level in range(levels)] + upper
            flips = [_flips(builder, bits, second if half else bits, p) for p in range(planes)]
            sums, over = [builder.xor(parity, flips[0])], None
            for level, plane in enumerate(total, start=1):
                if level < planes:
                    other = builder.xor(parity, flips[level])
                    step = half_add(builder, plane, other) if over is None else full_add(builder, plane, other, over)
                else:
                    step = (plane, None) if over is None else half_add(builder, plane, over)
                sums.append(step[0])
                over = step[1]
            zero = ir.Constant(WORDS, [0] * (PANEL_OUTPUTS // 64))
            for level in range(COUNTER_PLANES):
                store_plane(builder, sums[level] if level < len(sums) else zero, counter, PLANE * level)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), generate

    return settle


def _flips(builder: ir.IRBuilder, bits: ir.Value, second: ir.Value, p: int) -> ir.Value:
    """A plane of ones where bit p of a row's parities is 1, in either half."""
    kind, order = ir.VectorType(_I64, 2), ir.VectorType(_I32, PANEL_OUTPUTS // 64)
    rows: ir.Value = ir.Constant(kind, ir.Undefined)
    for i, word in enumerate((bits, second)):
        flip = builder.neg(builder.and_(builder.lshr(word, _I64(p)), _I64(1)))
        rows = builder.insert_element(rows, flip, _I32(i))
    return builder.shuffle_vector(
        rows, rows, ir.Constant(order, [2 * i * 64 // PANEL_OUTPUTS for i in range(PANEL_OUTPUTS // 64)])
    )


def _add_carries(builder: ir.IRBuilder, carries: ir.Value, count: ir.Value, high: int) -> list[ir.Value]:
    """Sum of `count` planes from an address on, STRIP planes apart, as `high` planes."""
    zero = ir.Constant(WORDS, [0] * (PANEL_OUTPUTS // 64))
    totals = [cgutils.alloca_once_value(builder, zero) for _ in range(high)]

    def ripple(level: int, plane: ir.Value) -> None:
        for total in totals[level:]:
            new, plane = half_add(builder, builder.load(total), plane)
            builder.store(new, total)

    def add(level: int, x: ir.Value, y: ir.Value) -> ir.Value:
        new, over = full_add(builder, builder.load(totals[level]), x, y)
        builder.store(new, totals[level])
        return over

    whole = builder.and_(count, _I64(-_STEP))
    with cgutils.for_range_slice(builder, _I64(0), whole, _I64(_STEP), _I64) as (i, _):
        first = builder.add(carries, builder.mul(i, _I64(STRIP * PLANE)))
        a, b, c, d = (load_plane(builder, first, STRIP * PLANE * k) for k in range(_STEP))
        ripple(2, add(1, add(0, a, b), add(0, c, d)))
    with cgutils.for_range_slice(builder, whole, count, _I64(1), _I64) as (i, _):
        ripple(0, load_plane(builder, builder.add(carries, builder.mul(i, _I64(STRIP * PLANE)))))
    return [builder.load(total) for total in totals]


@intrinsic
def planes_to_ints(typing_context, counter, out):  # type: ignore[no-untyped-def]
    """Turn a counter into its sums, int32[PANEL_OUTPUTS]; addresses of both.

    Each column of 16-bit elements of the 16 planes is a 16 x 16 matrix of bits; its transpose holds 16 sums. Element e
    of row i of the result is bit 16 * e + i of the planes: `triples.py` orders outputs so that they come out in their
    natural order. Two rows in halves come out one behind the other.
    """
    return _unslice_signature, _unslice(False)


@intrinsic
def planes_to_ints_halves(typing_context, counter, out):  # type: ignore[no-untyped-def]
    """`planes_to_ints` of a counter of two rows: int32[2, PANEL_OUTPUTS / 2]."""
    return _unslice_signature, _unslice(True)


_unslice_signature = types.void(types.int64, types.int64)


def _unslice(half: bool) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        counter, out = arguments
        planes = [builder.bitcast(load_plane(builder, counter, PLANE * i), _SHORTS) for i in range(COUNTER_PLANES)]

        def constant(value: int) -> ir.Constant:
            return ir.Constant(_SHORTS, [value] * (PANEL_OUTPUTS // 16))

        for j, mask in ((8, 0x00FF), (4, 0x0F0F), (2, 0x3333), (1, 0x5555)):
            low, high, by = constant(mask), constant(mask ^ 0xFFFF), constant(j)
            for k in (k for k in range(COUNTER_PLANES) if not k & j):
                a, b = planes[k], planes[k + j]
                planes[k] = builder.or_(builder.and_(a, low), builder.and_(builder.shl(b, by), high))
                planes[k + j] = builder.or_(builder.and_(builder.lshr(a, by), low), builder.and_(b, high))
        count = PANEL_OUTPUTS // 32
        wide = ir.VectorType(_I32, count)
        for i, plane in enumerate(planes):
            for part in range(2):
                order = ir.Constant(wide, list(range(part * count, (part + 1) * count)))
                sums = builder.zext(builder.shuffle_vector(plane, plane, order), wide)
                at = part * PANEL_OUTPUTS // 2 + i * count if half else (2 * i + part) * count
                builder.store(sums, place(builder, out, 4 * at, wide), align=4 * count)
        return context.get_dummy_value()

    return generate


def make_compare(half: bool) -> Any:
    """Intrinsic that tells which sums of a counter of signs lie in given intervals, low <= sum < high.

    Its arguments are int64 addresses: the counter; planes of the limits (COMPARED of low, COMPARED of high, one of
    sides, each a half plane for half panels); where the result goes: a plane of ones inside, and a plane of ones
    outside on the side given, 0 above, 1 below.
    """
    size = PLANE // 2 if half else PLANE

    @intrinsic
    def compare(typing_context, counter, limits, out):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            counter, limits, out = arguments

            def limit(i: int) -> ir.Value:
                if half:
                    at = builder.add(limits, _I64(size * i))
                    return load_halves(builder, at, at)
                return load_plane(builder, limits, size * i)

            below = []
            for first in (0, COMPARED):
                borrow = None
                for level in range(COMPARED):
                    plane = load_plane(builder, counter, PLANE * level)
                    borrow = _borrow(builder, plane, limit(first + level), borrow)
                below.append(borrow)
            low, high = below
            side = limit(2 * COMPARED)
            outside = builder.or_(builder.and_(side, low), builder.not_(builder.or_(side, high)))
            store_plane(builder, builder.and_(builder.not_(low), high), out)
            store_plane(builder, outside, out, PLANE)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3), generate

    return compare


def _borrow(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, borrow: ir.Value | None) -> ir.Value:
    """Borrow of a - b - borrow, one bit."""
    if borrow is None:
        return builder.and_(builder.not_(a), b)
    if TERNARY:
        return ternary(builder, a, b, borrow, lambda a, b, c: majority(1 - a, b, c))
    both = builder.and_(b, borrow)
    return builder.or_(both, builder.and_(builder.not_(a), builder.or_(b, borrow)))
