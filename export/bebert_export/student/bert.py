"""One post-LN BERT for all published binary families: quantized linears, full-precision residuals.

    e = LN(word[id] + position[t] + type[s])
    per layer:  q, k, v = linear(h);  s = Q K^T / sqrt(D) + mask;  c = P V
                h1 = LN(linear(c) + h);  f = act(linear(h1));  h2 = LN(linear(f) + h1)
    pooled = tanh(linear(h[:, 0]));  logits = classifier(pooled)

Families differ only in the table ``families.FAMILIES``. Parameters have the names of published
checkpoints. Never quantized: position and type embeddings, LayerNorms, biases, residuals, classifier.
Letters: B batch, T tokens, C hidden width, H heads, D head size.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bebert_export.quantizers import Bool
from bebert_export.student.families import FAMILIES, Family, StudentConfig, student_config
from bebert_export.student.layers import (
    Branched,
    Dense,
    QuantEmbedding,
    QuantLinear,
    Trace,
    build_quantizer,
    gelu,
    note,
    quantize,
)

__all__ = [
    "FAMILIES",
    "Family",
    "QuantEmbedding",
    "QuantLinear",
    "Student",
    "StudentConfig",
    "StudentOutput",
    "gelu",
    "student_config",
]

MASKED = -10000.0  # added to the score of a masked key, as the published code does; not -inf


@dataclass(frozen=True)
class StudentOutput:
    """What a forward pass yields; all tensors keep their gradient. Without details only the logits are there.

    logits : float[B, labels]
    hidden : num_layers + 1 tensors float[B, T, C], embeddings first
    scores : num_layers tensors float[B, H, T, T], before softmax, mask added
    queries, keys, values : num_layers tensors float[B, H, T, D] each, before their quantizer
    """

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    scores: tuple[Tensor, ...] = ()
    queries: tuple[Tensor, ...] = ()
    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()


class Embeddings(nn.Module):
    """Sum of word, position and type embeddings, normalized; two-branch families have two word tables."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self._suffixes = config.rules.suffixes
        for suffix in self._suffixes:
            self.add_module("word_embeddings" + suffix, QuantEmbedding(config))
        self.position_embeddings = nn.Embedding(config.max_positions, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.eps)
        self.dropout = nn.Dropout(config.dropout)

    def tables(self) -> list[QuantEmbedding]:
        """The word embeddings that are added, one or two."""
        modules = [self.get_submodule("word_embeddings" + suffix) for suffix in self._suffixes]
        return cast(list[QuantEmbedding], modules)

    def forward(self, ids: Tensor, types: Tensor) -> Tensor:
        """int64[B, T] twice -> float[B, T, C]."""
        first, *others = self.tables()
        words: Tensor = first(ids)
        for table in others:
            words = words + table(ids)
        positions = self.position_embeddings.weight[: ids.shape[1]]
        hidden: Tensor = self.dropout(self.LayerNorm(words + positions + self.token_type_embeddings(types)))
        return hidden


class SelfAttention(Branched):
    """Attention with quantized Q, K, V and weights; BiBERT's weights are bits, without softmax."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        for name in ("query", "key", "value"):
            self.add_linear(name, config.hidden_size, config.attention_size)
        self.share_step("query", "key", "value")
        self.boolean = config.rules.attention == "boolean"
        self.query_quantizer = build_quantizer(config, self, "clip_query")
        self.key_quantizer = build_quantizer(config, self, "clip_key")
        self.value_quantizer = build_quantizer(config, self, "clip_value")
        self.weight_quantizer = Bool() if self.boolean else build_quantizer(config, self, "clip_attn", unsigned=True)
        self.dropout = nn.Dropout(config.dropout)

    def _heads(self, name: str, hidden: Tensor, trace: Trace | None, site: str, ready: Tensor | None) -> Tensor:
        """float[B, T, C] -> float[B, H, T, D]."""
        projected = self.linear(name, hidden, trace, f"{site}.{name}", ready)
        batch, tokens, _ = projected.shape
        return projected.view(batch, tokens, self.config.num_heads, self.config.head_size).transpose(1, 2)

    def forward(self, hidden: Tensor, mask: Tensor, trace: Trace | None, layer: int) -> tuple[Tensor, ...]:
        """Context float[B, T, H*D]; scores; Q, K and V before their quantizers.

        mask : float[B, 1, 1, T]   added to the scores: 0, or -10000 where the key is padding
        """
        site = f"l{layer}.attn"
        ready = self.quantized_once("query", hidden, trace)
        query, key, value = (self._heads(name, hidden, trace, site, ready) for name in ("query", "key", "value"))
        q = quantize(self.query_quantizer, query, trace, f"{site}.q")
        k = quantize(self.key_quantizer, key, trace, f"{site}.k")
        v = quantize(self.value_quantizer, value, trace, f"{site}.v")
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.config.head_size) + mask
        # the bit is score > 0, which a masked key never reaches
        weights = self.dropout(scores if self.boolean else scores.softmax(-1))
        weights = quantize(self.weight_quantizer, weights, trace, f"{site}.probs")
        context = (weights @ v).transpose(1, 2).flatten(2)
        note(trace, f"scores_{layer}", scores)
        note(trace, f"l{layer}.context", context)
        return context, scores, query, key, value


class Attention(nn.Module):
    """Self-attention and its output projection."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = Dense(config, config.attention_size, config.hidden_size, norm=True)


class Layer(nn.Module):
    """One encoder layer: attention, then the feed-forward part."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Dense(config, config.hidden_size, config.intermediate_size)
        self.output = Dense(config, config.intermediate_size, config.hidden_size, norm=True, unsigned=True)
        self._activation = F.relu if config.rules.activation == "relu" else gelu

    def forward(self, hidden: Tensor, mask: Tensor, trace: Trace | None, layer: int) -> tuple[Tensor, ...]:
        """Next hidden state float[B, T, C], then scores, Q, K and V."""
        context, *kept = self.attention.self(hidden, mask, trace, layer)
        hidden = self.attention.output(context, trace, f"l{layer}.attn_out", hidden)
        before = self.intermediate(hidden, trace, f"l{layer}.intermediate")
        after = self._activation(before)
        note(trace, f"l{layer}.ffn_pre", before)
        note(trace, f"l{layer}.ffn_act", after)
        return self.output(after, trace, f"l{layer}.output", hidden), *kept


class Encoder(nn.Module):
    """The layers, under the name that checkpoints give them."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_layers))


class Bert(nn.Module):
    """Embeddings, encoder and pooler, under the names that checkpoints give them."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Dense(config, config.hidden_size, config.hidden_size)


class Student(nn.Module):
    """A BERT classifier of one family; takes the state dict of a published file without its dead keys.

    >>> config = StudentConfig("bit", 1, vocab_size=99, hidden_size=8, attention_size=8, num_heads=2,
    ...                        intermediate_size=16, num_layers=1, max_positions=16)
    >>> Student(config)(torch.tensor([[1, 2, 3]])).logits.shape
    torch.Size([1, 2])
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        nn.init.zeros_(self.classifier.bias)
        for parameter in self.parameters():
            if parameter.dim() == 2:  # matrices and tables; vectors and steps have their start values
                nn.init.normal_(parameter, std=0.02)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch, by copying; raises ValueError for ``assign``: quantizers would keep the old steps."""
        if assign:
            raise ValueError("assign is True; a student only accepts assign=False, which copies")
        return super().load_state_dict(state_dict, strict=strict)

    @property
    def layers(self) -> list[Layer]:
        """The encoder layers in order."""
        return cast(list[Layer], list(self.bert.encoder.layer))

    def layer(
        self,
        index: int,
        hidden: Tensor,
        attention_mask: Tensor | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """Run one encoder layer alone: float[B, T, C] and int[B, T] (1 = real token) -> float[B, T, C]."""
        result: Tensor = self.layers[index](hidden, _score_mask(attention_mask, hidden), trace, index)[0]
        return result

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        trace: Trace | None = None,
        details: bool | None = None,
    ) -> StudentOutput:
        """Logits and, as details, what distillation needs.

        input_ids, attention_mask, token_type_ids : int64[B, T]; without a mask all tokens are real, without
        types all are 0. A ``trace`` dict is filled with NumPy arrays: hidden_<l>, scores_<l>, codes.<site>,
        dyn.<site>.<statistic>, l<l>.context, l<l>.ffn_pre, l<l>.ffn_act, pooled.
        details : whether to keep hidden states, scores, Q, K and V of all layers (gigabytes for a large
        batch); None keeps them in training mode, where the gradient needs them anyway. A teacher needs True.

        Raises ValueError if T exceeds max_positions.
        """
        limit = self.config.max_positions
        if input_ids.shape[1] > limit:
            raise ValueError(f"a sequence has {input_ids.shape[1]} tokens; the model accepts up to {limit}")
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        states = [self.bert.embeddings(input_ids, types)]
        note(trace, "hidden_0", states[0])
        mask = _score_mask(attention_mask, states[0])
        keep = self.training if details is None else details
        inner = []
        for index, layer in enumerate(self.layers):
            state, *rest = layer(states[-1], mask, trace, index)
            if keep:
                inner.append(rest)
            else:
                states.clear()
            states.append(state)
            note(trace, f"hidden_{index + 1}", state)
        pooled = torch.tanh(self.bert.pooler(states[-1][:, 0], trace, "pooler"))
        note(trace, "pooled", pooled)
        logits = self.classifier(self.dropout(pooled)).to(pooled.dtype)  # autocast gives bfloat16
        return StudentOutput(logits, tuple(states), *zip(*inner, strict=True)) if keep else StudentOutput(logits)


def _score_mask(attention_mask: Tensor | None, hidden: Tensor) -> Tensor:
    """int[B, T] -> float[B, 1, 1, T] to add to scores."""
    if attention_mask is None:
        return hidden.new_zeros(1, 1, 1, 1)
    return ((1 - attention_mask.to(hidden.dtype)) * MASKED)[:, None, None, :]
