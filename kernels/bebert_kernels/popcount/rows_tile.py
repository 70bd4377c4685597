"""The register block of all packed products: 8 rows times 4 outputs of popcount((values ^ weights) & masks).

    out[i, n] = base[i] + sum_p factors[p] * count(p, i, n)
    count(p, i, n) = sum_w popcount((values[w, i] ^ weights[n, w]) & masks[p, w, i])

One block serves three products: signs (one mask of ones), signs with zeros (the mask is the non-zero plane) and
codes (values 0, one mask for each bitplane, factors -2 * 2**p).

The picture: eight rows stand side by side in the eight 64-bit lanes of a vector, one word of each, and one
word of a weight row is broadcast to all lanes.

    values[w] |r0 r1 r2 r3 r4 r5 r6 r7|  ^  weights[n, w] |x x x x x x x x|  ->  counts of eight rows

Four outputs at a time share the loaded rows; at the end 4 x 8 counts are transposed to 8 rows of 4 outputs.
Written as LLVM vectors, because loops left to the vectorizer stop at half width on some CPUs: LLVM turns
`ctpop <8 x i64>` into vpopcntq (AVX-512), into table look-ups and vpsadbw (AVX2, AVX-512BW), or into cnt and
adds (NEON).

Where the CPU has no vector popcount, that look-up costs 7 instructions a word. Full adders are cheaper: three
words of equal weight become a sum word (weight 1) and a carry word (weight 2) in 3 instructions, so of four
words only one has to be counted, with weight 4:

    ones, a = ones + x0 + x1        twos, carry = twos + a + c
    ones, c = ones + x2 + x3        fours += popcount(carry)

The total is 4 * fours + 2 * popcount(twos) + popcount(ones). Without AVX-512 the eight rows are done as two
groups of four, else the running sums of a block would not fit into the registers. All forms give the same
integers.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from bebert_kernels.jit.kernel import kernel
from bebert_kernels.packing import Words

ROWS = 8
OUTPUTS = 4

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


def popcount_tile(
    values: Words,
    masks: Words,
    weights: Words,
    factors: NDArray[np.int32],
    base: NDArray[np.int32],
    out: NDArray[np.int32],
) -> None:
    """Every output of eight rows, by the formula at the top of this file.

    values  : uint64[W, 8]      word w of each of the rows
    masks   : uint64[P, W, 8]
    weights : uint64[N, W]
    factors : int32[P]
    base    : int32[8]
    out     : int32[8, N]       written in full

    All arrays are C-contiguous. Nothing is checked: the callers are kernels. Exact while every partial sum
    fits into int32. Without JIT this NumPy form runs.
    """
    out[:] = base[:, None]
    for factor, mask in zip(factors, masks, strict=True):
        different = (values.T[:, None, :] ^ weights[None, :, :]) & mask.T[:, None, :]
        out += factor * np.bitwise_count(different).sum(axis=2, dtype=np.int32)


def make_tile(lanes: int | None = None, native: bool | None = None) -> Any:
    """Intrinsic of `popcount_tile`, for the target CPU where an argument is None.

    lanes  : rows in a vector, 8 or 4
    native : plain counts, else full adders
    """

    @intrinsic
    def tile(typing_context, values, masks, weights, factors, base, out):  # type: ignore[no-untyped-def]
        kinds = (values, masks, weights, factors, base, out)
        if not all(isinstance(kind, types.Array) and kind.layout == "C" for kind in kinds):
            return None

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            arrays = [make_array(kind)(context, builder, value) for kind, value in zip(kinds, arguments, strict=True)]
            features = context.codegen().magic_tuple()[2].split(",")
            width = lanes or (8 if "+avx512f" in features else 4)
            counts = "+avx512vpopcntdq" in features if native is None else native
            for first in range(0, ROWS, width):
                _Tile(builder, arrays, first, width, counts).emit()
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return tile


_tile = make_tile()


@overload(popcount_tile)
def _popcount_tile_overload(values, masks, weights, factors, base, out):  # type: ignore[no-untyped-def]
    return lambda values, masks, weights, factors, base, out: _tile(values, masks, weights, factors, base, out)


class _Tile:
    """Emits the loops over outputs, planes and words for rows first .. first + lanes - 1."""

    def __init__(self, builder: ir.IRBuilder, arrays: list[Any], first: int, lanes: int, native: bool) -> None:
        values, masks, weights, factors, base, out = arrays
        self.builder, self.first, self.lanes, self.native = builder, first, lanes, native
        self.word_kind, self.count_kind = ir.VectorType(_I64, lanes), ir.VectorType(_I32, lanes)
        self.planes = builder.extract_value(masks.shape, 0)
        self.outputs, self.words = (builder.extract_value(weights.shape, axis) for axis in (0, 1))
        self.base = self._load(base.data, _I64(first), self.count_kind, 4)
        self.values, self.masks, self.weights = values.data, masks.data, weights.data
        self.factors, self.out = factors.data, out.data

    def emit(self) -> None:
        """All outputs, four at a time, the last ones singly."""
        b = self.builder
        whole = b.and_(self.outputs, _I64(-OUTPUTS))
        with cgutils.for_range_slice(b, _I64(0), whole, _I64(OUTPUTS), _I64) as (n, _):
            self._store_four(n, self._sums(n, OUTPUTS))
        with cgutils.for_range_slice(b, whole, self.outputs, _I64(1), _I64) as (n, _):
            self._store_one(n, self._sums(n, 1)[0])

    def _sums(self, n: ir.Value, count: int) -> list[ir.Value]:
        """Base + sum over planes of factor * popcounts, for outputs n .. n + count - 1."""
        b = self.builder
        rows = [b.gep(self.weights, [b.mul(b.add(n, _I64(j)), self.words)]) for j in range(count)]
        totals = [cgutils.alloca_once(b, self.count_kind) for _ in rows]
        for total in totals:
            b.store(self.base, total)
        with cgutils.for_range(b, self.planes, intp=_I64) as plane:
            masks = b.gep(self.masks, [b.mul(plane.index, b.mul(self.words, _I64(ROWS)))])
            factor = self._broadcast(b.load(b.gep(self.factors, [plane.index])), self.count_kind)
            count_words = self._count_native if self.native else self._count_folded
            for total, found in zip(totals, count_words(rows, masks), strict=True):
                b.store(b.add(b.load(total), b.mul(b.trunc(found, self.count_kind), factor)), total)
        return [b.load(total) for total in totals]

    def _count_native(self, rows: list[ir.Value], masks: ir.Value) -> list[ir.Value]:
        """Popcount of every word: a vector of counts for each weight row."""
        b = self.builder
        sums = self._zeros(len(rows))
        with cgutils.for_range(b, self.words, intp=_I64) as loop:
            self._count_words(loop.index, rows, masks, sums)
        return [b.load(total) for total in sums]

    def _count_folded(self, rows: list[ir.Value], masks: ir.Value) -> list[ir.Value]:
        """Full adders over groups of four words, popcount of every leftover word."""
        b = self.builder
        ones, twos, fours = (self._zeros(len(rows)) for _ in range(3))
        whole = b.and_(self.words, _I64(-4))
        with cgutils.for_range_slice(b, _I64(0), whole, _I64(4), _I64) as (w, _):
            group = [self._different(b.add(w, _I64(i)), rows, masks) for i in range(4)]
            for j, (x0, x1, x2, x3) in enumerate(zip(*group, strict=True)):
                one, a = self._full_add(b.load(ones[j]), x0, x1)
                one, c = self._full_add(one, x2, x3)
                two, carry = self._full_add(b.load(twos[j]), a, c)
                b.store(one, ones[j])
                b.store(two, twos[j])
                b.store(b.add(b.load(fours[j]), self._popcount(carry)), fours[j])
        for one, two, four in zip(ones, twos, fours, strict=True):
            twice = b.add(self._double(b.load(four)), self._popcount(b.load(two)))
            b.store(b.add(self._double(twice), self._popcount(b.load(one))), four)
        with cgutils.for_range_slice(b, whole, self.words, _I64(1), _I64) as (w, _):
            self._count_words(w, rows, masks, fours)
        return [b.load(total) for total in fours]

    def _count_words(self, w: ir.Value, rows: list[ir.Value], masks: ir.Value, sums: list[ir.Value]) -> None:
        b = self.builder
        for word, total in zip(self._different(w, rows, masks), sums, strict=True):
            b.store(b.add(b.load(total), self._popcount(word)), total)

    def _different(self, w: ir.Value, rows: list[ir.Value], masks: ir.Value) -> list[ir.Value]:
        """(values[w] ^ weights[n, w]) & masks[w] for each weight row."""
        b = self.builder
        place = b.add(b.mul(w, _I64(ROWS)), _I64(self.first))
        values, mask = (self._load(array, place, self.word_kind, 8) for array in (self.values, masks))
        words = (self._broadcast(b.load(b.gep(row, [w])), self.word_kind) for row in rows)
        return [b.and_(b.xor(values, word), mask) for word in words]

    def _full_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Sum and carry of three words; the carry is x where x and y agree, else z."""
        b = self.builder
        t = b.xor(x, y)
        return b.xor(t, z), b.xor(x, b.and_(t, b.xor(x, z)))

    def _store_four(self, n: ir.Value, sums: list[ir.Value]) -> None:
        """Transpose four vectors of rows into rows of four outputs, and store these.

        Two rounds of interleaving inside each quarter of four rows: single elements, then pairs.
        """
        quarters, other = range(0, self.lanes, 4), self.lanes
        single = [[q + i + half for q in quarters for i in (0, other, 1, other + 1)] for half in (0, 2)]
        pair = [[q + i + half for q in quarters for i in (0, 1, other, other + 1)] for half in (0, 2)]
        halves = [self._shuffle(sums[j], sums[j + 1], order) for order in single for j in (0, 2)]
        quads = [self._shuffle(halves[j], halves[j + 1], order) for j in (0, 2) for order in pair]
        for i in range(self.lanes):
            quarter = i // 4 * 4
            row = self._shuffle(quads[i % 4], quads[i % 4], list(range(quarter, quarter + 4)))
            place = self.builder.bitcast(self._place(i, n), row.type.as_pointer())
            self.builder.store(row, place, align=4)

    def _store_one(self, n: ir.Value, sums: ir.Value) -> None:
        for i in range(self.lanes):
            self.builder.store(self.builder.extract_element(sums, _I32(i)), self._place(i, n))

    def _place(self, i: int, n: ir.Value) -> ir.Value:
        row = self.builder.mul(_I64(self.first + i), self.outputs)
        return self.builder.gep(self.out, [self.builder.add(row, n)])

    def _load(self, data: ir.Value, place: ir.Value, kind: ir.VectorType, align: int) -> ir.Value:
        pointer = self.builder.bitcast(self.builder.gep(data, [place]), kind.as_pointer())
        return self.builder.load(pointer, align=align)

    def _zeros(self, count: int) -> list[ir.Value]:
        places = [cgutils.alloca_once(self.builder, self.word_kind) for _ in range(count)]
        for place in places:
            self.builder.store(ir.Constant(self.word_kind, [0] * self.lanes), place)
        return places

    def _double(self, words: ir.Value) -> ir.Value:
        return self.builder.add(words, words)

    def _popcount(self, words: ir.Value) -> ir.Value:
        kind = ir.FunctionType(self.word_kind, [self.word_kind])
        name = f"llvm.ctpop.v{self.lanes}i64"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [words])

    def _broadcast(self, scalar: ir.Value, kind: ir.VectorType) -> ir.Value:
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _I32(0))
        return self._shuffle(one, one, [0] * self.lanes)

    def _shuffle(self, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(order)), order))


@kernel
def popcount_rows(
    values: Words,
    masks: Words,
    weights: Words,
    factors: NDArray[np.int32],
    base: NDArray[np.int32],
    first: int,
    out: NDArray[np.int32],
) -> None:
    """`popcount_tile` to rows first .. first + 7 of int32[M, N], or to as many as are left; nothing else is written."""
    count = min(ROWS, out.shape[0] - first)
    target = out[first : first + ROWS] if count == ROWS else np.empty((ROWS, out.shape[1]), np.int32)
    popcount_tile(values, masks, weights, factors, base, target)
    if count < ROWS:
        for i in range(count):  # loops, because numba compiles a slice assignment for seconds
            for n in range(out.shape[1]):
                out[first + i, n] = target[i, n]
