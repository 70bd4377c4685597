"""What users call: a DataFrame with answers, and a function for SQL."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pyspark.errors import PySparkNotImplementedError
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DoubleType,
    LongType,
    NullType,
    StringType,
    StructField,
    StructType,
)

from bebert_infer.bulk.arrow import wanted_columns
from bebert_infer.bulk.columns import answer_types
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.early_exit import EarlyExit, checked_early_exit
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import InputError
from bebert_infer.optional import load_package
from bebert_infer.spark.send import send_model
from bebert_infer.text.windows import long_texts

TYPES: dict[str, DataType] = {"string": StringType(), "double": DoubleType(), "int64": LongType()}


def classify(
    dataframe: Any,
    model: str | os.PathLike[str],
    *,
    text_column: str | None = None,
    pair_column: str | None = None,
    early_exit: EarlyExit | None = None,
    long: str | None = None,
    overlap: int | None = None,
    pool: str = "mean",
    on_error: Literal["skip", "stop"] = "skip",
    revision: str | None = None,
    send: bool = True,
    check: bool = True,
) -> Any:
    """Return a DataFrame, of batches or a stream, with the columns of the model's answers behind those of `dataframe`.

    model     : folder of a packed model, which only the driver needs to see, or its name on the hub
    text_column, pair_column : of strings; default the usual names, as in `bebert predict`
    early_exit, long, overlap, pool : as in `Ensemble.predict`
    on_error  : "skip" puts the reason into the column "error" of a row that cannot be classified; "stop" fails the job
    revision  : of a model on the hub
    send      : False lets each worker open `model` itself, on storage that all of them see, or from the hub
    check     : False asks no worker before there is work whether it can load the model; nothing runs then, as usual in
                Spark, until rows are wanted

    Columns: label, score, labels, probability_LABEL, votes, members_run, windows, cut, error (`bulk.columns`). Rows are
    answered where Spark has them, in no order but its own: give them a column to know them by.

    Raises, before any work: InputError for columns that are not there, hold no strings or are named like an answer's,
    and for bad options; ModelFormatError and HubError for a model that the driver or a worker cannot load.
    """
    ensemble, name, options = _opened(model, revision, early_exit, long, overlap, pool, on_error)
    options = replace(options, text_column=text_column, pair_column=pair_column)
    spark = dataframe.sparkSession
    fold = (lambda name: name) if spark.conf.get("spark.sql.caseSensitive", "false") == "true" else str.lower
    answers = answer_fields(ensemble, options, fold)
    options = _named(dataframe.schema, options, fold)
    _check_free(dataframe.schema, answers, fold)

    names, fields = dataframe.columns, [*dataframe.schema.fields, *answers]
    # Between Spark and its workers columns have numbers for names. Its mapInArrow does not take a name with a dot, and
    # where a worker hands back two columns of one name, the process of Java dies.
    numbers = [f"column{number}" for number in range(len(fields))]
    schema = StructType([StructField(name, field.dataType) for name, field in zip(numbers, fields, strict=True)])
    numbered = dataframe.toDF(*numbers[: len(names)])
    _check_travels(numbered, dataframe.schema)
    sent = send_model(spark, name, ensemble, send, check)  # which runs a job: everything else is checked by now

    def answered(batches: Any) -> Any:
        from bebert_infer.spark.worker import answer_batches

        named = (batch.rename_columns(names) for batch in batches)
        return (batch.rename_columns(numbers) for batch in answer_batches(named, sent, options))

    return numbered.mapInArrow(answered, schema).toDF(*(field.name for field in fields))


def udf(
    model: str | os.PathLike[str],
    *,
    early_exit: EarlyExit | None = None,
    long: str | None = None,
    overlap: int | None = None,
    pool: str = "mean",
    on_error: Literal["skip", "stop"] = "skip",
    revision: str | None = None,
    send: bool = True,
    check: bool = True,
) -> Any:
    """Return a pandas UDF of a column of texts, or of two of pairs, which answers with a struct.

        spark.udf.register("classify", udf("model/"))
        spark.sql("SELECT id, answer.label FROM (SELECT id, classify(review) AS answer FROM reviews)")

    Options and errors as in `classify`; it is made for the session that is active.
    """
    load_package("pandas", "spark")
    import pandas as pd
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import pandas_udf

    ensemble, name, options = _opened(model, revision, early_exit, long, overlap, pool, on_error)
    spark = SparkSession.getActiveSession()
    if spark is None:
        raise InputError("no session of Spark is active; make one first, SparkSession.builder.getOrCreate()")
    answers = answer_fields(ensemble, options, str.lower)
    sent = send_model(spark, name, ensemble, send, check)

    def classify(*columns: pd.Series) -> pd.DataFrame:
        from bebert_infer.spark.worker import answer_series

        return answer_series(columns, sent, options)

    return pandas_udf(classify, StructType(answers))


def _opened(
    model: Any,
    revision: str | None,
    early_exit: EarlyExit | None,
    long: str | None,
    overlap: int | None,
    pool: str,
    on_error: Any,
) -> tuple[Ensemble, str, BulkOptions]:
    """The model as the driver sees it, what workers call it, and checked options without columns."""
    if on_error not in ("skip", "stop"):
        raise InputError(f'on_error is {on_error!r:.80}; accepted are "skip" and "stop"')
    # The driver only reads: kernels for its own processor need not be there.
    ensemble = Ensemble.from_pretrained(model, revision=revision, threads=1, backend="reference")
    rule = long_texts(False, long, overlap, pool)
    ensemble.check_texts(rule)
    early_exit = checked_early_exit(early_exit, ensemble.config)
    name = os.fspath(model) + (f"@{revision}" if revision is not None else "")
    if os.path.lexists(model):
        name = os.fspath(Path(model).absolute())
    return ensemble, name, BulkOptions(long=rule, on_error=on_error, early_exit=early_exit)


def answer_fields(model: Ensemble, options: BulkOptions, fold: Any) -> list[StructField]:
    """The columns of answers, as Spark has them. Raises InputError for labels that Spark takes for the same."""
    types = answer_types(model.config.labels, model.config.problem_type, options.early_exit is not None)
    seen: dict[str, str] = {}
    for name in types:
        if (first := seen.setdefault(fold(name), name)) != name:
            raise InputError(
                f'the answers have columns "{first}" and "{name}", which Spark takes for one name; set '
                "spark.sql.caseSensitive to true"
            )
    fields = []
    for name, kind in types.items():
        word, *lists = kind.split()
        type_ = TYPES[word]
        for _ in lists:
            type_ = ArrayType(type_)
        fields.append(StructField(name, type_))
    return fields


def _named(schema: StructType, options: BulkOptions, fold: Any) -> BulkOptions:
    """Options with the columns as the DataFrame calls them; raises InputError as `bulk.arrow.answer_schema`."""

    def found(name: str | None) -> str | None:
        if name is None or name in schema.names:
            return name
        return next((own for own in schema.names if fold(own) == fold(name)), name)

    options = replace(options, text_column=found(options.text_column), pair_column=found(options.pair_column))
    text, *pair = wanted_columns(schema.names, options)
    for name in (text, *pair):
        kind = schema[name].dataType
        if not isinstance(kind, StringType | NullType):
            raise InputError(
                f'the column "{name}" holds {kind.simpleString()}; texts are strings: cast it, or name another column'
            )
    return replace(options, text_column=text, pair_column=pair[0] if pair else None)


def _check_travels(numbered: Any, schema: StructType) -> None:
    """Raise InputError if Spark hands a column to no Python worker; numbered : the rows, with other names."""
    for own, field in zip(schema.fields, numbered.schema.fields, strict=True):
        try:
            numbered.mapInArrow(lambda batches: batches, StructType([field]))  # nothing runs
        except PySparkNotImplementedError:
            raise InputError(
                f'the column "{own.name}" holds {own.dataType.simpleString()}, which Spark cannot hand to Python; '
                "cast or drop it"
            ) from None


def _check_free(schema: StructType, answers: list[StructField], fold: Any) -> None:
    """Raise InputError if a column has the name of an answer's."""
    names = {fold(field.name) for field in answers}
    if taken := [name for name in schema.names if fold(name) in names]:
        raise InputError(
            f'the rows have a column "{taken[0]}" already, which is what an answer is called; rename or drop it'
        )
