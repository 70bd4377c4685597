"""From the tensors of an artifact to `Member` objects: names become branches, quantizers, blocks."""

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.config import Config, MemberConfig, expected_tensors
from bebert_infer.artifact.tensors import kind_and_shape
from bebert_infer.errors import ModelFormatError
from bebert_infer.model.attention import BooleanAttention, SoftmaxAttention
from bebert_infer.model.block import Block, Norm
from bebert_infer.model.linear import BinaryLinear, Branch
from bebert_infer.model.member import Embeddings, Member
from bebert_infer.model.quantizer import Quantizer


def build_members(config: Config, tensors: dict[str, NDArray]) -> list[Member]:
    """Return one `Member` for every member of a validated artifact.

    Kernels get addresses of these tensors, so those of an artifact that was made in memory are checked here too.
    Raises ModelFormatError.
    """
    faults = config.faults()
    for name, (kind, shape) in expected_tensors(config).items() if not faults else ():
        have = tensors.get(name)
        found = None if have is None else kind_and_shape(have)
        if found != (kind, shape):
            faults.append(f"{name} is {found}, expected {(kind, shape)}")
    if faults:
        raise ModelFormatError("the model is not valid: " + "; ".join(faults[:20]))
    return [_Loader(member, tensors, f"members.{i}").member() for i, member in enumerate(config.members)]


class _Loader:
    """Reads the tensors under one prefix; a folder that passed `read_artifact` holds all of them."""

    def __init__(self, config: MemberConfig, tensors: dict[str, NDArray], prefix: str):
        self.config = config
        self.tensors = tensors
        self.prefix = prefix

    def get(self, name: str) -> NDArray:
        return self.tensors[f"{self.prefix}.{name}"]

    def member(self) -> Member:
        tables = range(self.config.branches)
        embeddings = Embeddings(
            tuple(self.get(f"embeddings.word.{i}.signs") for i in tables),
            tuple(self.get(f"embeddings.word.{i}.scale") for i in tables),
            self.get("embeddings.position"),
            self.get("embeddings.token_type"),
            self.norm("embeddings.norm"),
        )
        blocks = tuple(self.block(f"layers.{layer}") for layer in range(self.config.num_hidden_layers))
        return Member(
            embeddings,
            blocks,
            self.linear("pooler", "pooler"),
            self.get("classifier.weight"),
            self.get("classifier.bias"),
        )

    def block(self, name: str) -> Block:
        return Block(
            query=self.linear(f"{name}.query", "query"),
            key=self.linear(f"{name}.key", "key"),
            value=self.linear(f"{name}.value", "value"),
            attention=self.attention(name),
            attention_output=self.linear(f"{name}.attention_output", "attention_output"),
            attention_norm=self.norm(f"{name}.attention_norm"),
            intermediate=self.linear(f"{name}.intermediate", "intermediate"),
            gelu=self.config.activation == "gelu",
            output=self.linear(f"{name}.output", "output"),
            output_norm=self.norm(f"{name}.output_norm"),
        )

    def attention(self, name: str) -> SoftmaxAttention | BooleanAttention:
        heads = self.config.num_attention_heads
        head_size = self.config.attention_size // heads
        if self.config.attention == "boolean":
            return BooleanAttention(heads, head_size)
        query, key, value, probabilities = (
            self.quantizer(f"{name}.{site}_codes", f"{site}_codes") for site in ("query", "key", "value", "probability")
        )
        return SoftmaxAttention(heads, head_size, query, key, value, probabilities)

    def norm(self, name: str) -> Norm:
        return Norm(self.get(f"{name}.weight"), self.get(f"{name}.bias"), self.config.layer_norm_eps)

    def linear(self, name: str, kind: str) -> BinaryLinear:
        depth = self.config.linears()[kind][1]
        branches = []
        for index in range(self.config.branches):
            signs, scale = self.get(f"{name}.{index}.signs"), self.get(f"{name}.{index}.scale")
            quantizer = self.quantizer(f"{name}.{index}", kind)
            branches.append(Branch.build(signs, scale, depth, quantizer))
        return BinaryLinear(tuple(branches), self.get(f"{name}.bias"))

    def quantizer(self, name: str, kind: str) -> Quantizer:
        site = self.config.sites[kind]
        wanted = site.parameters(0)
        clip: NDArray[np.float32] | None = self.get(f"{name}.clip") if "clip" in wanted else None
        return Quantizer(
            site.kind,
            site.bits,
            site.signed,
            step=float(self.get(f"{name}.step")[0]) if "step" in wanted else 1.0,
            minimum=float(self.get(f"{name}.minimum")[0]) if "minimum" in wanted else 0.0,
            shift=self.get(f"{name}.shift") if site.shift else None,
            clip=None if clip is None else (float(clip[0]), float(clip[1])),
        )
