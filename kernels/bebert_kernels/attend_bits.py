"""Boolean attention of one sentence in one call: signs of q, k, v to the byte codes of sign(context).

A key counts iff its dot product of signs with the query is > 0; the context is the sum of the value signs of the keys
that count. Both are the same operation, a row of signs against 64 columns of signs, so one tile serves both:

    sum[lane] = sum_i row[i] * column[i, lane]          row: -1, 0, +1;   column: -1 or +1

              row                  i runs over        lanes
    scores    signs of a query     values of a head   64 keys
    context   1 for chosen keys    keys               64 values of a head

Four values of i are one nibble. What a nibble of the row does to the 16 possible nibbles of a column is a table of 16
bytes, and a byte shuffle looks 64 columns up at once: two instructions for 64 times 4 products.

    codes  uint16[nibbles]      place of the row's table in TABLES
    plane  uint8[64]            nibble of each column, bit 1 = negative; one plane for each nibble

Where columns have zeros, the sum over the negative bits minus the sum over the positive bits is twice the result, and
only its sign is wanted. Byte sums are widened after 64 values, so nothing overflows below 2**15 keys.
"""

import inspect
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from bebert_kernels.jit import kernel
from bebert_kernels.packing import WORD_BITS, Words

ROWS = 4  # rows of a tile
QUERIES = 32  # rows that go through both products together
NIBBLES = 16  # of a word
LANES = 64
PLANE_WORDS = LANES // 8
CODE_WORDS = NIBBLES * 2 // 8  # words that hold the codes of one word

Bytes = NDArray[np.uint8]

_config: Any = numba.config

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_BITS, _BYTES, _SHORTS = (ir.VectorType(kind, LANES) for kind in (_I1, _I8, _I16))
_TABLE = ir.VectorType(_I8, 16)


def _tables() -> Bytes:
    """Table (nonzero, sign) of a row's nibble: uint8[16 * 16, 16], sums of four products as int8."""
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    signs = 1 - 2 * bits
    rows = bits[:, None, :] * signs[None, :, :]
    return (rows.reshape(-1, 4) @ signs.T).astype(np.int8).view(np.uint8)


TABLES = _tables()


def _constant(kind: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


class Emitter:
    """Pieces of vector code; a place counts elements of the array that it belongs to."""

    def __init__(self, builder: ir.IRBuilder, features: list[str]) -> None:
        self.builder, self.features = builder, features

    def place(self, base: ir.Value, offset: ir.Value | int, step: ir.Value | int = 1) -> ir.Value:
        """Return base + offset * step."""
        offset, step = (_I64(value) if isinstance(value, int) else value for value in (offset, step))
        return self.builder.add(base, self.builder.mul(offset, step))

    def pointer(self, data: ir.Value, place: ir.Value, kind: ir.Type) -> ir.Value:
        """Return the address of element `place` as a pointer to another kind."""
        return self.builder.bitcast(self.builder.gep(data, [place]), kind.as_pointer())

    def load(self, data: ir.Value, place: ir.Value, kind: ir.Type, align: int = 8) -> ir.Value:
        """Return the value of some kind at element `place`."""
        return self.builder.load(self.pointer(data, place, kind), align=align)

    def store(self, value: ir.Value, data: ir.Value, place: ir.Value, align: int = 8) -> None:
        """Write the value at element `place`."""
        self.builder.store(value, self.pointer(data, place, value.type), align=align)

    def shuffle(self, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
        """Return the chosen elements of a followed by b."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(order)), order))

    def repeat(self, value: ir.Value, count: int) -> ir.Value:
        """Return a vector that holds the scalar, or the shorter vector, several times."""
        if not isinstance(value.type, ir.VectorType):
            value = self.builder.insert_element(ir.Constant(ir.VectorType(value.type, 1), ir.Undefined), value, _I32(0))
        return self.shuffle(value, value, [i % value.type.count for i in range(count)])

    def split(self, vector: ir.Value, count: int) -> list[ir.Value]:
        """Return the consecutive parts of `count` elements."""
        starts = range(0, vector.type.count, count)
        return [self.shuffle(vector, vector, list(range(start, start + count))) for start in starts]

    def join(self, parts: list[ir.Value]) -> ir.Value:
        """Return a power of two of equal vectors as one."""
        while len(parts) > 1:
            order = list(range(2 * parts[0].type.count))
            parts = [self.shuffle(parts[i], parts[i + 1], order) for i in range(0, len(parts), 2)]
        return parts[0]

    def call(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        """Return the result of an LLVM intrinsic."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def loop(self, start: ir.Value, stop: ir.Value, step: int = 1) -> Any:
        """Return a context that emits its body once for each start, start + step, ... below stop."""
        return cgutils.for_range_slice(self.builder, start, stop, _I64(step), _I64)


def vector_code(emit: Any, result: Any = types.void) -> Any:
    """Decorator: kernels run `emit(emitter, *arguments)` in place of the Python function; arrays come as structures."""

    def decorate(function: Any) -> Any:
        if _config.DISABLE_JIT:
            return function

        def build(typing_context, *kinds):  # type: ignore[no-untyped-def]
            wide = [types.int64 if isinstance(kind, types.Integer) and kind != types.uint64 else kind for kind in kinds]
            if not all(kind.layout == "C" for kind in kinds if isinstance(kind, types.Array)):
                return None

            def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
                values = [
                    make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
                    for kind, value in zip(wide, arguments, strict=True)
                ]
                value = emit(Emitter(builder, context.codegen().magic_tuple()[2].split(",")), *values)
                return context.get_dummy_value() if value is None else value

            return result(*wide), generate

        own = inspect.signature(function)
        first = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [item.replace(annotation=inspect.Parameter.empty) for item in own.parameters.values()]
        build.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
        build.__name__ = function.__name__
        return intrinsic(build)

    return decorate


def _emit_aligned(e: Emitter, scratch: Any) -> ir.Value:
    b = e.builder
    return b.lshr(b.and_(b.neg(b.ptrtoint(scratch.data, _I64)), _I64(63)), _I64(3))


@vector_code(_emit_aligned, types.int64)
def aligned(scratch: Words) -> int:
    """Index of the first element that starts a cache line of 64 bytes."""
    return -scratch.ctypes.data % 64 // 8


def _emit_key_planes(e: Emitter, scratch: Any, column: Any, blocks: Any, to: Any, stride: Any) -> None:
    """Transpose 8 x 8 bytes inside each vector of eight words, then eight vectors of eight words, then split bytes."""
    b, eight = e.builder, ir.VectorType(_I64, 8)
    order = [8 * i + j for j in range(8) for i in range(8)]
    with e.loop(_I64(0), blocks) as (block, _):
        vectors = []
        for i in range(8):
            octets = e.load(scratch.data, e.place(e.place(column, block, LANES), 8 * i), _BYTES)
            vectors.append(b.bitcast(e.shuffle(octets, octets, order), eight))
        for step in (4, 2, 1):  # rows that are `step` apart exchange the words that are `step` apart
            low = [i if not i & step else i - step + 8 for i in range(8)]
            high = [i + step if not i & step else i + 8 for i in range(8)]
            for i in (i for i in range(8) if not i & step):
                pair = vectors[i], vectors[i + step]
                vectors[i], vectors[i + step] = e.shuffle(*pair, low), e.shuffle(*pair, high)
        start = e.place(to, block, stride)
        for i, vector in enumerate(vectors):
            octets = b.bitcast(vector, _BYTES)
            low_nibbles = b.and_(octets, _constant(_BYTES, 15))
            e.store(low_nibbles, scratch.data, e.place(start, 2 * i, PLANE_WORDS), align=64)
            high_nibbles = b.lshr(octets, _constant(_BYTES, 4))
            e.store(high_nibbles, scratch.data, e.place(start, 2 * i + 1, PLANE_WORDS), align=64)


@vector_code(_emit_key_planes)
def key_planes(scratch: Words, column: int, blocks: int, to: int, stride: int) -> None:
    """Byte t of plane j = nibble j of column word t, 64 rows a block.

    column : place of the words
    to     : place of the planes; each block is `stride` words further
    """
    octets = scratch.view(np.uint8)
    for t in range(blocks * LANES):
        word = int(scratch[column + t])
        for j in range(NIBBLES):
            octets[8 * (to + t // LANES * stride + j * PLANE_WORDS) + t % LANES] = (word >> (4 * j)) & 15


def _emit_value_planes(e: Emitter, scratch: Any, column: Any, quads: Any, to: Any) -> None:
    """The bits of a word, spread to bytes."""
    b = e.builder
    with e.loop(_I64(0), b.mul(quads, _I64(4))) as (j, _):
        plane = _constant(_BYTES, 0)
        for i in range(4):
            bits = b.bitcast(e.load(scratch.data, e.place(b.add(column, _I64(i)), j, 4), _I64), _BITS)
            plane = b.or_(plane, b.select(bits, _constant(_BYTES, 1 << i), _constant(_BYTES, 0)))
        e.store(plane, scratch.data, e.place(to, j, PLANE_WORDS), align=64)


@vector_code(_emit_value_planes)
def value_planes(scratch: Words, column: int, quads: int, to: int) -> None:
    """Bit i of byte d of plane j = bit d of column word 4 * j + i, for 16 * quads words."""
    octets = scratch.view(np.uint8)
    for j in range(4 * quads):
        four = [int(word) for word in scratch[column + 4 * j : column + 4 * j + 4]]
        for d in range(LANES):
            octets[8 * (to + j * PLANE_WORDS) + d] = sum(((word >> d) & 1) << i for i, word in enumerate(four))


def _emit_code_word(e: Emitter, sign: Any, nonzero: Any, scratch: Any, to: Any) -> None:
    b, eight, wide = e.builder, ir.VectorType(_I8, 8), ir.VectorType(_I16, NIBBLES)
    order = [i // 2 + 8 * (i % 2) for i in range(NIBBLES)]
    spread = []
    for word in (sign, nonzero):
        octets = b.bitcast(word, eight)
        halves = b.and_(octets, _constant(eight, 15)), b.lshr(octets, _constant(eight, 4))
        spread.append(b.zext(e.shuffle(*halves, order), wide))
    e.store(b.or_(b.shl(spread[0], _constant(wide, 4)), b.shl(spread[1], _constant(wide, 8))), scratch.data, to)


@vector_code(_emit_code_word)
def code_word(sign: np.uint64, nonzero: np.uint64, scratch: Words, to: int) -> None:
    """Places of the tables of 16 nibbles: uint16[16] at scratch[to]; signs lie within nonzero."""
    pairs = [((int(nonzero) >> 4 * j & 15) << 8) | ((int(sign) >> 4 * j & 15) << 4) for j in range(NIBBLES)]
    scratch.view(np.uint16)[4 * to : 4 * to + NIBBLES] = pairs


def _emit_put_codes(e: Emitter, positive: Any, negative: Any, count: Any, out: Any, row: Any, column: Any) -> None:
    b = e.builder
    above, below = (b.bitcast(word, _BITS) for word in (positive, negative))
    codes = b.select(above, _constant(_BYTES, 0), b.select(below, _constant(_BYTES, 3), _constant(_BYTES, 2)))
    place = e.place(column, row, b.extract_value(out.shape, 1))
    with b.if_else(b.icmp_signed("==", count, _I64(LANES))) as (whole, part):
        with whole:
            e.store(codes, out.data, place, align=1)
        with part:
            with b.if_else(b.icmp_signed("==", count, _I64(LANES // 2))) as (half, ragged):
                with half:
                    e.store(e.shuffle(codes, codes, list(range(LANES // 2))), out.data, place, align=1)
                with ragged:
                    kept = cgutils.alloca_once(b, _BYTES)
                    b.store(codes, kept)
                    octets = b.bitcast(kept, _I8.as_pointer())
                    with e.loop(_I64(0), count) as (i, _):
                        b.store(b.load(b.gep(octets, [i])), b.gep(out.data, [b.add(place, i)]))


@vector_code(_emit_put_codes)
def put_codes(positive: np.uint64, negative: np.uint64, count: int, out: Bytes, row: int, column: int) -> None:
    """Byte codes of `count` signs at out[row, column]: 0 where positive, 3 where negative, else 2."""
    bits = [(int(positive) >> d & 1, int(negative) >> d & 1) for d in range(count)]
    out[row, column : column + count] = [0 if above else 2 + below for above, below in bits]


def _look_up(e: Emitter, table: ir.Value, plane: ir.Value) -> ir.Value:
    """Byte of the table (16 bytes) for each of 64 nibbles."""
    b = e.builder
    if "+avx512bw" in e.features:
        return e.call("llvm.x86.avx512.pshuf.b.512", _BYTES, e.repeat(table, LANES), plane)
    if "+avx2" in e.features:
        name, width = "llvm.x86.avx2.pshuf.b", 32
    elif "+ssse3" in e.features:
        name, width = "llvm.x86.ssse3.pshuf.b.128", 16
    elif "+neon" in e.features:
        name, width = "llvm.aarch64.neon.tbl1.v16i8", 16
    else:  # a table is linear: entry 0, and what each bit adds to it
        zero = e.repeat(b.extract_element(table, _I32(0)), LANES)
        value = zero
        for i in range(4):
            bit = _constant(_BYTES, 1 << i)
            step = b.sub(e.repeat(b.extract_element(table, _I32(1 << i)), LANES), zero)
            hit = b.sext(b.icmp_unsigned("==", b.and_(plane, bit), bit), _BYTES)
            value = b.add(value, b.and_(hit, step))
        return value
    kind = ir.VectorType(_I8, width)
    return e.join([e.call(name, kind, e.repeat(table, width), part) for part in e.split(plane, width)])


class _Tile:
    """Emits the sums of some rows with 64 columns."""

    def __init__(self, e: Emitter, scratch: Any, arguments: tuple[ir.Value, ...]) -> None:
        self.e, self.data = e, scratch.data
        self.codes, self.code_words, self.quads, self.planes, self.positive_planes, self.zeros, self.result = arguments
        self.stride = e.builder.mul(self.code_words, _I64(CODE_WORDS))
        kind = ir.ArrayType(_I8, TABLES.size)
        tables = cgutils.global_constant(e.builder.module, "bebert_nibbles", kind(bytearray(TABLES.tobytes())))
        tables.align = 64
        self.tables = e.builder.bitcast(tables, _I8.as_pointer())

    def emit(self, row: ir.Value, count: int) -> None:
        """Rows row .. row + count - 1: minus the sums over the positive planes, plus those over the negative ones."""
        e, b = self.e, self.e.builder
        totals = [cgutils.alloca_once(b, _SHORTS) for _ in range(count)]
        for total in totals:
            b.store(_constant(_SHORTS, 0), total)
        with e.loop(b.sub(_I64(1), self.zeros), _I64(2)) as (part, _):
            start = e.place(self.planes, b.sub(_I64(1), part), self.positive_planes)
            for total in totals:
                b.store(b.neg(b.load(total)), total)
            with e.loop(_I64(0), self.quads, 4) as (quad, _):
                for total, partial in zip(totals, self._word(row, start, quad, count), strict=True):
                    b.store(b.add(b.load(total), b.sext(partial, _SHORTS)), total)
        for i, total in enumerate(totals):
            for side, order in enumerate((">", "<")):
                bits = b.bitcast(b.icmp_signed(order, b.load(total), _constant(_SHORTS, 0)), _I64)
                e.store(bits, self.data, b.add(e.place(self.result, b.add(row, _I64(i)), 2), _I64(side)))

    def _word(self, row: ir.Value, start: ir.Value, quad: ir.Value, count: int) -> list[ir.Value]:
        """Sums over at most 64 values, which fit into bytes."""
        e, b = self.e, self.e.builder
        sums = [cgutils.alloca_once(b, _BYTES) for _ in range(count)]
        for total in sums:
            b.store(_constant(_BYTES, 0), total)
        left = b.sub(self.quads, quad)
        end = b.add(quad, b.select(b.icmp_signed("<", left, _I64(4)), left, _I64(4)))
        with e.loop(quad, end) as (inner, _):
            for step in range(4):
                nibble = e.place(_I64(step), inner, 4)
                plane = e.load(self.data, e.place(start, nibble, PLANE_WORDS), _BYTES, align=64)
                for i, total in enumerate(sums):
                    place = e.place(self.codes, b.add(row, _I64(i)), self.stride)
                    codes = b.bitcast(b.gep(self.data, [place]), _I16.as_pointer())
                    code = b.zext(b.load(b.gep(codes, [nibble])), _I64)
                    table = e.load(self.tables, code, _TABLE, align=16)
                    b.store(b.add(b.load(total), _look_up(e, table, plane)), total)
        return [b.load(total) for total in sums]


def _emit_compare(e: Emitter, scratch: Any, rows: Any, *arguments: Any) -> None:
    tile, whole = _Tile(e, scratch, arguments), e.builder.and_(rows, _I64(-ROWS))
    with e.loop(_I64(0), whole, ROWS) as (row, _):
        tile.emit(row, ROWS)
    with e.loop(whole, rows) as (row, _):
        tile.emit(row, 1)


@vector_code(_emit_compare)
def compare(
    scratch: Words,
    rows: int,
    codes: int,
    code_words: int,
    quads: int,
    planes: int,
    positive_planes: int,
    zeros: int,
    result: int,
) -> None:
    """Signs of the sums of rows with 64 columns: words scratch[result + 2 * i + (0, 1)], positive and negative.

    codes           : place of the codes, `code_words` words of signs for each row
    quads           : groups of four nibbles that are used
    planes          : place of the negative planes; those of the positive bits lie `positive_planes` further
    zeros           : 1 = the columns have zeros, so that the positive planes are needed
    """
    octets, shorts = scratch.view(np.uint8), scratch.view(np.uint16)
    for i in range(rows):
        total = np.zeros(LANES, np.int64)
        for j in range(4 * quads):
            table = TABLES[shorts[4 * (codes + i * code_words * CODE_WORDS) + j] >> 4].view(np.int8)
            place = 8 * (planes + j * PLANE_WORDS)
            total += table[octets[place : place + LANES] & 15]
            if zeros:
                place += 8 * positive_planes
                total -= table[octets[place : place + LANES] & 15]
        for side, flags in enumerate((total > 0, total < 0)):
            scratch[result + 2 * i + side] = np.packbits(flags, bitorder="little").view(np.uint64)[0]


def scratch_words(keys: int, size: int) -> int:
    """Words of scratch that `attend_bits` needs for a sentence of `keys` keys and heads of `size` values."""
    blocks, words = -(-keys // LANES), -(-size // WORD_BITS)
    planes = 4 * blocks * words * NIBBLES * PLANE_WORDS
    return PLANE_WORDS + planes + blocks * LANES + QUERIES * (CODE_WORDS * (words + blocks) + 2)


@kernel
def _inside(count: int, word: int) -> np.uint64:
    """Ones for those of `count` bits that lie in this word."""
    return np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(max(0, (word + 1) * WORD_BITS - count))


@kernel
def _planes(
    signs: Words,
    nonzero: Words,
    plain: Bytes,
    first: int,
    keys: int,
    place: int,
    inside: np.uint64,
    parts: int,
    scratch: Words,
    column: int,
    to: int,
    stride: int,
    further: int,
    by_key: int,
) -> None:
    """Planes of one word of all keys: of the negative bits, and where there are zeros of the positive ones.

    by_key : 1 = keys in the lanes (`key_planes`), 0 = values in the lanes (`value_planes`)
    """
    blocks = (keys + LANES - 1) // LANES
    for part in range(parts):
        for t in range(keys):
            word = signs[first + t, place]
            if part == 1:
                word = ~word & (inside if plain[first + t] else nonzero[first + t, place])
            scratch[column + t] = word
        if by_key:
            key_planes(scratch, column, blocks, to + part * further, stride)
        else:
            value_planes(scratch, column, (keys + 15) // 16, to + part * further)


@kernel
def _compare(
    scratch: Words, rows: int, codes: int, words: int, quads: int, planes: int, further: int, zeros: int, result: int
) -> None:
    """Compile `compare` once for both uses."""
    compare(scratch, rows, codes, words, quads, planes, further, zeros, result)


@kernel
def attend_bits(
    q: Words,
    q_nonzero: Words,
    k: Words,
    k_nonzero: Words,
    v: Words,
    v_nonzero: Words,
    plain: Bytes,
    first: int,
    last: int,
    key_first: int,
    key_last: int,
    heads: int,
    size: int,
    scratch: Words,
    out: Bytes,
    out_plain: Bytes,
) -> None:
    """Byte codes of sign(context) for some query rows of one sentence.

    context[m, h, d] = sum over keys t with q[m, h] . k[t, h] > 0 of v[t, h, d]

    q .. v_nonzero      : uint64[R, H * Wd], Wd = ceil(D / 64), head by head; bit 1 of a sign word = negative, and 0
                          where the value is 0; bit 0 of a non-zero word = the value is 0
    plain               : uint8[3, R], 1 = no zero in this row of q, k, v: its non-zero words are not read
    first, last         : query rows, absolute
    key_first, key_last : rows of the keys, at least one and at most 2**15 - 1
    heads, size         : H, D
    scratch             : uint64[scratch_words(keys, D)] or longer, of the caller's thread
    out                 : uint8[last - first, H * D], written in full: 0 for +1, 2 for 0, 3 for -1
    out_plain           : uint8[last - first], 1 = no zero in this row of out

    Source: BiBERT attention, bool(sign(Q) sign(K)^T) sign(V), and the sign quantizer of its context.
    """
    words = (size + WORD_BITS - 1) // WORD_BITS
    keys = key_last - key_first
    blocks = (keys + LANES - 1) // LANES
    word_planes = NIBBLES * PLANE_WORDS
    planes = blocks * words * word_planes
    k_planes = aligned(scratch)  # the parts of the scratch, one after another
    v_planes = k_planes + 2 * planes
    column = v_planes + 2 * planes
    query_codes = column + blocks * LANES
    key_codes = query_codes + QUERIES * CODE_WORDS * words
    result = key_codes + QUERIES * CODE_WORDS * blocks
    k_zeros, v_zeros = np.int64(0), np.int64(0)
    by_key, by_value = np.int64(1), np.int64(0)  # variables, because kernels are compiled anew for each literal
    none = np.int64(0)
    for t in range(key_first, key_last):
        k_zeros |= 1 - plain[1, t]
        v_zeros |= 1 - plain[2, t]
    for m in range(last - first):
        out_plain[m] = 1
    for h in range(heads):
        for w in range(words):
            place, inside = h * words + w, _inside(size, w)
            to = k_planes + w * word_planes
            parts, stride = 1 + k_zeros, words * word_planes
            _planes(
                k,
                k_nonzero,
                plain[1],
                key_first,
                keys,
                place,
                inside,
                parts,
                scratch,
                column,
                to,
                stride,
                planes,
                by_key,
            )
            to = v_planes + w * blocks * word_planes
            parts = 1 + v_zeros
            _planes(
                v,
                v_nonzero,
                plain[2],
                key_first,
                keys,
                place,
                inside,
                parts,
                scratch,
                column,
                to,
                none,
                planes,
                by_value,
            )
        for start in range(first, last, QUERIES):
            rows = min(QUERIES, last - start)
            for i in range(rows):
                for w in range(words):
                    m, place = start + i, h * words + w
                    nonzero = _inside(size, w) if plain[0, m] else q_nonzero[m, place]
                    code_word(q[m, place] & nonzero, nonzero, scratch, query_codes + (i * words + w) * CODE_WORDS)
            for block in range(blocks):
                to = k_planes + block * words * word_planes
                _compare(scratch, rows, query_codes, words, (size + 15) // 16, to, planes, k_zeros, result)
                inside = _inside(keys, block)
                for i in range(rows):
                    chosen = scratch[result + 2 * i] & inside
                    code_word(np.uint64(0), chosen, scratch, key_codes + (i * blocks + block) * CODE_WORDS)
            for w in range(words):
                to = v_planes + w * blocks * word_planes
                _compare(scratch, rows, key_codes, blocks, (keys + 15) // 16, to, planes, v_zeros, result)
                inside, count = _inside(size, w), min(WORD_BITS, size - w * WORD_BITS)
                for i in range(rows):
                    positive, negative = scratch[result + 2 * i], scratch[result + 2 * i + 1]
                    m = start + i - first
                    out_plain[m] &= np.uint8((positive | negative) & inside == inside)
                    put_codes(positive, negative, count, out, m, h * size + w * WORD_BITS)
