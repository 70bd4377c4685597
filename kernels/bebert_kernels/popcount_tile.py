"""The register block of all packed products: 8 rows times 4 outputs of popcount((values ^ weights) & masks).

    out[i, n] = base[i] + sum_p factors[p] * count(p, i, n)
    count(p, i, n) = sum_w popcount((values[w, i] ^ weights[n, w]) & masks[p, w, i])

One block serves three products: signs (one mask of ones), signs with zeros (the mask is the non-zero plane) and
codes (values 0, one mask for each bitplane, factors -2 * 2**p).

The picture: eight rows stand side by side in the eight 64-bit lanes of a vector, one word of each, and one
word of a weight row is broadcast to all lanes.

    values[w] |r0 r1 r2 r3 r4 r5 r6 r7|   ^   weights[n, w] |x x x x x x x x|   ->   counts of 8 rows

Four outputs at a time share the loaded rows; at the end 4 x 8 counts are transposed to 8 rows of 4 outputs.
Written as LLVM vectors, because loops left to the vectorizer stop at half width on some CPUs: LLVM turns
`ctpop <8 x i64>` into vpopcntq (AVX-512), into table look-ups and vpsadbw (AVX2, AVX-512BW), or into cnt and
adds (NEON).

Where the CPU has no vector popcount, that look-up costs 7 instructions a word. Full adders are cheaper: three
words of equal weight become a sum word (weight 1) and a carry word (weight 2) in 3 instructions, so of four
words only one has to be counted, with weight 4:

    ones, a = ones + x0 + x1        twos, c = twos + a + b
    ones, b = ones + x2 + x3        fours += popcount(c)

The total is 4 * fours + 2 * popcount(twos) + popcount(ones). Both forms give the same integers.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from bebert_kernels.packing import Words

ROWS = 8
OUTPUTS = 4

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_COUNTS = ir.VectorType(_I32, ROWS)
_WORDS = ir.VectorType(_I64, ROWS)


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


def make_tile(native: bool | None = None) -> Any:
    """Intrinsic of `popcount_tile`: plain counts if `native`, else full adders; None asks the target CPU."""

    @intrinsic
    def tile(typing_context, values, masks, weights, factors, base, out):  # type: ignore[no-untyped-def]
        kinds = (values, masks, weights, factors, base, out)
        if not all(isinstance(kind, types.Array) and kind.layout == "C" for kind in kinds):
            return None

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            arrays = [
                make_array(kind)(context, builder, value)
                for kind, value in zip(kinds, arguments, strict=True)
            ]
            counts = "+avx512vpopcntdq" in context.codegen().magic_tuple()[2] if native is None else native
            _Tile(builder, arrays, counts).emit()
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return tile


_tile = make_tile()


@overload(popcount_tile)
def _popcount_tile_overload(values, masks, weights, factors, base, out):  # type: ignore[no-untyped-def]
    return lambda values, masks, weights, factors, base, out: _tile(
        values, masks, weights, factors, base, out
    )


class _Tile:
    """Emits the loops over outputs, planes and words."""

    def __init__(self, builder: ir.IRBuilder, arrays: list[Any], native: bool) -> None:
        values, masks, weights, factors, base, out = arrays
        self.builder, self.native = builder, native
        self.planes = builder.extract_value(masks.shape, 0)
        self.outputs, self.words = (builder.extract_value(weights.shape, axis) for axis in (0, 1))
        self.values = builder.bitcast(values.data, _WORDS.as_pointer())
        self.masks = builder.bitcast(masks.data, _WORDS.as_pointer())
        self.base = builder.load(builder.bitcast(base.data, _COUNTS.as_pointer()), align=4)
        self.weights, self.factors, self.out = weights.data, factors.data, out.data

    def emit(self) -> None:
        """All outputs, four at a time, the last ones singly."""
        b = self.builder
        whole = b.and_(self.outputs, _I64(-OUTPUTS))
        with cgutils.for_range_slice(b, _I64(0), whole, _I64(OUTPUTS), _I64) as (n, _):
            self._store_four(n, self._sums(n, OUTPUTS))
        with cgutils.for_range_slice(b, whole, self.outputs, _I64(1), _I64) as (n, _):
            self._store_one(n, self._sums(n, 1)[0])

    def _sums(self, n: ir.Value, count: int) -> list[ir.Value]:
        """Base + sum over planes of factor * popcounts, for outputs n .. n + count - 1: <8 x i32> each."""
        b = self.builder
        rows = [b.gep(self.weights, [b.mul(b.add(n, _I64(j)), self.words)]) for j in range(count)]
        totals = [cgutils.alloca_once(b, _COUNTS) for _ in rows]
        for total in totals:
            b.store(self.base, total)
        with cgutils.for_range(b, self.planes, intp=_I64) as plane:
            masks = b.gep(self.masks, [b.mul(plane.index, self.words)])
            factor = self._broadcast(b.load(b.gep(self.factors, [plane.index])), _COUNTS)
            count_words = self._count_native if self.native else self._count_folded
            for total, found in zip(totals, count_words(rows, masks), strict=True):
                b.store(b.add(b.load(total), b.mul(b.trunc(found, _COUNTS), factor)), total)
        return [b.load(total) for total in totals]

    def _count_native(self, rows: list[ir.Value], masks: ir.Value) -> list[ir.Value]:
        """Popcount of every word: <8 x i64> for each weight row."""
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
        values, mask = (b.load(b.gep(place, [w]), align=8) for place in (self.values, masks))
        words = (self._broadcast(b.load(b.gep(row, [w])), _WORDS) for row in rows)
        return [b.and_(b.xor(values, word), mask) for word in words]

    def _full_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Sum and carry of three words; the carry is y or z where they agree, else x."""
        b = self.builder
        t = b.xor(x, y)
        return b.xor(t, z), b.xor(x, b.and_(t, b.xor(x, z)))

    def _store_four(self, n: ir.Value, sums: list[ir.Value]) -> None:
        """Transpose four vectors of eight rows into eight rows of four outputs, and store these."""
        low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
        pairs = [self._shuffle(sums[j], sums[j + 1], half) for half in (low, high) for j in (0, 2)]
        low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
        quads = [self._shuffle(pairs[j], pairs[j + 1], half) for j in (0, 2) for half in (low, high)]
        for i in range(ROWS):
            first = i // 4 * 4
            row = self._shuffle(quads[i % 4], quads[i % 4], list(range(first, first + 4)))
            place = self.builder.bitcast(self._place(i, n), row.type.as_pointer())
            self.builder.store(row, place, align=4)

    def _store_one(self, n: ir.Value, sums: ir.Value) -> None:
        for i in range(ROWS):
            self.builder.store(self.builder.extract_element(sums, _I32(i)), self._place(i, n))

    def _place(self, i: int, n: ir.Value) -> ir.Value:
        return self.builder.gep(self.out, [self.builder.add(self.builder.mul(_I64(i), self.outputs), n)])

    def _zeros(self, count: int) -> list[ir.Value]:
        places = [cgutils.alloca_once(self.builder, _WORDS) for _ in range(count)]
        for place in places:
            self.builder.store(ir.Constant(_WORDS, [0] * ROWS), place)
        return places

    def _double(self, words: ir.Value) -> ir.Value:
        return self.builder.add(words, words)

    def _popcount(self, words: ir.Value) -> ir.Value:
        kind = ir.FunctionType(_WORDS, [_WORDS])
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.ctpop.v{ROWS}i64"), [words]
        )

    def _broadcast(self, scalar: ir.Value, kind: ir.VectorType) -> ir.Value:
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _I32(0))
        return self._shuffle(one, one, [0] * ROWS)

    def _shuffle(self, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(order)), order))
