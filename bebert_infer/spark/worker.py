"""In a Python worker of Spark: one model for all tasks that it gets, answers for their batches.

PySpark keeps a Python process for each task that runs at a time and hands it one task after the other, so what a module
holds stays. A model has as many threads as Spark gives a task, `spark.task.cpus`, whatever else the machine has.
"""

import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pyspark import SparkFiles, TaskContext

import bebert_infer
from bebert_infer.bulk.arrow import answer_batch, answer_schema
from bebert_infer.bulk.classify import model_digest
from bebert_infer.bulk.parquet import cells_of
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import InputError, ModelFormatError, RowError, safe
from bebert_infer.spark.sent import SentModel

# Rows answered at a time: Spark sends 10,000, whose answers as Python objects would be tens of megabytes.
ROWS = 512
KEPT = 2  # models that a worker holds; it is there for all queries of an application


def load_model(sent: SentModel) -> Ensemble:
    """The model that the driver means, loaded once a process, with the threads of this task.

    Raises ModelFormatError, HubError or InputError if it is not there, or is another one.
    """
    context = TaskContext.get()
    return _load(sent, max(1, context.cpus()) if context is not None else 1)


@lru_cache(KEPT)
def _load(sent: SentModel, threads: int) -> Ensemble:
    if bebert_infer.__version__ != sent.release:
        raise InputError(
            f"bebert-infer is {bebert_infer.__version__} on this worker and {sent.release} at the driver; install the "
            "same release"
        )
    place = SparkFiles.get(sent.archive) if sent.archive else sent.name
    model = Ensemble.from_pretrained(place, threads=threads)
    if model_digest(model.config, model.tokenizer_json) != sent.digest:
        raise ModelFormatError(f'"{sent.name}" is another model on this worker than at the driver; pass send=True')
    return model


def answer_batches(batches: Iterator[Any], sent: SentModel, options: BulkOptions) -> Iterator[Any]:
    """Yield the batches with the columns of their answers behind their own (`bulk.arrow.answer_batch`).

    Raises RowError at a row that cannot be classified if `options.on_error` is "stop", and what `load_model` raises.
    """
    for batch in batches:
        model = load_model(sent)
        schema = answer_schema(batch.schema, model.config.labels, model.config.problem_type, options)
        for start in range(0, batch.num_rows, ROWS):
            rows = batch.slice(start, ROWS)
            answers = answer_batch(model, rows, schema, replace(options, on_error="skip"))
            if options.on_error == "stop":
                _stop_at_error(rows, answers)
            yield answers


def answer_series(columns: Sequence[Any], sent: SentModel, options: BulkOptions) -> Any:
    """A `pandas.DataFrame` of answers to texts, or to pairs; columns : one or two `pandas.Series`."""
    import pandas as pd

    if len(columns) not in (1, 2):
        raise InputError(f"the function got {len(columns)} columns; pass a column of texts, or two of pairs")
    names = ["text", "text_pair"][: len(columns)]
    batch = pa.RecordBatch.from_arrays([pa.array(column, from_pandas=True) for column in columns], names)
    options = replace(options, text_column="text", pair_column=names[1] if len(names) == 2 else None)
    config = load_model(sent).config
    schema = answer_schema(batch.schema, config.labels, config.problem_type, options)
    answers = pa.Table.from_batches(list(answer_batches(iter([batch]), sent, options)), schema)
    # Objects, with None for what is not there: beside it a number of pandas would be a float.
    cells = {name: answers[name].to_pylist() for name in schema.names[len(names) :]}
    return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in cells.items()})


def _stop_at_error(rows: Any, answers: Any) -> None:
    """Raise RowError for the first row that could not be classified, with what the row holds."""
    errors = answers.column(answers.schema.get_field_index("error"))
    if errors.null_count < len(errors):
        index = errors.is_valid().index(pa.scalar(True)).as_py()
        row = {name: cells_of(column.slice(index, 1))[0] for name, column in zip(rows.schema.names, rows, strict=True)}
        shown = safe(reprlib.repr(row))
        raise RowError(f'{errors[index]}; the row is {shown}: mend it, or pass on_error="skip" to go on without it')
