"""What a model costs: real bytes by kind, and operations by kind, with the papers' way of counting beside them.

Real sizes are sums over the tensors of the file. Paper-style figures carry their formula (numerics §6):

    FLOPs(w, a) = (linears: 2·MAC·w·a + attention products: 2·MAC·a·a) / 64 + float work
                  float work is 0.077 G at BERT-base and 128 tokens
                  one multiply-accumulate counts 2, and 64 one-bit operations count as one
    full precision = 2·MAC
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass

from numpy.typing import NDArray

from bebert_infer.artifact.config import Config, MemberConfig

ELEMENTWISE = 0.077e9 / (12 * 768 * 128)  # float operations per layer, hidden unit and token: fitted to 0.077 G


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates of one forward pass of one member over one sentence."""

    linear: int
    attention: int
    elementwise: float

    @property
    def full_precision_flops(self) -> float:
        """2·MAC plus float element-wise work."""
        return 2.0 * (self.linear + self.attention) + self.elementwise

    def paper_flops(self, weight_bits: int, activation_bits: int) -> float:
        """Count as the papers do: a product of w and a bits is w·a/64 of an operation."""
        linear = 2.0 * self.linear * weight_bits * activation_bits / 64
        attention = 2.0 * self.attention * activation_bits * activation_bits / 64
        return linear + attention + self.elementwise


def count_operations(layers: int, hidden: int, attention: int, wide: int, tokens: int, branches: int = 1) -> Operations:
    """Count for a sentence of `tokens` tokens and a BERT of these widths, pooler left out as in §6.2."""
    return Operations(
        linear=branches * (4 * hidden * attention + 2 * hidden * wide) * tokens * layers,
        attention=2 * attention * tokens * tokens * layers,
        elementwise=ELEMENTWISE * layers * hidden * tokens,
    )


def operations(member: MemberConfig, tokens: int) -> Operations:
    """Count the multiply-accumulates of one member for a sentence of `tokens` tokens."""
    return count_operations(
        member.num_hidden_layers,
        member.hidden_size,
        member.attention_size,
        member.intermediate_size,
        tokens,
        member.branches,
    )


def products_by_bits(member: MemberConfig, tokens: int) -> dict[str, int]:
    """Multiply-accumulates of one member by the bits of their factors, as in {"1×4": linear, "4×4": attention}."""
    work = operations(member, tokens)
    weights, _, activations = member.scheme.split("-")
    found = {f"{weights}×{activations}": work.linear}
    attention = f"{activations}×{activations}"  # the same bits where weights and activations have one
    return found | {attention: found.get(attention, 0) + work.attention}


@dataclass(frozen=True)
class Parameters:
    """Counts of one branch of a member; biases with the pooler's, `tables` are positions and types."""

    words: int
    matrices: int
    pooler: int
    tables: int
    biases: int
    norms: int
    classifier: int


def parameters(member: MemberConfig, config: Config) -> Parameters:
    """Count the parameters of one branch of a member."""
    hidden, attention, wide = member.hidden_size, member.attention_size, member.intermediate_size
    layers = member.num_hidden_layers
    return Parameters(
        words=config.vocab_size * hidden,
        matrices=layers * (4 * hidden * attention + 2 * hidden * wide),
        pooler=hidden * hidden,
        tables=(config.max_position_embeddings + config.type_vocab_size) * hidden,
        biases=layers * (3 * attention + hidden + wide + hidden) + hidden,
        norms=(2 * layers + 1) * 2 * hidden,
        classifier=config.num_labels * (hidden + 1),
    )


def full_precision_bytes(member: MemberConfig, config: Config) -> int:
    """Bytes of the same network with one float32 matrix where this one has binary branches."""
    return 4 * sum(astuple(parameters(member, config)))


KINDS = (
    ("word embedding signs (1 bit)", lambda name: ".embeddings.word." in name and name.endswith(".signs")),
    ("matrix signs (1 bit)", lambda name: name.endswith(".signs")),
    ("word embedding scales", lambda name: ".embeddings.word." in name),
    ("position and type tables", lambda name: ".embeddings.position" in name or ".embeddings.token_type" in name),
    ("scales, steps and shifts", lambda name: name.endswith((".scale", ".step", ".minimum", ".shift", ".clip"))),
    ("classifier", lambda name: ".classifier." in name),
    ("biases and LayerNorms", lambda name: True),
)


def bytes_by_kind(tensors: Mapping[str, NDArray]) -> dict[str, int]:
    """Real bytes of the tensors, itemised; every tensor is counted once, under the first kind that fits."""
    totals = {kind: 0 for kind, _ in KINDS}
    for name, tensor in tensors.items():
        totals[next(kind for kind, fits in KINDS if fits(name))] += tensor.nbytes
    return totals
