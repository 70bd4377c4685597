"""Put the truth's codes into the PyTorch graph, and count where the graph would have chosen others.

Two correct float32 evaluations of the same number differ by rounding. A value that lies nearer to a threshold of its
quantizer than that may get another code in each, one step apart: a *flip*. A flip farther away is a fault.

How near? A value is a sum of up to a few thousand float32 terms, and sums in another order differ by about
sqrt(3072) * 2**-24 = 3.3e-6 of the largest value. Among the ten million values of a check the largest difference is
five to six times the usual one: ROUNDING. It is relative to the largest value of the tensor, so in steps it grows where
steps are small. The largest and the smallest value, of which a dynamic quantizer makes its step, are off by as much:
three times in all. Softmax turns an absolute error of a score into a relative one of its weight, so there it also
grows with how far scores lie apart.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bebert_export.quantizers import ActivationQuantizer, Bool
from bebert_export.student.bert import Student

ROUNDING = 2e-5
"""Of the largest magnitude of a tensor: how far correct float32 evaluations of a value may lie apart."""

SiteCodes = dict[str, Any]


class Exchange:
    """Forward hook of one quantizer: compares its codes with the truth's and lets the truth's go on.

    site  : name as in a trace (`Ensemble.trace`)
    truth : codes of one sentence, by site
    """

    def __init__(self, site: str, truth: SiteCodes) -> None:
        self.site, self.truth = site, truth
        self.codes = self.near_threshold = self.flips = 0
        self.fault = ""

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Value of the truth's codes, in place of what the graph computed."""
        assert isinstance(module, ActivationQuantizer)
        (x,) = inputs
        codes, step, minimum = module.codes(x)
        expected = self._expected(x.shape)
        distance = distance_to_threshold(module, x, step, minimum)
        allowed = self._allowed(module, x, minimum)
        near = distance <= allowed
        different = codes != expected
        self.codes, self.near_threshold = codes.numel(), int(near.sum())
        self.flips = int(different.sum())
        wrong = different & ~(near & ((codes - expected).abs() <= (2 if module.kind == "sign" else 1)))
        if wrong.any():
            self.fault = (
                f"{int(wrong.sum())} of {self.codes} codes differ, by up to {float((codes - expected).abs().max()):g}, "
                f"as far as {float(distance[wrong].max()):.2g} from a threshold; rounding explains one step within "
                f"{allowed:.2g}"
            )
        return expected * step + minimum

    def _allowed(self, module: ActivationQuantizer, x: Tensor, minimum: float) -> float:
        """Distance that rounding explains, in the unit of x."""
        largest = max(float(x.abs().max()), abs(minimum))
        allowed = ROUNDING * largest * (3 if module.kind == "dynamic" else 1)
        if not self.site.endswith(".probs") or isinstance(module, Bool):
            return allowed
        lowest = max(float(x.min()), float(np.finfo(np.float32).tiny))
        return allowed * max(1.0, math.log(max(largest, lowest) / lowest))

    def _expected(self, shape: torch.Size) -> Tensor:
        """The truth's codes in the shape that the graph uses here."""
        # A ternary layer of the graph is two branches with one quantizer in the engine.
        key = self.site if self.site in self.truth else self.site.removesuffix(".in") + "_1.in"
        array = torch.from_numpy(self.truth[key].astype(np.float32))
        if self.site.endswith((".attn.q", ".attn.k", ".attn.v")):
            _, heads, tokens, size = shape
            array = array.view(tokens, heads, size).transpose(0, 1)
        return array.reshape(shape)


def distance_to_threshold(module: ActivationQuantizer, x: Tensor, step: float, minimum: float) -> Tensor:
    """How far every value lies from the nearest threshold of its quantizer, float64 of x's shape, in the unit of x.

    Signs change at 0, and so do BiBERT's attention bits; codes half-way between two of them, and nowhere outside the
    lowest and the highest.
    """
    x = x.double()
    if module.kind == "sign" or isinstance(module, Bool):
        return x.abs()
    ratio = (x - minimum) / step
    nearest = (ratio.floor() + 0.5).clamp(module.low + 0.5, module.high - 0.5)
    return (ratio - nearest).abs() * abs(step)


def quantizer_sites(student: Student) -> list[tuple[str, ActivationQuantizer]]:
    """Return (site name as in a trace, quantizer) of every activation quantizer of a student."""
    bert: Any = student.bert  # torch types attributes of a module as Tensor or Module
    places: list[tuple[str, Any, str]] = [("codes.pooler.dense", bert.pooler, "dense")]
    sites: list[tuple[str, ActivationQuantizer]] = []
    for index, layer in enumerate(bert.encoder.layer):
        name, attention = f"codes.l{index}", layer.attention.self
        places += [(f"{name}.attn.{kind}", attention, kind) for kind in ("query", "key", "value")]
        places += [(f"{name}.attn_out.dense", layer.attention.output, "dense")]
        places += [(f"{name}.{kind}.dense", getattr(layer, kind), "dense") for kind in ("intermediate", "output")]
        for short, kind in (("q", "query"), ("k", "key"), ("v", "value"), ("probs", "weight")):
            sites.append((f"{name}.attn.{short}", getattr(attention, f"{kind}_quantizer")))
    for name, owner, attribute in places:
        for suffix in student.config.rules.suffixes:
            sites.append((f"{name}{suffix}.in", owner.get_submodule(attribute + suffix).input_quantizer))
    return sites
