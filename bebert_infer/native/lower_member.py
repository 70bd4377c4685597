"""The program of one member: its blocks as operations, in the order of `bebert_kernels/program.py`."""

import math
from functools import partial

import numpy as np

from bebert_infer.model.attention import BooleanAttention, SoftmaxAttention
from bebert_infer.model.block import Block, Norm
from bebert_infer.model.linear import BinaryLinear
from bebert_infer.model.member import Member
from bebert_infer.model.quantizer import Quantizer
from bebert_infer.native.lower_linear import add_linear, code_rule, joined
from bebert_infer.native.program_builder import Program
from bebert_infer.native.workspace import Sizes
from bebert_kernels.abi import layout as at
from bebert_kernels.attention.boolean import scratch_words as bit_scratch
from bebert_kernels.attention.softmax import scratch_units
from bebert_kernels.packing import words
from bebert_kernels.program import stages
from bebert_kernels.rows.layer_norm import TOGETHER

LINEARS = ("query", "key", "value", "attention_output", "intermediate", "output")


class MemberProgram(Program):
    """Written while it is made; `member` must be one that `native.supported`."""

    def __init__(self, member: Member):
        tables = member.embeddings
        vocabulary, positions, types = (len(rows) for rows in (tables.scales[0], tables.position, tables.token_type))
        super().__init__(Sizes(len(tables.norm.weight), len(member.classifier_bias), vocabulary, positions, types))
        self.member = member
        self._write()
        self.finish()

    def _write(self) -> None:
        member = self.member
        blocks = member.blocks
        self._embed()
        for index, block in enumerate(blocks):
            store = at.QUERY + at.STORE * (index % 2)
            last = index == len(blocks) - 1
            self._queries(block, store, ("key", "value") if last else LINEARS[:3], at.HIDDEN)
            self.phase(at.ROWS)
            if last:
                self._gather()
                self._queries(block, store, ("query",), at.FIRST)
            self._block(block, store, at.FIRST if last else at.HIDDEN)
        if not blocks:
            self.phase(at.ROWS)
            self._gather()
        add_linear(self, member.pooler, at.FIRST, [self._floats(member.pooler)], "pooler")
        weight, bias = self.keep(member.classifier_weight), self.keep(member.classifier_bias)
        self.add(stages.classify, self.sizes.hidden, self.sizes.labels, weight, bias, name="classifier")
        self.phase(at.SENTENCES)

    def _gather(self) -> None:
        """From here on rows are first tokens, one a sentence."""
        self.add(stages.gather, self.sizes.hidden, name="gather")
        self.expected = 1

    def _norm(self, norm: Norm) -> tuple[int, int, int]:
        return self.keep(norm.weight), self.keep(norm.bias), self.keep(np.array([norm.eps], np.float32))

    def _embed(self) -> None:
        tables = self.member.embeddings
        signs = [self.keep(array) for array in tables.signs]
        scales = [self.keep(array) for array in tables.scales]
        width = self.sizes.hidden
        self.add(
            stages.embed,
            len(signs),
            signs[0],
            scales[0],
            signs[-1],
            scales[-1],
            self.keep(tables.position),
            self.keep(tables.token_type),
            *self._norm(tables.norm),
            self.keep(np.zeros(width, np.float32)),
            width,
            len(tables.scales[0]),
            len(tables.position),
            len(tables.token_type),
            name="embeddings",
        )

    def _queries(self, block: Block, store: int, names: tuple[str, ...], source: int) -> None:
        """Linears of queries, keys, values: one product where all read the same codes, else one each."""
        layers = [getattr(block, name) for name in names]
        if all(branch.quantizer == Quantizer("sign") for layer in layers for branch in layer.branches):
            outputs = len(layers[0].bias)
            sinks = [self._store(block, name, store, START=index * outputs) for index, name in enumerate(names)]
            add_linear(self, joined(layers), source, sinks, "query, key, value")
            return
        for name, layer in zip(names, layers, strict=True):
            add_linear(self, layer, source, [self._store(block, name, store)], "query, key, value")

    def _store(self, block: Block, name: str, store: int, START: int = 0) -> list[int]:
        """Sink of queries, keys or values."""
        attention, which = block.attention, LINEARS.index(name)
        width = attention.heads * attention.head_size
        flags = store + 2 * at.NONZERO + which
        if isinstance(attention, BooleanAttention):
            self.sizes.words = max(self.sizes.words, attention.heads * words(attention.head_size))
            kind, rule, numbers, shift = at.TO_WORDS, at.SIGN_RULE, 0, 0
        else:
            self.sizes.codes = max(self.sizes.codes, width)
            quantizer = (attention.query, attention.key, attention.value)[which]
            kind, rule = at.TO_CODES, code_rule(quantizer)
            numbers, shift = self.keep(self.numbers(quantizer)), self.shift(quantizer, width)
        return [rule, numbers, shift, kind, START, width, store + which, flags, attention.head_size]

    def _floats(self, layer: BinaryLinear) -> list[int]:
        self.sizes.floats = max(self.sizes.floats, len(layer.bias))
        return [0, 0, 0, at.TO_FLOATS, 0, len(layer.bias), at.FLOATS, 0, 0]

    def _residual(self, hidden: int) -> list[int]:
        """Sink that adds to what went into the block: x + residual and residual + x are the same float."""
        return [0, 0, 0, at.TO_SUM, 0, self.sizes.hidden, hidden, 0, 0]

    def _block(self, block: Block, store: int, hidden: int) -> None:
        """What follows the barrier, with `hidden` both the input and the output."""
        self._attention(block.attention, store)
        ready = isinstance(block.attention, BooleanAttention)
        layer = block.attention_output
        add_linear(self, layer, None if ready else at.FLOATS, [self._residual(hidden)], "attention output")
        self._normalize(block.attention_norm, hidden)
        sinks = []
        width = len(block.intermediate.bias)
        for index, branch in enumerate(block.output.branches):
            quantizer = branch.quantizer
            rule = code_rule(quantizer)
            if block.gelu:
                rule = at.GELU_RULE
            elif not quantizer.is_sign:
                rule = at.RELU_RULE
            to = at.BYTES + at.INPUT * index
            numbers, shift = self.keep(self.numbers(quantizer)), self.shift(quantizer, width)
            sinks.append([rule, numbers, shift, at.TO_BYTES, 0, width, to, at.READY_PLAIN + index, 0])
        add_linear(self, block.intermediate, hidden, sinks, "intermediate")
        add_linear(self, block.output, None, [self._residual(hidden)], "output")
        self._normalize(block.output_norm, hidden)

    def _normalize(self, norm: Norm, hidden: int) -> None:
        zeros = self.keep(np.zeros((TOGETHER, self.sizes.hidden), np.float32))
        self.add(stages.norm, hidden, *self._norm(norm), zeros, self.sizes.hidden, name="norm")

    def _attention(self, attention: BooleanAttention | SoftmaxAttention, store: int) -> None:
        heads, size = attention.heads, attention.head_size
        if isinstance(attention, BooleanAttention):
            self.sizes.scratch = partial(bit_scratch, size=size)
            self.add(stages.attend_on_bits, heads, size, store, 0, name="attention")
            return
        self.sizes.scratch = lambda keys: -(-scratch_units(keys, size) // 2)
        self.sizes.floats = max(self.sizes.floats, heads * size)
        numbers = self.numbers(attention.probabilities)
        query, key, value = (float(q.step) for q in (attention.query, attention.key, attention.value))
        numbers[at.SCORE_SCALE] = query * key / math.sqrt(size)
        numbers[at.CONTEXT_SCALE] = attention.probabilities.step * value
        self.add(stages.attend_on_codes, heads, size, store, self.keep(numbers), name="attention")
