"""One encoder block: attention, then feed-forward, each with its residual and LayerNorm (post-LN, numerics §1.1).

    q, k, v = three linears of h
    h1 = LN( linear_o(attention(q, k, v)) + h )
    h2 = LN( linear_f(activation(linear_i(h1))) + h1 )

Residuals stay full precision. Everything but the keys and values is local to a row.
"""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.attention import BooleanAttention, SoftmaxAttention, spans
from bebert_infer.model.batch import Batch
from bebert_infer.model.linear import BinaryLinear
from bebert_infer.model.noise import Noise
from bebert_infer.model.quantizer import MinimumRule

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Norm:
    """LayerNorm with biased variance and eps inside the root."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    eps: float

    def __call__(self, x: Rows, residual: Rows | None, kernels: ModuleType) -> Rows:
        """Return LN(x + residual)."""
        return kernels.layer_norm(x, residual, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class Run:
    """What one forward pass has in common: the batch, the rule for minima, the kernels, a trace and noise, or None.

    The trace maps a site's name to its codes or floats, under the names that the golden data uses.
    """

    batch: Batch
    rule: MinimumRule
    kernels: ModuleType
    trace: dict[str, NDArray | list] | None = None
    noise: Noise | None = None

    def groups(self, rows: slice) -> list[slice]:
        """Row ranges, relative to `rows`, over which dynamic statistics are taken: a sentence, or the whole batch."""
        if self.rule == "batch":
            return [slice(0, rows.stop - rows.start)]
        return [slice(q.start - rows.start, q.stop - rows.start) for _, q, _ in spans(self.batch, rows)]


@dataclass(frozen=True)
class Block:
    """The weights of one encoder block."""

    query: BinaryLinear
    key: BinaryLinear
    value: BinaryLinear
    attention: SoftmaxAttention | BooleanAttention
    attention_output: BinaryLinear
    attention_norm: Norm
    intermediate: BinaryLinear
    gelu: bool
    output: BinaryLinear
    output_norm: Norm

    def encode(self, hidden: Rows, rows: slice, store: dict[str, NDArray], run: Run, name: str) -> None:
        """Compute q, k, v of these rows and put their codes into the shared store."""
        linears = (("query", self.query), ("key", self.key), ("value", self.value))
        q, k, v = (self._linear(layer, f"{name}.attn.{site}", hidden, rows, run) for site, layer in linears)
        self.attention.encode((q, k, v), rows, run.batch, store, run.rule, run.kernels)
        if run.trace is not None:
            run.trace.update({f"{name}.attn.{key}": codes for key, codes in self.attention.codes(store).items()})

    def finish(self, hidden: Rows, rows: slice, store: dict[str, NDArray], run: Run, name: str) -> Rows:
        """Return the block's output for these rows, once the store holds the codes of all rows."""
        seen: list | None = None if run.trace is None else []
        context = self.attention.context(rows, run.batch, store, run.rule, run.kernels, seen)
        if run.trace is not None:
            run.trace[f"{name}.attn.probs"] = seen or []
        attended = self._linear(self.attention_output, f"{name}.attn_out.dense", context, rows, run)
        middle = self.attention_norm(attended, hidden, run.kernels)
        wide = self._linear(self.intermediate, f"{name}.intermediate.dense", middle, rows, run)
        if not self.gelu:
            wide = run.kernels.relu(wide)
        narrow = self._linear(self.output, f"{name}.output.dense", wide, rows, run, gelu=self.gelu)
        return self.output_norm(narrow, middle, run.kernels)

    @staticmethod
    def _linear(layer: BinaryLinear, name: str, x: Rows, rows: slice, run: Run, gelu: bool = False) -> Rows:
        seen: list[list] | None = None if run.trace is None else []
        out = layer(x, run.groups(rows), run.rule, run.kernels, gelu=gelu, seen=seen)
        trace_codes(run, name, seen)
        return out


def trace_codes(run: Run, name: str, seen: list[list] | None) -> None:
    """Store the codes of one linear under `<name>.in`, or `<name>_1.in` and `<name>_2.in` for two branches."""
    if run.trace is None or seen is None:
        return
    for index, arrays in enumerate(seen):
        suffix = f"_{index + 1}" if len(seen) == 2 else ""
        run.trace[f"{name}{suffix}.in"] = np.concatenate(arrays)
