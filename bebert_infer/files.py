"""Texts in from JSONL, CSV, TSV or Parquet; predictions out as JSONL, in order, every file whole or not at all."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from bebert_infer.ensemble import Prediction
from bebert_infer.errors import InputError
from bebert_infer.tables import PAIR_COLUMNS, TEXT_COLUMNS, Table, read_table
from bebert_infer.tokenizer import Text


def read_texts(file: Path) -> list[Text]:
    """Return the texts or pairs of a file, read by its ending as `tables.read_table` does. Raises InputError.

    The text column is one of TEXT_COLUMNS, a second text one of PAIR_COLUMNS; other columns are ignored.
    """
    if not file.is_file():
        raise InputError(f'there is no input file "{file}"')
    table = read_table(file, TEXT_COLUMNS + PAIR_COLUMNS)
    return [_text(table, row) for row in range(len(table))]


def write_predictions(file: Path, texts: Iterable[Text], predictions: Iterable[Prediction]) -> int:
    """Write one JSON line for each text: label, score, probabilities, votes. Returns the number of lines."""
    count = 0
    with whole_file(file) as stream:
        for text, prediction in zip(texts, predictions, strict=True):
            stream.write(json.dumps(as_record(text, prediction), ensure_ascii=False) + "\n")
            count += 1
    return count


def write_json(file: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all."""
    with whole_file(file) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def whole_file(file: Path) -> Iterator[TextIO]:
    """A text stream beside `file` that takes its place when the block ends, and vanishes if the block fails."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            yield stream
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def as_record(text: Text, prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as plain JSON values, with the text that it answers."""
    record: dict[str, Any] = {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
    return record | {
        "label": prediction.label,
        "score": prediction.score,
        "probabilities": prediction.probabilities,
        "votes": prediction.votes,
    }


def _text(table: Table, row: int) -> Text:
    first, second = (_cell(table, row, names) for names in (TEXT_COLUMNS, PAIR_COLUMNS))
    if first is None:
        columns = ", ".join(table.header)
        raise InputError(f"{table.place(row)} has no text in {columns}; one of them must be {', '.join(TEXT_COLUMNS)}")
    for value in (first, second):
        if value is not None and not isinstance(value, str):
            raise InputError(f"{table.place(row)} holds {value!r:.40}; texts must be strings")
    return first if second is None else (first, second)


def _cell(table: Table, row: int, names: tuple[str, ...]) -> Any:
    """The first value that a row has under one of these names."""
    cells = (table.columns[name][row] for name in names if name in table.columns)
    return next((cell for cell in cells if cell is not None), None)
