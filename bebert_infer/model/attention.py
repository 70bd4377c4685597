"""The two kinds of attention between binarized queries, keys and values.

softmax (BinaryBERT, BiT, TernaryBERT):  codes of Q, K, V -> integer dots -> softmax -> codes -> integer context
boolean (BiBERT): signs of Q, K, V -> weight 1 iff dot > 0 and the key is real -> context = sum of signs; no softmax,
    no scale (numerics §1.4: strict, so a dot of exactly 0 gives weight 0)

Each works in two steps, so that threads can split the rows of one sentence: `encode` writes the codes of some rows
into a store that all threads share, and after a barrier `context` answers some query rows against all keys.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.batch import Batch
from bebert_infer.model.quantizer import MinimumRule, Quantizer, sign_codes
from bebert_kernels.packing import pack_bits, unpack_bits, words

Rows = NDArray[np.float32]
Span = tuple[int, slice, slice]  # sentence, its query rows, all its key rows
MASKED = np.float32(-10000.0)  # what the published code adds to the score of a padded key


def spans(batch: Batch, rows: slice) -> Iterator[Span]:
    """Yield (sentence, its query rows within `rows`, all its key rows) for every sentence that `rows` touches.

    The query rows are absolute row numbers; a thread's share may begin or end inside a sentence.
    """
    first = int(np.searchsorted(batch.offsets, rows.start, side="right")) - 1
    for sentence in range(first, batch.sentences):
        start, stop = int(batch.offsets[sentence]), int(batch.offsets[sentence + 1])
        if start >= rows.stop:
            return
        if start < stop:
            yield sentence, slice(max(start, rows.start), min(stop, rows.stop)), slice(start, stop)


def _relative(rows: slice, origin: slice) -> slice:
    return slice(rows.start - origin.start, rows.stop - origin.start)


@dataclass(frozen=True)
class SoftmaxAttention:
    """Attention over codes; the integer products are exact, softmax is float32 in a fixed order."""

    heads: int
    head_size: int
    query: Quantizer
    key: Quantizer
    value: Quantizer
    probabilities: Quantizer

    def store(self, rows: int, sentences: int) -> dict[str, NDArray]:
        """Return the shared store: codes int8[rows, C] of q, k, v, and the step that each sentence's codes have."""
        width = self.heads * self.head_size
        stored: dict[str, NDArray] = {name: np.empty((rows, width), np.int8) for name in "qkv"}
        stored["steps"] = np.empty((3, sentences), np.float64)
        return stored

    def encode(
        self,
        qkv: tuple[Rows, Rows, Rows],
        rows: slice,
        batch: Batch,
        store: dict[str, NDArray],
        rule: MinimumRule,
        kernels: ModuleType,
    ) -> None:
        """Quantize q, k, v float32[rows, C] into the store."""
        sites = zip((self.query, self.key, self.value), "qkv", qkv, strict=True)
        for index, (quantizer, name, x) in enumerate(sites):
            if quantizer.is_sign:
                signs, nonzero, _ = kernels.pack_signs(x, None)
                store[name][rows] = sign_codes(signs, nonzero, x.shape[1])
                store["steps"][index] = quantizer.step
            elif quantizer.kind == "dynamic" and rule == "zero":
                for sentence, own, _ in spans(batch, rows):
                    encoded = quantizer.codes(x[_relative(own, rows)], rule, kernels)
                    store[name][own], store["steps"][index, sentence] = encoded.codes, encoded.step
            else:
                encoded = quantizer.codes(x, rule, kernels)
                store[name][rows], store["steps"][index] = encoded.codes, encoded.step

    def codes(self, store: dict[str, NDArray]) -> dict[str, NDArray[np.int8]]:
        """Return copies of the codes int8[rows, C] of q, k, v, for a trace."""
        return {name: store[name].copy() for name in "qkv"}

    def context(
        self,
        rows: slice,
        batch: Batch,
        store: dict[str, NDArray],
        rule: MinimumRule,
        kernels: ModuleType,
        seen: list | None,
    ) -> Rows:
        """Return the context float32[rows, C]; `seen` receives the codes [H, Tq, Tk] of every sentence."""
        probabilities: Iterable[tuple[Span, NDArray[np.float32]]] = (
            (span, self._probabilities(span, batch, store, kernels)) for span in spans(batch, rows)
        )
        whole: tuple[float, float] | None = None
        if rule == "batch" and self.probabilities.kind in ("codes", "dynamic") and self.probabilities.bits > 1:
            # The published statistics run over the probabilities of the whole batch before any is rounded.
            collected = list(probabilities)
            everything = np.concatenate([p.reshape(-1) for _, p in collected])
            _, *resolved = self.probabilities.resolve(everything, rule)
            whole = (resolved[0], resolved[1])
            probabilities = collected
        out = np.empty((rows.stop - rows.start, self.heads * self.head_size), np.float32)
        low, high = self.probabilities.range
        for (sentence, queries, keys), probability in probabilities:
            flat = probability.reshape(-1, probability.shape[2])
            flat, step, minimum = self.probabilities.resolve(flat, "zero")
            if whole is not None:
                step, minimum = whole
            codes = kernels.quantize(flat, None, step, minimum, low, high).reshape(probability.shape)
            if seen is not None:
                seen.append(codes)
            value = store["v"][keys]
            value_step = float(store["steps"][2, sentence])
            dots = kernels.code_context(codes, value)
            add = np.zeros(dots.shape[1], np.float32)
            if minimum:  # sum_j (code_j * step + minimum) * v_j
                add += np.float32(minimum * value_step) * value.sum(axis=0, dtype=np.int32).astype(np.float32)
            scale = np.full(dots.shape[1], step * value_step, np.float32)
            out[_relative(queries, rows)] = kernels.scale_add(dots, scale, add)
        return out

    def _probabilities(
        self, span: Span, batch: Batch, store: dict[str, NDArray], kernels: ModuleType
    ) -> NDArray[np.float32]:
        sentence, queries, keys = span
        scale = float(store["steps"][0, sentence] * store["steps"][1, sentence]) / math.sqrt(self.head_size)
        scores = kernels.code_scores(store["q"][queries], store["k"][keys], self.heads, scale)
        if batch.key_mask is not None:
            scores = scores + np.where(batch.key_mask[keys], np.float32(0), MASKED)
        return kernels.softmax(scores)


@dataclass(frozen=True)
class BooleanAttention:
    """Attention on bits alone: one XOR-popcount per head and key decides, one AND-popcount per output adds up."""

    heads: int
    head_size: int

    def store(self, rows: int, sentences: int) -> dict[str, NDArray]:
        """Return the shared store: sign and non-zero words uint64[rows, H, words(D)] of q, k, v."""
        shape = (rows, self.heads, words(self.head_size))
        return {name + plane: np.empty(shape, np.uint64) for name in "qkv" for plane in ("", "_nonzero")}

    def encode(
        self,
        qkv: tuple[Rows, Rows, Rows],
        rows: slice,
        batch: Batch,
        store: dict[str, NDArray],
        rule: MinimumRule,
        kernels: ModuleType,
    ) -> None:
        """Pack the signs of q, k, v float32[rows, C] into the store, head by head."""
        for name, x in zip("qkv", qkv, strict=True):
            signs, nonzero, _ = kernels.pack_signs(x.reshape(-1, self.head_size), None)
            store[name][rows] = signs.reshape(len(x), self.heads, -1)
            store[name + "_nonzero"][rows] = nonzero.reshape(len(x), self.heads, -1)

    def codes(self, store: dict[str, NDArray]) -> dict[str, NDArray[np.int8]]:
        """Return the codes -1/0/+1 int8[rows, C] of q, k, v, for a trace."""
        width = self.heads * self.head_size
        return {
            name: sign_codes(store[name], store[name + "_nonzero"], self.head_size).reshape(-1, width) for name in "qkv"
        }

    def context(
        self,
        rows: slice,
        batch: Batch,
        store: dict[str, NDArray],
        rule: MinimumRule,
        kernels: ModuleType,
        seen: list | None,
    ) -> Rows:
        """Return the context float32[rows, C], whole numbers; `seen` receives the bits [H, Tq, Tk] of each sentence."""
        out = np.empty((rows.stop - rows.start, self.heads * self.head_size), np.float32)
        for _, queries, keys in spans(batch, rows):
            bits = kernels.score_bits(
                store["q"][queries], store["q_nonzero"][queries], store["k"][keys], store["k_nonzero"][keys]
            )
            if batch.key_mask is not None:
                bits &= pack_bits(batch.key_mask[keys])
            if seen is not None:
                seen.append(unpack_bits(bits, keys.stop - keys.start).astype(np.uint8))
            dots = kernels.bit_context(bits, store["v"][keys], store["v_nonzero"][keys], self.head_size)
            out[_relative(queries, rows)] = dots
        return out
