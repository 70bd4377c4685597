"""Classify the rows of a file in order, in memory that does not grow with it, and go on where a killed run ended.

Rows are answered a few dozen at a time. They are not sorted by length: batches have no padding to save (`batch.py`),
and an answer does not depend on its batch.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

import bebert_infer
from bebert_infer.bulk.record import BulkOptions, answer_values
from bebert_infer.bulk.resume_file import ResumeFile
from bebert_infer.bulk.row import RowFile
from bebert_infer.bulk.text_columns import Names, check_columns, columns_of_texts, named, texts_of
from bebert_infer.early_exit import EarlyExit
from bebert_infer.errors import DataError, InputError, RowError, safe
from bebert_infer.prediction import Prediction
from bebert_infer.text.tokenizer import Text
from bebert_infer.text.windows import EncodedText, LongTexts, Pool

# Rows answered together, or fewer once they have this many characters: what is in memory at a time.
BATCH_ROWS, BATCH_CHARACTERS = 64, 2**20
HEAD_BYTES = 2**20


class Model(Protocol):
    """What this file needs of an `Ensemble`."""

    def encode_text(self, text: Text, long: LongTexts, name: str) -> EncodedText:
        """Token ids of a text. Raises InputError."""

    def predict_encoded(
        self, encoded: Sequence[EncodedText], pool: Pool, early_exit: EarlyExit | None
    ) -> list[Prediction]:
        """One answer a text."""


@dataclass
class Counts:
    """Rows of the output: all, those of an earlier run, those with errors, and texts that this run cut."""

    rows: int = 0
    earlier: int = 0
    bad: int = 0
    cut: int = 0

    def add(self, batch: list[dict[str, Any]]) -> None:
        """Count records that are where they should be."""
        self.rows += len(batch)
        self.bad += sum("error" in record for record in batch)
        self.cut += sum("cut" in record for record in batch)

    def __str__(self) -> str:
        """Rows read = answers + errors, in words."""
        numbers = ((self.rows, "row"), (self.rows - self.bad, "answer"), (self.bad, "error"))
        rows, answered, bad = (f"{number:,} {word}{'s' * (number != 1)}" for number, word in numbers)
        return f"{rows}: {answered}, {bad}" + (f" ({self.earlier:,} of an earlier run)" if self.earlier else "")


def classify_file(
    model: Model,
    file: RowFile,
    part: ResumeFile,
    options: BulkOptions,
    make: Callable[[Path, Path], None] | None = None,
    report: Callable[[Counts], None] = lambda counts: None,
    counts: Counts | None = None,
) -> Counts:
    """Answer all rows of `file` that are not in `part` yet, and put the output in its place (`ResumeFile.finish`).

    `report` is called after every batch; `counts` is counted up, also where this raises. Raises RowError at a bad row
    if `on_error` is "stop", DataError for a file that cannot be read further; the part then keeps what was answered.
    """
    counts = Counts() if counts is None else counts
    counts.rows, counts.earlier, counts.bad = part.rows, part.rows, part.bad
    if part.bad and options.on_error == "stop":
        raise InputError(
            f"{part.path} holds {part.bad} rows with errors; pass --on-error skip, or --restart to drop it"
        )
    for batch in answer_rows(model, file, options, part.rows):
        part.append(batch)
        counts.add(batch)
        report(counts)
    part.finish(make)
    return counts


@dataclass(frozen=True)
class Asked:
    """A row that was read: its texts, or why it has none.

    index : from 1, over the rows of its file that count;  name : of its texts, in errors
    texts : "text" and, of a pair, "text_pair"
    """

    index: int
    texts: dict[str, str]
    name: str = ""
    error: str | None = None


def answer_rows(model: Model, file: RowFile, options: BulkOptions, done: int = 0) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of all rows behind the first `done`, in order, a batch at a time.

    Nothing that was read waits for a slow pipe, or is lost where the file ends in an error. Raises RowError, DataError.
    """
    yield from answer_asked(model, asked_rows(file, options, done), options, file.ready)


def asked_rows(file: RowFile, options: BulkOptions, done: int = 0, names: Names | None = None) -> Iterator[Asked]:
    """Yield what the rows behind the first `done` ask, in order; no model is needed for that.

    names : columns of texts of the files before, which must be those of this file too; None: it chooses its own

    Raises RowError at a row without a text if `on_error` is "stop"; DataError, also for a file that ends in one.
    """
    check_columns(file, options)
    own = columns_of_texts(file.header or (), options)
    if names is not None and file.header is not None and own != names:
        raise InputError(
            f"{file.path} has its text in {named(own)}, the files before in {named(names)}; name the columns with "
            "--text-column and --pair-column"
        )
    names, index = own if names is None else names, 0
    for index, row in enumerate(file.rows, 1):
        if names[0] is None:  # without a header, the first row with a text decides
            names = columns_of_texts(row.cells, options)
        if index <= done:
            continue
        try:
            texts, name = texts_of(file, row, options, names)
        except InputError as error:
            yield _refused(index, error, options)
            continue
        yield Asked(index, texts, name)
    if index < done:
        raise DataError(f"{file.path} has {index} rows, but {done} answers are there already; pass --restart")


def answer_asked(
    model: Model, rows: Iterable[Asked], options: BulkOptions, ready: Callable[[], bool] = lambda: True
) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of these rows, in order, a batch at a time.

    ready : whether the next row can be had without waiting

    Raises RowError at a row that cannot be classified if `on_error` is "stop"; and what `rows` raises, behind the
    answers to the rows before.
    """
    batch: list[tuple[dict[str, Any], EncodedText | None]] = []
    characters = 0
    for row in _and_end(_encoded(model, rows, options)):
        if isinstance(row, DataError):
            if batch:
                yield _answered(model, batch, options)
            raise row
        batch.append(row)
        characters += sum(len(value) for value in row[0].values() if isinstance(value, str))
        if len(batch) == BATCH_ROWS or characters >= BATCH_CHARACTERS or not ready():
            yield _answered(model, batch, options)
            batch, characters = [], 0
    if batch:
        yield _answered(model, batch, options)


def _encoded(
    model: Model, rows: Iterable[Asked], options: BulkOptions
) -> Iterator[tuple[dict[str, Any], EncodedText | None]]:
    """The beginning of a record of each row, and its token ids; None where it has an error."""
    for row in rows:
        encoded = None
        if row.error is None:
            pair = "text_pair" in row.texts
            text = (row.texts["text"], row.texts["text_pair"]) if pair else row.texts["text"]
            try:
                encoded = model.encode_text(text, options.long, row.name)
            except InputError as error:
                row = _refused(row.index, error, options)
        record = row.texts if row.error is None else {"error": row.error}
        yield {"row": row.index} | record, encoded


def _refused(index: int, error: InputError, options: BulkOptions) -> Asked:
    """A row that cannot be classified. Raises RowError if that is where to stop."""
    if options.on_error == "stop":
        raise RowError(f"{error}; mend row {index}, or pass --on-error skip to go on without it") from None
    return Asked(index, {}, error=safe(str(error)))  # it names the file, by any bytes


def _and_end(rows: Iterator[Any]) -> Iterator[Any]:
    """The rows, and behind them the DataError in which they end, if they do."""
    try:
        yield from rows
    except DataError as error:
        yield error


def input_facts(path: Path, model_facts: str, options: BulkOptions) -> dict[str, Any]:
    """What a part must share with the run that continues it: the input file, the model, the options, this release."""
    status = path.stat()
    with path.open("rb") as stream:
        head = hashlib.sha256(stream.read(HEAD_BYTES)).hexdigest()
    return {
        "input": {"bytes": status.st_size, "changed_ns": status.st_mtime_ns, "sha256 of the first MiB": head},
        "model": model_facts,
        "options": asdict(replace(options, on_error="skip")),  # a run that stopped may go on with skipping
        "release": bebert_infer.__version__,
    }


def model_digest(config: msgspec.Struct, tokenizer_json: str | None) -> str:
    """sha256 of everything in a model folder that decides its answers (the config has that of the tensors)."""
    return hashlib.sha256(msgspec.json.encode(config) + (tokenizer_json or "").encode()).hexdigest()


def _answered(
    model: Model, batch: list[tuple[dict[str, Any], EncodedText | None]], options: BulkOptions
) -> list[dict[str, Any]]:
    encoded = [one for _, one in batch if one is not None]
    predictions = iter(model.predict_encoded(encoded, options.long.pool, options.early_exit))
    return [record if one is None else record | answer_values(next(predictions), options) for record, one in batch]
