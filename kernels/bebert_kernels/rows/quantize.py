"""A row of floats to byte codes: what the fast products read.

Signs are 0 for +1, 3 for -1 and 2 for 0: bit 0 is the sign if zeros count as +, bit 1 if they count as -.
Other codes are counted from the smallest one, so that every code is an unsigned byte.

Rounding without a rounding instruction: clamping to integer limits first gives the same code, and adding
1.5 * 2**23 to a float of small magnitude rounds it, half to even, into the low bits of the sum.

Division without division: v * (1 / step) differs from v / step by less than 2**-14 where the code is within its
limits (3 roundings of 2**-24 relative, below 257). So both round alike unless the product is that close to the
middle of two codes; blocks with such a value, or with a step whose inverse is not a normal float, are divided.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from bebert_kernels.abi import rule as rules
from bebert_kernels.abi.rule import Numbers
from bebert_kernels.emit.vectors import (
    F32,
    I8,
    I16,
    I32,
    accumulator,
    call,
    data_of,
    fill,
    for_blocks,
    part,
    size_of,
    splat,
)
from bebert_kernels.jit.kernel import cpu_features, kernel
from bebert_kernels.reference.integers import GELU_ZERO

Floats = NDArray[np.float32]
Octets = NDArray[np.uint8]

NOWHERE = np.float32(-np.inf)
ROUNDER = 12582912.0  # 1.5 * 2**23
PLUS, ZERO, MINUS = 0, 2, 3

LANES = 64  # values at a time: a register of bytes
FLOATS, INTEGERS, BYTES = (ir.VectorType(kind, LANES) for kind in (F32, I32, I8))
WIDE = "avx512bw" in cpu_features()


@kernel
def quantize_row(x: Floats, shift: Floats, rule: int, numbers: Numbers, out: Octets) -> np.uint8:
    """Byte codes of a row, by a rule of `abi/rule.py`.

    SIGN       : sign of x + shift
    GELU_SIGN  : sign of GELU(x): 0 where x == 0 or x <= GELU_ZERO; the shift must be zeros
    CODES      : clamp(rne((x + shift - minimum) / step), low, high) - low
    RELU_CODES : the same of max(x, 0) + shift

    x, shift : float32[K], finite; zeros for no shift
    numbers  : float32, not read for signs. The step is not 0 and may be negative; low and high are whole numbers in
               -128..255, high - low <= 255
    out      : uint8[K], written in full
    returns  : uint8 1 if the row has no zero sign, else 0; always 0 for codes

    Source: `reference.pack_signs`, `gelu_signs`, `relu` and `quantize`.
    """
    if rule == rules.SIGN or rule == rules.GELU_SIGN:
        return sign_bytes(x, shift, GELU_ZERO if rule == rules.GELU_SIGN else NOWHERE, out)
    bottom = np.float32(0) if rule == rules.RELU_CODES else NOWHERE
    code_bytes(x, shift, bottom, numbers, out)
    return np.uint8(0)


def sign_bytes(x: Floats, shift: Floats, floor: np.float32, out: Octets) -> np.uint8:
    """Bytes of the sign of v = x + shift, where v <= floor counts as 0; returns 1 if no value is 0, else 0."""
    value = x + shift
    zero = (value == 0) | (value <= floor)
    out[:] = np.where(zero, ZERO, np.where(value < 0, MINUS, PLUS))
    return np.uint8(not zero.any())


def code_bytes(x: Floats, shift: Floats, bottom: np.float32, numbers: Numbers, out: Octets) -> None:
    """Codes of max(x, bottom), counted from low."""
    with np.errstate(over="ignore"):
        value = ((np.maximum(x, bottom) + shift) - np.float32(numbers.minimum)) / np.float32(numbers.step)
    out[:] = np.rint(np.clip(value, numbers.low, numbers.high)) - numbers.low


@intrinsic
def _sign_bytes(typing_context, x, shift, floor, out):  # type: ignore[no-untyped-def]  # numba inspects the signature
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        row, move, floor, target = arguments
        *inputs, target = data_of(context, builder, (x, shift, out), (row, move, target))
        size = size_of(context, builder, x, row)
        least, floors = accumulator(builder, BYTES, 255), splat(builder, floor, LANES)

        def emit(has_floor: bool) -> None:
            def body(i: ir.Value, vectors: list[ir.Value], inside: ir.Value | None) -> list[ir.Value]:
                value = builder.fadd(*vectors)
                if has_floor:
                    value = builder.select(builder.fcmp_ordered(">", value, floors), value, fill(FLOATS, 0.0))
                order, bytes_ = _signs(builder, value)
                if inside is not None:
                    order = builder.select(inside, order, fill(BYTES, 255))
                builder.store(_least(builder, builder.load(least), order), least)
                return [bytes_]

            for_blocks(builder, size, inputs, [target], body, LANES)

        with builder.if_else(builder.fcmp_ordered(">", floor, F32(NOWHERE))) as (then, otherwise):
            with then:
                emit(True)
            with otherwise:
                emit(False)
        zeros = builder.icmp_unsigned("==", builder.load(least), fill(BYTES, 0))
        zeros = builder.bitcast(zeros, ir.IntType(LANES))
        return builder.zext(builder.icmp_unsigned("==", zeros, zeros.type(0)), I8)

    return types.uint8(x, shift, types.float32, out), generate


def _signs(builder: ir.IRBuilder, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """For 64 floats: bytes that are 0 where the float is 0, else not; and their sign bytes."""
    nothing = fill(FLOATS, 0.0)
    if not WIDE:
        zero, negative = (builder.fcmp_ordered(relation, value, nothing) for relation in ("==", "<"))
        signs = builder.select(negative, fill(BYTES, MINUS), fill(BYTES, PLUS))
        return builder.not_(builder.sext(zero, BYTES)), builder.select(zero, fill(BYTES, ZERO), signs)
    # Adding 0 turns -0 into 0. The bits of a float, as an integer, have its sign, and so has the saturated byte.
    order = narrow(builder, builder.bitcast(builder.fadd(value, nothing), INTEGERS), "ss", "packsswb")
    # Byte shuffles give 0 where bit 7 is set; 0 and 1 look up the others.
    index = call(builder, "llvm.smin.v64i8", BYTES, order, fill(BYTES, 1))
    table = ir.Constant(BYTES, [ZERO ^ MINUS, PLUS ^ MINUS, *[0] * 14] * 4)
    found = call(builder, "llvm.x86.avx512.pshuf.b.512", BYTES, table, index)
    return order, builder.xor(found, fill(BYTES, MINUS))


def _least(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_unsigned("<", a, b), a, b)


def narrow(builder: ir.IRBuilder, integers: ir.Value, words: str, octets: str) -> ir.Value:
    """Sixty-four int32 to bytes with saturation, by the AVX-512 packs, which work in quarters of a register."""
    parts = [part(builder, integers, at, 16) for at in range(0, LANES, 16)]
    kind = ir.VectorType(I16, 32)
    halves = [call(builder, f"llvm.x86.avx512.pack{words}dw.512", kind, *parts[at : at + 2]) for at in (0, 2)]
    packed = builder.bitcast(call(builder, f"llvm.x86.avx512.{octets}.512", BYTES, *halves), parts[0].type)
    order = ir.Constant(parts[0].type, [4 * quarter + source for source in range(4) for quarter in range(4)])
    return builder.bitcast(builder.shuffle_vector(packed, packed, order), BYTES)


@intrinsic
def _code_bytes(typing_context, x, shift, bottom, step, minimum, low, high, out):  # type: ignore[no-untyped-def]
    floats = (types.float32,) * 5

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        row, move, *numbers, target = arguments
        *inputs, target = data_of(context, builder, (x, shift, out), (row, move, target))
        emitter = _Codes(builder, numbers)
        for_blocks(builder, size_of(context, builder, x, row), inputs, [target], emitter.body, LANES)
        return context.get_dummy_value()

    return types.void(x, shift, *floats, out), generate


class _Codes:
    """Emits `code_bytes` for 64 values."""

    def __init__(self, builder: ir.IRBuilder, numbers: list[ir.Value]) -> None:
        self.builder = builder
        _, step, _, low, _ = numbers
        self.bottom, self.step, self.minimum, self.low, self.high = (splat(builder, n, LANES) for n in numbers)
        self.inverse = splat(builder, builder.fdiv(F32(1.0), step), LANES)
        magnitude = call(builder, "llvm.fabs.f32", F32, step)
        sane = builder.and_(
            builder.fcmp_ordered(">", magnitude, F32(2.0**-100)), builder.fcmp_ordered("<", magnitude, F32(2.0**100))
        )
        self.limit = splat(builder, builder.select(sane, F32(0.5 - 2.0**-14), F32(-1.0)))
        base = builder.add(builder.fptosi(low, I32), builder.bitcast(F32(ROUNDER), I32))
        self.base = splat(builder, base, LANES)

    def body(self, i: ir.Value, vectors: list[ir.Value], inside: ir.Value | None) -> list[ir.Value]:
        b = self.builder
        value = b.fadd(self._bounded(vectors[0], self.bottom, ">"), vectors[1])
        value = b.fsub(value, self.minimum)
        guess, rounded = self._round(b.fmul(value, self.inverse))
        away = b.fsub(guess, b.fsub(rounded, fill(FLOATS, ROUNDER)))
        away = self._top(call(b, "llvm.fabs.v64f32", FLOATS, away))
        unsure = b.bitcast(b.fcmp_unordered(">", away, self.limit), ir.IntType(16))
        result = cgutils.alloca_once(b, BYTES)
        b.store(self._bytes(rounded), result)
        with b.if_then(b.icmp_unsigned("!=", unsure, unsure.type(0)), likely=False):
            b.store(self._bytes(self._round(b.fdiv(value, self.step))[1]), result)
        return [b.load(result)]

    def _bounded(self, value: ir.Value, bound: ir.Value, relation: str) -> ir.Value:
        return self.builder.select(self.builder.fcmp_ordered(relation, value, bound), value, bound)

    def _top(self, value: ir.Value) -> ir.Value:
        """The larger ones of 4 x 16 values; a NaN may be lost, but only where the step is out of range."""
        while value.type.count > 16:
            half = value.type.count // 2
            low, high = part(self.builder, value, 0, half), part(self.builder, value, half, half)
            value = self._bounded(low, high, ">")
        return value

    def _round(self, steps: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Steps within the limits, and the same plus ROUNDER, which has the whole number in its low bits."""
        inside = self._bounded(self._bounded(steps, self.low, ">"), self.high, "<")
        return inside, self.builder.fadd(inside, fill(FLOATS, ROUNDER))

    def _bytes(self, rounded: ir.Value) -> ir.Value:
        codes = self.builder.sub(self.builder.bitcast(rounded, INTEGERS), self.base)
        return narrow(self.builder, codes, "us", "packuswb") if WIDE else self.builder.trunc(codes, BYTES)


@overload(sign_bytes)
def _sign_bytes_overload(x, shift, floor, out):  # type: ignore[no-untyped-def]
    return lambda x, shift, floor, out: _sign_bytes(x, shift, floor, out)  # type: ignore[call-arg]


@overload(code_bytes)
def _code_bytes_overload(x, shift, bottom, numbers, out):  # type: ignore[no-untyped-def]
    return lambda x, shift, bottom, numbers, out: _code_bytes(  # type: ignore[call-arg]
        x, shift, bottom, numbers.step, numbers.minimum, numbers.low, numbers.high, out
    )
