"""Classify the rows of a Ray dataset: what a user calls."""

import os
from dataclasses import replace
from typing import Any, Literal

from bebert_infer.bulk.arrow import answer_schema, wanted_columns, with_answers
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.early_exit import EarlyExit
from bebert_infer.errors import InputError
from bebert_infer.limits import InputLimits, is_whole
from bebert_infer.optional import load_package
from bebert_infer.ray.capacity import Concurrency, cluster_cpus, pool_size, threads_of
from bebert_infer.ray.worker import Shipped, TableWorker, ship
from bebert_infer.text.windows import long_texts


def classify(
    dataset: Any,
    model: str | os.PathLike[str],
    *,
    text_column: str | None = None,
    pair_column: str | None = None,
    early_exit: EarlyExit | None = None,
    on_error: Literal["skip", "stop"] = "skip",
    truncate: bool = False,
    long: str | None = None,
    overlap: int | None = None,
    pool: str = "mean",
    limits: InputLimits | None = None,
    concurrency: Concurrency = None,
    num_cpus: float = 1,
    batch_size: int = 1024,
) -> Any:
    """Return the `ray.data.Dataset` with the columns of answers behind its own, as in `bebert predict`, still lazy.

    model       : folder of a packed model, which only this process needs to have, or "owner/name" of the hub
    text_column, pair_column : names; default the usual ones (`bulk/row.py`), pairs if there are
    early_exit, truncate, long, overlap, pool : as in `Ensemble.predict`;  limits : as in `Ensemble.from_pretrained`
    on_error    : "skip" puts the reason of a row that cannot be classified into its column "error", "stop" fails the
                  job with it (Ray raises its RayTaskError, whose text has ours)
    concurrency : workers, or the fewest and the most of them; default as many as the cluster has room for
    num_cpus    : CPUs of a worker, and its threads: never more
    batch_size  : rows that a worker gets at a time

    The order of rows is Ray's: keep a column of ids to sort by. Rows that Ray repeats, because a worker was killed,
    are answered with the same bits. Names of columns are read from `dataset.schema()`, for which Ray reads a row.

    Raises, before any row is classified, what `Ensemble.from_pretrained` raises; InputError for options, for columns
    that are missing, hold no strings or are called as an answer's, and for more workers than leave the cluster a CPU
    to read with; MissingExtraError without Ray.
    """
    ray = load_package("ray", "ray")
    data = load_package("ray.data", "ray")
    if not isinstance(dataset, data.Dataset):
        raise InputError(
            f"dataset is a {type(dataset).__name__}; pass a ray.data.Dataset, as ray.data.read_parquet makes"
        )
    if on_error not in ("skip", "stop"):
        raise InputError(f'on_error is "{on_error}"; accepted are "skip" and "stop"')
    if not is_whole(batch_size) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r:.80}; accepted is a whole number of at least 1")
    threads = threads_of(num_cpus)
    rule = long_texts(truncate, long, overlap, pool)
    options = BulkOptions(text_column, pair_column, rule, on_error, early_exit)
    shipped = ship(model, options, limits)
    least, most = pool_size(concurrency, cluster_cpus(), num_cpus)  # before Ray reads a row, for which it needs a CPU
    options = _with_names(dataset, shipped, options)
    return dataset.map_batches(
        TableWorker,
        fn_constructor_args=(ray.put(shipped), options, threads),
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=data.ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=num_cpus,
        udf_modifying_row_count=False,
    )


def _with_names(dataset: Any, shipped: Shipped, options: BulkOptions) -> BulkOptions:
    """The options with the names of the columns of texts, the same for all workers. Raises InputError."""
    import pyarrow as pa

    found = dataset.schema()
    if found is None:  # no row
        return options
    if all(isinstance(kind, pa.DataType) for kind in found.types):
        schema = pa.schema(zip(found.names, found.types, strict=True))
        answer_schema(schema, shipped.labels, shipped.problem, options)
    else:  # what only Python knows
        schema = pa.schema([(name, pa.null()) for name in found.names])
        with_answers(schema, shipped.labels, shipped.problem, options)
    names = wanted_columns(schema.names, options)
    return replace(options, text_column=names[0], pair_column=names[1] if len(names) > 1 else None)
