"""Ternary weight splitting: one trained ternary matrix becomes two binary ones that add up to it.

For a latent matrix w with n entries (a row of the word embedding counts as a matrix of its own):

    threshold = 0.7 mean|w|;  kept = |w| > threshold;  alpha = mean of the kept |w|;  n0 = n - number kept
    A = sum of kept |w|;  P = sum of the other w > 0;  N = sum of the other |w|, w < 0
    a = (A + N - P) / (2 A)             between 0 and 1, about 1/2
    b = (alpha n - sum|w|) / (2 n0)     not negative

    kept       w1 = a w      w2 = (1 - a) w
    w > 0      w1 = w + b    w2 = -b
    w < 0      w1 = b        w2 = w - b
    w = 0      w1 = b        w2 = -b

Then w1 + w2 = w, mean|w1| = mean|w2| = alpha / 2, and the binary values of w1 and w2 add up to the ternary
value of w: the split model computes what its parent computes. All in float64.
Source: Bai et al., "BinaryBERT: Pushing the Limit of BERT Quantization", 2021.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bebert_export.quantizers.weights import ternary_statistics
from bebert_export.student.bert import Student

UNSPLIT = ("LayerNorm", "position_embeddings", "token_type_embeddings")


@dataclass(frozen=True)
class TernarySplit:
    """The two latent weights and the numbers that made them, all float64.

    first, second : float64[N, K]
    threshold, alpha, a, b : float64[1], or float64[N, 1] where rows are split one by one
    """

    first: Tensor
    second: Tensor
    threshold: Tensor
    alpha: Tensor
    a: Tensor
    b: Tensor


def split_weight(weight: Tensor, rows: bool = False) -> TernarySplit:
    """Split one latent weight float[N, K]; ``rows`` for a word embedding.

    Everything stays finite: a row of zeros gives two rows of zeros, where the published code gives NaN, and a
    row without a zero entry has b = 0.
    """
    w = weight.detach().to(torch.float64)
    threshold, large, alpha = ternary_statistics(w, rows)

    def total(x: Tensor) -> Tensor:
        return x.sum(-1, keepdim=True) if rows else x.sum().reshape(1)

    kept = large != 0
    rest = ~kept
    positive, negative = total(w.clamp_min(0) * rest), total((-w).clamp_min(0) * rest)
    outer = total(large.abs())
    a = torch.where(outer > 0, (outer + negative - positive) / (2 * outer), 0.5)
    zeros = total(rest.to(w.dtype))
    count = w.shape[-1] if rows else w.numel()
    b = torch.where(zeros > 0, (alpha * count - total(w.abs())) / (2 * zeros), 0.0)
    first = torch.where(kept, a * w, w.clamp_min(0) + b)
    second = torch.where(kept, (1 - a) * w, w.clamp_max(0) - b)
    return TernarySplit(first, second, threshold, alpha, a, b)


def split_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a ternary parent -> state dict of its two-branch binary student.

    Weights are split and returned as float32; biases are halved and steps duplicated, both float64 as in the
    published files; the quantizers of Q, K, V and probabilities, LayerNorms, position and type tables and the
    classifier are kept. ``query.weight`` becomes ``query_1.weight`` and ``query_2.weight``.
    """
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        value = value.detach()
        module, _, kind = key.rpartition(".")
        if not key.startswith("bert.") or any(name in key for name in UNSPLIT):
            result[key] = value.clone()
        elif kind == "weight":
            split = split_weight(value, rows=module.endswith("word_embeddings"))
            result[f"{module}_1.weight"] = split.first.to(torch.float32)
            result[f"{module}_2.weight"] = split.second.to(torch.float32)
        elif kind == "bias":
            result[f"{module}_1.bias"] = value.to(torch.float64) / 2
            result[f"{module}_2.bias"] = value.to(torch.float64) / 2
        elif kind == "input_clip_val":
            result[f"{module}_1.{kind}"] = value.to(torch.float64, copy=True)
            result[f"{module}_2.{kind}"] = value.to(torch.float64, copy=True)
        else:  # clip_query, clip_key, clip_value, clip_attn
            result[key] = value.to(torch.float64, copy=True)
    return result


def split_student(parent: Student) -> Student:
    """Two-branch binary student that starts where its ternary parent ended.

    Raises ValueError if the parent is of another family than "ternary".
    """
    if parent.config.family != "ternary":
        raise ValueError(f'the parent\'s family is {parent.config.family!r}; accepted is "ternary"')
    student = Student(replace(parent.config, family="binarybert"))
    student.load_state_dict(split_state_dict(parent.state_dict()))
    return student
