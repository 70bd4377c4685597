"""The program of one member: its blocks as instructions, in the order of `bebert_kernels/program/interpreter.py`."""

import math
from functools import partial

import numpy as np

from bebert_infer.model.attention import BooleanAttention, SoftmaxAttention
from bebert_infer.model.block import Block, Norm
from bebert_infer.model.linear import BinaryLinear
from bebert_infer.model.member import Member
from bebert_infer.native.lower_linear import add_linear, code_rule, different_inputs, joined, same_codes
from bebert_infer.native.program_builder import Program, numbers, shift
from bebert_infer.native.release import release_signs
from bebert_infer.native.workspace import Sizes
from bebert_kernels.abi import frame, rule, slot
from bebert_kernels.abi.instruction import Attend, Classify, Embed, Gather
from bebert_kernels.abi.instruction import Norm as Normalize
from bebert_kernels.abi.rule import SoftmaxNumbers
from bebert_kernels.abi.sink import TO_BYTES, TO_CODES, TO_FLOATS, TO_SUM, TO_WORDS, Sink
from bebert_kernels.abi.stage import Stage
from bebert_kernels.attention.layout import boolean_words, softmax_units
from bebert_kernels.packing import words
from bebert_kernels.rows.layout import TOGETHER

LINEARS = ("query", "key", "value", "attention_output", "intermediate", "output")


class MemberProgram(Program):
    """Fused: codes go from layer to layer. Written while it is made; `member` must be one that `can_fuse`."""

    def __init__(self, member: Member, releases: bool = False):
        tables = member.embeddings
        vocabulary, positions, types = (len(rows) for rows in (tables.scales[0], tables.position, tables.token_type))
        sizes = Sizes(len(tables.norm.weight), len(member.classifier_bias), vocabulary, positions, types)
        super().__init__(sizes, releases)
        self.member = member
        self._write()
        self.finish()

    def _write(self) -> None:
        member = self.member
        blocks = member.blocks
        self._embed()
        for index, block in enumerate(blocks):
            store = slot.QUERY + slot.STORE * (index % 2)
            last = index == len(blocks) - 1
            self._queries(block, store, ("key", "value") if last else LINEARS[:3], slot.HIDDEN)
            self.phase(frame.ROWS)
            if last:
                self._gather()
                self._queries(block, store, ("query",), slot.FIRST)
            self._block(block, store, slot.FIRST if last else slot.HIDDEN)
        if not blocks:
            self.phase(frame.ROWS)
            self._gather()
        add_linear(self, member.pooler, slot.FIRST, [self._floats(member.pooler)], "pooler")
        self._classify()
        self.phase(frame.SENTENCES)

    def _classify(self) -> None:
        member = self.member
        classify = Classify(self.sizes.hidden, self.sizes.labels, member.classifier_weight, member.classifier_bias)
        self.add(Stage.named("classify"), classify, "classifier")

    def _gather(self) -> None:
        """From here on rows are first tokens, one a sentence."""
        self.add(Stage.named("gather"), Gather(self.sizes.hidden), "gather")

    def _embed(self) -> None:
        tables = self.member.embeddings
        width, norm = self.sizes.hidden, tables.norm
        embed = Embed(
            tables=len(tables.signs),
            signs0=tables.signs[0],
            scale0=tables.scales[0],
            signs1=tables.signs[-1],
            scale1=tables.scales[-1],
            positions=tables.position,
            types=tables.token_type,
            gamma=norm.weight,
            beta=norm.bias,
            epsilon=np.array([norm.eps], np.float32),
            zeros=np.zeros(width, np.float32),
            width=width,
            vocabulary=len(tables.scales[0]),
            position_rows=len(tables.position),
            type_rows=len(tables.token_type),
        )
        self.add(Stage.named("embed"), embed, "embeddings")

    def _queries(self, block: Block, store: int, names: tuple[str, ...], source: int) -> None:
        """Linears of queries, keys, values: one product where all read the same codes, else one each."""
        layers = [getattr(block, name) for name in names]
        if same_codes(layers):
            outputs = len(layers[0].bias)
            sinks = [self._store(block, name, store, index * outputs) for index, name in enumerate(names)]
            add_linear(self, joined(layers), source, sinks, "query, key, value")
            release_signs(self, [branch for layer in layers for branch in layer.branches])
            return
        for name, layer in zip(names, layers, strict=True):
            add_linear(self, layer, source, [self._store(block, name, store)], "query, key, value")

    def _store(self, block: Block, name: str, store: int, start: int = 0) -> Sink:
        """Sink of queries, keys or values."""
        attention, which = block.attention, LINEARS.index(name)
        width = attention.heads * attention.head_size
        to, flags = store + which, store + slot.FLAGS + which
        if isinstance(attention, BooleanAttention):
            self.sizes.words = max(self.sizes.words, attention.heads * words(attention.head_size))
            return Sink(TO_WORDS, start, width, to, flags, rule.SIGN, head=attention.head_size)
        self.sizes.codes = max(self.sizes.codes, width)
        quantizer = (attention.query, attention.key, attention.value)[which]
        coded = code_rule(quantizer), numbers(quantizer), shift(quantizer, width)
        return Sink(TO_CODES, start, width, to, flags, *coded)

    def _floats(self, layer: BinaryLinear) -> Sink:
        self.sizes.floats = max(self.sizes.floats, len(layer.bias))
        return Sink(TO_FLOATS, 0, len(layer.bias), slot.FLOATS)

    def _residual(self, hidden: int) -> Sink:
        """Sink that adds to what went into the block: x + residual and residual + x are the same float."""
        return Sink(TO_SUM, 0, self.sizes.hidden, hidden)

    def _block(self, block: Block, store: int, hidden: int) -> None:
        """What follows the barrier, with `hidden` both the input and the output."""
        self._attention(block.attention, store)
        ready = isinstance(block.attention, BooleanAttention)
        layer = block.attention_output
        add_linear(self, layer, None if ready else slot.FLOATS, [self._residual(hidden)], "attention output")
        self._normalize(block.attention_norm, hidden)
        sinks = []
        width = len(block.intermediate.bias)
        for index, quantizer in enumerate(different_inputs(block.output)[0]):
            coded = rule.GELU_SIGN if block.gelu else code_rule(quantizer, relu=True)
            to, flags = (place + slot.INPUT * index for place in (slot.BYTES, slot.BYTES_NO_ZEROS))
            sinks.append(Sink(TO_BYTES, 0, width, to, flags, coded, numbers(quantizer), shift(quantizer, width)))
        add_linear(self, block.intermediate, hidden, sinks, "intermediate")
        add_linear(self, block.output, None, [self._residual(hidden)], "output")
        self._normalize(block.output_norm, hidden)

    def _normalize(self, norm: Norm, hidden: int) -> None:
        epsilon = np.array([norm.eps], np.float32)
        zeros = np.zeros((TOGETHER, self.sizes.hidden), np.float32)
        self.add(
            Stage.named("norm"), Normalize(hidden, norm.weight, norm.bias, epsilon, zeros, self.sizes.hidden), "norm"
        )

    def _attention(self, attention: BooleanAttention | SoftmaxAttention, store: int) -> None:
        heads, size = attention.heads, attention.head_size
        if isinstance(attention, BooleanAttention):
            self.sizes.scratch = partial(boolean_words, size=size)
            self.add(Stage.named("attend_on_bits"), Attend(heads, size, store, None), "attention")
            return
        self.sizes.scratch = lambda keys: -(-softmax_units(keys, size) // 2)
        self.sizes.floats = max(self.sizes.floats, heads * size)
        probabilities = attention.probabilities
        query, key, value = (float(q.step) for q in (attention.query, attention.key, attention.value))
        low, high = probabilities.range
        scores, context = query * key / math.sqrt(size), probabilities.step * value
        softmax = np.array(SoftmaxNumbers(scores, probabilities.step, low, high, context), np.float32)
        self.add(Stage.named("attend_on_codes"), Attend(heads, size, store, softmax), "attention")
