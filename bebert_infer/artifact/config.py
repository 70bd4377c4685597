"""`config.json` of a model folder: what every field is, and every tensor that must come with it.

The schema is complete: from a config, `expected_tensors` lists name, dtype and shape of each tensor in
`model.safetensors`. `docs/format.md` says the same in prose.
"""

import math
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from bebert_infer.errors import InputError
from bebert_kernels.packing import words

FORMAT = "bebert-infer"
FORMAT_VERSION = 1
COMBINATIONS = ("vote", "logits", "probabilities", "mean", "median")
Floats = NDArray[np.float64]
# Far beyond any trained weight; sums over members and products with float32 logits stay finite.
MAX_ALPHA = 1e100

Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
# Dot products of 8-bit codes are counted in int32: 255 × 65,536 fits.
Width = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
LINEARS = ("query", "key", "value", "attention_output", "intermediate", "output", "pooler")
CODES = ("query_codes", "key_codes", "value_codes", "probability_codes")


class Site(msgspec.Struct, frozen=True):
    """The quantizer at one place of the network (`quantizer.py`); its learned numbers are tensors."""

    kind: Literal["sign", "shifted_sign", "bool", "codes", "dynamic"]
    bits: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    signed: bool = True
    shift: bool = False

    def parameters(self, depth: int) -> dict[str, list[int]]:
        """Name and shape of the tensors that this quantizer needs, K = depth."""
        needed: dict[str, list[int]] = {}
        if self.kind in ("shifted_sign", "bool", "codes"):
            needed["step"] = [1]
        if self.kind == "codes" and not self.signed:
            needed["minimum"] = [1]
        if self.kind == "dynamic":
            needed["clip"] = [2]
        if self.shift:
            needed["shift"] = [depth]
        return needed


class MemberConfig(msgspec.Struct, frozen=True):
    """Dimensions and quantizers of one member. C hidden width, attention width = heads * head size."""

    family: str
    scheme: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]?(-[1-9][0-9]?){2}$")]
    branches: Literal[1, 2]
    row_scales: bool
    hidden_size: Width
    attention_size: Width
    num_attention_heads: Count
    intermediate_size: Width
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    layer_norm_eps: Annotated[float, msgspec.Meta(ge=1e-30, le=1)]  # as float32 above 0
    attention: Literal["softmax", "boolean"]
    activation: Literal["relu", "gelu"]
    sites: dict[str, Site]

    def linears(self) -> dict[str, tuple[int, int]]:
        """(outputs N, inputs K) of each kind of linear."""
        hidden, attention, wide = self.hidden_size, self.attention_size, self.intermediate_size
        return {
            "query": (attention, hidden),
            "key": (attention, hidden),
            "value": (attention, hidden),
            "attention_output": (hidden, attention),
            "intermediate": (wide, hidden),
            "output": (hidden, wide),
            "pooler": (hidden, hidden),
        }

    def faults(self, name: str) -> list[str]:
        """Everything in this description that contradicts itself."""
        found = []
        if self.attention_size % self.num_attention_heads:
            found.append(
                f"{name}.attention_size {self.attention_size} is no multiple of {self.num_attention_heads} heads"
            )
        sites = set(LINEARS) | (set(CODES) if self.attention == "softmax" else set())
        if set(self.sites) != sites:
            found.append(f"{name}.sites are {sorted(self.sites)}; accepted are {sorted(sites)}")
        for site in CODES[:3]:
            if site in self.sites and not self.sites[site].signed:
                found.append(f"{name}.sites.{site} is unsigned; queries, keys and values are signed")
        for site, quantizer in self.sites.items():
            if site in CODES and quantizer.shift:
                found.append(f"{name}.sites.{site} has a shift; only inputs of linears have one")
            if quantizer.kind == "dynamic" and quantizer.shift:
                found.append(f"{name}.sites.{site} is dynamic and has a shift; these exclude each other")
            if quantizer.kind == "dynamic" and quantizer.bits == 1:
                found.append(f"{name}.sites.{site} is dynamic with 1 bit; accepted are 2 to 8")
            if quantizer.kind == "bool" and quantizer.signed:
                found.append(f"{name}.sites.{site} is bool and signed; bool codes are 0 and 1")
            if quantizer.kind in ("sign", "shifted_sign", "bool") and quantizer.bits != 1:
                found.append(f"{name}.sites.{site} is {quantizer.kind} with {quantizer.bits} bits; accepted is 1")
        return found


class TokenizerConfig(msgspec.Struct, frozen=True):
    """Limits of the tokenizer, which itself is `tokenizer.json`; absent where a model takes token ids only.

    sha256 : of that file; models written before there was this field have none
    """

    max_length: Count
    sha256: str | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole `config.json`. Unknown fields are ignored, so that other tools may add theirs."""

    format: str
    format_version: int
    architectures: tuple[str, ...] = ("BebertForSequenceClassification",)
    model_type: str = "bebert"
    vocab_size: Count
    max_position_embeddings: Count
    type_vocab_size: Count
    num_labels: Count
    id2label: dict[str, str]
    label2id: dict[str, int]
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"]
    combination: Literal["vote", "logits", "probabilities", "mean", "median"]
    members: Annotated[list[MemberConfig], msgspec.Meta(min_length=1, max_length=1000)]
    tensors_sha256: str
    tensors_bytes: int
    tokenizer: TokenizerConfig | None = None
    evidence: dict[str, Any] = {}

    @property
    def multi_label(self) -> bool:
        """Whether the labels do not exclude each other: each is decided alone."""
        return self.problem_type == "multi_label_classification"

    @property
    def labels(self) -> list[str]:
        """Label names in the order of the logits."""
        return [self.id2label[str(index)] for index in range(self.num_labels)]

    def faults(self) -> list[str]:
        """Everything that contradicts itself; empty for a good config."""
        found = [fault for i, member in enumerate(self.members) for fault in member.faults(f"members[{i}]")]
        # Lengths first: a config may claim two billion labels.
        numbered = len(self.id2label) == self.num_labels
        if not numbered or self.id2label.keys() != {str(index) for index in range(self.num_labels)}:
            keys = str(sorted(self.id2label))
            found.append(f"id2label has keys {keys:.80}; accepted are 0 to {self.num_labels - 1}")
        elif (
            # Of equal names the inverse keeps the last, and so does every answer that is keyed by name.
            len(set(self.id2label.values())) < self.num_labels
            or self.label2id != {self.id2label[str(i)]: i for i in range(self.num_labels)}
        ):
            found.append("label2id is not the inverse of id2label; label names must differ")
        regression = self.problem_type == "regression"
        if regression != (self.combination in ("mean", "median")):
            found.append(
                f'combination "{self.combination}" does not fit problem_type "{self.problem_type}"; '
                "classification takes vote, logits or probabilities, regression mean or median"
            )
        if regression and self.num_labels != 1:
            found.append(f"a regression model has {self.num_labels} outputs; accepted is 1")
        if self.tokenizer and self.tokenizer.max_length > self.max_position_embeddings:
            found.append(
                f"tokenizer.max_length {self.tokenizer.max_length} exceeds {self.max_position_embeddings} positions"
            )
        return found


def usual_problem(outputs: int) -> str:
    """What outputs mean where nobody says it, as in transformers: one is a value, several are one class of them."""
    return "regression" if outputs == 1 else "single_label_classification"


def check_rule(rule: str) -> None:
    """Raise InputError for a rule that there is not."""
    if rule not in COMBINATIONS:
        raise InputError(f'combination is "{rule}"; accepted are {", ".join(COMBINATIONS)}')


def check_alphas(rule: str, alphas: Floats) -> None:
    """Raise InputError for an unknown rule, and alphas that leave a mean or median without an answer.

    The other rules take any alphas.
    """
    check_rule(rule)
    if rule == "mean" and alphas.sum() == 0:
        raise InputError(f"alphas are {alphas.tolist()}; for a mean their sum must not be 0")
    if rule == "median" and ((alphas < 0).any() or alphas.sum() <= 0):
        raise InputError(f"alphas are {alphas.tolist()}; a median accepts none below 0 and a positive sum")


def alpha_faults(rule: str, alphas: Floats) -> list[str]:
    """Everything about stored alphas that leaves a model without an answer; empty for good ones."""
    if not np.isfinite(alphas).all() or np.abs(alphas).max() > MAX_ALPHA:
        return [f"alphas are {alphas.tolist()!s:.80}; accepted are finite numbers up to {MAX_ALPHA:g} in size"]
    if rule == "logits" and not np.abs(alphas).sum() > 1 / MAX_ALPHA:
        return ["alphas are all 0; for a sum of logits one must not be"]
    try:
        check_alphas(rule, alphas)
    except InputError as error:
        return [str(error)]
    return []


def expected_tensors(config: Config) -> dict[str, tuple[str, list[int]]]:
    """Name -> (dtype, shape) of every tensor that the folder must hold, dtypes as safetensors writes them."""
    found: dict[str, tuple[str, list[int]]] = {"alphas": ("F64", [len(config.members)])}
    for index, member in enumerate(config.members):
        found.update(_member_tensors(f"members.{index}", member, config))
    return found


def tensor_totals(config: Config) -> tuple[int, int]:
    """Number and bytes of all tensors of `expected_tensors`, without listing every layer."""
    count, size = 1, 8 * len(config.members)
    for member in config.members:
        shapes = [
            _member_tensors("", msgspec.structs.replace(member, num_hidden_layers=n), config).values() for n in (0, 1)
        ]
        counts = [len(found) for found in shapes]
        sizes = [sum((8 if kind == "U64" else 4) * math.prod(shape) for kind, shape in found) for found in shapes]
        count += counts[0] + member.num_hidden_layers * (counts[1] - counts[0])
        size += sizes[0] + member.num_hidden_layers * (sizes[1] - sizes[0])
    return count, size


def _member_tensors(prefix: str, member: MemberConfig, config: Config) -> dict[str, tuple[str, list[int]]]:
    hidden = member.hidden_size
    found: dict[str, tuple[str, list[int]]] = {}
    for branch in range(member.branches):
        name = f"{prefix}.embeddings.word.{branch}"
        found[f"{name}.signs"] = ("U64", [config.vocab_size, words(hidden)])
        found[f"{name}.scale"] = ("F32", [config.vocab_size])
    found[f"{prefix}.embeddings.position"] = ("F32", [config.max_position_embeddings, hidden])
    found[f"{prefix}.embeddings.token_type"] = ("F32", [config.type_vocab_size, hidden])
    norms = [f"{prefix}.embeddings.norm"]
    for layer in range(member.num_hidden_layers):
        name = f"{prefix}.layers.{layer}"
        norms += [f"{name}.attention_norm", f"{name}.output_norm"]
        for kind in LINEARS[:-1]:
            found.update(_linear_tensors(f"{name}.{kind}", kind, member))
        for site in CODES if member.attention == "softmax" else ():
            for parameter, shape in member.sites[site].parameters(0).items():
                found[f"{name}.{site}.{parameter}"] = ("F32", shape)
    found.update(_linear_tensors(f"{prefix}.pooler", "pooler", member))
    for norm in norms:
        found[f"{norm}.weight"] = found[f"{norm}.bias"] = ("F32", [hidden])
    found[f"{prefix}.classifier.weight"] = ("F32", [config.num_labels, hidden])
    found[f"{prefix}.classifier.bias"] = ("F32", [config.num_labels])
    return found


def _linear_tensors(name: str, kind: str, member: MemberConfig) -> dict[str, tuple[str, list[int]]]:
    outputs, depth = member.linears()[kind]
    found: dict[str, tuple[str, list[int]]] = {f"{name}.bias": ("F32", [outputs])}
    for branch in range(member.branches):
        found[f"{name}.{branch}.signs"] = ("U64", [outputs, words(depth)])
        found[f"{name}.{branch}.scale"] = ("F32", [outputs if member.row_scales else 1])
        for parameter, shape in member.sites[kind].parameters(depth).items():
            found[f"{name}.{branch}.{parameter}"] = ("F32", shape)
    return found
