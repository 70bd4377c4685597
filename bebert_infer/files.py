"""Texts in from JSONL, CSV, TSV or Parquet; predictions out as JSONL, in order, every file whole or not at all."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bebert_infer.ensemble import Prediction
from bebert_infer.errors import InputError
from bebert_infer.tokenizer import Text

TEXT_COLUMNS = ("text", "sentence", "sentence1")
PAIR_COLUMNS = ("text_pair", "sentence2")


def read_texts(file: Path) -> list[Text]:
    """Return the texts or pairs of a file, by its suffix .jsonl, .csv, .tsv or .parquet. Raises InputError.

    The text column is one of TEXT_COLUMNS, a second text one of PAIR_COLUMNS; other columns are ignored.
    CSV is quoted as usual; TSV is read without quoting, as GLUE is.
    """
    if not file.is_file():
        raise InputError(f'there is no input file "{file}"')
    readers = {".jsonl": _jsonl, ".csv": _table, ".tsv": _table, ".parquet": _table}
    if file.suffix not in readers:
        raise InputError(f'input "{file}" ends in "{file.suffix}"; accepted are {", ".join(readers)}')
    return [_text(file, index, row) for index, row in enumerate(readers[file.suffix](file))]


def write_predictions(file: Path, texts: Iterable[Text], predictions: Iterable[Prediction]) -> int:
    """Write one JSON line for each text: label, score, probabilities, votes. Returns the number of lines."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    count = 0
    try:
        with partial.open("w", encoding="utf-8") as stream:
            for text, prediction in zip(texts, predictions, strict=True):
                stream.write(json.dumps(as_record(text, prediction), ensure_ascii=False) + "\n")
                count += 1
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return count


def write_json(file: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
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


def _jsonl(file: Path) -> Iterator[dict]:
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{file} line {number} is not JSON: {error.msg}") from None
            if not isinstance(row, dict):
                raise InputError(f'{file} line {number} is no object; accepted are lines like {{"text": "…"}}')
            yield row


def _table(file: Path) -> Iterator[dict]:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if file.suffix == ".parquet":
            table = pyarrow.parquet.read_table(file)
        else:
            tab = file.suffix == ".tsv"
            parse = pyarrow.csv.ParseOptions(delimiter="\t" if tab else ",", quote_char=False if tab else '"')
            kept = {name: pa.string() for name in TEXT_COLUMNS + PAIR_COLUMNS}
            convert = pyarrow.csv.ConvertOptions(column_types=kept, strings_can_be_null=False)
            table = pyarrow.csv.read_csv(file, parse_options=parse, convert_options=convert)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    for batch in table.to_batches():
        yield from batch.to_pylist()


def _text(file: Path, index: int, row: dict) -> Text:
    first = next((row[name] for name in TEXT_COLUMNS if row.get(name) is not None), None)
    second = next((row[name] for name in PAIR_COLUMNS if row.get(name) is not None), None)
    if first is None:
        raise InputError(f"{file} row {index} has columns {sorted(row)}; one of them must be {', '.join(TEXT_COLUMNS)}")
    for value in (first, second):
        if value is not None and not isinstance(value, str):
            raise InputError(f"{file} row {index} holds {value!r:.40}; texts must be strings")
    return first if second is None else (first, second)
