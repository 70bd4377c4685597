"""The register block of the fast product: majority tables and bit-sliced counters.

What has to be counted for every output n is  S = sum_k x_k,  x_k = a_k ^ w_nk,  over the bits of a row a and of the
weight signs. Two ideas make it cheap, and no popcount instruction is needed.

Bit slices. A vector holds one bit of each of PANEL_OUTPUTS outputs, and sums stand in *counters*: plane l holds bit l
of the PANEL_OUTPUTS sums. A full adder turns three planes of weight 2**l into one of weight 2**l (their parity) and one
of weight 2**(l+1) (their majority), for PANEL_OUTPUTS outputs at once: two ternary-logic instructions on AVX-512.

Tables. Three inputs make a triple:

    x1 + x2 + x3 = 2 * majority(x1, x2, x3) + (x1 ^ x2 ^ x3)

The parity is (a1 ^ a2 ^ a3) ^ (w1 ^ w2 ^ w3): again the XOR of a row bit and a weight bit, so the parities of all
triples are a product of a third of the depth, done the same way, and its parities again (`triples.py`). What is left
to count are majorities, one for every two inputs. The majority depends on the row only through three bits, so for
each triple its eight possible planes are computed once and serve all rows; a row takes the right one from the table
by an index. One look-up and one full adder for two inputs and PANEL_OUTPUTS outputs: on AVX-512 one instruction for 512
multiply-adds, three times fewer than XOR and a popcount instruction, and any machine with vectors can do it.

    triple g: w1 w2 w3 --> table |m000|m100|m010|m110|m001|m101|m011|m111|   8 planes, in the first-level cache
    row r:    index[g] ------------------^                                   --> state of row r

State. Tables are made for a chunk of triples at a time, and all rows take their look-ups before the next ones are made.
Between two chunks a row keeps a few low planes; what a chunk carries out of them is one bit an output at most, and
that plane is only put aside (`counters.py` adds them up in the end). This halves what goes to and from the caches.

Halves. The last panel of a layer often needs only half of the lanes (768 = 512 + 256). Then a vector holds two rows,
each with half a panel: two half look-ups and one full adder.

Everything here is emitted as LLVM vectors and takes plain addresses: `gemm.py` owns the memory.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from bebert_kernels.bitsliced.layout import (
    BIT_SELECT,
    CHUNK_TRIPLES,
    ENTRIES,
    LEVELS,
    PANEL_OUTPUTS,
    PLANE,
    TABLE,
    TERNARY,
)
from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import I8, I32, I64, fill

WORDS = ir.VectorType(I64, PANEL_OUTPUTS // 64)
_HALF = ir.VectorType(I64, PANEL_OUTPUTS // 128)


def majority(a: int, b: int, c: int) -> int:
    """Majority of three bits."""
    return int(a + b + c >= 2)


def _flipped_majority(a: int, b: int, c: int) -> Callable[[int, int, int], int]:
    return lambda x, y, z: majority(x ^ a, y ^ b, z ^ c)


def load_plane(e: Emitter, address: Value, offset: int = 0) -> Value:
    """Emit the load of a plane, `offset` bytes behind an address."""
    return e.load(address, offset, WORDS, PLANE)


def store_plane(e: Emitter, plane: Value, address: Value, offset: int = 0) -> None:
    """Emit the store of a plane, `offset` bytes behind an address."""
    e.store(plane, address, offset, PLANE)


def ternary(e: Emitter, a: Value, b: Value, c: Value, rule: Callable[[int, int, int], int]) -> Value:
    """One AVX-512 instruction for any function of three bits."""
    code = sum(rule(i >> 2 & 1, i >> 1 & 1, i & 1) << i for i in range(8))
    return e.call("llvm.x86.avx512.pternlog.q.512", WORDS, a, b, c, I32(code))


def full_add(e: Emitter, total: Value, x: Value, y: Value) -> tuple[Value, Value]:
    """Sum and carry of three planes.

    With ternary logic the carry is taken from the new sum, so that the old one can be overwritten in place: else
    every adder would need a register copy, and copies fill the front end of the CPU.
    """
    if TERNARY:
        new = ternary(e, total, x, y, lambda a, b, c: a ^ b ^ c)
        return new, ternary(e, new, x, y, lambda a, b, c: majority(a ^ b ^ c, b, c))
    builder = e.builder
    t = builder.xor(total, x)
    if BIT_SELECT:
        t = opaque(e, t)
    carry = builder.or_(builder.and_(t, y), builder.and_(builder.not_(t), total))  # a bit select on NEON
    return builder.xor(t, y), carry


def opaque(e: Emitter, plane: Value) -> Value:
    """The same plane, of which LLVM does not know where it comes from.

    Else, on NEON, it makes `total & x` of `~(total ^ x) & total`, and the carry takes three instructions, not one.
    """
    kind = ir.FunctionType(plane.type, [plane.type])
    return e.builder.call(ir.InlineAsm(kind, "", "=w,0" if BIT_SELECT else "=x,0"), [plane])


def half_add(e: Emitter, total: Value, x: Value) -> tuple[Value, Value]:
    """Sum and carry of two planes."""
    return e.builder.xor(total, x), e.builder.and_(total, x)


def load_halves(e: Emitter, low: Value, high: Value) -> Value:
    """Emit the load of a plane of two half planes at two addresses."""
    return e.join([e.load(address, 0, _HALF, PLANE // 2) for address in (low, high)])


def make_lookup(planes: int, half: bool) -> Any:
    """Intrinsic that adds CHUNK_TRIPLES look-ups of each of `planes` index planes (1 or 4) of one row to its state.

    Its arguments are int64 addresses: table, index of the row, index of the second row (half panels only), state
    before, state after, place of the carry. Plane p counts in units of 2**p; its indices follow
    those of p - 1.
    """
    levels, table_bytes = LEVELS[planes], TABLE // 2 if half else TABLE
    entry_bytes = table_bytes // ENTRIES

    @emitted()
    def lookup(
        e: Emitter, table: Value, index: Value, second: Value, source: Value, state: Value, carry: Value
    ) -> None:
        totals = [load_plane(e, source, PLANE * level) for level in range(levels)]
        waiting: list[list[Value]] = [[] for _ in range(levels + 1)]

        def add(level: int, plane: Value) -> None:
            waiting[level].append(plane)
            if len(waiting[level]) == 2 and level < levels:
                totals[level], over = full_add(e, totals[level], *waiting[level])
                waiting[level].clear()
                add(level + 1, over)

        def entry(row: Value, p: int, g: int) -> Value:
            eighth = e.builder.zext(e.load(row, p * CHUNK_TRIPLES + g, I8), I64)  # 8 * entry
            return e.builder.add(e.place(table, eighth, entry_bytes // 8), I64(g * table_bytes))

        for g in range(CHUNK_TRIPLES):
            for p in range(planes):
                if half:
                    add(p, load_halves(e, entry(index, p, g), entry(second, p, g)))
                else:
                    add(p, load_plane(e, entry(index, p, g)))
        over = _add_waiting(e, totals, waiting)
        for level in range(levels):
            store_plane(e, totals[level], state, PLANE * level)
        store_plane(e, over, carry)

    return lookup


def _add_waiting(e: Emitter, totals: list[Value], waiting: list[list[Value]]) -> Value:
    """Add what still waits, and the carries, from the lowest level up; returns what is carried out of the state."""
    carry: list[Value] = []
    for level in range(len(totals)):
        planes = waiting[level] + carry
        carry = []
        if len(planes) == 2:
            totals[level], over = full_add(e, totals[level], *planes)
            carry = [over]
        elif planes:
            totals[level], over = half_add(e, totals[level], planes[0])
            carry = [over]
    carry += waiting[-1]
    out = fill(WORDS, 0)
    for plane in carry:  # at most one of them is 1
        out = e.builder.or_(out, plane)
    return out


def make_fill(half: bool) -> Any:
    """Intrinsic: the eight majority planes of one triple; addresses of its three weight planes and of its table."""
    kind, size = (_HALF, PLANE // 2) if half else (WORDS, PLANE)

    @emitted()
    def fill_table(e: Emitter, weights: Value, table: Value) -> None:
        builder = e.builder
        w = [e.load(weights, size * i, kind, size) for i in range(3)]
        inverted = [builder.not_(plane) for plane in w]
        for entry in range(ENTRIES):
            flips = [entry >> i & 1 for i in range(3)]
            if TERNARY and not half:
                plane = ternary(e, w[0], w[1], w[2], _flipped_majority(*flips))
            else:
                x, y, z = (inverted[i] if flip else w[i] for i, flip in enumerate(flips))
                plane = builder.or_(builder.and_(x, y), builder.and_(z, builder.or_(x, y)))
            e.store(plane, table, size * entry, size)

    return fill_table
