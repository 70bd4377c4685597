"""One binarized BERT of the ensemble: token rows -> embeddings -> blocks -> pooled first token -> logits.

The code knows no model family: BinaryBERT, BEBERT, BiBERT, BiT and TernaryBERT differ only in the data that
fills a `Member` (branches, quantizers, attention kind).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.batch import Batch
from bebert_infer.model.block import Block, Norm, Run, trace_codes
from bebert_infer.model.linear import BinaryLinear
from bebert_infer.model.noise import Noise
from bebert_infer.model.quantizer import MinimumRule

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Embeddings:
    """Word rows kept as packed signs with one scale a row (one or two tables), and float32 position and type tables.

    signs : uint64[V, W]   scales : float32[V]   position : float32[P, C]   token_type : float32[S, C]
    """

    signs: tuple[NDArray[np.uint64], ...]
    scales: tuple[NDArray[np.float32], ...]
    position: Rows
    token_type: Rows
    norm: Norm

    def __call__(self, batch: Batch, rows: slice, kernels: ModuleType) -> Rows:
        """Return LN(word + position + type) float32[rows, C]."""
        ids, positions, types = batch.ids[rows], batch.positions[rows], batch.types[rows]
        summed = kernels.embed(ids, positions, types, self.signs, self.scales, self.position, self.token_type)
        return self.norm(summed, None, kernels)


@dataclass(frozen=True)
class Member:
    """The weights of one model and its forward pass."""

    embeddings: Embeddings
    blocks: tuple[Block, ...]
    pooler: BinaryLinear
    classifier_weight: Rows
    classifier_bias: NDArray[np.float32]

    @property
    def row_local(self) -> bool:
        """True if a row may be computed apart from its sentence, that is, no quantizer takes statistics at run time."""
        linears = [self.pooler, *(getattr(b, n) for b in self.blocks for n in ("query", "intermediate", "output"))]
        return all(branch.quantizer.kind != "dynamic" for layer in linears for branch in layer.branches)

    def forward(
        self,
        batch: Batch,
        kernels: ModuleType,
        rule: MinimumRule = "zero",
        *,
        start: Callable[[list[Callable[[], None]], Callable[[], None]], None] | None = None,
        threads: int = 1,
        trace: dict | None = None,
        noise: Noise | None = None,
    ) -> Rows:
        """Return the logits float32[S, labels] of every sentence of the batch.

        threads : how many threads share the rows; `start` runs so many functions at the same time (`ThreadTeam.run`).
        trace   : receives codes and hidden states; forces one thread.
        noise   : added to the output of the embeddings (`robustness.py`), one example a sentence of the batch.

        Answers do not depend on `threads`: every row is computed by the same operations in the same order.
        """
        run = Run(batch, rule, kernels, trace, noise)
        alone = start is None or trace is not None
        shares = [slice(0, batch.rows)] if alone else self.shares(batch, threads)
        # Two stores in turn, so that one barrier a block is enough: a fast thread may already write the codes
        # of block l+1 while a slow one reads those of block l.
        attention = self.blocks[0].attention if self.blocks else None
        stores = [attention.store(batch.rows, batch.sentences) for _ in range(2)] if attention else []
        first = np.empty((batch.sentences, len(self.embeddings.norm.weight)), np.float32)
        barrier = threading.Barrier(len(shares))

        def work(rows: slice) -> None:
            try:
                self._rows(rows, run, stores, barrier, first)
            except BaseException:
                barrier.abort()  # the others must not wait for a thread that failed
                raise

        if start is None or len(shares) == 1:
            work(shares[0])
        else:
            start([partial(work, rows) for rows in shares], barrier.abort)
        return self._head(first, run)

    def shares(self, batch: Batch, threads: int) -> list[slice]:
        """Split the rows among threads, evenly; at sentence borders where statistics span a sentence."""
        threads = max(1, min(threads, batch.rows))
        cuts = [batch.rows * i // threads for i in range(threads + 1)]
        if not self.row_local:
            cuts = sorted({int(batch.offsets[np.searchsorted(batch.offsets, cut)]) for cut in cuts})
        return [slice(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if a < b] or [slice(0, batch.rows)]

    def _rows(self, rows: slice, run: Run, stores: list[dict], barrier: threading.Barrier, first: Rows) -> None:
        hidden = self.embeddings(run.batch, rows, run.kernels)
        if run.noise is not None:
            hidden = hidden + run.noise.draw(run.batch, rows, hidden.shape[1])
        if run.trace is not None:
            run.trace["hidden_0"] = hidden
        for index, block in enumerate(self.blocks):
            store, name = stores[index % 2], f"codes.l{index}"
            block.encode(hidden, rows, store, run, name)
            barrier.wait()
            hidden = block.finish(hidden, rows, store, run, name)
            if run.trace is not None:
                run.trace[f"hidden_{index + 1}"] = hidden
        heads = run.batch.offsets[:-1]
        mine = np.flatnonzero((heads >= rows.start) & (heads < rows.stop))
        first[mine] = hidden[heads[mine] - rows.start]

    def _head(self, first: Rows, run: Run) -> Rows:
        """Pool the first token of each sentence and classify it."""
        seen: list[list] | None = None if run.trace is None else []
        count = len(first)
        groups = [slice(0, count)] if run.rule == "batch" else [slice(i, i + 1) for i in range(count)]
        pooled = run.kernels.tanh(self.pooler(first, groups, run.rule, run.kernels, seen=seen))
        trace_codes(run, "codes.pooler.dense", seen)
        logits = run.kernels.dense(pooled, self.classifier_weight, self.classifier_bias)
        if run.trace is not None:
            run.trace.update(pooled=pooled, logits=logits)
        return logits
