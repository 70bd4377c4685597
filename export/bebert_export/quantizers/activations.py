"""Activation quantizers without a learned step: sign, attention bit, and the dynamic scale.

A code is the integer before scaling; the value is ``code * step + minimum``. Every quantizer, those of
``step_quantizers`` included, offers

* ``forward(x)``     the value, with the straight-through gradients of the published code,
* ``codes(x)``       the same as (codes, step, minimum),
* ``statistics(x)``  what it reads from the tensor at run time (empty where nothing is),

and the attributes ``kind`` ("sign", "bool", "codes", "dynamic"), ``bits``, ``signed``, ``low``, ``high``.

A learned step or clip pair belongs to the layer that owns the quantizer, so that published parameter names
hold. The quantizer keeps it in a tuple, which hides it from its own ``state_dict``.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bebert_export.quantizers.straight_through import pass_through

Codes = tuple[Tensor, float, float]

RANGE_EPSILON = 1e-8  # added to max - min by the published unsigned dynamic quantizer


class ActivationQuantizer(nn.Module):
    """What all activation quantizers share: their range and the names of what they report."""

    def __init__(self, kind: str, bits: int, signed: bool) -> None:
        super().__init__()
        self.kind, self.bits, self.signed = kind, bits, signed
        if kind == "sign":
            self.low, self.high = -1, 1
        else:
            self.low, self.high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    def codes(self, x: Tensor) -> Codes:
        """Integer codes as a float tensor of x's shape, the step and the minimum."""
        raise NotImplementedError

    def statistics(self, x: Tensor) -> dict[str, float]:
        """Some of "min", "max", "range": what the rule reads from this tensor; empty if nothing."""
        return {}


class Sign(ActivationQuantizer):
    """``sgn0(x)``, no scale (BiBERT: Qin et al., 2022); zeros stay 0.

    inclusive : bool   gradient passes for -1 <= x <= 1 (inputs of linears) or -1 < x < 1 (Q, K, V)
    """

    def __init__(self, inclusive: bool = False) -> None:
        super().__init__("sign", 1, True)
        self.inclusive = inclusive

    def forward(self, x: Tensor) -> Tensor:
        """-1, 0 or +1, float of x's shape."""
        return pass_through(x, x.detach().sign(), (-1, 1), closed=self.inclusive)

    def codes(self, x: Tensor) -> Codes:
        """Signs, step 1, minimum 0."""
        return x.detach().sign(), 1.0, 0.0


class Bool(ActivationQuantizer):
    """BiBERT's attention bit: 1 where ``x > 0``, else 0 (an exact zero gives 0).

    The gradient passes for -1 < x < 1.
    """

    def __init__(self) -> None:
        super().__init__("bool", 1, False)

    def forward(self, x: Tensor) -> Tensor:
        """0 or 1, float of x's shape."""
        return pass_through(x, (x.detach() > 0).to(x.dtype), (-1, 1), closed=False)

    def codes(self, x: Tensor) -> Codes:
        """Bits, step 1, minimum 0."""
        return (x.detach() > 0).to(x.dtype), 1.0, 0.0


class _Clip(torch.autograd.Function):
    """``clip(x, c0, c1)``; at or beyond a limit its gradient is that limit's (PACT: Choi et al., 2018)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, clip: Tensor) -> Tensor:
        ctx.save_for_backward(x, clip)
        return torch.minimum(torch.maximum(x, clip[0]), clip[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, clip = ctx.saved_tensors
        below, above = x <= clip[0], x >= clip[1]
        grad_clip = None
        if ctx.needs_input_grad[1]:
            grad_clip = torch.stack([(grads[0] * below).sum(), (grads[0] * above).sum()])
        return grads[0] * ~(below | above), grad_clip


class Dynamic(ActivationQuantizer):
    """Scale from the clipped tensor itself: 8-bit BinaryBERT and TernaryBERT (Zhang et al., 2020).

    signed:    S = (2**(b-1) - 1) / max|x|;  value = rne(x S) / S          (codes -127 ... 127)
    unsigned:  R = max - min + 1e-8;  value = rne((x - min) / R (2**b - 1)) / (2**b - 1) R + min

    clip      : Parameter [2]   lower and upper limit
    bits      : int             2 to 8
    signed    : bool
    learnable : bool            whether the limits receive gradients; nothing flows through max or min

    Raises ValueError for other bits. A tensor of zeros gives zeros (the published code divides by 0).
    """

    def __init__(self, clip: nn.Parameter, bits: int, signed: bool, learnable: bool = True) -> None:
        if not 2 <= bits <= 8:
            raise ValueError(f"bits is {bits}; a dynamic quantizer takes 2 to 8 bits")
        super().__init__("dynamic", bits, signed)
        self.learnable = learnable
        if signed:
            self.low = -self.high  # the scale maps max|x| to `high`, so -128 is out of reach
        self._held = (clip,)

    @property
    def clip(self) -> nn.Parameter:
        """The limits; they belong to the owner of this quantizer."""
        return self._held[0]

    def _clipped(self, x: Tensor) -> Tensor:
        clipped: Tensor = _Clip.apply(x, self.clip if self.learnable else self.clip.detach())
        return clipped

    def _signed_scale(self, clipped: Tensor) -> Tensor:
        largest = clipped.abs().max()
        return torch.where(largest > 0, self.high / largest, torch.ones_like(largest))

    def forward(self, x: Tensor) -> Tensor:
        """Dequantized value, float of x's shape."""
        clipped = self._clipped(x)
        with torch.no_grad():
            if self.signed:
                scale = self._signed_scale(clipped)
                value = (clipped * scale).round().div_(scale)
            else:
                minimum = clipped.min()
                spread = clipped.max() - minimum + RANGE_EPSILON
                value = ((clipped - minimum) / spread * self.high).round() / self.high * spread + minimum
        return pass_through(clipped, value)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Codes:
        """Codes with the step and minimum that this tensor gives."""
        clipped = self._clipped(x)
        if self.signed:
            scale = self._signed_scale(clipped)
            return (clipped * scale).round(), 1.0 / float(scale), 0.0
        minimum = clipped.min()
        spread = clipped.max() - minimum + RANGE_EPSILON
        codes = ((clipped - minimum) / spread * self.high).round()
        return codes, float(spread) / self.high, float(minimum)

    @torch.no_grad()
    def statistics(self, x: Tensor) -> dict[str, float]:
        """Largest magnitude if signed, else minimum and range, of the clipped tensor."""
        clipped = self._clipped(x)
        if self.signed:
            return {"max": float(clipped.abs().max())}
        return {"min": float(clipped.min()), "range": float(clipped.max() - clipped.min())}
