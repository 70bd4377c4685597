"""AdamW in three groups, and a learning rate that rises and then falls linearly."""

from collections.abc import Callable

import torch
from torch import nn

from bebert_export.training.schedule import Schedule


def adamw(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW in three groups: matrices decay, biases and norms do not, quantizer steps have their own rate."""
    decayed, plain, steps = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if "clip_" in name:  # published name of every learned quantizer step
            steps.append(parameter)
        elif name.endswith("bias") or "LayerNorm" in name:
            plain.append(parameter)
        else:
            decayed.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": plain, "weight_decay": 0.0},
        {"params": steps, "weight_decay": 0.0, "lr": schedule.step_learning_rate},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=schedule.learning_rate, fused=True)


def linear_decay(steps: int, warmup: float) -> Callable[[int], float]:
    """Factor of the learning rate after `step` updates: up to 1 over the warm-up, then down to 0."""
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return max(0.0, (steps - step) / max(1, steps - rising))

    return factor
