"""What a quantizer is, as plain data, and how a tensor of activations becomes codes.

Every quantizer of every family is `value = code * step + minimum` with an integer code (`docs/numerics.md`, Codes):

    sign          code -1/0/+1 = sgn0(x)                       step 1          BiBERT
    shifted_sign  code -1/0/+1 = sgn0(x + shift)               step alpha      BiT, signed, 1 bit
    bool          code 0/1     = clamp(rne((x+shift)/alpha))   step alpha      BiT, unsigned, 1 bit: no minimum
    codes         code         = clamp(rne((x+shift-min)/step))                LSQ and BiT at 2, 4, 8 bits
    dynamic       the same, after a clip, with step and minimum from the tensor itself (8 bits)

`rne` rounds half to even. Signed codes reach -2^(bits-1) .. 2^(bits-1)-1, except dynamic ones, which are symmetric.
"""

from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bebert_kernels.packing import unpack_bits
from bebert_kernels.reference import floats, integers

Kind = Literal["sign", "shifted_sign", "bool", "codes", "dynamic"]
# "zero": the minimum of an unsigned quantizer is the stored constant, 0 for ReLU outputs and probabilities.
# "batch": the published rule, the minimum of the whole padded tensor (reference backend only).
MinimumRule = Literal["zero", "batch"]


class Quantizer(Struct, frozen=True):
    """One quantizer with its learned numbers.

    step, minimum : float            shift : float32[K] or None, added before rounding
    clip          : (low, high) of a dynamic quantizer
    """

    kind: Kind
    bits: int = 1
    signed: bool = True
    step: float = 1.0
    minimum: float = 0.0
    shift: NDArray[np.float32] | None = None
    clip: tuple[float, float] | None = None

    @property
    def is_sign(self) -> bool:
        """True where codes are -1/0/+1."""
        return self.kind in ("sign", "shifted_sign")

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        if self.is_sign:
            return -1, 1
        if not self.signed:
            return 0, 2**self.bits - 1
        high = 2 ** (self.bits - 1) - 1
        return (-high if self.kind == "dynamic" else -high - 1), high

    def resolve(self, x: NDArray[np.float32], minimum_rule: MinimumRule) -> tuple[NDArray[np.float32], float, float]:
        """Return (x to round, step, minimum) for this tensor; only dynamic quantizers and "batch" look at x.

        Dynamic, signed:   S = (2^(bits-1)-1)/max|x|;  step = 1/S        (TernaryBERT, §3.2)
        Dynamic, unsigned: minimum = min x;  step = (max x - min x + 1e-8)/(2^bits - 1)
        """
        if self.kind == "dynamic":
            assert self.clip is not None
            x = np.clip(x, np.float32(self.clip[0]), np.float32(self.clip[1]))
            if self.signed:
                largest = np.float32(np.abs(x).max())
                # An all-zero tensor has no scale; any step gives codes 0.
                return x, float(largest / np.float32(self.range[1])) or 1.0, 0.0
            low = np.float32(x.min())
            span = np.float32(x.max()) - low + np.float32(1e-8)
            return x, float(span / np.float32(self.range[1])), float(low)
        if minimum_rule == "batch" and self.kind == "codes" and not self.signed:
            shifted = x if self.shift is None else x + self.shift
            return x, self.step, float(shifted.min())
        return x, self.step, self.minimum

    def codes(self, x: NDArray[np.float32], minimum_rule: MinimumRule, *, gelu: bool = False) -> "Codes":
        """Round `x` float32[M, K] to codes int8 or uint8[M, K], with the step and minimum that undo it.

        gelu : of GELU(x); its sign without a shift is a threshold of x (`integers.GELU_ZERO`)
        """
        if self.is_sign:
            if gelu and self.shift is None:
                signs, nonzero, _ = integers.gelu_signs(x)
            else:
                signs, nonzero, _ = integers.pack_signs(floats.gelu(x) if gelu else x, self.shift)
            return Codes(sign_codes(signs, nonzero, x.shape[1]), self.step, 0.0)
        x, step, minimum = self.resolve(floats.gelu(x) if gelu else x, minimum_rule)
        low, high = self.range
        return Codes(integers.quantize(x, self.shift, step, minimum, low, high), step, minimum)


class Codes(Struct, frozen=True):
    """Integer codes of a tensor: value = codes * step + minimum."""

    codes: NDArray[Any]  # int8 or uint8
    step: float
    minimum: float


def sign_codes(signs: NDArray[np.uint64], nonzero: NDArray[np.uint64], depth: int) -> NDArray[np.int8]:
    """Unpack sign and non-zero words uint64[..., W] to codes -1/0/+1, int8[..., depth]."""
    return np.where(unpack_bits(signs, depth), -1, unpack_bits(nonzero, depth)).astype(np.int8)
