"""Straight-through gradients: any value forward; backward, the gradient within a band of the input."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def _just_outside(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    ends = torch.tensor([low, high], dtype=dtype)
    below, above = torch.nextafter(ends, torch.tensor([-torch.inf, torch.inf], dtype=dtype)).tolist()
    return below, above


def within(gradient: Tensor, x: Tensor, low: float, high: float, *, closed: bool = True) -> Tensor:
    """``gradient`` where ``low <= x <= high``, or ``low < x < high`` if not closed; else 0.

    One pass over memory; the same with comparisons and a mask takes four, two of them slow for bool.
    """
    if closed:
        low, high = _just_outside(low, high, x.dtype)
    return torch.ops.aten.hardtanh_backward(gradient, x, low, high)


class _PassThrough(torch.autograd.Function):
    """Return ``value`` exactly; send the gradient to ``source`` where it lies in the band."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor, band: tuple[float, float] | None, closed: bool) -> Tensor:
        ctx.band, ctx.closed = band, closed
        if band is not None:
            ctx.save_for_backward(source)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.band is None:
            return grads[0], None, None, None
        (source,) = ctx.saved_tensors
        return within(grads[0], source, *ctx.band, closed=ctx.closed), None, None, None


def pass_through(
    source: Tensor, value: Tensor, band: tuple[float, float] | None = None, *, closed: bool = True
) -> Tensor:
    """``value`` forward, identity towards ``source`` backward, zero where ``source`` is outside ``band``.

    The common idiom ``source + (value - source).detach()`` leaves rounding noise of about 1e-7 on the value,
    which turns exact signs and codes into near-signs; this function returns ``value`` bit for bit.

    source : float[...]          receives the gradient
    value  : float[...]          same shape; what the caller computed from it under ``torch.no_grad``
    band   : (low, high) | None  where the gradient passes; None lets all of it pass
    closed : bool                whether it also passes at the two ends
    """
    if not torch.is_grad_enabled() or not source.requires_grad:
        return value
    result: Tensor = _PassThrough.apply(source, value, band, closed)
    return result
