"""The register block of the fast product: majority tables and bit-sliced counters.

What has to be counted for every output n is  S = sum_k x_k,  x_k = a_k ^ w_nk,  over the bits of a row a and of the
weight signs. Two ideas make it cheap, and no popcount instruction is needed.

Bit slices. A vector holds one bit of each of LANES outputs, and sums stand in *counters*: plane l holds bit l of
the LANES sums. A full adder turns three planes of weight 2**l into one of weight 2**l (their parity) and one of
weight 2**(l+1) (their majority), for LANES outputs at once: two ternary-logic instructions on AVX-512.

Tables. Three inputs make a triple:

    x1 + x2 + x3 = 2 * majority(x1, x2, x3) + (x1 ^ x2 ^ x3)

The parity is (a1 ^ a2 ^ a3) ^ (w1 ^ w2 ^ w3): again the XOR of a row bit and a weight bit, so the parities of all
triples are a product of a third of the depth, done the same way, and its parities again (`triples.py`). What is left
to count are majorities, one for every two inputs. The majority depends on the row only through three bits, so for
each triple its eight possible planes are computed once and serve all rows; a row takes the right one from the table
by an index. One look-up and one full adder for two inputs and LANES outputs: on AVX-512 one instruction for 512
multiply-adds, three times fewer than XOR and a popcount instruction, and any machine with vectors can do it.

    triple g: w1 w2 w3 --> table |m000|m100|m010|m110|m001|m101|m011|m111|   8 planes, in the first-level cache
    row r:    index[g] ------------------^                                   --> counters of row r

Everything here is emitted as LLVM vectors and takes plain addresses: `sliced_gemm.py` owns the memory.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from bebert_kernels.jit import cpu_features

TERNARY = "avx512f" in cpu_features()
LANES = 512 if TERNARY else 256 if "avx2" in cpu_features() else 128
PLANE = LANES // 8  # bytes of a plane
ENTRIES = 8  # planes in the table of a triple
TRIPLE = 3 * PLANE  # bytes of the weights of a triple
TABLE = ENTRIES * PLANE  # bytes of the table of a triple
LEVELS = 16  # planes of a counter: sums below 2**16

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_WORDS = ir.VectorType(_I64, LANES // 64)
_HALVES = ir.VectorType(ir.IntType(16), LANES // 16)


def _majority(a: int, b: int, c: int) -> int:
    return int(a + b + c >= 2)


def _flipped_majority(a: int, b: int, c: int) -> Callable[[int, int, int], int]:
    return lambda x, y, z: _majority(x ^ a, y ^ b, z ^ c)


def _place(builder: ir.IRBuilder, address: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(builder.add(address, _I64(offset)), kind.as_pointer())


def load_plane(builder: ir.IRBuilder, address: ir.Value, offset: int = 0) -> ir.Value:
    """Emit the load of a plane, `offset` bytes behind an address."""
    return builder.load(_place(builder, address, offset, _WORDS), align=PLANE)


def store_plane(builder: ir.IRBuilder, value: ir.Value, address: ir.Value, offset: int = 0) -> None:
    """Emit the store of a plane, `offset` bytes behind an address."""
    builder.store(value, _place(builder, address, offset, _WORDS), align=PLANE)


def _ternary(
    builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value, rule: Callable[[int, int, int], int]
) -> ir.Value:
    """One AVX-512 instruction for any function of three bits."""
    code = sum(rule(i >> 2 & 1, i >> 1 & 1, i & 1) << i for i in range(8))
    kind = ir.FunctionType(_WORDS, [_WORDS, _WORDS, _WORDS, _I32])
    name = "llvm.x86.avx512.pternlog.q.512"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, [a, b, c, _I32(code)])


def full_add(builder: ir.IRBuilder, total: ir.Value, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Sum and carry of three planes.

    With ternary logic the carry is taken from the new sum, so that the old one can be overwritten in place: else
    every adder would need a register copy, and copies fill the front end of the CPU.
    """
    if TERNARY:
        new = _ternary(builder, total, x, y, lambda a, b, c: a ^ b ^ c)
        return new, _ternary(builder, new, x, y, lambda a, b, c: _majority(a ^ b ^ c, b, c))
    t = builder.xor(total, x)
    carry = builder.or_(builder.and_(t, y), builder.and_(builder.not_(t), total))  # a bit select on NEON
    return builder.xor(t, y), carry


def make_lookup(planes: int, triples: int, levels: int) -> Any:
    """Intrinsic that adds `triples` look-ups of each of `planes` index planes of one row to its counters.

    Its arguments are int64: table address, index address, bytes from one index plane to the next, counters address.
    Plane p counts at level 1 + p; carries beyond `levels` must not occur.
    """

    @intrinsic
    def lookup(typing_context, table, index, stride, counters):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            table, index, stride, counters = arguments
            totals = [load_plane(builder, counters, PLANE * level) for level in range(levels + 1)]
            waiting: list[list[ir.Value]] = [[] for _ in range(levels + 2)]

            def add(level: int, plane: ir.Value) -> None:
                waiting[level].append(plane)
                if len(waiting[level]) == 2 and level <= levels:
                    totals[level], carry = full_add(builder, totals[level], *waiting[level])
                    waiting[level].clear()
                    add(level + 1, carry)

            rows = [builder.add(index, builder.mul(stride, _I64(p))) for p in range(planes)]
            for g in range(triples):
                for p in range(planes):
                    eighth = builder.zext(builder.load(_place(builder, rows[p], g, _I8)), _I64)  # 8 * entry
                    entry = builder.add(table, builder.mul(eighth, _I64(PLANE // 8)))
                    add(1 + p, load_plane(builder, entry, g * TABLE))
            _settle(builder, totals, waiting)
            for level in range(1, levels + 1):
                store_plane(builder, totals[level], counters, PLANE * level)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return lookup


def _settle(builder: ir.IRBuilder, totals: list[ir.Value], waiting: list[list[ir.Value]]) -> None:
    """Add what still waits, and the carries, from the lowest level up."""
    carry: list[ir.Value] = []
    for level in range(1, len(totals)):
        planes = waiting[level] + carry
        carry = []
        if len(planes) == 2:
            totals[level], over = full_add(builder, totals[level], *planes)
            carry = [over]
        elif planes:
            carry = [builder.and_(totals[level], planes[0])]
            totals[level] = builder.xor(totals[level], planes[0])


@intrinsic
def fill_table(typing_context, weights, table):  # type: ignore[no-untyped-def]
    """Compute the eight majority planes of one triple: addresses of its three weight planes and of its table."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        weights, table = arguments
        w = [load_plane(builder, weights, PLANE * i) for i in range(3)]
        inverted = [builder.not_(plane) for plane in w]
        for entry in range(ENTRIES):
            flips = [entry >> i & 1 for i in range(3)]
            if TERNARY:
                plane = _ternary(builder, w[0], w[1], w[2], _flipped_majority(*flips))
            else:
                x, y, z = (inverted[i] if flip else w[i] for i, flip in enumerate(flips))
                plane = builder.or_(builder.and_(x, y), builder.and_(z, builder.or_(x, y)))
            store_plane(builder, plane, table, PLANE * entry)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def start_counters(typing_context, counters, parity, bits, planes, equal):  # type: ignore[no-untyped-def]
    """Counters of a row before any look-up: what is left of the triples, one parity bit a plane; the rest 0.

    counters, parity : addresses of LEVELS planes and of the parity plane of the weights
    bits             : bit p = parity of plane p of the row's codes
    planes           : planes of the codes, at most 4
    equal            : 1 if two planes both have weight 1 (signs with zeros), else 0
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        counters, parity, bits, planes, equal = arguments
        weights = load_plane(builder, parity)
        zero = ir.Constant(_WORDS, [0] * (LANES // 64))
        found = []
        for p in range(4):
            flip = builder.neg(builder.and_(builder.lshr(bits, _I64(p)), _I64(1)))
            one = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), flip, _I32(0))
            order = ir.Constant(ir.VectorType(_I32, LANES // 64), [0] * (LANES // 64))
            plane = builder.xor(weights, builder.shuffle_vector(one, one, order))
            found.append(builder.select(builder.icmp_signed(">", planes, _I64(p)), plane, zero))
        same = builder.icmp_signed("!=", equal, _I64(0))
        both = builder.select(same, found[1], zero)
        store_plane(builder, builder.xor(found[0], both), counters)
        store_plane(builder, builder.select(same, builder.and_(found[0], both), found[1]), counters, PLANE)
        for level in range(2, LEVELS):
            store_plane(builder, found[level] if level < 4 else zero, counters, PLANE * level)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def unslice(typing_context, counters, out):  # type: ignore[no-untyped-def]
    """Turn the 16 planes of a counter into its sums, int32[LANES]; addresses of both.

    Each column of 16-bit elements of the 16 planes is a 16 x 16 matrix of bits; its transpose holds 16 sums. The
    order of outputs in a plane is chosen (`triples.py`) so that the sums come out in their natural order.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        counters, out = arguments
        planes = [builder.bitcast(load_plane(builder, counters, PLANE * i), _HALVES) for i in range(LEVELS)]

        def constant(value: int) -> ir.Constant:
            return ir.Constant(_HALVES, [value] * (LANES // 16))

        for j, mask in ((8, 0x00FF), (4, 0x0F0F), (2, 0x3333), (1, 0x5555)):
            low, high, by = constant(mask), constant(mask ^ 0xFFFF), constant(j)
            for k in (k for k in range(LEVELS) if not k & j):
                a, b = planes[k], planes[k + j]
                planes[k] = builder.or_(builder.and_(a, low), builder.and_(builder.shl(b, by), high))
                planes[k + j] = builder.or_(builder.and_(builder.lshr(a, by), low), builder.and_(b, high))
        wide = ir.VectorType(_I32, LANES // 32)
        for i, plane in enumerate(planes):
            for half in range(2):
                first = half * (LANES // 32)
                order = ir.Constant(wide, list(range(first, first + LANES // 32)))
                sums = builder.zext(builder.shuffle_vector(plane, plane, order), wide)
                builder.store(sums, _place(builder, out, 4 * (i * (LANES // 16) + first), wide), align=PLANE)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate
