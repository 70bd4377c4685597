"""What values a model's tensors may hold, so that a model that loads never crashes a kernel nor answers NaN."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.config import LINEARS, Config, alpha_faults

# Trained values lie far inside. With these limits and the widths of config.py no product, sum, variance or quotient of
# a forward pass leaves float32, so that a model that loads never answers NaN: the largest is the variance of
# scale · step · dot = 1e4 · 1e4 · 255 · 65,536.
MAX_VALUE, MIN_STEP = 1e4, 1e-18


def bit_depths(config: Config) -> dict[str, int]:
    """Name of every tensor of sign words -> values of a row before padding."""
    depths = {}
    for index, member in enumerate(config.members):
        for branch in range(member.branches):
            depths[f"members.{index}.embeddings.word.{branch}.signs"] = member.hidden_size
            for kind in LINEARS:
                layers = [""] if kind == "pooler" else [f"layers.{n}." for n in range(member.num_hidden_layers)]
                for layer in layers:
                    depths[f"members.{index}.{layer}{kind}.{branch}.signs"] = member.linears()[kind][1]
    return depths


def value_faults(tensors: Mapping[str, NDArray], config: Config) -> list[str]:
    """Values that would crash a kernel or poison an answer: NaN, absurd sizes, steps of 0, padding bits set."""
    faults: list[str] = []
    depths = bit_depths(config)
    floats = [array.ravel() for name, array in tensors.items() if name not in depths and name != "alphas"]
    together = np.concatenate(floats)
    sound = max(together.max(), -together.min()) <= MAX_VALUE  # not so for NaN; one by one is ten times slower
    for name, array in tensors.items():
        if name in depths:
            spare = -depths[name] % 64
            if spare and np.any(array[:, -1] >> np.uint64(64 - spare)):
                faults.append(f"{name} has bits set beyond depth {depths[name]}; padding bits are 0")
        elif name == "alphas":
            faults += alpha_faults(config.combination, array)
        elif not sound and not np.all(np.isfinite(array)):
            faults.append(f"{name} holds NaN or infinity")
        elif not sound and max(array.max(), -array.min()) > MAX_VALUE:
            faults.append(f"{name} reaches {max(array.max(), -array.min()):g}; accepted is ±{MAX_VALUE:g}")
        elif name.endswith(".step") and abs(array[0]) < MIN_STEP:
            faults.append(
                f"{name} is {array[0]:g}; a step may be negative, but not 0 or closer to it than {MIN_STEP:g}"
            )
        elif name.endswith(".clip") and not array[0] < array[1]:
            faults.append(f"{name} is {array.tolist()}; the first must be below the second")
    return faults
