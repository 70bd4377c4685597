"""`bebert predict`: texts of the command line in a table, files of any length row by row (`bulk/classify.py`)."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bebert_infer.cli.options import Model, Threads, refuse_unused
from bebert_infer.cli.predict_view import Progress, answer_table
from bebert_infer.console import plain
from bebert_infer.errors import BebertError, InputError, RowError, safe

if TYPE_CHECKING:
    from bebert_infer.bulk.classify import BulkOptions, Counts
    from bebert_infer.bulk.resume_file import ResumeFile
    from bebert_infer.bulk.row import RowFile
    from bebert_infer.ensemble import Ensemble

console = Console()
messages = Console(stderr=True)

FILES, LONG = "Files", "Long texts and limits"


class Long(StrEnum):
    """Values of --long."""

    error = "error"
    truncate = "truncate"
    windows = "windows"


class Pool(StrEnum):
    """Values of --pool."""

    mean = "mean"
    max = "max"


class InputFormat(StrEnum):
    """Values of --input-format: kinds of `bulk/readers.py`."""

    tsv = "tsv"
    csv = "csv"
    jsonl = "jsonl"
    json = "json"
    txt = "txt"


class OnError(StrEnum):
    """Values of --on-error."""

    stop = "stop"
    skip = "skip"


def predict(
    context: typer.Context,
    model: Model,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.", show_default=False)] = None,
    pair: Annotated[str | None, typer.Option(help="Second text of a pair, for one text.", show_default=False)] = None,
    input: Annotated[
        Path | None,
        typer.Option(
            help="File of texts: .jsonl, .csv, .tsv, .txt (also .gz) or .parquet; - reads JSON or plain lines from a "
            "pipe.",
            show_default=False,
            rich_help_panel=FILES,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where to write answers, in the same order: .jsonl, .csv, .tsv or .parquet. Until all are there they "
            "are in OUTPUT.part, and the same command goes on from there.",
            show_default=False,
            rich_help_panel=FILES,
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            help="Column of texts. Default: sentence1, sentence, text or text1.",
            show_default=False,
            rich_help_panel=FILES,
        ),
    ] = None,
    pair_column: Annotated[
        str | None,
        typer.Option(
            help="Column of second texts. Default, if no column is named: sentence2, text2 or text_pair, if there.",
            show_default=False,
            rich_help_panel=FILES,
        ),
    ] = None,
    input_format: Annotated[
        InputFormat | None,
        typer.Option(
            help="What --input holds. Default: by its ending; a pipe is JSON if it begins so, else one text a line.",
            show_default=False,
            rich_help_panel=FILES,
        ),
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option(
            help='At a row that cannot be classified: stop, or skip it: {"row": …, "error": …} in its place.',
            rich_help_panel=FILES,
        ),
    ] = OnError.stop,
    restart: Annotated[bool, typer.Option("--restart", help="Drop OUTPUT.part.", rich_help_panel=FILES)] = False,
    long: Annotated[
        Long | None,
        typer.Option(
            help="Texts of too many tokens: error (default), truncate their end, or read them in windows.",
            show_default=False,
            rich_help_panel=LONG,
        ),
    ] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Short for --long truncate.", rich_help_panel=LONG)
    ] = False,
    overlap: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Tokens that neighbouring windows share. Default: a quarter of a window.",
            show_default=False,
            rich_help_panel=LONG,
        ),
    ] = None,
    pool: Annotated[
        Pool,
        typer.Option(help="Answer of several windows: mean of probabilities, or the surest.", rich_help_panel=LONG),
    ] = Pool.mean,
    max_characters: Annotated[
        int, typer.Option(min=1, help="Refuse longer texts before tokenizing.", rich_help_panel=LONG)
    ] = 1_000_000,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens of a text or window. Default: the model's.", show_default=False, rich_help_panel=LONG
        ),
    ] = None,
    early_exit: Annotated[
        str | None,
        typer.Option(
            help="Ask no further member once the label is settled: exact changes no label, a number like 0.9 also "
            "stops at this probability.",
            show_default=False,
        ),
    ] = None,
    threads: Threads = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for machines; of --input, one object a line.")
    ] = False,
) -> None:
    """Classify texts.

    [dim]bebert predict model/ "a gripping, funny film"[/]
    [dim]bebert predict model/ --input reviews.csv --output answers.jsonl --on-error skip[/]
    [dim]cat lines.txt | bebert predict model/ --input - --json[/]
    """
    from bebert_infer.bulk.classify import BulkOptions
    from bebert_infer.bulk.writers import check_output
    from bebert_infer.early_exit import checked_early_exit, parse_early_exit
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.limits import InputLimits
    from bebert_infer.text.windows import long_texts

    if bool(texts) == bool(input):
        raise InputError("pass either texts or --input FILE; see `bebert predict --help`")
    if pair is not None and (not texts or len(texts) != 1):
        raise InputError(f"--pair belongs to exactly one text; {len(texts or [])} were given")
    if input is None:
        refuse_unused(context, "texts of the command line", ("text_column", "pair_column", "input_format"))
    if output is None:
        refuse_unused(context, "a run without --output", ("restart",) if input else ("restart", "on_error"))
    else:
        refuse_unused(context, "--output, which takes all answers,", ("as_json",))
        check_output(output)
        if input is not None and input.exists() and output.exists() and input.samefile(output):
            raise InputError(f'"{output}" is both input and output; choose another --output')
    if long is not Long.windows:
        refuse_unused(context, "a run without --long windows", ("pool",))
    rule = long_texts(truncate, None if long is None else long.value, overlap, pool.value)
    options = BulkOptions(text_column, pair_column, rule, on_error.value, parse_early_exit(early_exit))
    limits = InputLimits(characters=max_characters, tokens=max_tokens)
    kind = None if input_format is None else input_format.value
    file = _opened(input, texts or [], pair, options, max_characters, kind)
    try:
        ensemble = Ensemble.from_pretrained(model, threads=threads, limits=limits)
        ensemble.check_texts(options.long)
        checked_early_exit(options.early_exit, ensemble.config)
        if output is not None:
            _write(ensemble, file, input, output, options, restart)
        elif input is not None:
            _print_rows(ensemble, file, options, as_json)
        else:
            _print_texts(ensemble, [text if pair is None else (text, pair) for text in texts or []], options, as_json)
    finally:
        file.close()


def _opened(
    input: Path | None,
    texts: list[str],
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

    facts = None
    if input is not None and input.is_file():
        digest = model_digest(ensemble.config, ensemble.tokenizer_json)
        facts = input_facts(input, digest, options) | {"limits": asdict(ensemble.input_limits)}
    make = table_maker(output, ensemble.config.labels, ensemble.config.problem_type)
    part = ResumeFile(output, facts, restart)
    if part.rows:
        _say(messages, f"going on after {part.rows:,} answers in {part.path}")
    counts = Counts()
    with _counted(counts):
        try:
            with Progress(file, messages) as report:
                classify_file(ensemble, file, part, options, make, report, counts)
        except BaseException:
            _leave(part)
            raise
        more = [f"{counts.earlier:,} of an earlier run"] if counts.earlier else []
        more += [f"{counts.bad:,} rows with errors"] if counts.bad else []
        more += [f"{counts.cut:,} texts cut at their end"] if counts.cut else []
        _say(console, f"{counts.rows:,} predictions in {output}" + (f" ({', '.join(more)})" if more else ""))


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
        _say(messages, str(counts))
        raise
    _say(messages, str(counts))


def _leave(part: "ResumeFile") -> None:
    if part.leave():
        _say(messages, f"{part.rows:,} answers are kept in {part.path}; the same input and options go on from there")


def _say(console: Console, text: str) -> None:
    console.print(plain(text), soft_wrap=True, highlight=False)


def _print_rows(ensemble: "Ensemble", file: "RowFile", options: "BulkOptions", as_json: bool) -> None:
    from bebert_infer.bulk.classify import Counts, answer_rows

    counts = Counts()
    with _counted(counts):
        for batch in answer_rows(ensemble, file, options):
            if as_json:
                for record in batch:
                    typer.echo(safe(json.dumps(record, ensure_ascii=False)))
                if sys.stdout is not None:
                    sys.stdout.flush()
            else:
                console.print(answer_table(batch))
            counts.add(batch)


def _print_texts(ensemble: "Ensemble", items: list[Any], options: "BulkOptions", as_json: bool) -> None:
    from bebert_infer.bulk.classify import as_record

    long = options.long
    way: dict[str, Any] = {"long": long.policy, "overlap": long.overlap, "pool": long.pool}
    predictions = ensemble.predict(items, **way, early_exit=options.early_exit)
    records = [as_record(text, prediction, options) for text, prediction in zip(items, predictions, strict=True)]
    if as_json:
        typer.echo(json.dumps(records, ensure_ascii=False))
        return
    console.print(answer_table(records))
