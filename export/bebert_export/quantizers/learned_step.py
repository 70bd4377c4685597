"""Activation quantizers with a learned step: LSQ (BinaryBERT, BEBERT) and elastic (BiT)."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bebert_export.quantizers.activations import ActivationQuantizer, Codes
from bebert_export.quantizers.straight_through import within

MinimumRule = Literal["zero", "batch"]

ALPHA_FLOOR = 1e-5  # BiT: a learned alpha below this counts as this


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return torch.dot(x.reshape(-1), y.reshape(-1))


class _LearnedStep(torch.autograd.Function):
    """``clamp(rne((x - minimum) / step), low, high) * step + minimum`` with the gradients of LSQ.

    Esser et al., "Learned step size quantization", 2020. With r = (x - minimum) / step:
    dL/dx = g where low <= r <= high;  dL/dstep = sum(g * (low | high | rne(r) - r)) / sqrt(numel * high).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, minimum: Tensor | None, low: int, high: int, floor: float | None
    ) -> Tensor:
        size = step if floor is None else step.clamp_min(floor)
        ratio = (x if minimum is None else x - minimum) / size
        ctx.save_for_backward(ratio)
        ctx.low, ctx.high, ctx.step_shape = low, high, step.shape
        value = ratio.round().clamp_(low, high).mul_(size)
        return value if minimum is None else value.add_(minimum)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (ratio,) = ctx.saved_tensors
        grad_x = within(grads[0], ratio, ctx.low, ctx.high)
        grad_step = None
        if ctx.needs_input_grad[1]:
            # g * codes - grad_x * r: the slope rne(r) - r inside the range, the bound outside, where grad_x is 0
            codes = ratio.round().clamp_(ctx.low, ctx.high)
            total = _dot(grads[0], codes) - _dot(grad_x, ratio)
            grad_step = (total / math.sqrt(ratio.numel() * ctx.high)).reshape(ctx.step_shape)
        return grad_x, grad_step, None, None, None, None


class _ElasticSign(torch.autograd.Function):
    """``alpha * sgn0(x)``: dL/dx = g where |x / alpha| <= 1, dL/dalpha = sum(sgn0(x) * g) / sqrt(numel)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        size = alpha.clamp_min(ALPHA_FLOOR)
        ctx.save_for_backward(x, size)
        return x.sign().mul_(size)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, size = ctx.saved_tensors
        grad_alpha = _dot(x.sign(), grads[0]) / math.sqrt(x.numel())
        return within(grads[0], x / size, -1, 1), grad_alpha.reshape(size.shape)


class _StepQuantizer(ActivationQuantizer):
    """A learned step that the first training batch initialises, and the rule for the minimum."""

    def __init__(
        self,
        kind: str,
        step: nn.Parameter,
        bits: int,
        signed: bool,
        minimum_rule: MinimumRule,
        shift: nn.Parameter | None,
    ) -> None:
        super().__init__(kind, bits, signed)
        if minimum_rule not in ("zero", "batch"):
            raise ValueError(f'minimum_rule is {minimum_rule!r}; accepted are "zero" and "batch"')
        self.minimum_rule: MinimumRule = minimum_rule
        self.initialised = False
        self._held = (step,) if shift is None else (step, shift)

    @property
    def step(self) -> nn.Parameter:
        """The learned scalar; it belongs to the owner of this quantizer."""
        return self._held[0]

    @property
    def step_value(self) -> float:
        """The step that the forward pass divides by."""
        return float(self.step.detach())

    @property
    def has_minimum(self) -> bool:
        """Whether a minimum is subtracted before rounding."""
        return not self.signed

    def _minimum(self, x: Tensor) -> Tensor | None:
        """A constant for the gradient; None where nothing needs subtracting."""
        if not self.has_minimum:
            return None
        if self.minimum_rule == "batch":
            return x.detach().min()
        return self._held[1].detach().min() if len(self._held) > 1 else None

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        """Step from the first training batch: 2 mean|x| / sqrt(high) if signed, else 4 mean|x| / sqrt(high).

        Only a step that still is exactly 1.0 (freshly built) is set; a loaded one is kept. The mean runs over
        the tensor before its minimum is subtracted. A tensor of zeros is passed over, as it gives no step.
        """
        if not self.training or self.initialised:
            return
        fresh, mean = self.step.item() == 1.0, x.abs().mean()
        if fresh and mean > 0:
            self.step.fill_((2 if self.signed else 4) * mean / math.sqrt(self.high))
        self.initialised = not fresh or bool(mean > 0)

    def codes(self, x: Tensor) -> Codes:
        """Codes ``clamp(rne((x - minimum) / step), low, high)``, the step and the minimum."""
        x, minimum = x.detach(), self._minimum(x)
        size = x.new_tensor(self.step_value)
        ratio = (x if minimum is None else x - minimum) / size
        codes = ratio.round().clamp_(self.low, self.high)
        return codes, float(size), 0.0 if minimum is None else float(minimum)

    def statistics(self, x: Tensor) -> dict[str, float]:
        """The minimum that is subtracted, where there is one."""
        if not self.has_minimum:
            return {}
        minimum = self._minimum(x)
        return {"min": 0.0 if minimum is None else float(minimum)}


class Lsq(_StepQuantizer):
    """Learned step size: codes -2**(b-1) ... 2**(b-1)-1, or 0 ... 2**b-1 above a minimum.

    step         : Parameter []          may be negative (BEBERT checkpoints), not 0
    bits         : int                   2 to 8
    signed       : bool
    minimum_rule : "zero" | "batch"      unsigned: subtract 0, or the tensor's minimum at run time (published)

    Raises ValueError for other bits or rules.
    """

    def __init__(self, step: nn.Parameter, bits: int, signed: bool, minimum_rule: MinimumRule = "zero") -> None:
        if not 2 <= bits <= 8:
            raise ValueError(f"bits is {bits}; a learned step takes 2 to 8 bits")
        super().__init__("codes", step, bits, signed, minimum_rule, None)

    def forward(self, x: Tensor) -> Tensor:
        """Dequantized value, float of x's shape."""
        self._initialise(x)
        value: Tensor = _LearnedStep.apply(x, self.step, self._minimum(x), self.low, self.high, None)
        return value


class Elastic(_StepQuantizer):
    """BiT's elastic quantizer: alpha * sgn0(x), alpha * {0, 1}, or from 2 bits as LSQ (Liu et al., 2022).

    alpha        : Parameter []          values below 1e-5 count as 1e-5; gradients reach them all the same
    bits         : int                   1 to 8
    signed       : bool                  1 bit: signs ("sign") or bits ("bool": 1 iff rne(x / alpha) >= 1)
    minimum_rule : "zero" | "batch"      unsigned with bits > 1 only; at 1 bit nothing is subtracted
    shift        : Parameter [K] | None  the learned shift already added to x: a ReLU output is >= 0, so after
                                         the shift the constant min(shift) takes the place of 0

    Raises ValueError for other bits or rules.
    """

    def __init__(
        self,
        alpha: nn.Parameter,
        bits: int,
        signed: bool,
        minimum_rule: MinimumRule = "zero",
        shift: nn.Parameter | None = None,
    ) -> None:
        if not 1 <= bits <= 8:
            raise ValueError(f"bits is {bits}; an elastic quantizer takes 1 to 8 bits")
        kind = "codes" if bits > 1 else "sign" if signed else "bool"
        super().__init__(kind, alpha, bits, signed, minimum_rule, shift)

    @property
    def step_value(self) -> float:
        """Alpha, not below its floor."""
        return float(self.step.detach().clamp_min(ALPHA_FLOOR))

    @property
    def has_minimum(self) -> bool:
        """Whether a minimum is subtracted before rounding."""
        return not self.signed and self.bits > 1

    def forward(self, x: Tensor) -> Tensor:
        """Dequantized value, float of x's shape."""
        self._initialise(x)
        if self.kind == "sign":
            value: Tensor = _ElasticSign.apply(x, self.step)
        else:
            value = _LearnedStep.apply(x, self.step, self._minimum(x), self.low, self.high, ALPHA_FLOOR)
        return value

    def codes(self, x: Tensor) -> Codes:
        """Signs, bits or codes; alpha; the minimum."""
        return (x.detach().sign(), self.step_value, 0.0) if self.kind == "sign" else super().codes(x)
