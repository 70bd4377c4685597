"""Columns of answers in a table, and their Arrow types: the same in every file and on every engine."""

from collections.abc import Sequence
from typing import Any

VOTES = {
    "regression": "double list",
    "single_label_classification": "string list",
    "multi_label_classification": "string list list",
}


def answer_types(labels: Sequence[str], problem: str, early: bool) -> dict[str, str]:
    """Columns of an answer and their types, for a model's `labels` and `problem_type`; early : with early exit.

    label, score, labels (only of a model with several), probability_LABEL for each label (not in regression), votes,
    members_run (only with early exit), windows, cut, error; empty where a row has none.
    """
    return {
        "label": "string",
        "score": "double",
        **({"labels": "string list"} if problem == "multi_label_classification" else {}),
        **({} if problem == "regression" else {f"probability_{name}": "double" for name in labels}),
        "votes": VOTES[problem],
        **({"members_run": "int64"} if early else {}),
        "windows": "int64",
        "cut": "int64",
        "error": "string",
    }


def cells(record: dict[str, Any]) -> dict[str, Any]:
    """A record (`record.answer_values`) with a cell for each probability."""
    return record | {f"probability_{name}": share for name, share in record.get("probabilities", {}).items()}


def arrow_schema(pa: Any, types: dict[str, str]) -> Any:
    """The `pyarrow.Schema` of these columns; pa : the package pyarrow."""
    known = {"int64": pa.int64(), "string": pa.string(), "double": pa.float64()}
    for _ in range(2):  # lists, and lists of lists
        known |= {f"{name} list": pa.list_(kind) for name, kind in known.items()}
    return pa.schema([(name, known[kind]) for name, kind in types.items()])
