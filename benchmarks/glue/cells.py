"""The figures of docs/results/cells.md: every group of cells that has a record, table by table."""

from glue.summary import Summary
from glue.tables import NONE, Published, accuracy, claims, distillation, larger, noise, one_bit, sizes, table, title


def figures(summary: Summary, published: Published) -> str:
    """Headings and tables, in the order of the settings. A group without any record is only named."""
    count, rule = summary.report["members"], summary.report["rule"]
    done, wanted = len(summary.records), sum(map(len, summary.planned.values()))
    empty = "; ".join(title(group) for group in summary.planned if group not in summary.groups)
    without = f" (none: {empty})" if empty else ""
    parts = [
        f"{done} of {wanted} cells have a record{without}. Ensemble: the first {count} members by `{rule}`, for "
        f"regression by `{summary.report['regression_rule']}`, fixed beforehand. ± is the standard deviation over "
        "seeds.\n",
        "## Claims, every group of cells\n",
        claims(summary, published),
        "## Scores\n",
    ]
    for group in summary.groups:
        parts += [f"### {title(group)}\n", accuracy(summary, group, published)]
    parts += ["## Noise after the embeddings\n", "Standard deviation of the score over seeds of noise, points.\n"]
    for group in summary.groups:
        parts += [f"### Noise: {title(group)}\n", noise(summary, group, published)]
    parts.append("## Distillation and training time\n")
    pairs = list(dict.fromkeys((group.encoder, group.base) for group in summary.groups))
    for encoder, base in pairs:
        groups = [group for group in summary.groups if (group.encoder, group.base) == (encoder, base)]
        if len(groups) > 1:
            parts += [f"### Distillation: {encoder}, {base}\n", distillation(summary, groups)]
    parts.append("## BiT against BiBERT, 1-1-1\n")
    for group in summary.groups:
        # With the same distillation if there is such a group; the settings see to it that both are 1-1-1.
        others = [other for other in summary.groups if (other.encoder, other.base) == (group.encoder, "bibert")]
        others.sort(key=lambda other: other.distill != group.distill)
        if summary.base(group) == "bit" and others:
            parts += [f"### 1-1-1: {title(group)}, against {title(others[0])}\n", one_bit(summary, group, others[0])]
    parts.append("## Size of the ensemble\n")
    for group in summary.groups:
        parts += [f"### Members: {title(group)}\n", sizes(summary, group)]
        if summary.larger(group):
            parts += [f"### More members: {title(group)}\n", larger(summary, group)]
    parts += ["## Files\n", files(summary)]
    return "\n".join(parts)


def files(summary: Summary) -> str:
    """Real bytes of model folders beside those of the full-precision weights, of the first task of each kind."""
    rows = []
    for cell, record in sorted(summary.records.items()):
        model, full = record["bytes"]["model"], record["bytes"]["full_precision"]
        words = record.get("full_precision_options", {}).get("vocabulary_size")
        kind = [cell.encoder, cell.base, str(len(record["members"])), f"{words:,}" if words else "all"]
        if not any(row[:4] == kind for row in rows):
            rows.append([*kind, f"{full:,}", f"{model:,}", f"{full / model:.1f}×"])
    headings = [
        "encoder",
        "base",
        "members",
        "word pieces",
        "full precision, bytes",
        "packed model, all files",
        "smaller",
    ]
    return table(headings, rows or [[NONE] * len(headings)])
