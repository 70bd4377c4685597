"""From a trained student to what the runtime stores: sign bits, scales, steps and a description of each quantizer.

    weight quantizer   -> one or two branches of packed signs and float32 scales (ternary = two branches of alpha/2)
    activation         -> a `Site` (kind, bits, signed, shift) and its learned numbers
Nothing else changes: the runtime computes the same formula on integers.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bebert_export.quantizers import ActivationQuantizer, Bool, Dynamic, WeightQuantizer
from bebert_export.student.bert import QuantLinear, Student
from bebert_infer.artifact.config import CODES, LINEARS, MemberConfig, Site
from bebert_infer.model.quantizer import Kind
from bebert_kernels.packing import pack_weight_signs


@dataclass(frozen=True)
class PackedStudent:
    """One member as plain data. zeros counts weights that were exactly 0 (or equal to their centre), stored as +1."""

    config: MemberConfig
    tensors: dict[str, NDArray]
    zeros: int


def pack_student(student: Student) -> PackedStudent:
    """Pack a student into packed tensors, named as `artifact/config.py` expects, without the member's prefix."""
    return _Packer(student).pack()


class _Packer:
    def __init__(self, student: Student):
        self.student = student
        self.rules = student.config.rules
        self.tensors: dict[str, NDArray] = {}
        self.sites: dict[str, Site] = {}
        self.zeros = 0

    def pack(self) -> PackedStudent:
        config = self.student.config
        bert: Any = self.student.bert  # torch types attributes of a module as Tensor or Module
        embeddings = bert.embeddings
        tables: list[Any] = [embeddings.get_submodule("word_embeddings" + suffix) for suffix in self.rules.suffixes]
        self._signs("embeddings.word", [(t.weight, t.weight_quantizer) for t in tables])
        self._put("embeddings.position", embeddings.position_embeddings.weight)
        self._put("embeddings.token_type", embeddings.token_type_embeddings.weight)
        self._norm("embeddings.norm", embeddings.LayerNorm)
        for index, layer in enumerate(bert.encoder.layer):
            self._layer(f"layers.{index}", layer)
        self._linear("pooler", "pooler", bert.pooler, "dense")
        self._put("classifier.weight", self.student.classifier.weight)
        self._put("classifier.bias", self.student.classifier.bias)
        weight_bits = "2" if config.family in ("ternary", "ternarybert") else "1"
        described = MemberConfig(
            family=config.family,
            scheme=f"{weight_bits}-{weight_bits}-{config.activation_bits}",
            branches=cast(Any, self._branches()),
            row_scales=config.family == "bibert",
            hidden_size=config.hidden_size,
            attention_size=config.attention_size,
            num_attention_heads=config.num_heads,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            layer_norm_eps=config.eps,
            attention=self.rules.attention,
            activation=self.rules.activation,
            sites=self.sites,
        )
        return PackedStudent(described, self.tensors, self.zeros)

    def _branches(self) -> int:
        return sum(name.startswith("pooler.") and name.endswith(".signs") for name in self.tensors)

    def _layer(self, name: str, layer: Any) -> None:
        attention = layer.attention.self
        for kind in ("query", "key", "value"):
            self._linear(f"{name}.{kind}", kind, attention, kind)
        if self.rules.attention == "softmax":
            for site, kind in zip(CODES, ("query", "key", "value", "weight"), strict=True):
                self._site(f"{name}.{site}", site, getattr(attention, f"{kind}_quantizer"), None)
        self._linear(f"{name}.attention_output", "attention_output", layer.attention.output, "dense")
        self._norm(f"{name}.attention_norm", layer.attention.output.LayerNorm)
        self._linear(f"{name}.intermediate", "intermediate", layer.intermediate, "dense")
        self._linear(f"{name}.output", "output", layer.output, "dense")
        self._norm(f"{name}.output_norm", layer.output.LayerNorm)

    def _linear(self, name: str, kind: str, owner: nn.Module, attribute: str) -> None:
        """Fold the parallel linears `attribute`, `attribute_1`, … of one module; their biases are added."""
        assert kind in LINEARS
        linears: list[Any] = [owner.get_submodule(attribute + suffix) for suffix in self.rules.suffixes]
        count = self._signs(name, [(layer.weight, layer.weight_quantizer) for layer in linears])
        # Two ternary branches share one layer, hence one quantizer; two binary layers bring one each.
        for branch in range(count):
            layer = linears[branch % len(linears)]
            self._site(f"{name}.{branch}", kind, layer.input_quantizer, layer)
        bias = torch.stack([layer.bias.detach().double() for layer in linears]).sum(0)
        self._put(f"{name}.bias", bias)

    def _signs(self, name: str, weights: list[tuple[Tensor, WeightQuantizer]]) -> int:
        branches = [branch for weight, quantizer in weights for branch in quantizer.decompose(weight)]
        for index, branch in enumerate(branches):
            self.tensors[f"{name}.{index}.signs"] = pack_weight_signs(branch.signs.numpy())
            self._put(f"{name}.{index}.scale", branch.scale)
            self.zeros += branch.zeros
        return len(branches)

    def _site(self, name: str, kind: str, quantizer: ActivationQuantizer, layer: QuantLinear | None) -> None:
        move = layer.move if layer is not None else None
        elastic_sign = quantizer.kind == "sign" and self.rules.inputs == "elastic"
        site = Site(
            kind=cast(Kind, "shifted_sign" if elastic_sign else quantizer.kind),
            bits=quantizer.bits,
            signed=quantizer.signed,
            shift=move is not None,
        )
        if self.sites.setdefault(kind, site) != site:  # no assert: what it does must also happen with python -O
            raise AssertionError(f"layers differ at {kind}")
        if isinstance(quantizer, Dynamic):
            self._put(f"{name}.clip", quantizer.clip)
        elif site.kind != "sign" and not isinstance(quantizer, Bool):
            self._put(f"{name}.step", torch.tensor([quantizer.step_value]))
        if move is not None:
            self._put(f"{name}.shift", move.bias)
        if site.kind == "codes" and not site.signed:
            # Behind a ReLU the tensor's minimum is 0, behind ReLU and shift it is the smallest shift.
            minimum = move.bias.detach().min() if move is not None else torch.tensor(0.0)
            self._put(f"{name}.minimum", minimum.reshape(1))

    def _norm(self, name: str, norm: nn.LayerNorm) -> None:
        self._put(f"{name}.weight", norm.weight)
        self._put(f"{name}.bias", norm.bias)

    def _put(self, name: str, tensor: Tensor) -> None:
        self.tensors[name] = np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
