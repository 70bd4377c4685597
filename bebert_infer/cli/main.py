"""The command line, `bebert`: each command is a few lines around a function of the library.

Exit codes: 0 done, 1 a failure (damaged model, failed parity, bad row of an input file), 2 bad use (wrong option,
missing file, missing extra).
"""

import codecs
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from bebert_infer.cli.augment import augment
from bebert_infer.cli.bench import bench
from bebert_infer.cli.doctor import doctor
from bebert_infer.cli.eval import evaluate
from bebert_infer.cli.export import export
from bebert_infer.cli.predict import predict
from bebert_infer.cli.train import train
from bebert_infer.console import plain, wide_console
from bebert_infer.errors import BebertError, InputError

app = typer.Typer(
    help="Train, convert and run binary ensemble BERT (BEBERT) on a CPU, on packed bits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = Console()
errors = Console(stderr=True)

Model = Annotated[Path, typer.Argument(help="Folder of a packed model.", show_default=False)]
Threads = Annotated[
    int | None,
    typer.Option(help="Thread budget. Default: BEBERT_THREADS, else what the machine grants.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")]


def main() -> None:
    """Entry point of the command `bebert`: one sentence and an exit code instead of a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path may be no UTF-8, and the output another encoding
        codecs.register_error("bebert", _spelled_out)
        sys.stdout.reconfigure(errors="bebert")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # a full disk shows here, not while Python ends
    except BebertError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `bebert inspect model | head`
        _drop_output()
        sys.exit(1)
    except OSError as error:
        _drop_output()
        place = f' "{error.filename}"' if error.filename else ""
        _print_error(f"cannot read or write{place}: {error.strerror or error}; check rights and room, and run it again")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted; what was not finished was not put in its place")
        sys.exit(130)


def _print_error(text: str) -> None:
    errors.print(f"[bold red]error:[/] {plain(text)}", soft_wrap=True, highlight=False)


def _drop_output() -> None:
    """Forget what standard output cannot take: Python would try again when it ends, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _spelled_out(error: UnicodeError) -> tuple[str, int]:
    r"""Characters that an encoding lacks as \u and four digits, which JSON reads as these characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True)), error.end


@app.command()
def inspect(
    model: Model,
    tokens: Annotated[int, typer.Option(min=1, help="Sentence length for operation counts.")] = 128,
    as_json: Json = False,
) -> None:
    """Show what a model is: bits, bytes and operations by kind, and the evidence recorded at export."""
    from bebert_infer.artifact.folder import read_artifact
    from bebert_infer.measure.inspection import describe

    facts = describe(read_artifact(model), tokens)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    _print_facts(facts, tokens)


@app.command()
def demo(threads: Threads = None) -> None:
    """Classify real sentences with the small ensemble that comes with this package."""
    from bebert_infer.cli.demo import run_demo

    run_demo(console, threads)


@app.command()
def convert(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            help="Folders or files of published checkpoints; several make one ensemble.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    alphas: Annotated[str | None, typer.Option(help="Weights of the members: 0.6,0.4", show_default=False)] = None,
    combine: Annotated[
        str | None,
        typer.Option(help="vote, logits, probabilities; regression: mean, median.", show_default=False),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder with vocab.txt or tokenizer.json.", show_default=False)
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Label names: negative,positive", show_default=False)] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Token limit for texts.", show_default=False)] = None,
    memory_limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar="BEBERT_PICKLE_MEMORY",
            help="MiB that reading a pickle may take. Default: 4 times the file and 512 more.",
            show_default=False,
        ),
    ] = None,
    time_limit: Annotated[
        int, typer.Option(min=1, envvar="BEBERT_PICKLE_SECONDS", help="Seconds of CPU time for reading a pickle.")
    ] = 120,
) -> None:
    """Convert published checkpoints (BinaryBERT, BEBERT, BiBERT, BiT, TernaryBERT) to one packed model.

    Pickles (.bin) are read without running their code, in a process of its own with limits on memory and time.
    The packed engine is compared with the PyTorch graph, code by code,
    and nothing is written unless they agree.
    """
    from bebert_infer.optional import load_export

    module = load_export("convert")
    started = time.perf_counter()
    with console.status("reading, packing and checking"):
        converted = module.convert(
            checkpoints,
            out,
            alphas=None if alphas is None else _numbers(alphas),
            combination=combine,
            tokenizer=tokenizer,
            labels=None if labels is None else [label.strip() for label in labels.split(",")],
            max_length=max_length,
            limits=load_export("checkpoints.untrusted_pickle").Limits(memory_limit, time_limit),
        )
    _print_conversion(converted, out, time.perf_counter() - started)


def _print_facts(facts: dict[str, Any], tokens: int) -> None:
    console = wide_console()
    summary = Table("", Column(overflow="fold"), show_header=False, box=None)
    for name, value in facts["model"].items():
        summary.add_row(name, plain(str(value)))
    console.print(summary)
    table = Table("bytes", "of", title="tensors, all members")
    for kind, count in facts["bytes"].items():
        table.add_row(f"{count:,}", kind)
    console.print(table)
    table = Table(
        "member",
        Column("family", overflow="fold"),
        "bits W-E-A",
        Column("weights", overflow="fold"),
        Column("GMAC by bits of factors", overflow="fold"),
        "float GFLOPs",
        "full precision GFLOPs",
        title=f"operations, {tokens} tokens",
    )
    for row in facts["members"]:
        products = ", ".join(f"{bits}: {count:g}" for bits, count in row["gmac"].items())
        table.add_row(*(plain(str(value)) for value in (row | {"gmac": products}).values()))
    console.print(table)
    table = Table("", "the papers' way", "nothing left out", "formula of the papers", title="counted as in the papers")
    for row in facts["papers"]:
        figures = (f"{row[which]:.3f} {row['unit']}" for which in ("paper", "honest"))
        table.add_row(row["what"], *figures, row["formula"])
    console.print(table)
    if facts["evidence"]:
        console.print("evidence", style="bold")
        console.print_json(data=facts["evidence"])


def _print_conversion(converted: Any, out: Path, seconds: float) -> None:
    config, parity = converted.written.config, converted.written.parity
    table = Table("member", "family", "hidden × attention × FFN", "layers", "bits W-E-A", "ignored keys")
    for index, (member, checkpoint) in enumerate(zip(config.members, converted.checkpoints, strict=True)):
        width = f"{member.hidden_size} × {member.attention_size} × {member.intermediate_size}"
        table.add_row(
            str(index),
            f"{member.family}, {member.branches} branch{'es' if member.branches > 1 else ''}",
            width,
            str(member.num_hidden_layers),
            member.scheme,
            str(len(checkpoint.ignored)),
        )
    wide_console().print(table)
    console.print(
        f"parity: {parity.codes:,} codes over {parity.tokens} tokens, {parity.flips} flips at a threshold, "
        f"hidden states within {parity.max_hidden_difference:.1e}, logits within {parity.max_logit_difference:.1e}, "
        f"label agreement {parity.label_agreement:.0%}"
    )
    if converted.written.zeros:
        console.print(f"{converted.written.zeros:,} weights were exactly 0 and are stored as +1")
    text = "text and token ids" if config.tokenizer else "token ids only (add text with --tokenizer)"
    console.print(
        f"{config.tensors_bytes:,} bytes in {plain(str(out))}, combined by {config.combination}; takes {text}; "
        f"{seconds:.1f} s",
        soft_wrap=True,
    )


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f'--alphas is "{text}"; accepted are numbers with commas, like 0.6,0.4') from None


app.command()(predict)
app.command()(bench)
app.command()(train)
app.command()(augment)
app.command("eval")(evaluate)
app.command()(export)
app.command()(doctor)
