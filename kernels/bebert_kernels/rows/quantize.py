"""A row of floats to byte codes: what the fast products read.

Signs are 0 for +1, 3 for -1 and 2 for 0: bit 0 is the sign if zeros count as +, bit 1 if they count as -.
Other codes are counted from the smallest one, so that every code is an unsigned byte.

Rounding without a rounding instruction: clamping to integer limits first gives the same code, and adding
1.5 * 2**23 to a float of small magnitude rounds it, half to even, into the low bits of the sum.

PLAIN_CODES have a step whose inverse in two parts gives the same codes as the division (`reciprocal.py`); where a
multiply-add is one instruction, that is all there is to do.

Else, division without division: v * (1 / step) differs from v / step by less than 2**-14 where the code is within its
limits (3 roundings of 2**-24 relative, below 257). So both round alike unless the product is that close to the
middle of two codes; blocks with such a value, or with a step whose inverse is not a normal float, are divided.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from bebert_kernels.abi import rule as rules
from bebert_kernels.abi.rule import Numbers
from bebert_kernels.emit.emitter import Emitter, Value, vector_code
from bebert_kernels.emit.vectors import F32, I8, I16, I32, fill
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.machine_code import code_features
from bebert_kernels.reference.integers import GELU_ZERO
from bebert_kernels.rows.layout import MINUS, NOWHERE, PLUS, ZERO

Floats = NDArray[np.float32]
Octets = NDArray[np.uint8]

ROUNDER = 12582912.0  # 1.5 * 2**23

_FEATURES = code_features()
HAS_PACKS = "avx512bw" in _FEATURES
HAS_FUSED = bool({"neon", "avx512bw"} & _FEATURES) or {"avx2", "fma"} <= _FEATURES
# Values at a time: a register of bytes where that is large; 64 of AVX2 and NEON would not stay in their registers.
BYTE_LANES = 64 if HAS_PACKS else 32
FLOATS, INTEGERS, BYTES = (ir.VectorType(kind, BYTE_LANES) for kind in (F32, I32, I8))


def _emit_sign_bytes(e: Emitter, x: Any, shift: Any, floor: Value, out: Any) -> Value:
    b, size = e.builder, e.size(x)
    least, floors = e.variable(fill(BYTES, 255)), e.repeat(floor, BYTE_LANES)

    def emit(has_floor: bool) -> None:
        def body(i: Value, vectors: list[Value], inside: Value | None) -> list[Value]:
            value = b.fadd(*vectors)
            if has_floor:
                value = b.select(b.fcmp_ordered(">", value, floors), value, fill(FLOATS, 0.0))
            order, signs = _signs(e, value)
            if inside is not None:
                order = b.select(inside, order, fill(BYTES, 255))
            least_so_far = b.load(least)
            b.store(b.select(b.icmp_unsigned("<", least_so_far, order), least_so_far, order), least)
            return [signs]

        e.for_blocks(size, [x.data, shift.data], [out.data], body, BYTE_LANES)

    with b.if_else(b.fcmp_ordered(">", floor, F32(NOWHERE))) as (then, otherwise):
        with then:
            emit(True)
        with otherwise:
            emit(False)
    zeros = b.bitcast(b.icmp_unsigned("==", b.load(least), fill(BYTES, 0)), ir.IntType(BYTE_LANES))
    return b.zext(b.icmp_unsigned("==", zeros, zeros.type(0)), I8)


@vector_code(_emit_sign_bytes, types.uint8)
def sign_bytes(x: Floats, shift: Floats, floor: np.float32, out: Octets) -> np.uint8:
    """Bytes of the sign of v = x + shift, where v <= floor counts as 0; returns 1 if no value is 0, else 0."""
    value = x + shift
    zero = (value == 0) | (value <= floor)
    out[:] = np.where(zero, ZERO, np.where(value < 0, MINUS, PLUS))
    return np.uint8(not zero.any())


def _signs(e: Emitter, value: Value) -> tuple[Value, Value]:
    """For BYTE_LANES floats: bytes that are 0 where the float is 0, else not; and their sign bytes."""
    b, nothing = e.builder, fill(FLOATS, 0.0)
    if not HAS_PACKS:
        zero, negative = (b.fcmp_ordered(relation, value, nothing) for relation in ("==", "<"))
        signs = b.select(negative, fill(BYTES, MINUS), fill(BYTES, PLUS))
        return b.not_(b.sext(zero, BYTES)), b.select(zero, fill(BYTES, ZERO), signs)
    # Adding 0 turns -0 into 0. The bits of a float, as an integer, have its sign, and so has the saturated byte.
    order = narrow(e, b.bitcast(b.fadd(value, nothing), INTEGERS), "ss", "packsswb")
    # Byte shuffles give 0 where bit 7 is set; 0 and 1 look up the others.
    index = e.call("llvm.smin.v64i8", BYTES, order, fill(BYTES, 1))
    table = ir.Constant(BYTES, [ZERO ^ MINUS, PLUS ^ MINUS, *[0] * 14] * 4)
    found = e.call("llvm.x86.avx512.pshuf.b.512", BYTES, table, index)
    return order, b.xor(found, fill(BYTES, MINUS))


def narrow(e: Emitter, integers: Value, words: str, octets: str) -> Value:
    """Sixty-four int32 to bytes with saturation, by the AVX-512 packs, which work in quarters of a register."""
    b, parts, kind = e.builder, e.split(integers, 16), ir.VectorType(I16, 32)
    halves = [e.call(f"llvm.x86.avx512.pack{words}dw.512", kind, *parts[at : at + 2]) for at in (0, 2)]
    packed = b.bitcast(e.call(f"llvm.x86.avx512.{octets}.512", BYTES, *halves), parts[0].type)
    order = [4 * quarter + source for source in range(4) for quarter in range(4)]
    return b.bitcast(e.shuffle(packed, packed, order), BYTES)


class _Codes:
    """Emits `code_bytes` for BYTE_LANES values."""

    def __init__(self, e: Emitter, bottom: Value, numbers: Numbers) -> None:
        self.e, b = e, e.builder
        self.bottom = e.repeat(bottom, BYTE_LANES)
        self.step, self.minimum, self.low, self.high = (e.repeat(number, BYTE_LANES) for number in numbers)
        self.inverse = e.repeat(b.fdiv(F32(1.0), numbers.step), BYTE_LANES)
        magnitude = e.call("llvm.fabs.f32", F32, numbers.step)
        sane = b.and_(b.fcmp_ordered(">", magnitude, F32(2.0**-100)), b.fcmp_ordered("<", magnitude, F32(2.0**100)))
        self.limit = e.repeat(b.select(sane, F32(0.5 - 2.0**-14), F32(-1.0)), 16)
        self.base = e.repeat(b.add(b.fptosi(numbers.low, I32), b.bitcast(F32(ROUNDER), I32)), BYTE_LANES)

    def body(self, i: Value, vectors: list[Value], inside: Value | None) -> list[Value]:
        b = self.e.builder
        value = b.fadd(self._bounded(vectors[0], self.bottom, ">"), vectors[1])
        value = b.fsub(value, self.minimum)
        guess, rounded = self._round(b.fmul(value, self.inverse))
        away = b.fsub(guess, b.fsub(rounded, fill(FLOATS, ROUNDER)))
        away = self._top(self.e.call(f"llvm.fabs.v{BYTE_LANES}f32", FLOATS, away))
        unsure = b.bitcast(b.fcmp_unordered(">", away, self.limit), ir.IntType(16))
        result = cgutils.alloca_once(b, BYTES)
        b.store(self._bytes(rounded), result)
        with b.if_then(b.icmp_unsigned("!=", unsure, unsure.type(0)), likely=False):
            b.store(self._bytes(self._round(b.fdiv(value, self.step))[1]), result)
        return [b.load(result)]

    def _bounded(self, value: Value, bound: Value, relation: str) -> Value:
        b = self.e.builder
        return b.select(b.fcmp_ordered(relation, value, bound), value, bound)

    def _top(self, value: Value) -> Value:
        """The larger ones of rows of 16 values; a NaN may be lost, but only where the step is out of range."""
        while value.type.count > 16:
            low, high = self.e.split(value, value.type.count // 2)
            value = self._bounded(low, high, ">")
        return value

    def _round(self, steps: Value) -> tuple[Value, Value]:
        """Steps within the limits, and the same plus ROUNDER, which has the whole number in its low bits."""
        inside = self._bounded(self._bounded(steps, self.low, ">"), self.high, "<")
        return inside, self.e.builder.fadd(inside, fill(FLOATS, ROUNDER))

    def _bytes(self, rounded: Value) -> Value:
        codes = self.e.builder.sub(self.e.builder.bitcast(rounded, INTEGERS), self.base)
        return narrow(self.e, codes, "us", "packuswb") if HAS_PACKS else self.e.builder.trunc(codes, BYTES)


def _emit_code_bytes(e: Emitter, x: Any, shift: Any, bottom: Value, numbers: Any, out: Any) -> None:
    e.for_blocks(e.size(x), [x.data, shift.data], [out.data], _Codes(e, bottom, numbers).body, BYTE_LANES)


@vector_code(_emit_code_bytes)
def code_bytes(x: Floats, shift: Floats, bottom: np.float32, numbers: Numbers, out: Octets) -> None:
    """Codes of max(x, bottom), counted from low."""
    with np.errstate(over="ignore"):
        value = ((np.maximum(x, bottom) + shift) - np.float32(numbers.minimum)) / np.float32(numbers.step)
    out[:] = np.rint(np.clip(value, numbers.low, numbers.high)) - numbers.low


class _PlainCodes:
    """Emits `plain_code_bytes` for BYTE_LANES values, a register of floats at a time."""

    def __init__(self, e: Emitter, numbers: Numbers) -> None:
        self.e, b = e, e.builder
        self.lanes = 16 if HAS_PACKS else 4 if "neon" in _FEATURES else 8
        self.floats, self.integers = (ir.VectorType(kind, self.lanes) for kind in (F32, I32))
        inverse = b.fdiv(F32(1.0), numbers.step)
        left = e.call("llvm.fma.f32", F32, b.fneg(numbers.step), inverse, F32(1.0))
        scalars = inverse, b.fmul(left, inverse), numbers.high
        self.inverse, self.rest, self.high = (e.repeat(value, self.lanes) for value in scalars)
        self.low = e.repeat(b.trunc(b.fptosi(numbers.low, I32), I16), BYTE_LANES)

    def body(self, i: Value, vectors: list[Value], inside: Value | None) -> list[Value]:
        e, b, codes = self.e, self.e.builder, []
        for x in e.split(vectors[0], self.lanes):
            steps = e.call(f"llvm.fma.v{self.lanes}f32", self.floats, x, self.inverse, b.fmul(x, self.rest))
            steps = b.select(b.fcmp_ordered("<", steps, self.high), steps, self.high)
            codes.append(self._nearest(steps))
        return [self._bytes(codes)]

    def _nearest(self, steps: Value) -> Value:
        """Nearest whole numbers, half to even; far below the lowest code any number that is lower still."""
        e, kind = self.e, self.integers
        if self.lanes == 16:
            return e.call("llvm.x86.avx512.mask.cvtps2dq.512", kind, steps, fill(kind, 0), ir.IntType(16)(-1), I32(4))
        if self.lanes == 8:
            return e.call("llvm.x86.avx.cvt.ps2dq.256", kind, steps)
        return e.call("llvm.aarch64.neon.fcvtns.v4i32.v4f32", kind, steps)

    def _bytes(self, codes: list[Value]) -> Value:
        """Codes less the lowest one: what is lower saturates to 0."""
        e, b, kind = self.e, self.e.builder, ir.VectorType(I16, 2 * self.lanes)
        low = e.split(self.low, 2 * self.lanes)[0]

        def from_low(words: Value) -> Value:
            return e.call(f"llvm.ssub.sat.v{2 * self.lanes}i16", kind, words, low)

        if self.lanes == 4:
            halves = [e.call("llvm.aarch64.neon.sqxtn.v4i16", ir.VectorType(I16, 4), part) for part in codes]
            words = [from_low(e.join(halves[i : i + 2])) for i in range(0, len(halves), 2)]
            eights = [e.call("llvm.aarch64.neon.sqxtun.v8i8", ir.VectorType(I8, 8), part) for part in words]
            return e.join(eights)
        # Packs work in quarters of a register: order the fours again.
        names = ("avx512.packssdw.512", "avx512.packuswb.512") if HAS_PACKS else ("avx2.packssdw", "avx2.packuswb")
        words = [from_low(e.call(f"llvm.x86.{names[0]}", kind, *codes[i : i + 2])) for i in (0, 2)]
        packed = b.bitcast(e.call(f"llvm.x86.{names[1]}", BYTES, *words), self.integers)
        quarters = self.lanes // 4
        order = [4 * quarter + source for source in range(4) for quarter in range(quarters)]
        return b.bitcast(e.shuffle(packed, packed, order), BYTES)


def _emit_plain_code_bytes(e: Emitter, x: Any, zeros: Any, numbers: Any, out: Any) -> None:
    if HAS_FUSED:
        e.for_blocks(e.size(x), [x.data], [out.data], _PlainCodes(e, numbers).body, BYTE_LANES)
    else:
        bottom = F32(float(NOWHERE))
        e.for_blocks(e.size(x), [x.data, zeros.data], [out.data], _Codes(e, bottom, numbers).body, BYTE_LANES)


@vector_code(_emit_plain_code_bytes)
def plain_code_bytes(x: Floats, zeros: Floats, numbers: Numbers, out: Octets) -> None:
    """Codes of x, counted from low; numbers has minimum 0, `zeros` are as many."""
    with np.errstate(over="ignore"):
        out[:] = np.rint(np.clip(x / np.float32(numbers.step), numbers.low, numbers.high)) - numbers.low


@kernel
def quantize_row(x: Floats, shift: Floats, rule: int, numbers: Numbers, out: Octets) -> np.uint8:
    """Byte codes of a row, by a rule of `abi/rule.py`.

    SIGN       : sign of x + shift
    GELU_SIGN  : sign of GELU(x): 0 where x == 0 or x <= GELU_ZERO; the shift must be zeros
    CODES      : clamp(rne((x + shift - minimum) / step), low, high) - low
    RELU_CODES : the same of max(x, 0) + shift
    PLAIN_CODES: CODES where shift and minimum are 0 and `reciprocal.multiplies_exactly` holds for the step

    x, shift : float32[K], finite; zeros for no shift
    numbers  : float32, not read for signs. The step is not 0 and may be negative; low and high are whole numbers in
               -128..255, high - low <= 255
    out      : uint8[K], written in full
    returns  : uint8 1 if the row has no zero sign, else 0; always 0 for codes

    Source: `reference.pack_signs`, `gelu_signs`, `relu` and `quantize`.
    """
    if rule == rules.SIGN or rule == rules.GELU_SIGN:
        return sign_bytes(x, shift, GELU_ZERO if rule == rules.GELU_SIGN else NOWHERE, out)
    if rule == rules.PLAIN_CODES:
        plain_code_bytes(x, shift, numbers, out)
        return np.uint8(0)
    bottom = np.float32(0) if rule == rules.RELU_CODES else NOWHERE
    code_bytes(x, shift, bottom, numbers, out)
    return np.uint8(0)
