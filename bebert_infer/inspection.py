"""What `bebert inspect` shows: a model's bits, bytes and operations as plain data."""

from typing import Any

import numpy as np

from bebert_infer.artifact import Artifact
from bebert_infer.config import MemberConfig
from bebert_infer.cost import bytes_by_kind, full_precision_bytes, operations

FORMULA = (
    "paper-style FLOPs = (2·MAC of linears·W·A + 2·MAC of attention·A·A)/64 + element-wise float work; "
    "full precision = 2·MAC + the same (numerics §6)"
)


def describe(artifact: Artifact, tokens: int = 128) -> dict[str, Any]:
    """Return model facts, bytes by kind, operations of each member for a sentence of `tokens` tokens, evidence."""
    config = artifact.config
    parents = [full_precision_bytes(member, config) for member in config.members]
    size = config.tensors_bytes
    return {
        "model": {
            "folder": str(artifact.path),
            "labels": ", ".join(config.labels),
            "members": f"{len(config.members)}, combined by {config.combination}",
            "alphas": ", ".join(f"{alpha:.4g}" for alpha in np.asarray(artifact.tensors["alphas"])),
            "text": f"yes, up to {config.tokenizer.max_length} tokens" if config.tokenizer else "no, token ids only",
            "file": f"{size:,} bytes",
            "one full-precision model": f"{parents[0]:,} bytes, {parents[0] / size:.1f}× the file",
        },
        "bytes": bytes_by_kind(artifact.tensors),
        "members": [_member(index, member, tokens) for index, member in enumerate(config.members)],
        "formula": FORMULA,
        "evidence": config.evidence,
    }


def _member(index: int, member: MemberConfig, tokens: int) -> dict[str, Any]:
    work = operations(member, tokens)
    _, _, activation_bits = (int(part) for part in member.scheme.split("-"))
    weights = work.linear // tokens if tokens else 0
    return {
        "member": index,
        "family": member.family,
        "scheme": member.scheme,
        "weights": f"{weights:,} × 1 bit",
        "gmac": round((work.linear + work.attention) / 1e9, 3),
        "full_precision_gflops": round(work.full_precision_flops / 1e9, 3),
        "paper_gflops": round(work.paper_flops(1, activation_bits) / 1e9, 3),
    }
