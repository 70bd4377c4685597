"""`bebert predict` with a file, a pipe or an --output: opens rows, and prints or writes their answers."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bebert_infer.bulk.classify import Counts, answer_rows, classify_file, input_facts, model_digest
from bebert_infer.bulk.readers import open_rows, open_stream, row_bytes
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.bulk.resume_file import ResumeFile
from bebert_infer.bulk.row import Row, RowFile
from bebert_infer.bulk.text_columns import check_columns
from bebert_infer.bulk.writers import table_maker
from bebert_infer.console import plain, stderr_console, stdout_console
from bebert_infer.errors import BebertError, InputError, RowError, safe

if TYPE_CHECKING:
    from rich.console import Console

    from bebert_infer.ensemble import Ensemble


def open_input(
    input: Path | None,
    texts: tuple[str, ...],
    pair: str | None,
    options: BulkOptions,
    max_characters: int,
    kind: str | None,
) -> RowFile:
    """The rows to classify; texts of the command line are rows too."""
    if input is None:
        cells = [{"text": text} | ({} if pair is None else {"text_pair": pair}) for text in texts]
        rows = (Row(number, row) for number, row in enumerate(cells, 1))
        return RowFile(Path("the command line"), None, rows, "text", lambda: None, len(texts))
    max_bytes = row_bytes(max_characters)
    if str(input) == "-":
        if sys.stdin is None:
            raise InputError("--input is - but standard input is closed; open it, or pass a file")
        wanted = options.texts + options.pairs
        file = open_stream(sys.stdin.buffer, "standard input", max_bytes, wanted=wanted, kind=kind)
    else:
        if not input.exists():
            raise InputError(f'there is no input file "{input}"')
        if not input.is_file():
            raise InputError(
                f'"{input}" is no file; pass one (.gz is read as it is), or a pipe of JSON or plain lines as --input -'
            )
        file = open_rows(input, options.texts + options.pairs, plain=True, max_bytes=max_bytes, kind=kind)
    check_columns(file, options)
    return file


def print_answers(ensemble: "Ensemble", file: RowFile, options: BulkOptions, as_json: bool) -> None:
    """Print answers as they come: a table a batch, or one object a line."""
    from bebert_infer.cli.predict_view import answer_table

    counts = Counts()
    with counted(counts):
        for batch in answer_rows(ensemble, file, options):
            if as_json:
                for record in batch:
                    click.echo(safe(json.dumps(record, ensure_ascii=False)))
                if sys.stdout is not None:
                    sys.stdout.flush()
            else:
                stdout_console().print(answer_table(batch))
            counts.add(batch)


def write_answers(
    ensemble: "Ensemble", file: RowFile, input: Path | None, output: Path, options: BulkOptions, restart: bool
) -> None:
    """Write the answers of all rows into a file."""
    from bebert_infer.cli.predict_view import Progress

    facts = None
    if input is not None and input.is_file():
        digest = model_digest(ensemble.config, ensemble.tokenizer_json)
        facts = input_facts(input, digest, options) | {"limits": asdict(ensemble.input_limits)}
    make = table_maker(output, ensemble.config.labels, ensemble.config.problem_type)
    part = ResumeFile(output, facts, restart)
    if part.rows:
        say(stderr_console(), f"going on after {part.rows:,} answers in {part.path}")
    counts = Counts()
    with counted(counts):
        try:
            with Progress(file, stderr_console()) as report:
                classify_file(ensemble, file, part, options, make, report, counts)
        except BaseException:
            _leave(part)
            raise
        more = [f"{counts.earlier:,} of an earlier run"] if counts.earlier else []
        more += [f"{counts.bad:,} rows with errors"] if counts.bad else []
        more += [f"{counts.cut:,} texts cut at their end"] if counts.cut else []
        say(stdout_console(), f"{counts.rows:,} predictions in {output}" + (f" ({', '.join(more)})" if more else ""))


@contextmanager
def counted(counts: Counts) -> Iterator[None]:
    """Let the last line say the counts, however the block ends: behind an error they are its note (main.py)."""
    try:
        yield
    except (BrokenPipeError, SystemExit):  # whoever read the answers has gone
        raise
    except (BebertError, OSError) as error:
        if isinstance(error, RowError):  # the row at which it stopped
            counts.add([{"error": str(error)}])
        error.add_note(str(counts))
        raise
    except BaseException:
        say(stderr_console(), str(counts))
        raise
    say(stderr_console(), str(counts))


def _leave(part: ResumeFile) -> None:
    if part.leave():
        kept = f"{part.rows:,} answers are kept in {part.path}"
        say(stderr_console(), f"{kept}; the same input and options go on from there")


def say(console: "Console", text: str) -> None:
    """Print a line, however long."""
    console.print(plain(text), soft_wrap=True, highlight=False)
