"""A binary linear layer: pack the activations, multiply with popcounts, scale.

A layer is one or two branches that see the same input, each with its own quantizer, sign matrix and scale,
and whose outputs are added (numerics §1.3; ternary weights are two branches as well):

    y[m, n] = sum over branches  scale[n] * (step * (codes[m] . signs[n]) + minimum * sum(signs[n]))  +  bias[n]

The dot product is an exact integer: XNOR-popcount for signs, AND-popcount over bitplanes for codes.
"""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.quantizer import MinimumRule, Quantizer, sign_codes
from bebert_kernels.packing import CodeWeights

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Branch:
    """One binary matrix with the quantizer of its input.

    signs   : uint64[N, W]   bit 1 = negative
    depth   : K
    scale   : float32[N]
    sums    : float32[N]     sum of the signs of each row, for quantizers with a minimum
    kernels : the backend that multiplies
    """

    signs: NDArray[np.uint64]
    depth: int
    scale: NDArray[np.float32]
    sums: NDArray[np.float32]
    quantizer: Quantizer
    kernels: ModuleType

    @classmethod
    def build(
        cls,
        signs: NDArray[np.uint64],
        scale: NDArray[np.float32],
        depth: int,
        quantizer: Quantizer,
        kernels: ModuleType,
    ) -> "Branch":
        """Make a branch from its stored tensors; a scale of one value serves every output."""
        outputs = len(signs)
        negatives = np.bitwise_count(signs).sum(axis=1, dtype=np.int64)
        sums = (depth - 2 * negatives).astype(np.float32)
        return cls(signs, depth, np.ascontiguousarray(np.broadcast_to(scale, outputs)), sums, quantizer, kernels)

    @property
    def weights(self) -> CodeWeights:
        """The signs as `code_gemm` of the backend wants them; made when first needed, natively run models never do."""
        # functools.cached_property locks (until Python 3.12), and a fork meanwhile would leave the child a locked lock.
        found: CodeWeights | None = self.__dict__.get("weights made")
        if found is None:
            found = self.__dict__["weights made"] = self.kernels.code_weights(self.signs, self.depth)
        return found

    def product(
        self, x: Rows, add: NDArray[np.float32], gelu: bool, rule: MinimumRule, kernels: ModuleType, seen: list | None
    ) -> Rows:
        """Return step * scale * (codes . signs) + minimum term + add, float32[M, N]; `seen` collects codes."""
        quantizer = self.quantizer
        if quantizer.is_sign:
            if gelu:  # only the sign of GELU is needed, and it is a threshold on x
                signs, nonzero, has_zero = kernels.gelu_signs(x)
            else:
                signs, nonzero, has_zero = kernels.pack_signs(x, quantizer.shift)
            if seen is not None:
                seen.append(sign_codes(signs, nonzero, x.shape[1]))
            dots = kernels.xnor_gemm(signs, nonzero if has_zero else None, self.signs, x.shape[1])
            step, minimum = quantizer.step, 0.0
        else:
            encoded = quantizer.codes(kernels.gelu(x) if gelu else x, rule, kernels)
            step, minimum = encoded.step, encoded.minimum
            dots = kernels.code_gemm(encoded.codes, self.weights, quantizer.bits)
            if seen is not None:
                seen.append(encoded.codes)
        if minimum:
            add = add + np.float32(minimum) * self.scale * self.sums
        return kernels.scale_add(dots, np.float32(step) * self.scale, add)


@dataclass(frozen=True)
class BinaryLinear:
    """One or two branches and a bias, K inputs and N outputs."""

    branches: tuple[Branch, ...]
    bias: NDArray[np.float32]

    def __call__(
        self,
        x: Rows,
        groups: list[slice],
        rule: MinimumRule,
        kernels: ModuleType,
        *,
        gelu: bool = False,
        seen: list[list] | None = None,
    ) -> Rows:
        """Apply the layer to x float32[M, K]; returns float32[M, N].

        groups : the row ranges over which a dynamic quantizer takes its statistics, one per sentence;
                 other quantizers ignore them and take all rows at once
        gelu   : apply GELU to x first
        seen   : receives, for every branch, the list of its code arrays (int8 or uint8[rows, K])
        """
        if seen is not None:
            seen.extend([] for _ in self.branches)
        if all(branch.quantizer.kind != "dynamic" for branch in self.branches):
            return self._rows(x, gelu, rule, kernels, seen)
        out = np.empty((len(x), len(self.bias)), np.float32)
        for rows in groups:
            out[rows] = self._rows(x[rows], gelu, rule, kernels, seen)
        return out

    def _rows(self, x: Rows, gelu: bool, rule: MinimumRule, kernels: ModuleType, seen: list[list] | None) -> Rows:
        out = self.bias
        for index, branch in enumerate(self.branches):
            out = branch.product(x, out, gelu, rule, kernels, None if seen is None else seen[index])
        return out
