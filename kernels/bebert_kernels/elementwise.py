"""Float kernels that treat every element alone: activations, and what follows an integer product."""

import math

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.jit.kernel import kernel

Floats = NDArray[np.float32]


@kernel
def scale_add(acc: NDArray[np.int32], scale: Floats, add: Floats, out: Floats) -> None:
    """out[m, n] = float32(acc[m, n]) * scale[n] + add[m, n]; an `add` of one row serves all rows."""
    rows, outputs = acc.shape
    for m in range(rows):
        row = min(m, add.shape[0] - 1)
        for n in range(outputs):
            out[m, n] = np.float32(acc[m, n]) * scale[n] + add[row, n]


@kernel
def relu(x: Floats, out: Floats) -> None:
    """out[i] = max(x[i], 0)."""
    for i in range(x.size):
        out[i] = x[i] if x[i] > np.float32(0) else np.float32(0)


@kernel
def gelu(x: Floats, out: Floats) -> None:
    """out[i] = 0.5 * x * (1 + erf(x / sqrt2)) in float64, rounded once."""
    for i in range(x.size):
        wide = np.float64(x[i])
        out[i] = np.float32(0.5 * wide * (1.0 + math.erf(wide / math.sqrt(2.0))))


@kernel
def tanh(x: Floats, out: Floats) -> None:
    """Hyperbolic tangent in float64, rounded once."""
    for i in range(x.size):
        out[i] = np.float32(math.tanh(np.float64(x[i])))
