"""The register block of the popcount product: a few rows times all outputs of a panel, words side by side.

    sums[m, n] = sum over planes p, words w  2**p * popcount(different)
    signs   different = (values[m, w] ^ weights[n, w]) & nonzero[m, w]      one plane
    codes   different = planes[m, p, w] & weights[n, w]                     one to eight planes

Nothing is rearranged: the weights are read as the model file has them. A vector holds four neighbouring words of one
output and the same four of another one, so that a row that is alone fills every lane, and sums of lanes come cheap:

    weights[j]    |w0 w1 w2 w3|w4 ..            vector of outputs j and j + 4:   |w0 w1 w2 w3|w0 w1 w2 w3|
    weights[j+4]  |w0 w1 w2 w3|w4 ..            vector of a row:                 |x0 x1 x2 x3|x0 x1 x2 x3|

Ones are counted byte by byte and added up; now and then bytes become words. Two rounds of joining vectors then leave
the sum of output j in lane j of eight. Words that fill no half of a vector are counted one by one.

LLVM turns the count of ones in bytes into vpopcntb (AVX-512 BITALG), cnt (NEON) or two byte shuffles and four more
instructions. Where it is so dear, a full adder makes two vectors of three first, the sum and the carries, which count
twice. Three halves of a vector are the 768 inputs of BERT-base.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from bebert_kernels.emit.emitter import Emitter, vector_code
from bebert_kernels.emit.vectors import I8, I32, I64, fill
from bebert_kernels.packing import Words

AHEAD = 3072  # bytes from the weights that are counted to those that are asked for: what memory delivers meanwhile
GROUP_HALVES = 3  # halves of vectors, in words, that are counted together
CHUNK_GROUPS = 9  # groups before bytes are emptied: 8 * (3 * 9 + 2) < 256


def plain_tile(bits: Words, weights: Words, row: int, sums: NDArray[np.int32], rows: int, codes: bool) -> None:
    """What a tile computes, by the formula at the top of this file."""
    for r in range(row, row + rows):
        for n, negative in enumerate(weights):
            here = bits[r, :, : len(negative)]
            different = here & negative if codes else ((here[0] ^ negative) & here[1])[None]
            counts = np.bitwise_count(different).sum(axis=1, dtype=np.int64)
            sums[r, n] = (counts << np.arange(len(counts))).sum()


def make_tile(rows: int, codes: bool, lanes: int | None = None, adders: bool | None = None) -> Any:
    """Block of `rows` rows, of signs or of codes.

    tile(bits, weights, row, sums)
    bits    : uint64[M, P, S]   S >= W words of each plane; of signs P = 2: values, and 1 where they are not zero
    weights : uint64[N, W]      bit 1 = -1
    row     : first of the rows that are done
    sums    : int32[M, L]       L >= N; rows row .. row + rows - 1 are written, outputs below N

    Bits beyond the depth are 0 in all planes but that of values, so those of the weights do not matter.

    lanes  : words of a vector, 8 or 4; adders : whether full adders come before the count; default for this CPU
    """

    def emit(e: Emitter, bits: Any, weights: Any, row: Any, sums: Any) -> None:
        wide = "+avx512bw" in e.features
        dear = not {"+neon", "+avx512bitalg"} & set(e.features)
        form = (8 if wide else 4) if lanes is None else lanes, dear if adders is None else adders
        _Tile(e, rows, codes, *form, bits, weights, row, sums).emit()

    def tile(bits, weights, row, sums):  # type: ignore[no-untyped-def]
        plain_tile(bits, weights, row, sums, rows, codes)

    return vector_code(emit)(tile)


class _Tile:
    """Emits the loops over outputs, planes and words."""

    def __init__(
        self, e: Emitter, rows: int, codes: bool, lanes: int, adders: bool, bits: Any, weights: Any, row: Any, sums: Any
    ) -> None:
        b = self.b = e.builder
        self.e, self.codes, self.lanes, self.adders = e, codes, lanes, adders
        self.outputs, self.words = (b.extract_value(weights.shape, axis) for axis in (0, 1))
        self.planes, self.stride = (b.extract_value(bits.shape, axis) for axis in (1, 2))
        length, size = b.extract_value(sums.shape, 1), b.mul(self.planes, self.stride)
        numbers = [b.add(row, I64(r)) for r in range(rows)]
        self.weights = weights.data
        self.rows = [b.gep(bits.data, [b.mul(number, size)]) for number in numbers]
        self.sums = [b.gep(sums.data, [b.mul(number, length)]) for number in numbers]
        self.whole, self.half = ir.VectorType(I64, lanes), ir.VectorType(I64, lanes // 2)
        self.octets = ir.VectorType(I8, 8 * lanes)

    def emit(self) -> None:
        """All outputs, `lanes` at a time, the last ones singly."""
        last = self.b.and_(self.outputs, I64(-self.lanes))
        with self.e.loop(I64(0), last, self.lanes) as (n, _):
            self._several(n)
        with self.e.loop(last, self.outputs) as (n, _):
            self._one(n)

    def _several(self, n: ir.Value) -> None:
        b, e = self.b, self.e
        starts = [b.mul(b.add(n, I64(j)), self.words) for j in range(self.lanes)]
        pairs = [(starts[j], starts[j + self.lanes // 2]) for j in range(self.lanes // 2)]
        totals = [[self._zero(self.whole) for _ in pairs] for _ in self.rows]
        singles = [self._zero(self.whole) for _ in self.rows]  # lane j is output j

        def count(plane: ir.Value) -> None:
            self._halves(pairs, plane, totals)
            with e.loop(b.and_(self.words, I64(-self.lanes // 2)), self.words) as (w, _):
                for row, place in zip(self.rows, singles, strict=True):
                    given, lanes = self._inputs(row, plane, w, I64), b.bitcast(place, I64.as_pointer())
                    for j, start in enumerate(starts):
                        ones = self._ones(given, b.load(b.gep(self.weights, [b.add(start, w)])))
                        self._add(b.gep(lanes, [I64(j)]), ones)

        self._planes(count, [*singles, *(place for row in totals for place in row)])
        for target, vectors, single in zip(self.sums, totals, singles, strict=True):
            found, step = [b.load(place) for place in vectors], self.lanes // 4
            while len(found) > 1:
                found, step = self._joined(found, step), step // 2
            sums = b.trunc(b.add(found[0], b.load(single)), ir.VectorType(I32, self.lanes))
            e.store(sums, target, n, align=4)

    def _halves(self, pairs: list[tuple[ir.Value, ir.Value]], plane: ir.Value, totals: list[list[ir.Value]]) -> None:
        """Add all words of one plane that fill halves of vectors."""
        b, half = self.b, self.lanes // 2
        counts = [[self._zero(self.octets) for _ in pairs] for _ in self.rows]
        lines = self.lanes * half * GROUP_HALVES // 8  # of weights in a group

        def group(w: ir.Value, size: int) -> None:
            places = [b.add(w, I64(half * i)) for i in range(size)]
            inputs = [
                [
                    [self.e.repeat(part, self.lanes) for part in self._inputs(row, plane, place, self.half)]
                    for place in places
                ]
                for row in self.rows
            ]
            for j, pair in enumerate(pairs):
                words = []
                for place in places:
                    parts = [b.add(start, place) for start in pair]
                    words.append(self.e.join([self.e.load(self.weights, part, self.half) for part in parts]))
                if size == GROUP_HALVES:
                    for line in range(j * lines // len(pairs), (j + 1) * lines // len(pairs)):
                        self._prefetch(self.e.place(b.add(pairs[0][0], I64(8 * line)), w, self.lanes))
                for r, given in enumerate(inputs):
                    different = [self._different(x, word) for x, word in zip(given, words, strict=True)]
                    if self.adders and size == GROUP_HALVES:
                        total, carry = self._full_add(*different)
                        ones = self._count(carry)
                        found = [self._count(total), b.add(ones, ones)]
                    else:
                        found = [self._count(vector) for vector in different]
                    for ones in found:
                        self._add(counts[r][j], ones)

        whole = b.mul(b.sdiv(self.words, I64(half * GROUP_HALVES)), I64(half * GROUP_HALVES))
        with self.e.loop(whole, b.and_(self.words, I64(-half)), half) as (w, _):
            group(w, 1)
        least = b.select(
            b.icmp_signed("==", whole, I64(0)), I64(1), whole
        )  # once at least, for what is counted already
        step = half * GROUP_HALVES * CHUNK_GROUPS
        with self.e.loop(I64(0), least, step) as (first, _):
            end = b.add(first, I64(step))
            end = b.select(b.icmp_signed("<", end, whole), end, whole)
            with self.e.loop(first, end, half * GROUP_HALVES) as (w, _):
                group(w, GROUP_HALVES)
            for places, row in zip(counts, totals, strict=True):
                for place, total in zip(places, row, strict=True):
                    self._add(total, self._wide(b.load(place)))
                    b.store(fill(self.octets, 0), place)

    def _one(self, n: ir.Value) -> None:
        """Sums of one output, word by word."""
        b, start = self.b, self.b.mul(n, self.words)
        for row, target in zip(self.rows, self.sums, strict=True):
            total = self._zero(I64)

            def count(plane: ir.Value, row: ir.Value = row, total: ir.Value = total) -> None:
                with self.e.loop(I64(0), self.words) as (w, _):
                    word = b.load(b.gep(self.weights, [b.add(start, w)]))
                    self._add(total, self._ones(self._inputs(row, plane, w, I64), word))

            self._planes(count, [total])
            b.store(b.trunc(b.load(total), I32), b.gep(target, [n]))

    def _planes(self, count: Any, totals: list[ir.Value]) -> None:
        """Emit count(plane) for every plane, the highest first: what is there by then counts twice."""
        if not self.codes:
            count(I64(0))
            return
        with self.e.loop(I64(0), self.planes) as (i, _):
            for place in totals:
                self._add(place, self.b.load(place))
            count(self.b.sub(self.b.sub(self.planes, I64(1)), i))

    def _inputs(self, row: ir.Value, plane: ir.Value, w: ir.Value, kind: ir.Type) -> list[ir.Value]:
        """Words of a row: of a plane of codes, or of values and non-zero plane."""
        places = [self.e.place(w, plane, self.stride)]
        if not self.codes:
            places.append(self.b.add(w, self.stride))
        return [self.e.load(row, place, kind) for place in places]

    def _different(self, given: list[ir.Value], word: ir.Value) -> ir.Value:
        b = self.b
        return b.and_(given[0], word) if self.codes else b.and_(b.xor(given[0], word), given[1])

    def _ones(self, given: list[ir.Value], word: ir.Value) -> ir.Value:
        """Ones of a single word where they differ."""
        return self.b.ctpop(self._different(given, word))

    def _count(self, vector: ir.Value) -> ir.Value:
        """Ones of each byte."""
        return self.e.call(f"llvm.ctpop.v{8 * self.lanes}i8", self.octets, self.b.bitcast(vector, self.octets))

    def _full_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Sum and carry of three vectors of bits."""
        b = self.b
        if self.lanes == 8:
            name = "llvm.x86.avx512.pternlog.q.512"
            total, carry = (self.e.call(name, self.whole, x, y, z, I32(code)) for code in (0x96, 0xE8))
            return total, carry
        t = b.xor(x, y)
        return b.xor(t, z), b.or_(b.and_(x, y), b.and_(t, z))

    def _wide(self, octets: ir.Value) -> ir.Value:
        """Sums of the eight bytes of each word."""
        b, e = self.b, self.e
        name = "avx512.psad.bw.512" if self.lanes == 8 else "avx2.psad.bw"
        if self.lanes == 8 or "+avx2" in e.features:
            return e.call(f"llvm.x86.{name}", self.whole, octets, fill(self.octets, 0))
        for bits in (8, 16, 32):
            kind = ir.VectorType(ir.IntType(2 * bits), 64 * self.lanes // (2 * bits))
            both = b.bitcast(octets, kind)
            octets = b.add(b.and_(both, fill(kind, (1 << bits) - 1)), b.lshr(both, fill(kind, bits)))
        return octets

    def _joined(self, vectors: list[ir.Value], step: int) -> list[ir.Value]:
        """Vectors half as many: `step` lanes of one and of the one half the list away, neighbouring parts added."""
        half, lanes = len(vectors) // 2, range(self.lanes)
        orders = [[(lane & ~step) + part + (self.lanes if lane & step else 0) for lane in lanes] for part in (0, step)]
        return [
            self.b.add(*(self.e.shuffle(x, y, order) for order in orders))
            for x, y in zip(vectors[:half], vectors[half:], strict=True)
        ]

    def _add(self, place: ir.Value, value: ir.Value) -> None:
        self.b.store(self.b.add(self.b.load(place), value), place)

    def _zero(self, kind: ir.Type) -> ir.Value:
        value = fill(kind, 0) if isinstance(kind, ir.VectorType) else kind(0)
        place = cgutils.alloca_once(self.b, kind)
        self.b.store(value, place)
        return place

    def _prefetch(self, place: ir.Value) -> None:
        """Ask for the line of weights AHEAD of a place, which need not exist."""
        b, pointer = self.b, I8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
        address = b.bitcast(b.gep(self.weights, [b.add(place, I64(AHEAD // 8))]), pointer)
        b.call(function, [address, I32(0), I32(3), I32(1)])
