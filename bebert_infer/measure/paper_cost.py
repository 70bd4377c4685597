"""Sizes and operations as the papers count them, each with its formula, beside the count that leaves nothing out.

The published figures (418, 28.0, 13.4, 16.5, 33 MB; 22.5, 0.4, 0.8, 1.5, 3.0/2 GFLOPs, BERT-base, 128 tokens) come out
of these formulas. MB in the papers is MiB. What is generous in them: the sizes of binary models count neither the
pooler's matrix nor the tables of positions and types (a fit to the published figures, not documented; numerics §6.4),
and BEBERT divides the work of an ensemble by its members, because they run in parallel.
"""

from dataclasses import dataclass

from bebert_infer.artifact.config import Config, MemberConfig
from bebert_infer.measure.cost import operations, parameters

MIB = 2**20


@dataclass(frozen=True)
class Figure:
    """One line of `bebert inspect`: a figure the papers' way, the same with nothing left out, and the formula."""

    what: str
    unit: str
    paper: float
    honest: float
    formula: str


def honest_bytes(member: MemberConfig, config: Config, weight_bits: int = 1) -> float:
    """All of a member: signs of words, matrices and pooler at `weight_bits`, everything else float32, no scales."""
    count = parameters(member, config)
    quantized = member.branches * (count.words + count.matrices + count.pooler) * weight_bits / 8
    return quantized + 4 * (count.tables + member.branches * count.biases + count.norms + count.classifier)


def paper_bytes(member: MemberConfig, config: Config, weight_bits: int = 1) -> float:
    """A member as its paper counts it.

    2 bits (TernaryBERT): everything. 1 bit (BiBERT, BinaryBERT): without pooler matrix, positions and types; two
    branches count twice the biases of the full-width model that they were split from.
    """
    if weight_bits > 1:
        return honest_bytes(member, config, weight_bits)
    count = parameters(member, config)
    hidden, layers = member.hidden_size, member.num_hidden_layers
    wide = member.intermediate_size * hidden // member.attention_size  # feed-forward width before narrowing
    biases = count.biases if member.branches == 1 else 2 * (layers * (5 * hidden + wide) + hidden)
    return member.branches * (count.words + count.matrices) / 8 + 4 * (biases + count.norms + count.classifier)


def paper_figures(config: Config, tokens: int) -> list[Figure]:
    """Size and operations of a whole model, for a sentence of `tokens` tokens."""
    members = config.members
    bits = [[int(part) for part in member.scheme.split("-")] for member in members]
    flops = [
        operations(member, tokens).paper_flops(weights, activations) / 1e9
        for member, (weights, _, activations) in zip(members, bits, strict=True)
    ]
    sizes = [paper_bytes(member, config, weights) for member, (weights, *_) in zip(members, bits, strict=True)]
    honest = sum(honest_bytes(member, config, weights) for member, (weights, *_) in zip(members, bits, strict=True))
    number = len(members)
    return [
        Figure(
            "size",
            "MiB",
            sum(sizes) / MIB,
            honest / MIB,
            "signs of words and linears + float32 biases, LayerNorms, classifier; left out: pooler, positions, types",
        ),
        Figure(
            "operations",
            "GFLOPs",
            sum(flops) / number,
            sum(flops),
            f"(2·MAC of linears·W·A + 2·MAC of attention·A·A)/64 + float work; divided by {number} parallel member"
            + "s" * (number > 1),
        ),
    ]
