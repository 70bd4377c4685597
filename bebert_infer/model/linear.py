"""A binary linear layer: codes of the activations times signs, scaled.

A layer is one or two branches that see the same input, each with its own quantizer, sign matrix and scale, and whose
outputs are added (BinaryBERT, §3.2: a ternary weight splits into two binary ones; ternary weights are two branches):

    y[m, n] = sum over branches  scale[n] * (step * (codes[m] . signs[n]) + minimum * sum(signs[n]))  +  bias[n]

The dot product is an exact integer.
"""

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from bebert_infer.model.quantizer import MinimumRule, Quantizer
from bebert_kernels.reference import floats, integers

Rows = NDArray[np.float32]
TracedCodes = list[NDArray[np.int8] | NDArray[np.uint8]]  # of each branch, [M, K]


class Branch(Struct, frozen=True):
    """One binary matrix with the quantizer of its input.

    signs   : uint64[N, W]   bit 1 = negative
    depth   : K
    scale   : float32[N]
    sums    : float32[N]     sum of the signs of each row, for quantizers with a minimum
    """

    signs: NDArray[np.uint64]
    depth: int
    scale: NDArray[np.float32]
    sums: NDArray[np.float32]
    quantizer: Quantizer

    @classmethod
    def build(cls, signs: NDArray[np.uint64], scale: NDArray[np.float32], depth: int, quantizer: Quantizer) -> "Branch":
        """Make a branch from its stored tensors; a scale of one value serves every output."""
        outputs = len(signs)
        negatives = np.bitwise_count(signs).sum(axis=1, dtype=np.int64)
        sums = (depth - 2 * negatives).astype(np.float32)
        return cls(signs, depth, np.ascontiguousarray(np.broadcast_to(scale, outputs)), sums, quantizer)

    def forget(self) -> None:
        """Drop the signs, which somebody else has in another form now (`native/release.py`)."""
        force_setattr(self, "signs", np.zeros((0, 0), np.uint64))  # of no shape that computes anything

    def product(
        self, x: Rows, groups: list[slice], add: Rows, gelu: bool, minimum_rule: MinimumRule
    ) -> tuple[Rows, NDArray[np.int8] | NDArray[np.uint8]]:
        """Return (step * scale * (codes . signs) + minimum term + add, float32[M, N]) and the codes [M, K].

        add : float32[N] (the bias) or float32[M, N] (the branch before)
        """
        groups = groups if self.quantizer.kind == "dynamic" else [slice(0, len(x))]
        encoded = [self.quantizer.codes(x[rows], minimum_rule, gelu=gelu) for rows in groups]
        codes = np.concatenate([part.codes for part in encoded])
        dots = integers.code_dots(codes, self.signs)
        out = np.empty(dots.shape, np.float32)
        for rows, part in zip(groups, encoded, strict=True):
            more = add if add.ndim == 1 else add[rows]
            if part.minimum:
                more = more + np.float32(part.minimum) * self.scale * self.sums
            out[rows] = floats.scale_add(dots[rows], np.float32(part.step) * self.scale, more)
        return out, codes


class BinaryLinear(Struct, frozen=True):
    """One or two branches and a bias, K inputs and N outputs."""

    branches: tuple[Branch, ...]
    bias: NDArray[np.float32]

    def __call__(
        self, x: Rows, groups: list[slice], minimum_rule: MinimumRule, *, gelu: bool = False
    ) -> tuple[Rows, TracedCodes]:
        """Apply the layer to x float32[M, K]; returns float32[M, N] and the codes of every branch.

        groups : row ranges over which a dynamic quantizer takes its statistics, one a sentence, together all rows
        gelu   : apply GELU to x first
        """
        out, traced_codes = self.bias, []
        for branch in self.branches:
            out, codes = branch.product(x, groups, out, gelu, minimum_rule)
            traced_codes.append(codes)
        return out, traced_codes
