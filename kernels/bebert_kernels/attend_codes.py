"""Attention on integer codes of one sentence in one call: int8 products, softmax, codes, int8 products.

Both products are sums over groups of 4 bytes, the unit of the scratch (int32). A row's group is broadcast and meets
the groups of 16 columns, which stand side by side in a panel, so nothing is added across lanes:

    out[row, lane] = float32(base[lane] + sum_g row[g] . panel[g, lane]) * scale + 0

              row                  lanes                group of 4 bytes
    scores    codes of a query     16 keys              byte product: 4 inputs, row unsigned (q + 128, so that base is
    context   attention codes      16 values of a head      -128 * sum k), panel signed; else 2 inputs as int16

The byte product is `vpdpbusd` (AVX-512 VNNI, AVX-VNNI), the other one `vpmaddwd` or plain multiplication.

Between them each row of scores becomes attention codes with exactly the roundings of `reference.softmax` and
`reference.quantize`. Two divisions for each code would cost more than the products, so codes are first estimated as
e * (1 / (total * step)), off by less than a millionth; only a row with an estimate that near to a rounding boundary is
divided out.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from bebert_kernels.attend_bits import Emitter, aligned, vector_code
from bebert_kernels.jit import cpu_features, kernel
from bebert_kernels.reference_float import EXP_LOWEST, EXP_TERMS, LN2_HIGH, LN2_LOW, LOG2_E, lane_sum
from bebert_kernels.reference_float import exp as reference_exp

LANES = 16
QUERIES = 16  # rows that go through all steps together

Units = NDArray[np.int32]
Codes = NDArray[np.int8]
Floats = NDArray[np.float32]

_BYTES = bool(cpu_features() & {"avx512vnni", "avxvnni"})
GROUP = 4 if _BYTES else 2  # inputs in a unit
CHUNK = LANES // GROUP  # units of 16 inputs
# Rows and blocks of 16 lanes in a tile, as registers allow.
ROWS, BLOCKS = (8, 2) if "avx512bw" in cpu_features() else (4, 1) if cpu_features() & {"avx2", "neon"} else (2, 1)
# Blocks of scores whose exponentials are computed in step: one alone is a chain of 25 dependent instructions.
TOGETHER = 8 if "avx512bw" in cpu_features() else 2 if "avx2" in cpu_features() else 1

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_SUMS, _FLOATS, _OCTETS = ir.VectorType(_I32, LANES), ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_I8, LANES)
_MAGIC = float(3 << 22)  # adding it to a float32 rounds to whole numbers, half to even, in the lowest bits


def scratch_units(keys: int, size: int) -> int:
    """Elements of scratch that `attend_codes` needs for a sentence of `keys` keys and heads of `size` values."""
    padded, depth = -(-keys // LANES) * LANES, -(-size // LANES) * LANES
    panels = 2 * padded * depth // GROUP + padded + depth
    rows = QUERIES * (depth // GROUP + padded + padded // GROUP + depth + 1)
    return LANES + panels + rows + max(padded, QUERIES) * depth // 4


def _constant(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def _floats(value: Any) -> ir.Constant:
    return _constant(_FLOATS, float(value))


def _dot(e: Emitter, total: ir.Value, row: ir.Value, panel: ir.Value) -> ir.Value:
    """Return total + products of the groups of two vectors of 16 units."""
    b, features = e.builder, e.features
    if _BYTES:
        width = 16 if "+avx512vnni" in features and "+avx512bw" in features else 8
        kind = ir.VectorType(_I32, width)
        return e.join(
            [
                e.call(f"llvm.x86.avx512.vpdpbusd.{32 * width}", kind, *parts)
                for parts in zip(*(e.split(value, width) for value in (total, row, panel)), strict=True)
            ]
        )
    names = {"+avx512bw": "avx512.pmaddw.d.512", "+avx2": "avx2.pmadd.wd", "+sse2": "sse2.pmadd.wd"}
    for (feature, name), width in zip(names.items(), (16, 8, 4), strict=True):
        if feature in features:
            shorts = ir.VectorType(_I16, 2 * width)
            products = [
                e.call(f"llvm.x86.{name}", ir.VectorType(_I32, width), *(b.bitcast(part, shorts) for part in parts))
                for parts in zip(e.split(row, width), e.split(panel, width), strict=True)
            ]
            return b.add(total, e.join(products))
    half = _constant(_SUMS, 16)
    for shift in (lambda value: b.ashr(b.shl(value, half), half), lambda value: b.ashr(value, half)):
        total = b.add(total, b.mul(shift(row), shift(panel)))
    return total


def _units(e: Emitter, octets: ir.Value) -> ir.Value:
    """Signed bytes as units: the same bytes, or widened to int16."""
    if GROUP == 2:
        octets = e.builder.sext(octets, ir.VectorType(_I16, octets.type.count))
    return e.builder.bitcast(octets, ir.VectorType(_I32, octets.type.count // GROUP))


def _octets(e: Emitter, scratch: Any, data: Any, staged: Any) -> ir.Value:
    """Pointer to the bytes of the scratch, where heads are staged, else to the array."""
    b = e.builder
    here, there = (b.bitcast(array.data, _I8.as_pointer()) for array in (scratch, data))
    return b.select(b.icmp_signed("!=", staged, _I64(0)), here, there)


def _smaller(e: Emitter, a: ir.Value, b: ir.Value) -> ir.Value:
    return e.builder.select(e.builder.icmp_signed("<", a, b), a, b)


def _emit_key_panel(
    e: Emitter,
    scratch: Any,
    data: Any,
    staged: Any,
    place: Any,
    stride: Any,
    keys: Any,
    chunks: Any,
    to: Any,
    base: Any,
) -> None:
    """Transpose 16 keys times 16 bytes; keys beyond the last repeat it."""
    b, unit, octets = e.builder, ir.IntType(8 * GROUP), _octets(e, scratch, data, staged)
    inputs = ir.VectorType(unit, CHUNK)
    with e.loop(_I64(0), keys, LANES) as (t, _):
        total = cgutils.alloca_once(b, _SUMS)
        b.store(_constant(_SUMS, 0), total)
        block = e.place(to, b.mul(t, chunks), CHUNK)
        rows = [e.place(place, _smaller(e, b.add(t, _I64(i)), b.sub(keys, _I64(1))), stride) for i in range(LANES)]
        with e.loop(_I64(0), chunks) as (chunk, _):
            parts = [e.load(octets, e.place(row, chunk, LANES), inputs, align=1) for row in rows]
            whole = e.join(parts)
            for g in range(CHUNK):
                column = e.shuffle(whole, whole, [CHUNK * i + g for i in range(LANES)])
                panel = _units(e, b.bitcast(column, ir.VectorType(_I8, GROUP * LANES)))
                if _BYTES:
                    b.store(_dot(e, b.load(total), _constant(_SUMS, -0x7F7F7F80), panel), total)
                e.store(panel, scratch.data, e.place(e.place(block, chunk, CHUNK * LANES), g, LANES), align=64)
        e.store(b.neg(b.load(total)), scratch.data, b.add(base, t), align=64)


@vector_code(_emit_key_panel)
def key_panel(
    scratch: Units, data: Codes, staged: int, place: int, stride: int, keys: int, chunks: int, to: int, base: int
) -> None:
    """Panel of keys and its base: scratch[to + (block * groups + g) * 16 + lane] = group g of key 16 * block + lane.

    data, staged  : the array, or 1 where the codes lie in the scratch instead
    place, stride : codes of key t begin at byte place + t * stride
    chunks        : 16 inputs each
    """
    flat, padded = _python_octets(scratch, data, staged), -(-keys // LANES) * LANES
    for t in range(padded):
        start = place + min(t, keys - 1) * stride
        units = _python_units(flat[start : start + LANES * chunks])
        first = to + t // LANES * LANES * len(units) + t % LANES
        scratch[first : first + LANES * len(units) : LANES] = units
        scratch[base + t] = 0


def _python_octets(scratch: Units, data: Codes, staged: int) -> Codes:
    return scratch.view(np.int8) if staged else data.reshape(-1)


def _python_units(codes: NDArray[Any]) -> Units:
    return codes.astype(np.int16).view(np.int32)  # without JIT, GROUP is 2


def _emit_value_panel(
    e: Emitter, scratch: Any, data: Any, staged: Any, place: Any, stride: Any, keys: Any, chunks: Any, to: Any
) -> None:
    """Interleave the bytes of GROUP keys."""
    b, octets = e.builder, _octets(e, scratch, data, staged)
    groups = b.mul(b.lshr(b.add(keys, _I64(LANES - 1)), _I64(4)), _I64(CHUNK))
    last, order = b.sub(keys, _I64(1)), [LANES * j + lane for lane in range(LANES) for j in range(GROUP)]
    with e.loop(_I64(0), groups) as (g, _):
        rows = [e.place(place, _smaller(e, e.place(_I64(i), g, GROUP), last), stride) for i in range(GROUP)]
        with e.loop(_I64(0), chunks) as (chunk, _):
            whole = e.join([e.load(octets, e.place(row, chunk, LANES), _OCTETS, align=1) for row in rows])
            block = e.place(to, b.mul(chunk, groups), LANES)
            e.store(_units(e, e.shuffle(whole, whole, order)), scratch.data, e.place(block, g, LANES), align=64)


@vector_code(_emit_value_panel)
def value_panel(
    scratch: Units, data: Codes, staged: int, place: int, stride: int, keys: int, chunks: int, to: int
) -> None:
    """Panel of values: scratch[to + (block * groups + g) * 16 + lane] = value 16 * block + lane of the keys of group g.

    Keys beyond the last repeat it; their attention codes are 0.
    """
    flat, padded = _python_octets(scratch, data, staged), -(-keys // LANES) * LANES
    starts = [place + min(t, keys - 1) * stride for t in range(padded)]
    codes = np.stack([flat[start : start + LANES * chunks] for start in starts])
    for d in range(LANES * chunks):
        units = _python_units(np.ascontiguousarray(codes[:, d]))
        first = to + d // LANES * LANES * len(units) + d % LANES
        scratch[first : first + LANES * len(units) : LANES] = units


def _emit_row_units(e: Emitter, scratch: Any, data: Any, staged: Any, place: Any, chunks: Any, to: Any) -> None:
    octets = _octets(e, scratch, data, staged)
    with e.loop(_I64(0), chunks) as (chunk, _):
        codes = e.load(octets, e.place(place, chunk, LANES), _OCTETS, align=1)
        if _BYTES:
            codes = e.builder.xor(codes, _constant(_OCTETS, 0x80))
        e.store(_units(e, codes), scratch.data, e.place(to, chunk, CHUNK), align=4)


@vector_code(_emit_row_units)
def row_units(scratch: Units, data: Codes, staged: int, place: int, chunks: int, to: int) -> None:
    """Units of a query: the bytes plus 128, or int16."""
    scratch[to : to + CHUNK * chunks] = _python_units(
        _python_octets(scratch, data, staged)[place : place + LANES * chunks]
    )


class _Product:
    """Emits rows times blocks of 16 lanes."""

    def __init__(self, e: Emitter, scratch: Any, out: Any, staged: ir.Value, arguments: tuple[ir.Value, ...]) -> None:
        self.e, self.data, self.out = e, scratch.data, _octets(e, scratch, out, staged)
        self.a, self.stride, self.panel, self.groups, self.base, self.scale, self.to, self.out_stride = arguments
        self.scale = e.repeat(self.scale, LANES)

    def emit(self, row: ir.Value, rows: int, block: ir.Value, blocks: int) -> None:
        e, b = self.e, self.e.builder
        totals = [[cgutils.alloca_once(b, _SUMS) for _ in range(blocks)] for _ in range(rows)]
        for j in range(blocks):
            base = e.load(self.data, e.place(self.base, b.add(block, _I64(j)), LANES), _SUMS)
            for line in totals:
                b.store(base, line[j])
        starts = [e.place(self.a, b.add(row, _I64(i)), self.stride) for i in range(rows)]
        step = b.mul(self.groups, _I64(LANES))
        panels = [e.place(self.panel, b.add(block, _I64(j)), step) for j in range(blocks)]
        with e.loop(_I64(0), self.groups) as (g, _):
            columns = [e.load(self.data, e.place(panel, g, LANES), _SUMS, align=64) for panel in panels]
            for line, start in zip(totals, starts, strict=True):
                unit = e.repeat(b.load(b.gep(self.data, [b.add(start, g)])), LANES)
                for total, column in zip(line, columns, strict=True):
                    b.store(_dot(e, b.load(total), unit, column), total)
        for i, line in enumerate(totals):
            place = e.place(e.place(self.to, b.add(row, _I64(i)), self.out_stride), block, LANES)
            for j, total in enumerate(line):
                value = b.fmul(b.sitofp(b.load(total), _FLOATS), self.scale)
                place_here = b.mul(b.add(place, _I64(LANES * j)), _I64(4))
                e.store(b.fadd(value, _floats(0)), self.out, place_here, align=4)


def _emit_product(e: Emitter, scratch: Any, rows: Any, blocks: Any, out: Any, staged: Any, *arguments: Any) -> None:
    product, b = _Product(e, scratch, out, staged, arguments), e.builder
    whole_rows, whole_blocks = b.and_(rows, _I64(-ROWS)), b.and_(blocks, _I64(-BLOCKS))
    for first, last, count in ((_I64(0), whole_rows, ROWS), (whole_rows, rows, 1)):
        with e.loop(first, last, count) as (row, _):
            with e.loop(_I64(0), whole_blocks, BLOCKS) as (block, _):
                product.emit(row, count, block, BLOCKS)
            if BLOCKS > 1:
                with e.loop(whole_blocks, blocks) as (block, _):
                    product.emit(row, count, block, 1)


@vector_code(_emit_product)
def product(
    scratch: Units,
    rows: int,
    blocks: int,
    out: Floats,
    staged: int,
    a: int,
    stride: int,
    panel: int,
    groups: int,
    base: int,
    scale: np.float32,
    to: int,
    out_stride: int,
) -> None:
    """float32(base + products) * scale + 0 of rows with blocks of 16 lanes.

    a, stride      : units of row i begin at scratch[a + i * stride]
    panel, groups  : units of block j at scratch[panel + j * groups * 16]
    to, out_stride : row i begins at element to + i * out_stride of out, or of the scratch where staged is 1
    """
    flat = scratch.view(np.float32) if staged else out.reshape(-1)
    for i in range(rows):
        left = scratch[a + i * stride : a + i * stride + groups].view(np.int16).astype(np.int64)
        for j in range(blocks):
            block = scratch[panel + j * groups * LANES : panel + (j + 1) * groups * LANES].reshape(groups, LANES)
            right = block.T.copy().view(np.int16).astype(np.int64)
            sums = (right @ left + scratch[base + j * LANES : base + (j + 1) * LANES]).astype(np.int32)
            place = to + i * out_stride + j * LANES
            flat[place : place + LANES] = sums.astype(np.float32) * scale + np.float32(0)


class _Softmax:
    """Emits passes over rows of scores in blocks of 16; a pass over all rows lets rows overlap in the pipeline."""

    def __init__(self, e: Emitter, scratch: Any, scores: ir.Value, blocks: ir.Value) -> None:
        self.e, self.data, self.scores, self.blocks = e, scratch.data, scores, blocks

    def row(self, row: ir.Value) -> ir.Value:
        return self.e.place(self.scores, row, self.e.builder.mul(self.blocks, _I64(LANES)))

    def fold(self, row: ir.Value, start: float, combine: Any) -> ir.Value:
        """Combine the blocks of a row in order, then the lanes in pairs."""
        e, b = self.e, self.e.builder
        total = cgutils.alloca_once(b, _FLOATS)
        b.store(_floats(start), total)
        first = self.row(row)
        with e.loop(_I64(0), self.blocks) as (i, _):
            block = e.load(self.data, e.place(first, i, LANES), _FLOATS, align=64)
            b.store(combine(b.load(total), block), total)
        lanes = b.load(total)
        while lanes.type.count > 1:
            lanes = combine(*e.split(lanes, lanes.type.count // 2))
        return b.extract_element(lanes, _I32(0))

    def change(self, place: ir.Value, blocks: ir.Value, together: int, function: Any) -> None:
        """Replace blocks by function(block), `together` at a time."""
        e, b = self.e, self.e.builder
        whole = b.and_(blocks, _I64(-together))
        for begin, end, count in ((_I64(0), whole, together), (whole, blocks, 1))[: 1 + (together > 1)]:
            kind = ir.VectorType(ir.FloatType(), count * LANES)
            with e.loop(begin, end, count) as (i, _):
                here = e.place(place, i, LANES)
                e.store(function(e.load(self.data, here, kind, align=64)), self.data, here, align=64)

    def largest(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.e.builder.select(self.e.builder.fcmp_ordered(">", a, b), a, b)

    def exp(self, y: ir.Value) -> ir.Value:
        """Exponential of y <= 0 by the steps of `reference_float.exp`; 2**n is added to the exponent bits."""
        b, count = self.e.builder, y.type.count
        units = ir.VectorType(_I32, count)
        magic, lowest, log2_e, ln2_high, ln2_low, one = (
            _constant(y.type, float(number)) for number in (_MAGIC, EXP_LOWEST, LOG2_E, LN2_HIGH, LN2_LOW, 1)
        )
        bounded = self.largest(y, lowest)
        shifted = b.fadd(b.fmul(bounded, log2_e), magic)
        n = b.fsub(shifted, magic)
        r = b.fsub(b.fsub(bounded, b.fmul(n, ln2_high)), b.fmul(n, ln2_low))
        p = _constant(y.type, float(EXP_TERMS[0]))
        for term in EXP_TERMS[1:]:
            p = b.fadd(b.fmul(p, r), _constant(y.type, float(term)))
        p = b.fadd(b.fadd(b.fmul(p, b.fmul(r, r)), r), one)
        power = b.shl(b.bitcast(shifted, units), _constant(units, 23))  # never makes a subnormal number: y >= -87.3
        p = b.bitcast(b.add(b.bitcast(p, units), power), y.type)
        return b.select(b.fcmp_ordered(">=", y, lowest), p, _constant(y.type, 0.0))

    def codes(self, row: ir.Value, to: ir.Value, high: ir.Value, estimate: Any) -> ir.Value:
        """Store rne(min(estimate(e), high)) as units; return the largest distances to a whole number."""
        e, b = self.e, self.e.builder
        far = cgutils.alloca_once(b, _FLOATS)
        b.store(_floats(0), far)
        narrow = ir.VectorType(ir.IntType(32 // GROUP), LANES)
        first, to = self.row(row), e.place(to, row, b.mul(self.blocks, _I64(CHUNK)))
        with e.loop(_I64(0), self.blocks) as (i, _):
            value = estimate(e.load(self.data, e.place(first, i, LANES), _FLOATS, align=64))
            value = b.select(b.fcmp_ordered("<", value, high), value, high)
            shifted = b.fadd(value, _floats(_MAGIC))
            distance = b.bitcast(b.fsub(value, b.fsub(shifted, _floats(_MAGIC))), _SUMS)
            distance = b.bitcast(b.and_(distance, _constant(_SUMS, 0x7FFFFFFF)), _FLOATS)
            b.store(self.largest(b.load(far), distance), far)
            e.store(b.trunc(b.bitcast(shifted, _SUMS), narrow), self.data, e.place(to, i, CHUNK), align=4)
        return b.load(far)


def _emit_softmax_codes(e: Emitter, scratch: Any, scores: Any, rows: Any, blocks: Any, *arguments: Any) -> None:
    """Pass after pass over all rows: neighbouring rows overlap, and exponentials need not know where a row ends."""
    limits, to, kept = arguments[:-2], *arguments[-2:]
    step, inverse, low, high, bound = (e.repeat(value, LANES) for value in limits)
    b, softmax = e.builder, _Softmax(e, scratch, scores, blocks)
    with e.loop(_I64(0), rows) as (row, _):
        top = e.repeat(softmax.fold(row, -np.inf, softmax.largest), LANES)
        softmax.change(softmax.row(row), blocks, 1, lambda value: b.fsub(value, top))
    softmax.change(scores, b.mul(rows, blocks), TOGETHER, softmax.exp)
    with e.loop(_I64(0), rows) as (row, _):
        e.store(softmax.fold(row, 0.0, b.fadd), scratch.data, b.add(kept, row), align=4)
    with e.loop(_I64(0), rows) as (row, _):
        total = e.repeat(e.load(scratch.data, b.add(kept, row), ir.FloatType(), align=4), LANES)
        factor = b.fdiv(inverse, total)
        far = softmax.codes(row, to, high, lambda value: b.fmul(value, factor))
        near = b.bitcast(b.fcmp_ordered(">", far, bound), _I16)
        with b.if_then(b.icmp_unsigned("!=", near, _I16(0)), likely=False):
            exact = lambda value: softmax.largest(b.fdiv(b.fdiv(value, total), step), low)  # noqa: E731
            softmax.codes(row, to, high, exact)


@vector_code(_emit_softmax_codes)
def softmax_codes(
    scratch: Units,
    scores: int,
    rows: int,
    blocks: int,
    step: np.float32,
    inverse: np.float32,
    low: np.float32,
    high: np.float32,
    bound: np.float32,
    to: int,
    kept: int,
) -> None:
    """Attention codes clamp(rne(softmax(scores) / step), low, high) as units, row by row from scratch[to] on.

    scores  : place of float32[rows, 16 * blocks], -inf beyond the keys; overwritten
    inverse : 1 / step
    bound   : estimates further than this from a whole number are divided out
    kept    : place of one number for each row
    """
    for row in range(rows):
        start = scores + row * LANES * blocks
        values = scratch[start : start + LANES * blocks].view(np.float32)
        e = reference_exp(values - values.max())
        with np.errstate(over="ignore"):
            codes = np.clip(np.rint(e / lane_sum(e) / step), low, high)
        start = to + row * CHUNK * blocks
        scratch[start : start + CHUNK * blocks] = _python_units(codes)


def _emit_stage(e: Emitter, scratch: Any, data: Any, place: Any, stride: Any, rows: Any, size: Any, to: Any) -> None:
    """Chunks of 16 bytes; the last one is read from the 16 bytes that end with the head, where these belong to it."""
    b, whole = e.builder, ir.IntType(128)
    start = b.bitcast(scratch.data, _I8.as_pointer())
    chunks, ragged = b.lshr(size, _I64(4)), b.and_(size, _I64(15))
    depth = b.and_(b.add(size, _I64(15)), _I64(-16))
    with e.loop(_I64(0), rows) as (row, _):
        source, target = e.place(place, row, stride), e.place(to, row, depth)
        with e.loop(_I64(0), chunks) as (i, _):
            chunk = e.load(data.data, e.place(source, i, 16), _OCTETS, align=1)
            e.store(chunk, start, e.place(target, i, 16), align=16)
        last = e.place(target, chunks, 16)
        with b.if_else(b.icmp_signed(">=", size, _I64(16))) as (long, short):
            with long:
                chunk = e.load(data.data, b.sub(b.add(source, size), _I64(16)), whole, align=1)
                surplus = b.zext(b.shl(b.sub(_I64(16), ragged), _I64(3)), whole)
                e.store(b.lshr(chunk, surplus), start, last, align=16)
            with short:
                e.store(_constant(_OCTETS, 0), start, last, align=16)
                with e.loop(_I64(0), size) as (i, _):
                    b.store(b.load(b.gep(data.data, [b.add(source, i)])), b.gep(start, [b.add(last, i)]))


@vector_code(_emit_stage)
def stage(scratch: Units, data: Codes, place: int, stride: int, rows: int, size: int, to: int) -> None:
    """Copy one head, padded with 0 to a multiple of 16 bytes a row, to byte `to` of the scratch.

    size : bytes of the head, not a multiple of 16
    """
    depth, octets, flat = -(-size // LANES) * LANES, scratch.view(np.int8), data.reshape(-1)
    for row in range(rows):
        octets[to + row * depth : to + (row + 1) * depth] = 0
        octets[to + row * depth : to + row * depth + size] = flat[place + row * stride : place + row * stride + size]


@kernel
def _product(
    scratch: Units,
    rows: int,
    blocks: int,
    out: Floats,
    staged: int,
    a: int,
    panel: int,
    groups: int,
    base: int,
    scale: np.float32,
    to: int,
    stride: int,
) -> None:
    """Compile `product` once for both uses."""
    product(scratch, rows, blocks, out, staged, a, groups, panel, groups, base, scale, to, stride)


@kernel
def _take(floats: Floats, place: int, depth: int, rows: int, size: int, out: Floats, first: int, column: int) -> None:
    """Copy the context of one head without its padding."""
    for i in range(rows):
        for d in range(size):
            out[first + i, column + d] = floats[place + i * depth + d]


@kernel
def attend_codes(  # noqa: C901
    q: NDArray[np.int8],
    k: NDArray[np.int8],
    v: NDArray[np.int8],
    first: int,
    last: int,
    key_first: int,
    key_last: int,
    heads: int,
    score_scale: np.float32,
    step: np.float32,
    low: np.float32,
    high: np.float32,
    out_scale: np.float32,
    scratch: Units,
    out: Floats,
) -> None:
    """Context of some query rows of one sentence.

    scores[h, m, t] = float32(q[m, h] . k[t, h]) * score_scale
    codes           = clamp(rne(softmax(scores) / step), low, high)
    out[m, h, d]    = float32(sum_t codes[h, m, t] * v[t, h, d]) * out_scale + 0

    q, k, v             : int8[R, H * D], all rows of the batch
    first, last         : query rows, absolute
    key_first, key_last : rows of the keys, at least one
    heads               : H
    step                : not 0; may be negative
    low, high           : 0, and a whole number up to 255
    scratch             : int32[scratch_units(keys, D)] or longer, of the caller's thread
    out                 : float32[last - first, H * D], written in full

    Source: BinaryBERT and BiT attention on quantized Q, K, V and probabilities.
    """
    width = q.shape[1]
    size = width // heads
    chunks = (size + LANES - 1) // LANES
    depth = chunks * LANES
    keys = key_last - key_first
    blocks = (keys + LANES - 1) // LANES
    padded = blocks * LANES
    k_panel = 2 * aligned(scratch)  # the parts of the scratch, one after another
    v_panel = k_panel + padded * depth // GROUP
    base = v_panel + padded * depth // GROUP
    zeros = base + padded
    scores = zeros + depth
    context = scores + QUERIES * padded
    queries = context + QUERIES * depth
    codes = queries + QUERIES * depth // GROUP
    kept = codes + QUERIES * padded // GROUP
    staged = 4 * (kept + QUERIES)  # in bytes
    inside = np.int64(1)  # of the scratch; a variable, because kernels are compiled anew for each literal
    odd = np.int64(size != depth)  # heads that must be padded in the scratch
    stride = depth if odd else width
    floats = scratch.view(np.float32)
    # Estimates are safe where they are not negative and neither 1 / step nor a product of it leaves the normal numbers.
    usual = step > np.float32(1e-15) and step < np.float32(1e15)
    bound = np.float32(0.5) - (high + np.float32(1)) * np.float32(1e-6) if usual else np.float32(-1)
    inverse = np.float32(1) / step
    for d in range(depth):
        scratch[zeros + d] = 0
    for h in range(heads):
        column = h * size
        start = key_first * width + column
        if odd:
            stage(scratch, k, start, width, keys, size, staged)
        key_panel(scratch, k, odd, staged if odd else start, stride, keys, chunks, k_panel, base)
        if odd:
            stage(scratch, v, start, width, keys, size, staged)
        value_panel(scratch, v, odd, staged if odd else start, stride, keys, chunks, v_panel)
        for m in range(first, last, QUERIES):
            rows = min(QUERIES, last - m)
            start = m * width + column
            if odd:
                stage(scratch, q, start, width, rows, size, staged)
                start = staged
            for i in range(rows):
                row_units(scratch, q, odd, start + i * stride, chunks, queries + i * depth // GROUP)
            _product(
                scratch, rows, blocks, out, inside, queries, k_panel, depth // GROUP, base, score_scale, scores, padded
            )
            for i in range(rows):
                for t in range(keys, padded):
                    floats[scores + i * padded + t] = np.float32(-np.inf)
            softmax_codes(scratch, scores, rows, blocks, step, inverse, low, high, bound, codes, kept)
            to = context if odd else (m - first) * width + column
            _product(scratch, rows, chunks, out, odd, codes, v_panel, padded // GROUP, zeros, out_scale, to, stride)
            if odd:
                _take(floats, context, depth, rows, size, out, m - first, column)
