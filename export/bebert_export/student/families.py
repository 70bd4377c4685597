"""What tells the published families apart, and the sizes of one student."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from torch import Tensor

from bebert_export.quantizers import (
    BinaryWeight,
    MinimumRule,
    RowCentredBinaryWeight,
    TensorCentredBinaryWeight,
    TernaryWeight,
    WeightQuantizer,
)

# (one scale per row, clip limit) -> quantizer; None leaves the weights in full precision
WeightRule = Callable[[bool, float], WeightQuantizer] | None


@dataclass(frozen=True)
class Family:
    """One published way to quantize BERT.

    suffixes       : names of the parallel linears that are added, ("",) for a single one
    weights        : weight quantizer of linears and, with one scale per row, of the word embedding
    inputs         : activation quantizer of linear inputs, Q, K, V and probabilities
    input_key      : name of its parameter in a linear
    learned_clips  : whether the limits of a dynamic quantizer are trained
    move           : whether a learned shift is added to every linear input
    unsigned_sites : whether probabilities and the FFN activation use unsigned codes
    attention      : "softmax", or "boolean": weight 1 iff score > 0, no softmax
    activation     : of the feed-forward part
    layer_norm_eps : fixed by the published code, or None where it follows the config
    bits           : accepted activation bits
    """

    suffixes: tuple[str, ...]
    weights: WeightRule
    inputs: Literal["none", "lsq", "sign", "elastic", "dynamic"]
    input_key: str
    learned_clips: bool
    move: bool
    unsigned_sites: bool
    attention: Literal["softmax", "boolean"]
    activation: Literal["relu", "gelu"]
    layer_norm_eps: float | None
    bits: range


_BINARYBERT = Family(
    suffixes=("_1", "_2"),
    weights=lambda rows, clip: BinaryWeight(rows),
    inputs="lsq",
    input_key="input_clip_val",
    learned_clips=True,
    move=False,
    unsigned_sites=True,
    attention="softmax",
    activation="relu",
    layer_norm_eps=1e-12,
    bits=range(2, 9),
)
_TERNARY = replace(_BINARYBERT, suffixes=("",), weights=lambda rows, clip: TernaryWeight(rows))
_BWN = replace(_BINARYBERT, suffixes=("",))
_BIT = replace(
    _BWN,
    weights=lambda rows, clip: TensorCentredBinaryWeight(rows),
    inputs="elastic",
    move=True,
    bits=range(1, 9),
)
_TERNARYBERT = Family(
    suffixes=("",),
    weights=lambda rows, clip: TernaryWeight(rows, clip),
    inputs="dynamic",
    input_key="act_clip_val",
    learned_clips=False,
    move=False,
    unsigned_sites=False,
    attention="softmax",
    activation="gelu",
    layer_norm_eps=None,
    bits=range(2, 9),
)
_BIBERT = replace(
    _TERNARYBERT,
    weights=lambda rows, clip: RowCentredBinaryWeight(),
    inputs="sign",
    attention="boolean",
    bits=range(1, 2),
)
_FLOAT = replace(_TERNARYBERT, weights=None, inputs="none", bits=range(32, 33))

# binarybert: also BEBERT members; ternary: the stage before ternary weight splitting; bwn: BinaryBERT without that, one
# binary weight in place of two, as in the baseline of Bai et al. (2021) that is named after binary weight networks;
# float: full precision under the same names, a teacher that yields scores, Q, K and V.
FAMILIES: dict[str, Family] = {
    "binarybert": _BINARYBERT,
    "ternary": _TERNARY,
    "bwn": _BWN,
    "bibert": _BIBERT,
    "bit": _BIT,
    "ternarybert": _TERNARYBERT,
    "float": _FLOAT,
}


@dataclass(frozen=True)
class StudentConfig:
    """Sizes and rules of one student; half-width BinaryBERT has attention_size < hidden_size.

    minimum    : "zero" (what the runtime does) or "batch" (published: minimum of the tensor at run time)
    shared_steps : one learned step for all linears that read the same values: both branches, and query, key and value.
                 The published ones differ by a few percent. Then such values are quantized once, not up to six times
    clip_value : first limits ±clip_value of dynamic quantizers, and TernaryBERT's clip of weights

    Raises ValueError, naming the value and what is accepted, if anything does not fit.
    """

    family: str
    activation_bits: int
    vocab_size: int = 30522
    hidden_size: int = 768
    attention_size: int = 768
    num_heads: int = 12
    intermediate_size: int = 3072
    num_layers: int = 12
    max_positions: int = 512
    type_vocab_size: int = 2
    num_labels: int = 2
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1
    minimum: MinimumRule = "zero"
    clip_value: float = 2.5
    shared_steps: bool = False

    def __post_init__(self) -> None:
        bits = _family(self.family).bits
        if self.activation_bits not in bits:
            accepted = f"{bits[0]} to {bits[-1]}" if len(bits) > 1 else str(bits[0])
            raise ValueError(f"activation_bits is {self.activation_bits}; {self.family} accepts {accepted}")
        for field in fields(self):
            if field.type is int and getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}; accepted is 1 or more")
        if self.attention_size % self.num_heads:
            accepted = f"multiples of num_heads {self.num_heads}"
            raise ValueError(f"attention_size is {self.attention_size}; accepted are {accepted}")
        if self.minimum not in ("zero", "batch"):
            raise ValueError(f'minimum is {self.minimum!r}; accepted are "zero" and "batch"')
        if self.shared_steps and self.rules.inputs != "lsq":
            raise ValueError(
                f"shared_steps is True; {self.family} has none at {self.activation_bits} bits, accepted is False"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; accepted is 0 <= dropout < 1")

    @property
    def head_size(self) -> int:
        """Values per attention head."""
        return self.attention_size // self.num_heads

    @property
    def rules(self) -> Family:
        """The family's rules; 8-bit BinaryBERT and its ternary stage have dynamic scales and GELU."""
        family = _family(self.family)
        if family.inputs == "lsq" and self.activation_bits == 8:
            return replace(family, inputs="dynamic", activation="gelu")
        return family

    @property
    def eps(self) -> float:
        """LayerNorm epsilon in force: the family's own, else the configured one."""
        fixed = _family(self.family).layer_norm_eps
        return self.layer_norm_eps if fixed is None else fixed


def student_config(
    family: str,
    state: Mapping[str, Tensor],
    num_heads: int,
    activation_bits: int,
    *,
    layer_norm_eps: float = 1e-12,
    dropout: float = 0.1,
    minimum: MinimumRule = "zero",
    shared_steps: bool = False,
) -> StudentConfig:
    """Configuration whose sizes are read off the tensors of a published state dict.

    The number of heads and the activation bits leave no trace in the shapes and must be given.
    Raises ValueError if a tensor that the family needs is missing, or if the sizes do not fit.
    """
    suffix = _family(family).suffixes[0]

    def shape(name: str) -> tuple[int, ...]:
        if f"{name}.weight" not in state:
            raise ValueError(f'the state dict has no tensor "{name}.weight", which {family} needs')
        found = tuple(state[f"{name}.weight"].shape)
        if len(found) != 2:
            raise ValueError(f"{name}.weight has shape {list(found)}; accepted are matrices")
        return found

    prefix = "bert.encoder.layer."
    layers = {key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)}
    if not layers or layers != {str(index) for index in range(len(layers))}:
        raise ValueError(
            f"encoder layers are numbered {str(sorted(layers)):.200}; accepted are 0, 1, 2 ... without gaps"
        )
    if len(state) < 16 * len(layers):
        raise ValueError(
            f"there are {len(layers)} encoder layers, but only {len(state)} tensors; a layer has 16 or more"
        )
    vocab_size, hidden_size = shape(f"bert.embeddings.word_embeddings{suffix}")
    # TernaryBERT stores its constant clip; in BiBERT at 1 bit the same key is dead
    clips = [value for key, value in state.items() if key.endswith(".weight_clip_val") and value.shape == (2,)]
    return StudentConfig(
        family=family,
        activation_bits=activation_bits,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        attention_size=shape(f"{prefix}0.attention.self.query{suffix}")[0],
        num_heads=num_heads,
        intermediate_size=shape(f"{prefix}0.intermediate.dense{suffix}")[0],
        num_layers=len(layers),
        max_positions=shape("bert.embeddings.position_embeddings")[0],
        type_vocab_size=shape("bert.embeddings.token_type_embeddings")[0],
        num_labels=shape("classifier")[0],
        layer_norm_eps=layer_norm_eps,
        dropout=dropout,
        minimum=minimum,
        clip_value=float(clips[0][1]) if clips and family == "ternarybert" else 2.5,
        shared_steps=shared_steps,
    )


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"family is {name!r}; accepted are {', '.join(FAMILIES)}")
    return FAMILIES[name]
