"""`bebert predict`: texts of the command line in a table, files of any length row by row (`bulk/classify.py`)."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from bebert_infer.cli.options import model, path, refuse_unused, threads
from bebert_infer.cli.usage import TextCommand, argument, command, option
from bebert_infer.console import plain, stderr_console, stdout_console
from bebert_infer.errors import BebertError, InputError, RowError, safe

if TYPE_CHECKING:  # what reads files, prints tables or computes is imported when it is needed
    from rich.console import Console

    from bebert_infer.bulk.classify import Counts
    from bebert_infer.bulk.record import BulkOptions
    from bebert_infer.bulk.resume_file import ResumeFile
    from bebert_infer.bulk.row import RowFile
    from bebert_infer.ensemble import Ensemble

FILES, LONG = "Files", "Long texts and limits"


@command(cls=TextCommand)
@model
@argument("texts", nargs=-1, help="Texts to classify.")
@option("--pair", help="Second text of a pair, for one text.")
@option(
    "--input",
    type=path,
    group=FILES,
    help="File of texts: .jsonl, .csv, .tsv, .txt (also .gz) or .parquet; - reads JSON or plain lines from a pipe.",
)
@option(
    "--output",
    type=path,
    group=FILES,
    help="Where to write answers, in the same order: .jsonl, .csv, .tsv or .parquet. Until all are there they are in "
    "OUTPUT.part, and the same command goes on from there.",
)
@option("--text-column", group=FILES, help="Column of texts. Default: sentence1, sentence, text or text1.")
@option(
    "--pair-column",
    group=FILES,
    help="Column of second texts. Default, if no column is named: sentence2, text2 or text_pair, if there.",
)
@option(
    "--input-format",
    type=click.Choice(("tsv", "csv", "jsonl", "json", "txt")),
    group=FILES,
    help="What --input holds. Default: by its ending; a pipe is JSON if it begins so, else one text a line.",
)
@option(
    "--on-error",
    type=click.Choice(("stop", "skip")),
    default="stop",
    group=FILES,
    help='At a row that cannot be classified: stop, or skip it: {"row": …, "error": …} in its place.',
)
@option("--restart", is_flag=True, group=FILES, help="Drop OUTPUT.part.")
@option(
    "--long",
    type=click.Choice(("error", "truncate", "windows")),
    group=LONG,
    help="Texts of too many tokens: error (default), truncate their end, or read them in windows.",
)
@option("--truncate", is_flag=True, group=LONG, help="Short for --long truncate.")
@option(
    "--overlap",
    type=click.IntRange(min=0),
    group=LONG,
    help="Tokens that neighbouring windows share. Default: a quarter of a window.",
)
@option(
    "--pool",
    type=click.Choice(("mean", "max")),
    default="mean",
    group=LONG,
    help="Answer of several windows: mean of probabilities, or the surest.",
)
@option(
    "--max-characters",
    type=click.IntRange(min=1),
    default=1_000_000,
    group=LONG,
    help="Refuse longer texts before tokenizing.",
)
@option(
    "--max-tokens", type=click.IntRange(min=1), group=LONG, help="Tokens of a text or window. Default: the model's."
)
@threads
@option("--json", "as_json", is_flag=True, help="Print JSON for machines; of --input, one object a line.")
@click.pass_context
def predict(
    context: click.Context,
    model: Path,
    texts: tuple[str, ...],
    pair: str | None,
    input: Path | None,
    output: Path | None,
    text_column: str | None,
    pair_column: str | None,
    input_format: str | None,
    on_error: Literal["stop", "skip"],
    restart: bool,
    long: str | None,
    truncate: bool,
    overlap: int | None,
    pool: str,
    max_characters: int,
    max_tokens: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    r"""Classify texts.

    \b
    bebert predict model/ "a gripping, funny film"
    bebert predict model/ --input reviews.csv --output answers.jsonl --on-error skip
    cat lines.txt | bebert predict model/ --input - --json
    """
    from bebert_infer.bulk.record import BulkOptions
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.limits import InputLimits
    from bebert_infer.text.windows import long_texts

    _check_use(context, texts, pair, input, output)
    if long != "windows":
        refuse_unused(context, "a run without --long windows", ("pool",))
    options = BulkOptions(text_column, pair_column, long_texts(truncate, long, overlap, pool), on_error)
    limits = InputLimits(characters=max_characters, tokens=max_tokens)
    alone = input is None and output is None  # texts in, answers out: no file
    file = None if alone else _opened(input, texts, pair, options, max_characters, input_format)
    try:
        ensemble = Ensemble.from_pretrained(model, threads=threads, limits=limits)
        ensemble.check_texts(options.long)
        if file is None:
            _print_texts(ensemble, [text if pair is None else (text, pair) for text in texts], options, as_json)
        elif output is not None:
            _write(ensemble, file, input, output, options, restart)
        else:
            _print_rows(ensemble, file, options, as_json)
    finally:
        if file is not None:
            file.close()


def _check_use(
    context: click.Context, texts: tuple[str, ...], pair: str | None, input: Path | None, output: Path | None
) -> None:
    """Raise InputError for what does not belong together."""
    if bool(texts) == bool(input):
        raise InputError("pass either texts or --input FILE; see `bebert predict --help`")
    if pair is not None and len(texts) != 1:
        raise InputError(f"--pair belongs to exactly one text; {len(texts)} were given")
    if input is None:
        refuse_unused(context, "texts of the command line", ("text_column", "pair_column", "input_format"))
    if output is None:
        refuse_unused(context, "a run without --output", ("restart",) if input else ("restart", "on_error"))
        return
    from bebert_infer.bulk.writers import check_output

    refuse_unused(context, "--output, which takes all answers,", ("as_json",))
    check_output(output)
    if input is not None and input.exists() and output.exists() and input.samefile(output):
        raise InputError(f'"{output}" is both input and output; choose another --output')


def _opened(
    input: Path | None,
    texts: tuple[str, ...],
    pair: str | None,
    options: "BulkOptions",
    max_characters: int,
    kind: str | None,
) -> "RowFile":
    """The rows to classify; texts of the command line are rows too."""
    from bebert_infer.bulk.classify import check_columns
    from bebert_infer.bulk.readers import MAX_ROW_BYTES, open_rows, open_stream
    from bebert_infer.bulk.row import Row, RowFile

    if input is None:
        cells = [{"text": text} | ({} if pair is None else {"text_pair": pair}) for text in texts]
        rows = (Row(number, row) for number, row in enumerate(cells, 1))
        return RowFile(Path("the command line"), None, rows, "text", lambda: None, len(texts))
    # Twelve bytes of JSON a character, and two texts; not more than the C long of Python's CSV reader holds.
    max_bytes = min(max(MAX_ROW_BYTES, 16 * max_characters), 2**31 - 1)
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


def _write(
    ensemble: "Ensemble", file: "RowFile", input: Path | None, output: Path, options: "BulkOptions", restart: bool
) -> None:
    from bebert_infer.bulk.classify import Counts, classify_file, input_facts, model_digest
    from bebert_infer.bulk.resume_file import ResumeFile
    from bebert_infer.bulk.writers import table_maker
    from bebert_infer.cli.predict_view import Progress

    facts = None
    if input is not None and input.is_file():
        digest = model_digest(ensemble.config, ensemble.tokenizer_json)
        facts = input_facts(input, digest, options) | {"limits": asdict(ensemble.input_limits)}
    make = table_maker(output, ensemble.config.labels, ensemble.config.problem_type)
    part = ResumeFile(output, facts, restart)
    if part.rows:
        _say(stderr_console(), f"going on after {part.rows:,} answers in {part.path}")
    counts = Counts()
    with _counted(counts):
        try:
            with Progress(file, stderr_console()) as report:
                classify_file(ensemble, file, part, options, make, report, counts)
        except BaseException:
            _leave(part)
            raise
        more = [f"{counts.earlier:,} of an earlier run"] if counts.earlier else []
        more += [f"{counts.bad:,} rows with errors"] if counts.bad else []
        more += [f"{counts.cut:,} texts cut at their end"] if counts.cut else []
        _say(stdout_console(), f"{counts.rows:,} predictions in {output}" + (f" ({', '.join(more)})" if more else ""))


@contextmanager
def _counted(counts: "Counts") -> Iterator[None]:
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
        _say(stderr_console(), str(counts))
        raise
    _say(stderr_console(), str(counts))


def _leave(part: "ResumeFile") -> None:
    if part.leave():
        kept = f"{part.rows:,} answers are kept in {part.path}"
        _say(stderr_console(), f"{kept}; the same input and options go on from there")


def _say(console: "Console", text: str) -> None:
    console.print(plain(text), soft_wrap=True, highlight=False)


def _print_rows(ensemble: "Ensemble", file: "RowFile", options: "BulkOptions", as_json: bool) -> None:
    from bebert_infer.bulk.classify import Counts, answer_rows

    counts = Counts()
    with _counted(counts):
        for batch in answer_rows(ensemble, file, options):
            if as_json:
                for record in batch:
                    click.echo(safe(json.dumps(record, ensure_ascii=False)))
                if sys.stdout is not None:
                    sys.stdout.flush()
            else:
                _print_table(batch)
            counts.add(batch)


def _print_texts(ensemble: "Ensemble", items: list[Any], options: "BulkOptions", as_json: bool) -> None:
    from bebert_infer.bulk.record import as_record

    long = options.long
    predictions = ensemble.predict(items, long=long.policy, overlap=long.overlap, pool=long.pool)
    records = [as_record(text, prediction, options) for text, prediction in zip(items, predictions, strict=True)]
    if as_json:
        click.echo(json.dumps(records, ensure_ascii=False))
        return
    _print_table(records)


def _print_table(records: list[dict[str, Any]]) -> None:
    from bebert_infer.cli.predict_view import answer_table

    stdout_console().print(answer_table(records))
