"""Classify batches of Arrow rows, as engines hand them out that run on many machines (Ray Data, Spark).

A batch goes in with all its columns and comes back with the columns of its answers behind them. What a row is answered
does not depend on the batch in which it comes, so an engine may cut and repeat batches as it likes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bebert_infer.bulk.classify import Model, answer_rows
from bebert_infer.bulk.columns import answer_types, arrow_schema, cells
from bebert_infer.bulk.parquet import cells_of, rows_of
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.bulk.row import RowFile
from bebert_infer.bulk.text_columns import columns_of_texts, shown_columns
from bebert_infer.errors import InputError


class _Batch(RowFile):
    """Rows of a batch: their numbers in it mean nothing to whoever reads an error."""

    def place(self, number: int) -> str:
        return "this row"


def wanted_columns(names: Sequence[str], options: BulkOptions) -> list[str]:
    """The columns of texts and, if there are, of second texts, among the columns of a dataset.

    Raises InputError if one that was named is missing or twice there, or none has a usual name.
    """
    missing = [name for name in (options.text_column, options.pair_column) if name is not None and name not in names]
    text, pair = columns_of_texts(names, options)
    if missing or text is None:
        asked = " and ".join(f'"{name}"' for name in missing) or f"a column of texts ({', '.join(options.texts)})"
        raise InputError(
            f"the rows have the columns {shown_columns(names) or 'none'}; {asked} is missing: name the columns of "
            "texts (text_column, pair_column)"
        )
    wanted = [text] if pair is None else [text, pair]
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise InputError(f'the rows have {names.count(twice[0])} columns "{twice[0]}"; give each a name of its own')
    return wanted


def answer_schema(schema: Any, labels: Sequence[str], problem: str, options: BulkOptions) -> Any:
    """The `pyarrow.Schema` of what `answer_batch` returns for batches of `schema`.

    labels, problem : of the model, `labels` and `problem_type` of its config

    Raises InputError if the columns of texts are not there or hold no strings, or a column has the name of an answer's.
    """
    import pyarrow as pa  # there, as whoever has a schema has it

    for name in wanted_columns(schema.names, options):
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        # A column of nothing but nulls has a type of its own.
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind in (pa.string_view(), pa.null())):
            raise InputError(f'the column "{name}" holds {kind}; texts are strings: cast it, or name another column')
    return with_answers(schema, labels, problem, options)


def with_answers(schema: Any, labels: Sequence[str], problem: str, options: BulkOptions) -> Any:
    """`answer_schema` without a look at the columns of texts, whose rows are then judged one by one."""
    import pyarrow as pa

    answers = arrow_schema(pa, answer_types(labels, problem, options.early_exit is not None))
    if taken := [name for name in answers.names if name in schema.names]:
        raise InputError(
            f'the rows have a column "{taken[0]}" already, which is what an answer is called; rename or drop it'
        )
    return pa.schema([*schema, *answers])


def answer_batch(model: Model, batch: Any, schema: Any, options: BulkOptions) -> Any:
    """Return a `pyarrow.RecordBatch` with the answers to the rows of `batch` behind its columns, in the same order.

    schema : `answer_schema` of the batch's

    A row that cannot be classified has its reason in the column "error", or raises RowError if `options.on_error` is
    "stop".
    """
    import pyarrow as pa

    names = wanted_columns(batch.schema.names, options)
    columns = {name: cells_of(batch.column(batch.schema.get_field_index(name))) for name in names}
    rows = rows_of(columns, batch.num_rows)
    file = _Batch(Path("a batch"), batch.schema.names, rows, "row", lambda: None, batch.num_rows)
    answers = [cells(record) for part in answer_rows(model, file, options) for record in part]
    added = list(schema)[len(batch.schema.names) :]
    arrays = [pa.array([answer.get(field.name) for answer in answers], field.type) for field in added]
    return pa.RecordBatch.from_arrays([*batch.columns, *arrays], schema=schema)
