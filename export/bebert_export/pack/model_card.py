"""The model card, `README.md` of a model folder: what it is, what it costs, what was checked, how it was made."""

import json
from collections.abc import Mapping

from numpy.typing import NDArray

from bebert_export.pack.card_metadata import CardFacts, front_matter
from bebert_infer.artifact.config import Config
from bebert_infer.measure.cost import bytes_by_kind, full_precision_bytes


def model_card(config: Config, tensors: Mapping[str, NDArray], text: str | None, facts: CardFacts | None = None) -> str:
    """Return the card: front matter for the hub, `text` (what only the maker knows), then facts from the model."""
    members = config.members
    facts = facts or CardFacts()
    size = sum(bytes_by_kind(tensors).values())
    parent = sum(full_precision_bytes(member, config) for member in members) / len(members)
    families = ", ".join(sorted({f"{member.family} {member.scheme}" for member in members}))
    lines = [
        "---",
        front_matter(config, facts),
        "---",
        "",
        "# Binary ensemble BERT",
        "",
        text
        or f"Packed by `bebert`. Licence: {facts.licence or 'not given'}. Data and training command were not given.",
        "",
        "## What it is",
        "",
        "| | |",
        "|---|---|",
        f"| members | {len(members)} ({families}), combined by {config.combination} |",
        f"| alphas | {', '.join(f'{float(alpha):.4g}' for alpha in tensors['alphas'])} |",
        f"| labels | {', '.join(config.labels)} ({config.problem_type}) |",
        f"| tensors | {size:,} bytes |",
        f"| one full-precision model of this shape | {round(parent):,} bytes ({parent / size:.1f}×) |",
        "",
        "| bytes | of |",
        "|---:|---|",
        *(f"| {count:,} | {kind} |" for kind, count in bytes_by_kind(tensors).items() if count),
        "",
        "## Evidence",
        "",
        "Recorded when the model was written; `parity` compares packed engine and PyTorch graph, code by code.",
        "",
        "```json",
        json.dumps(config.evidence, indent=2, ensure_ascii=False),
        "```",
        "",
        "## Use",
        "",
        "```python",
        "from bebert_infer import Ensemble",
        "",
        'model = Ensemble.from_pretrained("path/of/this/folder")  # or its name on the hub, "owner/name"',
        'model("some text")' if config.tokenizer else "model.logits(input_ids, attention_mask, token_type_ids)",
        "```",
        "",
    ]
    return "\n".join(lines)
