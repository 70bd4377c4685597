"""`bebert predict`: its options, and texts of the command line; what is read or written is in `predict_files.py`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from bebert_infer.cli.options import model, path, refuse_unused, threads
from bebert_infer.cli.usage import TextCommand, argument, command, option
from bebert_infer.console import stdout_console
from bebert_infer.errors import InputError

if TYPE_CHECKING:  # what reads files, prints tables or computes is imported when it is needed
    from bebert_infer.bulk.record import BulkOptions
    from bebert_infer.ensemble import Ensemble

FILES, LONG, CLUSTER = "Files", "Long texts and limits", "On a cluster"


@command(cls=TextCommand)
@model
@argument("texts", nargs=-1, help="Texts to classify.")
@option("--pair", help="Second text of a pair, for one text.")
@option(
    "--input",
    group=FILES,
    help="File of texts: .jsonl, .csv, .tsv, .txt (also .gz) or .parquet; - reads JSON or plain lines from a pipe.",
)
@option(
    "--output",
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
    group=FILES,
    help='At a row that cannot be classified: stop, or skip it: {"row": …, "error": …} in its place. '
    "Default: stop, with --engine skip.",
)
@option("--restart", is_flag=True, group=FILES, help="Drop OUTPUT.part, or what an unfinished run left in OUTPUT.")
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
@option(
    "--early-exit",
    help="Ask no further member once the label is settled: exact changes no label, a number like 0.9 also stops at "
    "this probability.",
)
@option(
    "--engine",
    type=click.Choice(("ray",)),
    group=CLUSTER,
    help="Run on a Ray cluster: --input is a file, a folder or a URI, --output a new folder of Parquet files.",
)
@option("--address", group=CLUSTER, help="Of the cluster. Default: RAY_ADDRESS, else one that is started here.")
@option("--workers", type=click.IntRange(min=1), group=CLUSTER, help="Default: as many as the cluster has CPUs for.")
@option(
    "--part-rows", type=click.IntRange(min=1), group=CLUSTER, help="Most rows of a file of the output. Default: 4096."
)
@threads
@option("--json", "as_json", is_flag=True, help="Print JSON for machines; of --input, one object a line.")
@click.pass_context
def predict(
    context: click.Context,
    model: str,
    texts: tuple[str, ...],
    pair: str | None,
    input: str | None,
    output: str | None,
    text_column: str | None,
    pair_column: str | None,
    input_format: str | None,
    on_error: Literal["stop", "skip"] | None,
    restart: bool,
    long: str | None,
    truncate: bool,
    overlap: int | None,
    pool: str,
    max_characters: int,
    max_tokens: int | None,
    early_exit: str | None,
    engine: str | None,
    address: str | None,
    workers: int | None,
    part_rows: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    r"""Classify texts.

    \b
    bebert predict model/ "a gripping, funny film"
    bebert predict model/ --input reviews.csv --output answers.jsonl --on-error skip
    cat lines.txt | bebert predict model/ --input - --json
    bebert predict model/ --input s3://bucket/reviews/ --output s3://bucket/answers/ --engine ray
    """
    from bebert_infer.bulk.record import BulkOptions
    from bebert_infer.early_exit import checked_early_exit, parse_early_exit
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.limits import InputLimits
    from bebert_infer.text.windows import long_texts

    source, target = (None if place is None else path(place) for place in (input, output))
    if engine is None:
        refuse_unused(context, "a run without --engine", ("address", "workers", "part_rows"))
        _check_use(context, texts, pair, source, target)
    if long != "windows":
        refuse_unused(context, "a run without --long windows", ("pool",))
    rule = long_texts(truncate, long, overlap, pool)
    on_error = on_error or ("stop" if engine is None else "skip")
    options = BulkOptions(text_column, pair_column, rule, on_error, parse_early_exit(early_exit))
    limits = InputLimits(characters=max_characters, tokens=max_tokens)
    if engine is not None:
        from bebert_infer.cli.predict_ray import predict_on_ray

        refuse_unused(context, "--engine", ("texts", "pair", "as_json"))
        if input is None or output is None:
            raise InputError("--engine reads --input and writes --output; pass both")
        cluster: dict[str, Any] = {"address": address, "workers": workers, "threads": 1 if threads is None else threads}
        predict_on_ray(model, input, output, options, limits, input_format, part_rows, restart, cluster)
        return
    alone = source is None and target is None  # texts in, answers out: no file
    if not alone:
        from bebert_infer.cli.predict_files import open_input, print_answers, write_answers
    file = None if alone else open_input(source, texts, pair, options, max_characters, input_format)
    try:
        ensemble = Ensemble.from_pretrained(model, threads=threads, limits=limits)
        ensemble.check_texts(options.long)
        checked_early_exit(options.early_exit, ensemble.config)
        if file is None:
            _print_texts(ensemble, [text if pair is None else (text, pair) for text in texts], options, as_json)
        elif target is not None:
            write_answers(ensemble, file, source, target, options, restart)
        else:
            print_answers(ensemble, file, options, as_json)
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


def _print_texts(ensemble: "Ensemble", items: list[Any], options: "BulkOptions", as_json: bool) -> None:
    from bebert_infer.bulk.record import as_record

    long = options.long
    way: dict[str, Any] = {"long": long.policy, "overlap": long.overlap, "pool": long.pool}
    predictions = ensemble.predict(items, **way, early_exit=options.early_exit)
    records = [as_record(text, prediction, options) for text, prediction in zip(items, predictions, strict=True)]
    if as_json:
        click.echo(json.dumps(records, ensure_ascii=False))
        return
    from bebert_infer.cli.predict_view import answer_table

    stdout_console().print(answer_table(records))
