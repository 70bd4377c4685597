"""One binarized BERT of the ensemble: token rows -> embeddings -> blocks -> pooled first token -> logits.

The code knows no model family: BinaryBERT, BEBERT, BiBERT, BiT and TernaryBERT differ only in the data that fills a
`Member` (branches, quantizers, attention kind). This is the truth: whatever answers must give its bits.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bebert_infer.model.batch import Batch
from bebert_infer.model.block import Block, ForwardContext, Norm, Trace
from bebert_infer.model.linear import BinaryLinear
from bebert_infer.model.noise import Noise
from bebert_infer.model.quantizer import MinimumRule
from bebert_kernels.reference import floats

Rows = NDArray[np.float32]


class Embeddings(Struct, frozen=True):
    """Word rows kept as packed signs with one scale a row (one or two tables), and float32 position and type tables.

    signs : uint64[V, W]   scales : float32[V]   position : float32[P, C]   token_type : float32[S, C]
    """

    signs: tuple[NDArray[np.uint64], ...]
    scales: tuple[NDArray[np.float32], ...]
    position: Rows
    token_type: Rows
    norm: Norm

    def __call__(self, batch: Batch) -> Rows:
        """Return LN(word + position + type) float32[M, C]."""
        tables = (self.signs, self.scales, self.position, self.token_type)
        return self.norm(floats.embed(batch.ids, batch.positions, batch.types, *tables), None)


class Member(Struct, frozen=True):
    """The weights of one model and its forward pass."""

    embeddings: Embeddings
    blocks: tuple[Block, ...]
    pooler: BinaryLinear
    classifier_weight: Rows
    classifier_bias: NDArray[np.float32]

    def forward(
        self,
        batch: Batch,
        minimum_rule: MinimumRule = "zero",
        *,
        trace: Trace | None = None,
        noise: Noise | None = None,
    ) -> Rows:
        """Return the logits float32[S, labels] of every sentence of the batch.

        trace : receives codes and hidden states
        noise : added to the output of the embeddings (`noise.py`), one example a sentence of the batch
        """
        context = ForwardContext(batch, minimum_rule, trace)
        hidden = self.embeddings(batch)
        if noise is not None:
            hidden = hidden + noise.draw(batch, slice(0, batch.rows), hidden.shape[1])
        context.record("hidden_0", hidden)
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, context, f"codes.l{index}")
            context.record(f"hidden_{index + 1}", hidden)
        return self._head(hidden[batch.offsets[:-1]], context)

    def _head(self, first: Rows, context: ForwardContext) -> Rows:
        """Pool the first token of each sentence, float32[S, C], and classify it."""
        count, rule = len(first), context.minimum_rule
        groups = [slice(0, count)] if rule == "batch" else [slice(i, i + 1) for i in range(count)]
        pooled = floats.tanh(context.traced("codes.pooler.dense", self.pooler(first, groups, rule)))
        logits = floats.dense(pooled, self.classifier_weight, self.classifier_bias)
        context.record("pooled", pooled)
        context.record("logits", logits)
        return logits
