"""One encoder block: attention, then feed-forward, each with its residual and LayerNorm (post-LN, as BERT).

    q, k, v = three linears of h
    h1 = LN( linear_o(attention(q, k, v)) + h )
    h2 = LN( linear_f(activation(linear_i(h1))) + h1 )

Residuals stay full precision.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bebert_infer.model.attention import BooleanAttention, SoftmaxAttention
from bebert_infer.model.batch import Batch
from bebert_infer.model.linear import BinaryLinear, TracedCodes
from bebert_infer.model.quantizer import MinimumRule
from bebert_kernels.reference import floats

Rows = NDArray[np.float32]
Trace = dict[str, NDArray | list]  # site -> its codes or floats, under the names that the golden data uses


class Norm(Struct, frozen=True):
    """LayerNorm with biased variance and eps inside the root."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    eps: float

    def __call__(self, x: Rows, residual: Rows | None) -> Rows:
        """Return LN(x + residual)."""
        return floats.layer_norm(x, residual, self.weight, self.bias, self.eps)


class ForwardContext(Struct, frozen=True):
    """What one forward pass has in common: the batch, the rule for minima, and what it leaves behind, or None."""

    batch: Batch
    minimum_rule: MinimumRule
    trace: Trace | None

    @property
    def groups(self) -> list[slice]:
        """Row ranges over which dynamic statistics are taken: a sentence, or the whole batch."""
        return [slice(0, self.batch.rows)] if self.minimum_rule == "batch" else self.batch.spans()

    def traced(self, name: str, result: tuple[Rows, TracedCodes]) -> Rows:
        """The output of a linear; its codes go to the trace, as `<name>.in`, or `<name>_1.in` and `<name>_2.in`."""
        out, codes = result
        for index, array in enumerate(codes if self.trace is not None else ()):
            suffix = f"_{index + 1}" if len(codes) == 2 else ""
            self.record(f"{name}{suffix}.in", array)
        return out

    def record(self, name: str, value: NDArray | list) -> None:
        """Leave something in the trace, if there is one."""
        if self.trace is not None:
            self.trace[name] = value


class Block(Struct, frozen=True):
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

    def __call__(self, hidden: Rows, context: ForwardContext, name: str) -> Rows:
        """Return the block's output float32[M, C] for hidden float32[M, C]; the trace calls it `name`."""

        def linear(layer: BinaryLinear, site: str, x: Rows, gelu: bool = False) -> Rows:
            return context.traced(f"{name}.{site}", layer(x, context.groups, context.minimum_rule, gelu=gelu))

        q, k, v = (linear(getattr(self, site), f"attn.{site}", hidden) for site in ("query", "key", "value"))
        attended = self.attention(q, k, v, context.batch, context.minimum_rule)
        for key, codes in attended.codes.items():
            context.record(f"{name}.attn.{key}", codes)
        context.record(f"{name}.attn.probs", attended.weights)
        middle = self.attention_norm(linear(self.attention_output, "attn_out.dense", attended.context), hidden)
        wide = linear(self.intermediate, "intermediate.dense", middle)
        if not self.gelu:
            wide = floats.relu(wide)
        narrow = linear(self.output, "output.dense", wide, gelu=self.gelu)
        return self.output_norm(narrow, middle)
