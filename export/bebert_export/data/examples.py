"""Labelled examples of one file, and their labels as class ids or scores."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_export.data.label_sets import listed_labels, marked_labels
from bebert_export.data.tasks import Task
from bebert_infer.bulk.row import PAIR_COLUMNS, TEXT_COLUMNS
from bebert_infer.bulk.tables import Table, read_table
from bebert_infer.errors import DataError

LABEL_COLUMNS = ("label", "labels")
# What pandas, R, spreadsheets and databases write for a cell without a value; NaN is a number. "none" may be a class.
MISSING = {"NA", "None"}
MISSING_IN_CAPITALS = {
    "NULL",
    "N/A",
    "#N/A",
    "#NA",
    "<NA>",
    "NAT",
    "1.#IND",
    "-1.#IND",
    "1.#QNAN",
    "-1.#QNAN",
}
ORIGIN_COLUMN = "augmented_from"  # written by `bebert augment`; no name that other data has by chance


@dataclass(frozen=True)
class Examples:
    """One labelled file: `texts[i]`, `pairs[i]` (unless None) and the label as written, for M examples.

    Of a file with several labels a row, a label is a tuple of them, which may be empty.

    unit, numbers : example i is in line (Parquet: row) `numbers[i]`;  sha256 : of the content (tables.Table)
    origins       : the first example with the same origin as example i: i itself, or of a copy its original
    marked        : the labels, in the order of their columns, if each has a column of its own
    """

    texts: list[str]
    pairs: list[str] | None
    labels: list[str] | list[tuple[str, ...]]
    path: Path
    sha256: str
    unit: str
    numbers: Sequence[int]
    origins: list[int]
    marked: tuple[str, ...] = ()

    @property
    def multi_label(self) -> bool:
        """Whether an example has a list of labels."""
        return isinstance(self.labels[0], tuple)

    def __len__(self) -> int:
        """Number of examples M."""
        return len(self.texts)

    def place(self, i: int) -> str:
        """Where an example is, in words."""
        return f"{self.unit} {self.numbers[i]} of {self.path}"


def read_examples(
    path: Path, task: Task | None = None, *, multi_label: bool = False, names: Sequence[str] = ()
) -> Examples:
    """Read a TSV, CSV, JSONL or Parquet file, by its ending (bebert_infer.bulk.tables has their rules).

    Columns: the text (`sentence1`, `sentence`, `text` or `text1`), optionally a second text (`sentence2`, `text2` or
    `text_pair`), and `label` or `labels`; of a task also its own names for the texts (QNLI: question, sentence). Labels
    of JSON and Parquet may be numbers. In a column `augmented_from`, as `bebert augment` writes it, an example and its
    versions have the same value. Other columns are ignored.

    multi_label : labels do not exclude each other: a cell has a list of them (`label_sets.listed_labels`)
    names       : of those labels; if there is no label column, each may have a column of 0 and 1 instead

    Raises DataError for a missing file or column, a wrong number of fields, an empty text or label, and for one text
    where the task has two or the other way round.
    """
    own = () if task is None else task.texts
    usual = (*own, *TEXT_COLUMNS, *PAIR_COLUMNS, *LABEL_COLUMNS, ORIGIN_COLUMN)
    table = read_table(path, tuple(dict.fromkeys((*usual, *(names if multi_label else ())))))
    if not len(table):
        raise DataError(f"{path} has no example; accepted are named columns and at least one example")
    in_columns = multi_label and not set(LABEL_COLUMNS) & set(table.columns) and set(names) <= set(table.columns)
    marked = tuple(names) if in_columns else ()
    label = None if marked else _column(table, LABEL_COLUMNS)
    if own and set(own) <= set(table.columns):
        text, pair = own[0], own[1] if len(own) == 2 else None
    else:
        text = _column(table, TEXT_COLUMNS)
        pair = next((name for name in PAIR_COLUMNS if name in table.columns), None)
    if task is not None and (len(own) == 2) != (pair is not None):
        found = text if pair is None else f"{text}, {pair}"
        raise DataError(
            f"{path} has texts in {found}, task {task.name} in {', '.join(own)}; accepted are those columns, or "
            f"sentence1{', sentence2' * (len(own) - 1)}"
        )
    origin = ORIGIN_COLUMN if ORIGIN_COLUMN in table.columns else None
    for name in filter(None, (text, pair, label, origin)):
        for row, cell in enumerate(table.columns[name]):
            if cell is None or (cell != cell and name != label) or (isinstance(cell, str) and not cell.strip()):
                raise DataError(f'{table.place(row)} has an empty "{name}"; fill it or drop the {table.unit}')
            if name not in (text, pair):
                continue
            if not isinstance(cell, str):
                raise DataError(f'{table.place(row)} has the "{name}" {cell!r:.40}; texts must be strings')
            _check_characters(cell, f'{table.place(row)} has in "{name}"')
    return Examples(
        texts=table.columns[text],
        pairs=None if pair is None else table.columns[pair],
        labels=_label_sets(table, label, marked) if multi_label or label is None else _label_column(table, label),
        path=path,
        sha256=table.sha256,
        unit=table.unit,
        numbers=table.numbers,
        origins=list(range(len(table))) if origin is None else _first_places(table.columns[origin]),
        marked=marked,
    )


def label_names(train: Examples) -> list[str]:
    """Class names of a training file: numbers in numeric order, everything else in alphabetical order.

    Raises DataError for fewer than two classes (fewer than one of several labels), for labels that are fractions (a
    score, not a class), for what programs write where there is none, and for one label written in two ways.
    """
    if train.marked:
        return list(train.marked)
    places = {name: row for row, said in reversed(list(enumerate(_said(train)))) for name in said}
    names = sorted(places)
    values = {name: value for name in names if (value := _number(name)) is not None}
    for name in names:
        missing = name in MISSING or name.upper() in MISSING_IN_CAPITALS
        if missing or (name in values and not values[name].is_finite()):
            place = train.place(places[name])
            raise DataError(f'{place} has the label "{name}"; write its class, or drop the {train.unit}')
    first: dict[Any, str] = {}
    for name in names:
        known = first.setdefault(_meaning(name, values), name)
        if known != name:
            place = train.place(places[name])
            what = "numbers" if name in values and known in values else "labels"
            raise DataError(f'{place} has the label "{name}", others have "{known}": write equal {what} alike')
    if len(values) < len(names):
        values = {}
    fraction = next((name for name, value in values.items() if value != value.to_integral_value()), None)
    if fraction is not None:
        raise DataError(f'{train.path} has labels such as "{fraction}"; for scores instead of classes use regression')
    if train.multi_label and not names:
        raise DataError(f"{train.path} has no label in any {train.unit}; a classifier needs at least one")
    if not train.multi_label and len(names) < 2:
        raise DataError(f'{train.path} has the only label "{names[0]}"; a classifier needs at least two')
    return sorted(names, key=lambda name: (values[name], name)) if values else names


def _number(name: str) -> Decimal | None:
    """A label as an exact number, with NaN and infinities; None for other words."""
    try:
        return Decimal(name)
    except InvalidOperation:
        return None


def _meaning(name: str, values: Mapping[str, Decimal]) -> Any:
    """The same for 1, 1.0, +1, 1e0 and true; for words that differ in capitals or in how Unicode spells them."""
    word = unicodedata.normalize("NFKC", name).casefold()
    if word in ("true", "false"):
        return Decimal(word == "true")
    return values.get(name, word)


def class_ids(examples: Examples, names: list[str]) -> NDArray[np.int64] | NDArray[np.float32]:
    """Index of each label in `names`, int64[M]; of several labels a row, 1 where it is said, else 0, float32[M, K].

    Raises DataError for a label that training did not see.
    """
    for i, said in enumerate(_said(examples)):
        for label in said:
            if label not in names:
                shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
                raise DataError(f'{examples.place(i)} has the label "{label}"; the training file knows {shown}')
    return _targets(examples, names)


def named_class_ids(
    examples: Examples, names: list[str], others: Sequence[list[str]] = ()
) -> NDArray[np.int64] | NDArray[np.float32]:
    """Targets as `class_ids` gives them, where the file says K known names, or other labels in their place.

    others : ways to say it in place of the names, K labels each; default the numbers 0 to K - 1

    Raises DataError for other labels, and for a file that has some of several ways.
    """
    ways = [names, *(others or [numbers_of(names)])]
    rows = _said(examples)
    found = {label for said in rows for label in said}
    for known in ways:
        if found <= set(known):
            return _targets(examples, known)
    used = next((way for way in ways if found & set(way)), names)
    row, label = next((i, label) for i, said in enumerate(rows) for label in said if label not in used)
    instead = "".join(f", or in their place {', '.join(way)}" for way in ways if way != names)
    raise DataError(
        f'{examples.place(row)} has the label "{label}"; accepted are, in the whole file, the names '
        f"{', '.join(names)}{instead}"
    )


def numbers_of(names: list[str]) -> list[str]:
    """The numbers that may stand in the place of names."""
    return [str(number) for number in range(len(names))]


def scores(examples: Examples) -> NDArray[np.float32]:
    """Labels as numbers, float32[M]. Raises DataError for anything that is not a finite number."""
    values = np.empty(len(examples), np.float32)
    for i, (label,) in enumerate(_said(examples)):
        try:
            values[i] = float(label)
        except ValueError:
            values[i] = np.nan
        if not np.isfinite(values[i]):
            raise DataError(f'{examples.place(i)} has the label "{label}"; regression accepts only numbers')
    return values


def _said(examples: Examples) -> list[tuple[str, ...]]:
    """The labels of each example, one or several."""
    return [label if isinstance(label, tuple) else (label,) for label in examples.labels]


def _targets(examples: Examples, names: list[str]) -> NDArray[np.int64] | NDArray[np.float32]:
    index = {name: i for i, name in enumerate(names)}
    if not examples.multi_label:
        return np.array([index[label] for (label,) in _said(examples)], np.int64)
    targets = np.zeros((len(examples), len(names)), np.float32)
    for row, said in enumerate(_said(examples)):
        targets[row, [index[label] for label in said]] = 1
    return targets


def _label_column(table: Table, name: str) -> list[str]:
    return [_label(table, row, cell) for row, cell in enumerate(table.columns[name])]


def _label_sets(table: Table, name: str | None, marked: Sequence[str]) -> list[tuple[str, ...]]:
    """The labels of each row, from one column, or from the columns of each of them."""
    if name is None:
        return [marked_labels(table, row, marked) for row in range(len(table))]
    return [
        tuple(dict.fromkeys(_label(table, row, one) for one in listed_labels(table, row, cell)))
        for row, cell in enumerate(table.columns[name])
    ]


def _column(table: Table, accepted: tuple[str, ...]) -> str:
    """The first accepted name that the file has."""
    for name in accepted:
        if name in table.columns:
            return name
    raise DataError(f"{table.path} has the columns {', '.join(table.header)}; one of {', '.join(accepted)} is missing")


def _check_characters(text: str, where: str) -> None:
    """Raise DataError for half of a character, which JSON can hold and no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"half a character, U+{ord(text[error.start]):04X}, at place {error.start}"
        raise DataError(f"{where} {half}; write the whole character") from None


def _first_places(cells: list[Any]) -> list[int]:
    """Where the value of each cell stands first."""
    first: dict[str, int] = {}
    return [first.setdefault(str(cell), row) for row, cell in enumerate(cells)]


def _label(table: Table, row: int, cell: Any) -> str:
    """A label as text: numbers as Python writes them, 1.0 as 1, true and false as JSON does."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and not np.isfinite(cell):
        raise DataError(f"{table.place(row)} has the label {cell}; write its class or score, or drop the {table.unit}")
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # a column of whole numbers is one of floats as soon as a value was missing
    if isinstance(cell, str | int | float):
        return str(cell).strip()
    several = ", or with --multi-label lists of these" if isinstance(cell, list) else ""
    raise DataError(f"{table.place(row)} has the label {cell!r:.40}; accepted are strings and numbers{several}")
