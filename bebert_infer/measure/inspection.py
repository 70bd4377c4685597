"""What `bebert inspect` shows: a model's bits, bytes and operations as plain data."""

from dataclasses import asdict
from typing import Any

import numpy as np

from bebert_infer.artifact.config import MemberConfig
from bebert_infer.artifact.folder import Artifact
from bebert_infer.measure.cost import bytes_by_kind, full_precision_bytes, operations, products_by_bits
from bebert_infer.measure.paper_cost import paper_figures


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
        "papers": [asdict(figure) for figure in paper_figures(config, tokens)],
        "evidence": config.evidence,
    }


def _member(index: int, member: MemberConfig, tokens: int) -> dict[str, Any]:
    work = operations(member, tokens)
    weights = work.linear // tokens if tokens else 0
    return {
        "member": index,
        "family": member.family,
        "scheme": member.scheme,
        "weights": f"{weights:,} × {member.scheme.split('-')[0]} bit",
        "gmac": {bits: round(count / 1e9, 4) for bits, count in products_by_bits(member, tokens).items()},
        "float_gflops": round(work.elementwise / 1e9, 4),
        "full_precision_gflops": round(work.full_precision_flops / 1e9, 3),
    }
