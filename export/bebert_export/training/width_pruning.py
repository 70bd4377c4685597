"""Half-width starting points: keep the most important attention heads and neurons of a fine-tuned model.

BinaryBERT starts from such a model, because ternary weight splitting doubles every matrix: two binary halves
of a half-width layer cost as much as one full-width layer. Importance is first-order, as in DynaBERT
(reference numerics §3.1), but measured on training examples:

    head h      |∂L/∂m_h| = |Σ_{o, k in h} W_o[o, k] · ∂L/∂W_o[o, k]|        m_h scales the context of head h
    neuron j    |Σ_k W_i[j, k] · ∂L/∂W_i[j, k] + b_j · ∂L/∂b_j| + |Σ_o W_f[o, j] · ∂L/∂W_f[o, j]|

summed over batches. The hidden width is left alone.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from bebert_export.data.batches import TrainingSet, collate
from bebert_export.training.loss import example_losses
from bebert_infer.errors import InputError

BATCH, BATCHES = 32, 32  # examples that importance is measured on; more change no choice that matters


def kept_heads(heads: int, width: float) -> int:
    """Heads that `width` of `heads` leaves. Raises InputError unless 0 < width <= 1 and one is left."""
    if not 0 < width <= 1 or round(heads * width) < 1:
        raise InputError(f"width is {width}; accepted is a share of the {heads} heads, at most 1 and at least one head")
    return round(heads * width)


def prune_width(
    model: nn.Module, data: TrainingSet, heads: int, width: float, seed: int
) -> tuple[dict[str, Tensor], int]:
    """State dict of `model` (a BERT classifier with `heads` heads) cut to `width`, and its number of heads.

    Raises InputError for a width that `kept_heads` refuses.
    """
    kept = kept_heads(heads, width)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    if width == 1:
        return state, heads
    importance = _importance(model, data, heads, seed)
    for prefix in {name.removesuffix("heads") for name in importance if name.endswith("heads")}:
        _narrow_layer(state, importance, prefix, heads, kept, width)
    return state, kept


def _narrow_layer(
    state: dict[str, Tensor],
    scores: Mapping[str, Tensor],
    prefix: str,
    heads: int,
    kept: int,
    width: float,
) -> None:
    head_scores = scores[f"{prefix}heads"]
    size = len(state[f"{prefix}attention.self.query.bias"]) // heads
    rows = torch.arange(heads * size).reshape(heads, size)[_largest(head_scores, kept)].flatten()
    for name in ("query", "key", "value"):
        for kind in ("weight", "bias"):
            key = f"{prefix}attention.self.{name}.{kind}"
            state[key] = state[key][rows]
    key = f"{prefix}attention.output.dense.weight"
    state[key] = state[key][:, rows]
    neuron_scores = scores[f"{prefix}neurons"]
    neurons = _largest(neuron_scores, max(1, round(len(neuron_scores) * width)))
    for kind in ("weight", "bias"):
        key = f"{prefix}intermediate.dense.{kind}"
        state[key] = state[key][neurons]
    key = f"{prefix}output.dense.weight"
    state[key] = state[key][:, neurons]


def _largest(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest scores, ascending, so that the kept parts keep their order."""
    return torch.sort(torch.argsort(scores, descending=True, stable=True)[:count]).values


def _importance(model: nn.Module, data: TrainingSet, heads: int, seed: int) -> dict[str, Tensor]:
    """Importance of heads [H] and neurons [I] of every layer, named `<prefix>heads` and `<prefix>neurons`."""
    model.eval()
    weights = dict(model.named_parameters())
    suffix = "attention.output.dense.weight"
    layers = [name.removesuffix(suffix) for name in weights if name.endswith(suffix)]
    totals: dict[str, Tensor] = {}
    order = np.random.default_rng(seed).permutation(len(data.encoded))[: BATCH * BATCHES]
    for start in range(0, len(order), BATCH):
        index = order[start : start + BATCH]
        model.zero_grad()
        logits = model(**collate(data.encoded, index)).logits
        example_losses(logits, torch.from_numpy(data.targets)[index], None).mean().backward()
        for prefix in layers:
            for name, score in _layer_scores(weights, prefix, heads).items():
                totals[name] = totals.get(name, torch.zeros_like(score)) + score
    model.zero_grad()
    return totals


@torch.no_grad()
def _layer_scores(weights: Mapping[str, Tensor], prefix: str, heads: int) -> dict[str, Tensor]:
    def products(name: str) -> Tensor:
        weight = weights[prefix + name]
        assert weight.grad is not None
        return weight * weight.grad

    columns = products("attention.output.dense.weight").sum(0)
    incoming = products("intermediate.dense.weight").sum(1) + products("intermediate.dense.bias")
    outgoing = products("output.dense.weight").sum(0)
    return {
        f"{prefix}heads": columns.reshape(heads, -1).sum(1).abs(),
        f"{prefix}neurons": incoming.abs() + outgoing.abs(),
    }
