"""Programs that keep floats between quantizers: for every member, whatever its quantizers ask about a sentence.

Fused programs (`lower_member.py`) hand codes from layer to layer. That needs steps known before the sentence, GELU only
where its sign is enough, and two branches of one kind of codes. Members without that, such as those with 8-bit codes
scaled by a sentence's own values (TernaryBERT 2-2-8, BinaryBERT 1-1-8), run as these programs.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.attention import BooleanAttention
from bebert_infer.model.block import Block
from bebert_infer.model.linear import BinaryLinear, Branch
from bebert_infer.model.member import Member
from bebert_infer.model.quantizer import Quantizer
from bebert_infer.native.lower_linear import add_product, code_bits, code_rule
from bebert_infer.native.lower_member import LINEARS, MemberProgram
from bebert_infer.native.program_builder import numbers, shift
from bebert_infer.native.release import release_signs
from bebert_kernels.abi import frame, rule, slot
from bebert_kernels.abi.instruction import Activate, AttendFloats, Combine, Measure, Quantize, Site
from bebert_kernels.abi.product import Weights
from bebert_kernels.abi.sink import TO_FLOATS, Input, Sink
from bebert_kernels.abi.stage import Stage
from bebert_kernels.attention.layout import float_words
from bebert_kernels.program.layer import Layer

# Halves of RANGES: one is read in the phase that writes the other.
OF_HIDDEN, OF_REST = 0, 1


class UnfusedProgram(MemberProgram):
    """Written while it is made, phase by phase."""

    def _write(self) -> None:
        member, hidden = self.member, self.sizes.hidden
        self._share({slot.RANGES: 16})
        self._embed()
        self._measure(slot.HIDDEN, hidden, OF_HIDDEN)
        self.phase(frame.ROWS)
        for block in member.blocks:
            self._unfused_block(block)
        self._gather()
        self._measure(slot.FIRST, hidden, OF_REST)
        self.sizes.floats = max(self.sizes.floats, hidden)
        self._linear(member.pooler, slot.FIRST, OF_REST, slot.FLOATS, "pooler")
        self._classify()
        self.phase(frame.SENTENCES)

    def _unfused_block(self, block: Block) -> None:
        hidden, wide = self.sizes.hidden, len(block.intermediate.bias)
        attention = block.attention
        width = attention.heads * attention.head_size
        places = (slot.QUERY_FLOATS, slot.KEY_FLOATS, slot.VALUE_FLOATS)
        self._share(dict.fromkeys(places, 4 * width) | {slot.WIDE: 4 * wide})
        for layer, to in zip((block.query, block.key, block.value), places, strict=True):
            self._linear(layer, slot.HIDDEN, OF_HIDDEN, to, "query, key, value")
        self.phase(frame.ROWS)

        sites = None
        if not isinstance(attention, BooleanAttention):
            quantizers = (attention.query, attention.key, attention.value, attention.probabilities)
            # Probabilities are rounded whatever their quantizer, as the truth does.
            rules = [*(code_rule(quantizer) for quantizer in quantizers[:3]), rule.CODES]
            made = zip(rules, quantizers, strict=True)
            sites = [Site(coded, statistics(q), numbers(q), clip(q)) for coded, q in made]
        self.sizes.scratch = lambda keys: float_words(keys, attention.heads, attention.head_size)
        arguments = AttendFloats(attention.heads, attention.head_size, sites, OF_REST)
        self.add(Stage.named("attend_on_floats"), arguments, "attention")
        self.phase(frame.SENTENCES)

        self._linear(block.attention_output, slot.QUERY_FLOATS, OF_REST, slot.HIDDEN, "attention output", adds=True)
        self._normalize(block.attention_norm, slot.HIDDEN)
        self._measure(slot.HIDDEN, hidden, OF_HIDDEN)
        self.phase(frame.ROWS)

        self._linear(block.intermediate, slot.HIDDEN, OF_HIDDEN, slot.WIDE, "intermediate", relu=not block.gelu)
        sources = [
            slot.ACTIVATED if block.gelu and not sign_is_enough(b.quantizer) else slot.WIDE
            for b in block.output.branches
        ]
        if slot.ACTIVATED in sources:
            self._share({slot.ACTIVATED: 4 * wide})
            self.add(Stage.named("activate"), Activate(wide), "gelu")
        # Statistics are of what codes with statistics are made of, which are never those of signs.
        self._measure(slot.ACTIVATED if slot.ACTIVATED in sources else slot.WIDE, wide, OF_REST)
        self.phase(frame.ROWS)

        self._linear(block.output, sources, OF_REST, slot.HIDDEN, "output", adds=True, gelu=block.gelu)
        self._normalize(block.output_norm, slot.HIDDEN)
        self._measure(slot.HIDDEN, hidden, OF_HIDDEN)
        self.phase(frame.ROWS)

    def _share(self, bytes_a_row: dict[int, int]) -> None:
        for place, size in bytes_a_row.items():
            self.sizes.shared[place] = max(self.sizes.shared.get(place, 0), size)

    def _measure(self, source: int, width: int, half: int) -> None:
        self.add(Stage.named("measure_rows"), Measure(source, width, half), "statistics")

    def _linear(
        self,
        layer: BinaryLinear,
        source: int | list[int],
        half: int,
        to: int,
        name: str,
        *,
        adds: bool = False,
        relu: bool = False,
        gelu: bool = False,
    ) -> None:
        """Codes and dot products of each branch, then both together. source : of each branch, or of all."""
        outputs = len(layer.bias)
        sources = source if isinstance(source, list) else [source] * len(layer.branches)
        for index, (branch, floats) in enumerate(zip(layer.branches, sources, strict=True)):
            self._dots(branch, index, floats, half, name, gelu=gelu)
        scales, sums = ([getattr(b, field) for b in layer.branches] for field in ("scale", "sums"))
        combine = Combine(outputs, len(layer.branches), scales * 2, sums * 2, layer.bias, to, adds, relu)
        self.add(Stage.named("combine_branches"), combine, name)

    def _dots(self, branch: Branch, index: int, source: int, half: int, name: str, *, gelu: bool) -> None:
        quantizer, depth, outputs = branch.quantizer, branch.depth, len(branch.signs)
        coded = rule.GELU_SIGN if gelu and sign_is_enough(quantizer) else code_rule(quantizer)
        made = statistics(quantizer), numbers(quantizer), shift(quantizer, depth), clip(quantizer)
        self.add(Stage.named("quantize_rows"), Quantize(source, depth, half, index, coded, *made), "quantize")
        ones, zeros = np.ones(outputs, np.float32), np.zeros(outputs, np.float32)
        weights = Weights(branch.signs, depth, code_bits(quantizer), quantizer.range[0], ones, zeros, 0)
        sink = Sink(TO_FLOATS, 0, outputs, slot.DOTS + index)
        self.sizes.dots = max(self.sizes.dots, outputs)
        # A row of clipped values and their range (`quantize_rows`) shares the place of the dots of all rows.
        self.sizes.clipped = max(self.sizes.clipped, depth + 2)
        add_product(self, Layer(slot.FLOATS, [Input(rule.ALREADY_CODED)], [weights], [sink]), name)
        release_signs(self, [branch])


def statistics(quantizer: Quantizer) -> int:
    """Where its step and minimum come from."""
    if quantizer.kind != "dynamic":
        return rule.STORED
    return rule.SYMMETRIC if quantizer.signed else rule.ASYMMETRIC


def clip(quantizer: Quantizer) -> NDArray[np.float32]:
    """The limits of its values, (low, high)."""
    return np.array(quantizer.clip or (-np.inf, np.inf), np.float32)


def sign_is_enough(quantizer: Quantizer) -> bool:
    """Whether its codes of GELU(x) are the sign of GELU(x), a threshold of x."""
    return quantizer.is_sign and quantizer.shift is None


def can_fuse(member: Member) -> bool:
    """Whether codes can go from layer to layer: stored numbers, GELU only for signs, branches of one kind."""
    for block in member.blocks:
        attention = block.attention
        if block.gelu and not all(sign_is_enough(branch.quantizer) for branch in block.output.branches):
            return False
        if not block.gelu and any(branch.quantizer.is_sign for branch in block.output.branches):
            return False  # signs of ReLU outputs are 0 or +1, and sinks of signs know no ReLU
        if isinstance(attention, BooleanAttention):
            # Attention on bits leaves the signs of its context for one input.
            if [branch.quantizer for branch in block.attention_output.branches] != [Quantizer("sign")]:
                return False
            continue
        probabilities = attention.probabilities
        if probabilities.kind not in ("codes", "bool") or probabilities.minimum or probabilities.signed:
            return False
        if any(quantizer.kind == "dynamic" for quantizer in (attention.query, attention.key, attention.value)):
            return False
    layers = [getattr(block, name) for block in member.blocks for name in LINEARS] + [member.pooler]
    kinds = [{(b.quantizer.is_sign, code_bits(b.quantizer)) for b in layer.branches} for layer in layers]
    dynamic = any(branch.quantizer.kind == "dynamic" for layer in layers for branch in layer.branches)
    return not dynamic and all(len(kind) == 1 for kind in kinds)


def lowered(member: Member, releases: bool = False) -> MemberProgram:
    """The program of a member; releases : as in `program_builder.Program`."""
    return MemberProgram(member, releases) if can_fuse(member) else UnfusedProgram(member, releases)
