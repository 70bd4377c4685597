"""What early exit saves and costs on labelled examples: members run against scores, from logits that are there."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_export.data.metrics import evaluate
from bebert_infer.combine import combine
from bebert_infer.early_exit import BOUNDED, EXACT, Decision, ask_members, heard_together

THRESHOLDS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def early_exit_curve(
    rule: str, members: NDArray[np.float32], alphas: NDArray[np.float64], targets: NDArray[Any]
) -> list[dict[str, Any]]:
    """One row for all members, for "exact" if the rule has it, and for each of THRESHOLDS.

    members : logits float32[members, M, K];  targets : class ids [M], or labels [M, K] that do not exclude each other
    Rows hold early_exit (None: all members), mean_members, by_count (share of examples that needed 1..N members),
    metrics, and labels_changed: examples whose answer is not that of all members.
    """
    several = targets.ndim == 2
    decision = Decision(rule, members.shape[2], several)
    rows = []
    whole: NDArray[Any] | None = None
    for early_exit in (None, *([EXACT] if rule in BOUNDED else []), *THRESHOLDS):
        asked = np.full(members.shape[1], len(alphas))
        if early_exit is not None:
            ones = [1] * members.shape[1]
            asked = ask_members(decision, alphas, ones, "mean", early_exit, lambda member, at: members[member, at])[1]
        outputs = np.empty(members.shape[1:])
        for some, heard in heard_together(alphas, asked):
            outputs[some] = combine(rule, members[heard][:, some], alphas[heard], multi_label=several)
        answers = outputs > 0 if several else outputs.argmax(axis=1)[:, None]
        whole = answers if whole is None else whole
        rows.append(
            {
                "early_exit": early_exit,
                "mean_members": float(asked.mean()),
                "by_count": [float((asked == count).mean()) for count in range(1, len(alphas) + 1)],
                "metrics": evaluate(targets, outputs),
                "labels_changed": int((answers != whole).any(axis=1).sum()),
            }
        )
    return rows
