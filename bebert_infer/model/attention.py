"""The two kinds of attention between binarized queries, keys and values.

softmax (BinaryBERT, BiT, TernaryBERT):  codes of Q, K, V -> integer dots -> softmax -> codes -> integer context
boolean (BiBERT): signs of Q, K, V -> weight 1 iff dot > 0 and the key is real -> context = sum of signs; no softmax,
    no scale (BiBERT, §4.1, Bi-Attention; strict: a dot of exactly 0 gives weight 0)

Both take q, k, v float32[M, C] of a ragged batch and return the context float32[M, C] and, for a trace, the codes
int8[M, C] of q, k, v and those of the attention weights [H, T, T] of every sentence.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bebert_infer.model.batch import Batch
from bebert_infer.model.quantizer import Codes, MinimumRule, Quantizer, sign_codes
from bebert_kernels.packing import pack_bits, unpack_bits
from bebert_kernels.reference import floats, integers

Rows = NDArray[np.float32]
MASKED = np.float32(-10000.0)  # what the published code adds to the score of a padded key


class Attended(NamedTuple):
    """The context float32[M, C]; codes int8[M, C] of "q", "k", "v"; codes [H, T, T] of each sentence's weights."""

    context: Rows
    codes: dict[str, NDArray[np.int8]]
    weights: list[NDArray[Any]]


class SoftmaxAttention(Struct, frozen=True):
    """Attention over codes; the integer products are exact, softmax is float32 in a fixed order."""

    heads: int
    head_size: int
    query: Quantizer
    key: Quantizer
    value: Quantizer
    probabilities: Quantizer

    def __call__(self, q: Rows, k: Rows, v: Rows, batch: Batch, minimum_rule: MinimumRule) -> Attended:
        """Attend within every sentence of the batch."""
        sites = ((self.query, q), (self.key, k), (self.value, v))
        queries, keys, values = (_by_sentence(quantizer, x, batch, minimum_rule) for quantizer, x in sites)
        probabilities = []
        for sentence, rows in enumerate(batch.spans()):
            scale = float(queries[sentence].step * keys[sentence].step) / math.sqrt(self.head_size)
            scores = integers.code_scores(queries[sentence].codes, keys[sentence].codes, self.heads, scale)
            if batch.key_mask is not None:
                scores = scores + np.where(batch.key_mask[rows], np.float32(0), MASKED)
            probabilities.append(floats.softmax(scores))
        encoded = self._encode(probabilities, minimum_rule)
        context = np.concatenate([self._context(p, value) for p, value in zip(encoded, values, strict=True)])
        codes = {
            name: np.concatenate([part.codes for part in parts])
            for name, parts in zip("qkv", (queries, keys, values), strict=True)
        }
        return Attended(context, codes, [part.codes for part in encoded])

    def _encode(self, probabilities: list[NDArray[np.float32]], minimum_rule: MinimumRule) -> list[Codes]:
        """Codes [H, T, T] of every sentence's probabilities, with their step and minimum."""
        whole: tuple[float, float] | None = None
        if minimum_rule == "batch" and self.probabilities.kind in ("codes", "dynamic") and self.probabilities.bits > 1:
            # The published statistics run over the probabilities of the whole batch before any is rounded.
            everything = np.concatenate([probability.reshape(-1) for probability in probabilities])
            whole = self.probabilities.resolve(everything, minimum_rule)[1:]
        low, high = self.probabilities.range
        found = []
        for probability in probabilities:
            flat = probability.reshape(-1, probability.shape[2])
            flat, step, minimum = self.probabilities.resolve(flat, "zero")
            if whole is not None:
                step, minimum = whole
            codes = integers.quantize(flat, None, step, minimum, low, high)
            found.append(Codes(codes.reshape(probability.shape), step, minimum))
        return found

    @staticmethod
    def _context(probabilities: Codes, value: Codes) -> Rows:
        """sum_j (code_j * step + minimum) * value_j, of one sentence."""
        dots = integers.code_context(probabilities.codes, value.codes)
        add = np.zeros(dots.shape[1], np.float32)
        if probabilities.minimum:
            sums = value.codes.sum(axis=0, dtype=np.int32).astype(np.float32)
            add += np.float32(probabilities.minimum * value.step) * sums
        scale = np.full(dots.shape[1], probabilities.step * value.step, np.float32)
        return floats.scale_add(dots, scale, add)


def _by_sentence(quantizer: Quantizer, x: Rows, batch: Batch, minimum_rule: MinimumRule) -> list[Codes]:
    """Codes int8[T, C] of every sentence; statistics of a sentence, or of the whole batch with that rule."""
    if quantizer.kind == "dynamic" and minimum_rule == "zero":
        return [quantizer.codes(x[rows], minimum_rule) for rows in batch.spans()]
    whole = quantizer.codes(x, minimum_rule)
    return [Codes(whole.codes[rows], whole.step, whole.minimum) for rows in batch.spans()]


class BooleanAttention(Struct, frozen=True):
    """Attention on bits alone: one XOR-popcount per head and key decides, one AND-popcount per output adds up."""

    heads: int
    head_size: int

    def __call__(self, q: Rows, k: Rows, v: Rows, batch: Batch, minimum_rule: MinimumRule) -> Attended:
        """Attend within every sentence of the batch; the context is whole numbers, and no statistics are taken."""
        size = self.head_size
        # [M, H, W]: a head begins with a new word
        packed = {name: self._pack(x) for name, x in zip("qkv", (q, k, v), strict=True)}
        context, weights = np.empty(q.shape, np.float32), []
        for rows in batch.spans():
            (q_signs, q_nonzero), (k_signs, k_nonzero), (v_signs, v_nonzero) = (
                (signs[rows], nonzero[rows]) for signs, nonzero in packed.values()
            )
            bits = integers.score_bits(q_signs, q_nonzero, k_signs, k_nonzero)
            if batch.key_mask is not None:
                bits &= pack_bits(batch.key_mask[rows])
            weights.append(unpack_bits(bits, rows.stop - rows.start).astype(np.uint8))
            context[rows] = integers.bit_context(bits, v_signs, v_nonzero, size)
        codes = {name: sign_codes(*planes, size).reshape(q.shape) for name, planes in packed.items()}
        return Attended(context, codes, weights)

    def _pack(self, x: Rows) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Sign and non-zero words uint64[M, H, W] of float32[M, H * D]."""
        signs, nonzero, _ = integers.pack_signs(x.reshape(-1, self.head_size), None)
        return signs.reshape(len(x), self.heads, -1), nonzero.reshape(len(x), self.heads, -1)
