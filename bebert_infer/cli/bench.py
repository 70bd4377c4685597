"""`bebert bench`: packed models beside the full-precision and int8 engines that are installed."""

import json
import tempfile
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bebert_infer.atomic_files import check_target, write_json, writing
from bebert_infer.cli.options import MODEL, path, refuse_unused
from bebert_infer.cli.usage import argument, command, option
from bebert_infer.console import plain, stderr_console, wide_console
from bebert_infer.errors import InputError

if TYPE_CHECKING:  # what loads Numba is imported when the command is called
    from rich.console import Console

    from bebert_infer.artifact.folder import Artifact
    from bebert_infer.bench.engines import EngineGroup
    from bebert_infer.bench.settings import Settings

SCHEMES = ("1-1-1", "1-1-4")
SIZES = ("base", "base-half", "tiny")
OF_SIZE = ("scheme", "members")
OF_A_RUN = ("data", "full_precision", "rounds", "quick", "peers_folder", "output", "record")


@command()
@argument("model", required=False, help=f"{MODEL} Default: the shipped one, and BERT-base.")
@option("--data", type=path, help="Labelled file (.tsv, .csv, .jsonl, .parquet) for accuracy.")
@option(
    "--full-precision",
    type=path,
    help="The model's full-precision parent (Hugging Face layout), as <run>/full_precision of bebert train. "
    "Default: peers with random weights.",
)
@option("--size", help=f"Instead of a model, random weights: {', '.join(SIZES)}.")
@option("--scheme", default="1-1-4", help=f"With --size: {' or '.join(SCHEMES)}.")
@option("--members", type=click.IntRange(min=1), default=2, help="With --size: how many members.")
@option("--tokens", help="Lengths of the sentence. Default: 16,32,64,128,256,512.")
@option("--threads", help="Threads of every engine; several: 1,2,4. Default: all granted.")
@option(
    "--rounds",
    type=click.IntRange(min=1),
    help="Turns that every engine gets. Default: 7, for batches 3; quick 4 and 1.",
)
@option("--quick", is_flag=True, help="Fewer of everything: three minutes on two cores.")
@option("--peers/--no-peers", default=True, help="Compare with PyTorch, ONNX Runtime, OpenVINO, LiteRT.")
@option("--peers-folder", type=path, help="Keep the files of peers here. Default: the user's cache folder.")
@option("--profile", is_flag=True, help="Instead, where the time of one model goes.")
@option(
    "--sustained",
    type=float,
    help="Instead, this model without a pause for so many seconds: speed, energy and heat over time.",
)
@option(
    "--compare",
    type=path,
    nargs=2,
    metavar="OLD NEW",
    help="Instead, ratios of two earlier runs: bench.json or a .jsonl of --record.",
)
@option("--output", type=path, help="Write bench.json, report.html and plots into this folder.")
@option("--record", type=path, help="Append the run to this .jsonl, one line a run.")
@option("--json", "as_json", is_flag=True, help="Print JSON for machines instead of tables.")
@click.pass_context
def bench(
    context: click.Context,
    model: str | None,
    data: Path | None,
    full_precision: Path | None,
    size: str | None,
    scheme: str,
    members: int,
    tokens: str | None,
    threads: str | None,
    rounds: int | None,
    quick: bool,
    peers: bool,
    peers_folder: Path | None,
    profile: bool,
    sustained: float | None,
    compare: tuple[Path, Path] | None,
    output: Path | None,
    record: Path | None,
    as_json: bool,
) -> None:
    r"""Measure speed, memory, size, operations and accuracy against full precision and int8, engines in turn.

    \b
    bebert bench --quick
    bebert bench model/ --data dev.tsv --full-precision run/full_precision --output report/
    bebert bench model/ --threads 1,2,4 --record history.jsonl
    bebert bench --compare old.jsonl report/bench.json
    bebert bench model/ --sustained 120

    Without a model: the shipped one against its parent, and BERT-base with random weights, on which speed does not
    depend. Peers are used where installed: pip install "bebert-infer[bench]" has all. Their files, 1.3 GB for
    BERT-base, are kept for the next run, which then starts sooner; those not used for 30 days are removed.
    """
    if compare is not None:
        refuse_unused(context, "--compare", set(context.params) - {"compare"})
        from bebert_infer.bench.compare import compare_runs

        compare_runs(*compare, wide_console())
        return
    one = profile or sustained is not None
    if one:
        refuse_unused(context, "--profile" if profile else "--sustained", (*OF_A_RUN, *(["sustained"] * profile)))
    if model is not None or (size is None and not one):
        refuse_unused(context, "a run without --size", OF_SIZE)
    _check_options(model, size, data, full_precision, output, record)
    from bebert_infer.bench.settings import make_settings

    settings, notes = make_settings(
        quick=quick,
        lengths=tokens,
        threads=threads,
        rounds=rounds,
        peers=peers,
        peers_folder=peers_folder,
        data=data,
        full_precision=full_precision,
    )
    console = stderr_console()
    for note in notes:
        console.print(plain(note), highlight=False, soft_wrap=True)
    if one:
        _one_model(model, size, scheme, members, settings, tokens is not None, sustained, as_json)
        return
    run = _measure(model, size, scheme, members, settings, console)
    run["notes"] = notes + run["notes"]
    try:
        if as_json:
            click.echo(json.dumps(run, ensure_ascii=False))
        else:
            from bebert_infer.bench.tables import print_run

            print_run(run, wide_console())
    finally:  # where standard output is full or nobody reads it, minutes of work are kept all the same
        _keep(run, output, record, console)


def _measure(
    model: str | None, size: str | None, scheme: str, members: int, settings: "Settings", console: "Console"
) -> dict[str, Any]:
    """The record of one run; everything it writes but the files of peers vanishes."""
    from bebert_infer.bench.peers import peers_folder
    from bebert_infer.bench.run import run_groups

    def status(text: str) -> AbstractContextManager[Any]:
        return console.status(plain(text))

    with ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bebert-bench-")))
        folder = stack.enter_context(peers_folder(settings.peers_folder)) if settings.peers else own
        with status("models with random weights"):
            groups = _groups(model, size, scheme, members, settings, own)
        run = run_groups(groups, settings, folder, status)
        kept = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder != own else 0
        if kept:
            console.print(
                f"files of peers, {kept / 1e9:.2f} GB, are kept for the next run in {plain(str(folder))}",
                highlight=False,
                soft_wrap=True,
            )
        return run


def _groups(
    model: str | None, size: str | None, scheme: str, members: int, settings: "Settings", folder: Path
) -> "list[EngineGroup]":
    """One group for a model or a size; without either the shipped model and BERT-base."""
    from bebert_infer.bench.engines import engine_name, model_group, random_group
    from bebert_infer.hub import local_folder
    from bebert_infer.measure.sample_models import demo_path

    if size is not None:
        artifacts = {engine_name(scheme, size == "base-half", members): _random(size, scheme, members)}
        return [random_group(artifacts, size, f"{size}, random weights", folder)]
    chosen = demo_path() if model is None else local_folder(model)
    name = "demo model" if model is None else _name(model)
    weights = "random weights" if settings.full_precision is None else "those of its full-precision parent"
    first = model_group(chosen, name, f"{name}; peers have {weights}", settings.data, settings.full_precision)
    if model is not None:
        return [first]
    base = {
        engine_name(scheme, size == "base-half", members): _random(size, scheme, members)
        for size, scheme, members in (("base", "1-1-1", 1), ("base-half", "1-1-4", 1), ("base-half", "1-1-4", 2))
    }
    return [first, random_group(base, "BERT-base", "BERT-base geometry, random weights in all engines", folder)]


def _name(model: str) -> str:
    """Of a folder, or of a repository on the hub."""
    return Path(model).resolve().name if Path(model).exists() else model.rpartition("/")[2]


def _random(size: str, scheme: str, members: int) -> "Artifact":
    from bebert_infer.measure.sample_models import random_model

    if size not in SIZES:
        raise InputError(f'--size is "{size}"; accepted are {", ".join(SIZES)}')
    if scheme not in SCHEMES:
        raise InputError(f'--scheme is "{scheme}"; accepted are {", ".join(SCHEMES)}')
    return random_model(size, scheme, members)  # type: ignore[arg-type]


def _check_options(
    model: str | None,
    size: str | None,
    data: Path | None,
    full_precision: Path | None,
    output: Path | None,
    record: Path | None,
) -> None:
    """What is wrong is told before minutes of work."""
    if model is not None and size is not None:
        raise InputError(f'both a model and --size "{size}" were given; pass one of them')
    if size is not None and (data is not None or full_precision is not None):
        raise InputError("--size has random weights, to which no --data and no --full-precision belongs; pass a model")
    if data is not None and not data.is_file():
        raise InputError(f'there is no file "{data}"; --data takes a labelled file')
    if full_precision is not None and not full_precision.is_dir():
        raise InputError(f'there is no folder "{full_precision}"; --full-precision takes that of a classifier')
    if output is not None:
        if output.exists() and not output.is_dir():
            raise InputError(f'--output is "{output}", which is a file; pass a folder')
        check_target(output, "--output", output)
    if record is not None:
        if record.suffix != ".jsonl" or record.is_dir():
            raise InputError(f'--record is "{record}"; accepted is a file ending in .jsonl')
        check_target(record.parent, "--record", record)


def _one_model(
    model: str | None,
    size: str | None,
    scheme: str,
    members: int,
    settings: "Settings",
    chosen: bool,
    sustained: float | None,
    as_json: bool,
) -> None:
    """The modes that measure one packed model at one length."""
    from bebert_infer.artifact.folder import read_artifact
    from bebert_infer.bench.turns import random_tokens
    from bebert_infer.cli.bench_modes import show_sustained
    from bebert_infer.cli.bench_profile import show_profile
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.hub import local_folder

    artifact = read_artifact(local_folder(model)) if model else _random(size or "base", scheme, members)
    tokens, threads = settings.lengths[0] if chosen else settings.batch_tokens, settings.threads[0]
    limit = artifact.config.max_position_embeddings
    if tokens > limit and chosen:
        raise InputError(f"--tokens is {tokens}; this model takes at most {limit}")
    tokens = min(tokens, limit)
    facts = {"model": str(artifact.path), "members": len(artifact.config.members), "tokens": tokens, "threads": threads}
    if sustained is None:
        show_profile(artifact, tokens, threads, facts | {"members": 1, "threads": 1}, as_json)
        return
    ensemble, ids = Ensemble(artifact, threads=threads), random_tokens(artifact.config.vocab_size, 1, tokens)
    show_sustained(lambda: ensemble.logits(ids), sustained, facts, as_json)


def _keep(run: dict[str, Any], output: Path | None, record: Path | None, console: "Console") -> None:
    """Write the run where the user wants it: a folder with a report, a line of a history."""
    try:
        if record is not None:
            _append(run, record, console)
    finally:  # minutes of work: what fails here must not take the report with it
        if output is not None:
            _report(run, output, console)


def _append(run: dict[str, Any], record: Path, console: "Console") -> None:
    with writing(record):
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(run, ensure_ascii=False) + "\n")
    console.print(f"run appended to {plain(str(record))}", highlight=False, soft_wrap=True)


def _report(run: dict[str, Any], output: Path, console: "Console") -> None:
    from bebert_infer.bench.report.page import write_report

    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "bench.json", run)
        # Without matplotlib it writes tables, and in them what to install.
        write_report(run, output)
    plots = "plots" if find_spec("matplotlib") else "no plots, which need matplotlib: pip install matplotlib,"
    console.print(f"bench.json, report.html and {plots} in {plain(str(output))}", highlight=False, soft_wrap=True)
