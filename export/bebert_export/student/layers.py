"""Building blocks of a student: quantized linear and word embedding, parallel branches, GELU, trace."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bebert_export.quantizers import ActivationQuantizer, Dynamic, Elastic, Lsq, Sign, WeightQuantizer
from bebert_export.student.families import StudentConfig
from bebert_kernels.reference.integers import GELU_ZERO

Trace = dict[str, Any]


def gelu(x: Tensor) -> Tensor:
    """``x / 2 * (1 + erf(x / sqrt 2))``, and exactly 0 for ``x <= GELU_ZERO`` (about -5.5547).

    BiBERT takes the sign of it, and the published float32 form becomes 0 where erf saturates. Where that is
    depends on the machine's erf (-5.5547 where the golden values were made, -5.42 on another processor), so
    the point is fixed here, and 1 + erf(z) is computed as erfc(-z), which does not saturate above it.
    """
    value = x * 0.5 * torch.erfc(x * -math.sqrt(0.5))
    return value.masked_fill(x <= float(GELU_ZERO), 0.0)


def build_quantizer(
    config: StudentConfig,
    owner: nn.Module,
    key: str,
    *,
    unsigned: bool = False,
    shift: nn.Parameter | None = None,
) -> ActivationQuantizer | None:
    """Quantizer of one site; its step or clip pair is registered in ``owner`` under the published name.

    key      : published name of the parameter
    unsigned : whether this is a site of unsigned codes (probabilities, FFN activation), if the family has any
    shift    : BiT's learned shift before such a site
    """
    rules, bits = config.rules, config.activation_bits
    signed = not (unsigned and rules.unsigned_sites)
    if rules.inputs == "none":
        return None
    if rules.inputs == "sign":
        return Sign(inclusive=key == rules.input_key)
    if rules.inputs == "dynamic":
        limits = torch.tensor([-config.clip_value, config.clip_value])
        clip = nn.Parameter(limits, requires_grad=rules.learned_clips)
        owner.register_parameter(key, clip)
        return Dynamic(clip, bits, signed, rules.learned_clips)
    step = nn.Parameter(torch.tensor(1.0))
    owner.register_parameter(key, step)
    if rules.inputs == "lsq":
        return Lsq(step, bits, signed, config.minimum)
    return Elastic(step, bits, signed, config.minimum, shift)


def quantize(quantizer: ActivationQuantizer | None, x: Tensor, trace: Trace | None, site: str) -> Tensor:
    """Quantize one tensor and, if asked, note its codes and run-time statistics under ``site``."""
    if quantizer is None:
        return x
    value = exactly(quantizer, x)
    if trace is not None:
        dtype = torch.int8 if quantizer.signed else torch.uint8
        note(trace, f"codes.{site}", quantizer.codes(x)[0].to(dtype))
        for name, number in quantizer.statistics(x).items():
            trace[f"dyn.{site}.{name}"] = np.float32(number)
    return value


def exactly(compute: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """``compute(*tensors)``, in float32 also where autocast asks for bfloat16.

    The sign or code of a rounded value can be another one than the packed model's, and a scale loses its digits.
    """
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return compute(*tensors)
    with torch.autocast(kind, enabled=False):
        return compute(*(tensor.float() for tensor in tensors))


def note(trace: Trace | None, name: str, x: Tensor) -> None:
    """Keep a tensor as a NumPy array, if there is a trace to keep it in."""
    if trace is not None:
        trace[name] = x.detach().cpu().numpy()


class Move(nn.Module):
    """BiT's learned shift of a linear's input; ``bias`` float[K], zero at first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))


class QuantLinear(nn.Module):
    """``quantize(x + move) @ quantize(weight).T + bias``.

    weight           : Parameter float[N, K], latent
    bias             : Parameter float[N]
    weight_quantizer : WeightQuantizer | None       None in full precision
    input_quantizer  : ActivationQuantizer | None
    move             : Move | None                  BiT only
    """

    def __init__(self, config: StudentConfig, inputs: int, outputs: int, *, unsigned: bool = False) -> None:
        super().__init__()
        rules = config.rules
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.move = Move(inputs) if rules.move else None
        self.weight_quantizer: WeightQuantizer | None = (
            None if rules.weights is None else rules.weights(False, config.clip_value)
        )
        # the published minimum after a ReLU and a shift is min(move) as soon as every channel holds a zero
        shift = self.move.bias if self.move is not None and unsigned else None
        self.input_quantizer = build_quantizer(config, self, rules.input_key, unsigned=unsigned, shift=shift)

    def quantized(self, x: Tensor, trace: Trace | None = None, site: str = "") -> Tensor:
        """What this linear makes of its input float[..., K]."""
        if self.move is not None:
            x = x + self.move.bias
        return quantize(self.input_quantizer, x, trace, f"{site}.in")

    def forward(self, x: Tensor, trace: Trace | None = None, site: str = "") -> Tensor:
        """float[..., K] -> float[..., N]."""
        return self.product(self.quantized(x, trace, site))

    def product(self, x: Tensor) -> Tensor:
        """Quantized input float[..., K] -> float[..., N]."""
        weight = self.weight if self.weight_quantizer is None else exactly(self.weight_quantizer, self.weight)
        return F.linear(x, weight, self.bias).to(self.weight.dtype)  # autocast gives bfloat16


class QuantEmbedding(nn.Module):
    """Word embedding quantized row by row; row 0 is padding and gets no gradient."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        rule = config.rules.weights
        self.weight = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.weight_quantizer: WeightQuantizer | None = None if rule is None else rule(True, config.clip_value)

    def forward(self, ids: Tensor) -> Tensor:
        """int64[B, T] -> float[B, T, C]."""
        rows = F.embedding(ids, self.weight, padding_idx=0)
        return rows if self.weight_quantizer is None else exactly(self.weight_quantizer.gathered, rows, self.weight)


class Branched(nn.Module):
    """A module whose linears come in as many parallel branches as the family has; their outputs are added."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config

    def add_linear(self, name: str, inputs: int, outputs: int, *, unsigned: bool = False) -> None:
        """Register ``name`` + suffix for every branch."""
        for suffix in self.config.rules.suffixes:
            self.add_module(name + suffix, QuantLinear(self.config, inputs, outputs, unsigned=unsigned))

    def branches(self, name: str) -> list[QuantLinear]:
        """The parallel linears called ``name``, one or two."""
        modules = [self.get_submodule(name + suffix) for suffix in self.config.rules.suffixes]
        return cast(list[QuantLinear], modules)

    def share_step(self, *names: str) -> None:
        """From now on the linears of these names have one quantizer and its step, if the student shares steps."""
        first, *others = (branch for name in names for branch in self.branches(name))
        if self.config.shared_steps:
            key = self.config.rules.input_key
            for other in others:
                other.register_parameter(key, getattr(first, key))
                other.input_quantizer = first.input_quantizer

    def quantized_once(self, name: str, x: Tensor, trace: Trace | None) -> Tensor | None:
        """What all linears that share a step make of x; None if each has its own, or a trace wants all their codes."""
        return self.branches(name)[0].quantized(x) if self.config.shared_steps and trace is None else None

    def linear(self, name: str, x: Tensor, trace: Trace | None, site: str, ready: Tensor | None = None) -> Tensor:
        """Sum of the branches; each quantizes the same float input, with a step of its own or with the shared one.

        ready : the input as `quantized_once` gave it for a linear with the same step
        """
        if ready is None:
            ready = self.quantized_once(name, x, trace)
        result: Tensor | None = None
        for branch, suffix in zip(self.branches(name), self.config.rules.suffixes, strict=True):
            value = branch.quantized(x, trace, site + suffix) if ready is None else ready
            part = branch.product(value)
            result = part if result is None else result + part
        assert result is not None
        return result


class Dense(Branched):
    """``dense`` of a checkpoint; with ``norm`` also dropout, residual sum and LayerNorm after it."""

    def __init__(
        self, config: StudentConfig, inputs: int, outputs: int, *, norm: bool = False, unsigned: bool = False
    ) -> None:
        super().__init__(config)
        self.add_linear("dense", inputs, outputs, unsigned=unsigned)
        self.share_step("dense")
        if norm:
            self.LayerNorm = nn.LayerNorm(outputs, config.eps)
            self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, trace: Trace | None, site: str, residual: Tensor | None = None) -> Tensor:
        """float[..., K] -> float[..., N]; the residual is added in full precision."""
        x = self.linear("dense", x, trace, f"{site}.dense")
        if residual is None:
            return x
        normalized: Tensor = self.LayerNorm(self.dropout(x) + residual)
        return normalized
