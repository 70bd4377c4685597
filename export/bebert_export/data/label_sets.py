"""Labels that do not exclude each other: a list in one cell of a row, or a column of 0 and 1 for each of them."""

import json
from collections.abc import Sequence
from typing import Any

from bebert_infer.bulk.tables import Table
from bebert_infer.errors import DataError

YES_NO = {"0": False, "1": True, "false": False, "true": True}


def listed_labels(table: Table, row: int, cell: Any) -> list[Any]:
    """The labels in one cell: a list of JSON or Parquet, the same as text, or names with commas.

    A text without labels has the list [], so that a cell that was forgotten is not taken for one. Raises DataError.
    """
    shown = repr(cell)[:80]
    if isinstance(cell, str) and cell.strip().startswith("["):
        try:
            cell = json.loads(cell)
        except ValueError:
            cell = None
    elif isinstance(cell, str):
        cell = [name.strip() for name in cell.split(",")]
    elif isinstance(cell, int | float) and not isinstance(cell, bool):
        cell = [cell]
    if not isinstance(cell, list) or any(name is None or name == "" or name != name for name in cell):
        raise DataError(
            f"{table.place(row)} has the labels {shown}; accepted are names with commas, or a list of JSON: "
            '["a", "b"], and [] for none'
        )
    return cell


def marked_labels(table: Table, row: int, names: Sequence[str]) -> tuple[str, ...]:
    """The labels whose columns say 1 in one row. Raises DataError."""
    said = []
    for name in names:
        cell = table.columns[name][row]
        whole = int(cell) if isinstance(cell, float) and cell.is_integer() else cell
        mark = YES_NO.get(str(whole).strip().lower())
        if mark is None:
            raise DataError(
                f'{table.place(row)} has {cell!r:.40} in "{name}"; accepted are 1 for the label, 0 for none'
            )
        if mark:
            said.append(name)
    return tuple(said)
