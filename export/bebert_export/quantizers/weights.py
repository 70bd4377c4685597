"""Binary and ternary weight quantizers: four published rules that differ in centring, scale and gradient.

Every rule sees a latent float matrix and returns ``scale * sign``. They are easily confused:

==========================  =======================  =======================  =============================
rule                        sign of                  scale                    used by
==========================  =======================  =======================  =============================
BinaryWeight                w                        mean |w| of the tensor   BinaryBERT, BEBERT
TernaryWeight               w if |w| > 0.7 mean |w|  mean of the kept |w|     their ternary stage, TernaryBERT
RowCentredBinaryWeight      w - row mean             row mean of |w|          BiBERT
TensorCentredBinaryWeight   w - tensor mean          mean |w| of the tensor   BiT
==========================  =======================  =======================  =============================

The scale is always taken from the un-centred weights. A word embedding has one scale per row (``rows=True``).
Scales are accumulated in float64, those of a whole tensor from float32 sums of its rows: a float32 sum over 2.4
million weights is off by up to 4e-4 and depends on the number of threads.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bebert_export.quantizers.straight_through import pass_through


@dataclass(frozen=True)
class WeightBranch:
    """One ``scale * signs`` term of a quantized weight.

    signs : int8[N, K]     +1 or -1; an exact zero is stored as +1
    scale : float64[1] or float64[N]
    zeros : int            exact zeros that the forward pass keeps as 0 and ``signs`` stores as +1
    """

    signs: Tensor
    scale: Tensor
    zeros: int


class WeightQuantizer(ABC):
    """A rule that maps a latent weight to its quantized value, with a straight-through gradient."""

    @abstractmethod
    def __call__(self, weight: Tensor) -> Tensor:
        """Quantized weight, float[..., K] of the same shape; rows run over the last dimension."""

    @abstractmethod
    def decompose(self, weight: Tensor) -> list[WeightBranch]:
        """The same weight as branches of signs and scales, for packing; weight is float[N, K]."""

    whole_table = False  # whether the value of an embedding row depends on the other rows

    def gathered(self, rows: Tensor, table: Tensor) -> Tensor:
        """Quantize only the rows that a batch uses, float[..., K], of an embedding ``table`` float[V, K].

        Equals gathering from the quantized table, without touching the other 30 000 rows.
        """
        return self(rows)


def _exact_mean_magnitude(weight: Tensor, rows: bool) -> Tensor:
    """Mean of the magnitudes, summed in float64: float64[..., 1] per row, or float64[1] over the whole tensor."""
    if rows:
        return torch.linalg.vector_norm(weight, 1, dim=-1, keepdim=True, dtype=torch.float64) / weight.shape[-1]
    return torch.linalg.vector_norm(weight, 1, dtype=torch.float64).reshape(1) / weight.numel()


def mean_magnitude(weight: Tensor, rows: bool) -> Tensor:
    """Scale of a weight, its mean magnitude: float64[..., 1] per row, or float64[1] over the whole tensor.

    Rows of a whole tensor are summed in its dtype and the row sums in float64: 0.1 ms for 1536 x 384, where a float64
    norm takes 0.4, and within 1e-7 of it.
    """
    weight = weight.detach()
    if rows:
        return _exact_mean_magnitude(weight, rows)
    return weight.abs().sum(-1).sum(dtype=torch.float64).reshape(1) / weight.numel()


def tensor_mean(weight: Tensor) -> Tensor:
    """Mean of the whole tensor in the weight's dtype, a scalar tensor.

    Summed as in ``mean_magnitude``: as fast as ``mean()`` on a full word embedding (6 ms where a float64 sum takes
    90 ms) and, unlike it, the same for any number of threads.
    """
    total = weight.detach().sum(-1).sum(dtype=torch.float64)
    return (total / weight.numel()).to(weight.dtype)


def ternary_statistics(weight: Tensor, rows: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Threshold, kept weights and scale of the ternary rule (TWN).

    threshold = 0.7 * mean|w|;  kept = w where |w| > threshold (strict), else 0;  alpha = mean of the kept |w|

    Returns threshold float64, kept float[...] as the weight, alpha float64; per row [..., 1] or per tensor [1].
    A tensor or row of zeros keeps nothing and has alpha 0 (the published code divides 0 by 0).
    """
    weight = weight.detach()
    threshold = 0.7 * _exact_mean_magnitude(weight, rows)  # a wrong last digit drops weights at the threshold
    # |w| > threshold in float64 equals |w| > (largest number of w's dtype <= threshold): no float64 copy of w
    limit = threshold.to(weight.dtype)
    above = limit.to(torch.float64) > threshold
    limit = torch.where(above, torch.nextafter(limit, torch.full_like(limit, -torch.inf)), limit)
    if rows:
        kept = torch.where(weight.abs() > limit, weight, 0)
        count = kept.count_nonzero(-1).unsqueeze(-1)
    else:
        kept = F.hardshrink(weight, limit.item())  # one pass; masks of bool take several
        count = kept.count_nonzero()
    total = mean_magnitude(kept, rows) * (kept.shape[-1] if rows else kept.numel())
    return threshold, kept, total / count.clamp_min(1)


def _signs(value: Tensor) -> Tensor:
    return torch.where(value < 0, -1, 1).to(torch.int8)


def _branch(centred: Tensor, scale: Tensor) -> WeightBranch:
    return WeightBranch(_signs(centred), scale.reshape(-1), int((centred == 0).sum()))


@dataclass(frozen=True)
class BinaryWeight(WeightQuantizer):
    """``mean|w| * sgn0(w)``, no centring: BinaryBERT (Bai et al., 2021) and BEBERT (2023).

    The gradient passes unchanged.

    rows : bool   one scale per row (word embedding) instead of one per tensor
    """

    rows: bool = False

    def __call__(self, weight: Tensor) -> Tensor:
        """Quantized weight, same shape; ``sgn0(0) = 0``."""
        with torch.no_grad():
            value = weight.sign().mul_(mean_magnitude(weight, self.rows).to(weight.dtype))
        return pass_through(weight, value)

    def decompose(self, weight: Tensor) -> list[WeightBranch]:
        """One branch."""
        return [_branch(weight.detach(), mean_magnitude(weight, self.rows))]


@dataclass(frozen=True)
class TernaryWeight(WeightQuantizer):
    """``alpha * {-1, 0, +1}`` with threshold ``0.7 mean|w|`` (Li et al., "Ternary weight networks", 2016).

    rows : bool           one threshold and alpha per row
    clip : float | None   TernaryBERT clips the weight to ±clip first; the gradient is zero at or beyond it
    """

    rows: bool = False
    clip: float | None = None

    def _clipped(self, weight: Tensor) -> Tensor:
        return weight if self.clip is None else weight.clamp(-self.clip, self.clip)

    def __call__(self, weight: Tensor) -> Tensor:
        """Quantized weight, same shape."""
        with torch.no_grad():
            _, kept, alpha = ternary_statistics(self._clipped(weight), self.rows)
            value = kept.sign_().mul_(alpha.to(weight.dtype))
        band = None if self.clip is None else (-self.clip, self.clip)
        return pass_through(weight, value, band, closed=False)

    def decompose(self, weight: Tensor) -> list[WeightBranch]:
        """Two branches of scale alpha / 2: equal signs where the weight is kept, else +1 and -1."""
        clipped = self._clipped(weight.detach())
        _, kept, alpha = ternary_statistics(clipped, self.rows)
        half = alpha.reshape(-1) / 2
        return [WeightBranch(_signs(torch.where(kept == 0, side, kept)), half, 0) for side in (1, -1)]


@dataclass(frozen=True)
class RowCentredBinaryWeight(WeightQuantizer):
    """``mean_k|w| * sgn0(w - mean_k w)`` for every output row: BiBERT (Qin et al., 2022).

    The gradient passes where ``-1 <= w - mean <= 1`` and then loses its row mean; no factor of the scale.
    """

    def _centred(self, weight: Tensor) -> Tensor:
        return weight - weight.mean(-1, keepdim=True, dtype=torch.float64).to(weight.dtype)

    def __call__(self, weight: Tensor) -> Tensor:
        """Quantized weight, same shape."""
        centred = self._centred(weight)
        with torch.no_grad():
            value = centred.sign().mul_(mean_magnitude(weight, rows=True).to(weight.dtype))
        return pass_through(centred, value, (-1, 1))

    def decompose(self, weight: Tensor) -> list[WeightBranch]:
        """One branch with a scale per row."""
        return [_branch(self._centred(weight.detach()), mean_magnitude(weight, rows=True))]


@dataclass(frozen=True)
class TensorCentredBinaryWeight(WeightQuantizer):
    """``mean|w| * sgn0(w - mean of the whole tensor)``: BiT (Liu et al., 2022).

    The gradient passes unchanged.

    rows : bool   one scale per row; the centre stays that of the whole tensor
    """

    rows: bool = False

    def _quantize(self, weight: Tensor, centre: Tensor) -> Tensor:
        with torch.no_grad():
            value = (weight - centre).sign_().mul_(mean_magnitude(weight, self.rows).to(weight.dtype))
        return pass_through(weight, value)

    def __call__(self, weight: Tensor) -> Tensor:
        """Quantized weight, same shape."""
        return self._quantize(weight, tensor_mean(weight))

    whole_table = True

    def gathered(self, rows: Tensor, table: Tensor) -> Tensor:
        """Quantized rows, centred by the mean of the whole table."""
        return self._quantize(rows, tensor_mean(table))

    def decompose(self, weight: Tensor) -> list[WeightBranch]:
        """One branch."""
        weight = weight.detach()
        return [_branch(weight - tensor_mean(weight), mean_magnitude(weight, self.rows))]
