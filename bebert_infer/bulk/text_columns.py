"""Which columns of a file hold the texts: those that were named, else the first accepted names that it has."""

import reprlib
from collections.abc import Iterable, Sequence
from itertools import islice

from bebert_infer.bulk.record import BulkOptions
from bebert_infer.bulk.row import Row, RowFile
from bebert_infer.errors import InputError, safe

HEAD_ROWS = 10_000  # of a file without header are searched for the first text
Names = tuple[str | None, str | None]  # of the columns of texts and of second texts


def check_columns(file: RowFile, options: BulkOptions) -> None:
    """Raise InputError if the header of a file has no column of texts, or not those that were named."""
    if file.header is None:
        return
    named = [name for name in (options.text_column, options.pair_column) if name is not None]
    missing = [name for name in named if name not in file.header]
    if missing or not set(options.texts) & set(file.header):
        columns = shown_columns(file.header) or "no columns"
        raise InputError(
            f"{file.path} has the columns {columns}; {' or '.join(missing or options.texts)} is missing: name the "
            "columns with --text-column and --pair-column"
        )


def columns_of_texts(keys: Iterable[str], options: BulkOptions) -> Names:
    """The first of the accepted names that a file has; chosen once for all of its rows."""
    text, pair = (next((name for name in names if name in keys), None) for names in (options.texts, options.pairs))
    return text, pair


def named(names: Names) -> str:
    """The columns, in words."""
    return " and ".join(f'"{name}"' for name in names if name)


def _check_same(names: Names, row: Row, file: RowFile, options: BulkOptions) -> None:
    """Raise InputError if a row of a file without header has its texts elsewhere than the rows before."""
    found = columns_of_texts(row.cells, options)
    if found[0] is not None and found != names:
        raise InputError(
            f"{file.place(row.number)} has its text in {named(found)}, the rows before in {named(names)}; use the "
            "same names in all rows, or name them with --text-column and --pair-column"
        )


def text_columns(file: RowFile, options: BulkOptions) -> Names:
    """The columns of texts; without a header, those of the first row with a text. Raises InputError."""
    check_columns(file, options)
    if file.header is not None:
        return columns_of_texts(file.header, options)
    found = (columns_of_texts(row.cells, options) for row in islice(file.rows, HEAD_ROWS))
    return next((names for names in found if names[0] is not None), (None, None))


def shown_columns(names: Sequence[str]) -> str:
    """Names of columns, some of a long list; a hostile file may have millions, or half characters in them."""
    return safe(", ".join(name[:40] for name in names[:20]) + (", …" if len(names) > 20 else ""))


def texts_of(file: RowFile, row: Row, options: BulkOptions, names: Names) -> tuple[dict[str, str], str]:
    """The texts of a row, "text" and of a pair "text_pair", and what errors call them. Raises InputError."""
    place = file.place(row.number)
    if row.fault is not None:
        raise InputError(f"{place} {row.fault}")
    if file.header is None:
        _check_same(names, row, file, options)
        if names[0] not in row.cells:
            names = (None, None)
    if names[0] is None or (names[1] is None and options.pair_column is not None):
        wanted = options.texts if names[0] is None else options.pairs
        keys = shown_columns(list(row.cells) if file.header is None else file.header)
        raise InputError(f"{place} has no text in {keys or 'it'}; expected in {' or '.join(wanted)}")
    texts = {}
    for key, name in zip(("text", "text_pair"), names, strict=True):
        if name is None:
            continue
        value = row.cells.get(name)
        if value is None or value != value or value == "":
            raise InputError(f'the "{name}" in {place} is missing; write a text, or leave the row out')
        if not isinstance(value, str):
            raise InputError(f'the "{name}" in {place} is {safe(reprlib.repr(value))}; texts are strings')
        texts[key] = value
    what = f'the "{names[0]}"' + (f' with "{names[1]}"' if "text_pair" in texts else "")
    return texts, f"{what} in {place}"
