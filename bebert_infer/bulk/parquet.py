"""Rows of a Parquet file, one after the other, in the memory of a few pages of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bebert_infer.bulk.row import ACCEPTED, Row, RowFile, check_header
from bebert_infer.errors import DataError, MissingExtraError

BATCH_BYTES = 2**20  # of rows that are in memory at a time, by their mean size in the file


def load_pyarrow(path: Path) -> Any:
    """The package pyarrow, with its `parquet`, for this file. Raises MissingExtraError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise MissingExtraError(
            f'"{path}" is Parquet, which needs the package "pyarrow": pip install "bebert-infer[parquet]", '
            "or use .csv, .tsv or .jsonl"
        ) from None
    return pyarrow


def open_parquet(path: Path, wanted: Sequence[str], opened: Any = None) -> RowFile:
    """Open a Parquet file for the columns `wanted`; opened : its bytes, where `path` is only a name.

    Raises DataError: missing, damaged, or a column twice; MissingExtraError without pyarrow.
    """
    pa = load_pyarrow(path)
    try:
        # Pages are read through a small buffer: without it, a whole column of a row group would be loaded.
        file = pa.parquet.ParquetFile(path if opened is None else opened, buffer_size=2**16, pre_buffer=False)
        header = file.schema_arrow.names
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from None
    except OSError as error:
        if error.strerror is None:  # Arrow's own
            raise DataError(f"{path} is no readable Parquet file: {error}") from None
        raise DataError(f'cannot read "{path}": {error.strerror}; pass a file, {ACCEPTED}') from None
    check_header(path, header, wanted)
    metadata = file.metadata
    stored = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    rows_a_batch = max(1, min(1024, BATCH_BYTES * metadata.num_rows // max(stored, 1)))

    def rows() -> Iterator[Row]:
        number = 0
        names = [name for name in dict.fromkeys(wanted) if name in header]
        try:
            for batch in file.iter_batches(rows_a_batch, columns=names, use_threads=False):
                columns = {name: cells_of(batch.column(batch.schema.names.index(name))) for name in names}
                count = batch.num_rows
                del batch
                pa.default_memory_pool().release_unused()  # Arrow's allocator keeps tens of MB of freed pages otherwise
                yield from rows_of(columns, count, number)
                number += count
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is no readable Parquet file: {error}") from None

    return RowFile(path, header, rows(), "row", file.close, metadata.num_rows)


_BROKEN = object()


def rows_of(columns: dict[str, list[Any]], count: int, before: int = 0) -> Iterator[Row]:
    """So many rows with these columns (`cells_of`), numbered behind those `before`."""
    for index in range(count):
        row = {name: column[index] for name, column in columns.items()}
        broken = [name for name, cell in row.items() if cell is _BROKEN]
        fault = f'has a "{broken[0]}" that is not UTF-8; write it again as UTF-8' if broken else None
        yield Row(before + index + 1, {} if fault else row, fault)


def cells_of(array: Any) -> list[Any]:
    """Values of an Arrow array; bytes of a string that are no UTF-8 spoil their own row only."""
    try:
        return array.to_pylist()
    except UnicodeDecodeError:
        return [_cell(value) for value in array]


def _cell(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return _BROKEN
