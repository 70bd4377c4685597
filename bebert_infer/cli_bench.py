"""`bebert bench`: latency of a packed ensemble beside the full-precision and int8 engines that are installed."""

import json
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bebert_infer.errors import InputError, MissingExtraError
from bebert_infer.extras import load_export
from bebert_infer.synthetic import SIZES, random_model

if TYPE_CHECKING:  # what loads Numba is imported when the command is called
    from collections.abc import Callable

    from bebert_infer.artifact import Artifact
    from bebert_infer.bench import Engine, Row

SCHEMES = ("1-1-1", "1-1-4")
MISSING = "–"
HINT = 'not installed: pip install "bebert-infer[bench]"'


def bench(
    model: Annotated[Path | None, typer.Argument(help="Folder of a packed model.", show_default=False)] = None,
    size: Annotated[str, typer.Option(help=f"Without a model, random weights: {', '.join(SIZES)}.")] = "base",
    scheme: Annotated[str, typer.Option(help=f"Without a model: {' or '.join(SCHEMES)}.")] = "1-1-4",
    members: Annotated[int, typer.Option(min=1, help="Without a model: how many members.")] = 2,
    tokens: Annotated[int, typer.Option(min=1, help="Length of the sentence.")] = 128,
    threads: Annotated[int | None, typer.Option(help="Threads of every engine.", show_default=False)] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that every engine gets.")] = 7,
    peers: Annotated[bool, typer.Option(help="Compare with PyTorch, ONNX Runtime and OpenVINO.")] = True,
    peers_folder: Annotated[
        Path | None, typer.Option(help="Keep the built peers here for the next time.", show_default=False)
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Instead, the time of each operation of one member on one thread.")
    ] = False,
    sustained: Annotated[
        float | None,
        typer.Option(help="Instead, this model without a pause for so many seconds: speed, energy and heat over time."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")] = False,
) -> None:
    """Measure the latency of one sentence, all engines in turn in one run.

    [dim]bebert bench model/[/]
    [dim]bebert bench --size base-half --scheme 1-1-4 --members 2 --no-peers[/]
    [dim]bebert bench model/ --sustained 120[/]
    """
    import numpy as np

    from bebert_infer.artifact import read_artifact
    from bebert_infer.bench import compare, measure, packed_engine
    from bebert_infer.threads import thread_budget

    budget, _ = thread_budget(threads)
    artifact = read_artifact(model) if model else _random(size, scheme, members)
    if tokens > artifact.config.max_position_embeddings:
        limit = artifact.config.max_position_embeddings
        raise InputError(f"--tokens is {tokens}; this model takes at most {limit}")
    facts = {"model": str(artifact.path), "members": len(artifact.config.members), "tokens": tokens, "threads": budget}
    if profile:
        _profile(artifact, tokens, facts | {"members": 1, "threads": 1}, as_json)
        return
    ids = np.random.default_rng(0).integers(0, artifact.config.vocab_size, (1, tokens))
    if sustained is not None:
        _sustained(packed_engine("this model", artifact, ids, budget).call, sustained, facts, as_json)
        return
    messages = Console(stderr=True)
    with ExitStack() as stack:
        engines = [packed_engine("bebert, this model", artifact, ids, budget)]
        missing: dict[str, str] = {}
        if peers:
            folder = peers_folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bebert-bench-")))
            found, missing = _peers(artifact, ids, budget, folder, messages)
            engines = found + engines
        with messages.status(f"{rounds} rounds of {len(engines)} engines"):
            times = measure({engine.name: engine.call for engine in engines}, rounds)
    rows = compare(engines, times)
    if as_json:
        typer.echo(json.dumps(facts | {"engines": [asdict(row) for row in rows], "missing": missing}))
        return
    title = f"one sentence of {tokens} tokens, {budget} thread{'s' if budget > 1 else ''}"
    Console().print(latency_table(rows, title))
    for name, reason in missing.items():
        messages.print(f"{name}: {escape(reason)}", style="dim", highlight=False)


def latency_table(rows: "list[Row]", title: str) -> Table:
    """Medians in milliseconds, and how many times faster each engine is than those that ratios are taken against."""
    titles = list(rows[0].ratios)
    table = Table(title=title)
    table.add_column("engine", no_wrap=True)
    for heading in ("median ms", "min", "max", *(f"vs {title}" for title in titles)):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = (f"{value:.2f}" for value in (row.median_ms, row.min_ms, row.max_ms))
        table.add_row(escape(row.name), *figures, *(f"{row.ratios[name]:.2f}×" for name in titles))
    return table


def _random(size: str, scheme: str, members: int) -> "Artifact":
    if size not in SIZES:
        raise InputError(f'--size is "{size}"; accepted are {", ".join(SIZES)}')
    if scheme not in SCHEMES:
        raise InputError(f'--scheme is "{scheme}"; accepted are {", ".join(SCHEMES)}')
    return random_model(size, scheme, members)  # type: ignore[arg-type]


def _peers(
    artifact: "Artifact", ids: Any, threads: int, folder: Path, messages: Console
) -> "tuple[list[Engine], dict[str, str]]":
    """Build the peers that are installed, for the full-precision parent of this model; the others with reasons."""
    from bebert_infer.bench import parent_geometry

    try:
        module = load_export("peers")
    except MissingExtraError:
        return [], {"other engines": HINT}
    workshop = module.Workshop(parent_geometry(artifact.config), ids, threads, folder)
    engines, missing = [], {}
    for name in module.PEERS:
        with messages.status(f"building {name}"):
            built = module.build_peer(name, workshop)
        if isinstance(built, str):
            missing[name] = built
        else:
            engines.append(built)
    return engines, missing


def _sustained(call: "Callable[[], Any]", seconds: float, facts: dict[str, Any], as_json: bool) -> None:
    """Print speed, energy and heat of every tenth of the time, and whether the machine kept its speed."""
    from bebert_infer.sustained import SLOWER, slowdown, sustain

    if not 0 < seconds < float("inf"):
        raise InputError(f"--sustained is {seconds:g}; accepted are seconds above 0")
    with Console(stderr=True).status(f"{seconds:g} seconds under load"):
        slices = sustain(call, seconds)
    factor = slowdown(slices)
    if as_json:
        typer.echo(json.dumps(facts | {"slices": [asdict(part) for part in slices], "slowdown": factor}))
        return
    table = Table(title=f"one sentence of {facts['tokens']} tokens again and again, {facts['threads']} threads")
    for heading in (
        "until second",
        "answers",
        "median ms",
        "joules an answer",
        "hottest °C",
        "slowest MHz",
        "throttled",
    ):
        table.add_column(heading, justify="right")
    for number, part in enumerate(slices, start=1):
        figures = [
            f"{value:.{digits}f}" if value is not None else MISSING
            for value, digits in ((part.median_ms, 2), (part.joules, 4), (part.celsius, 1), (part.megahertz, 0))
        ]
        reasons = MISSING if part.throttled is None else ", ".join(part.throttled) or "no"
        table.add_row(f"{seconds * number / len(slices):.1f}", str(part.answers), *figures, reasons)
    Console().print(table)
    kept = "the machine does not keep its speed" if factor > SLOWER else "the machine keeps its speed"
    Console().print(f"the last tenth takes {factor:.2f}× the fastest one: {kept}", highlight=False)
    if any(value is None for value in (slices[0].joules, slices[0].celsius, slices[0].megahertz)):
        Console().print(f"{MISSING}: not available on this machine", style="dim", highlight=False)


def _profile(artifact: "Artifact", tokens: int, facts: dict[str, Any], as_json: bool) -> None:
    """Print the time of each operation of one forward pass, with rates against the bound of the instructions."""
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.profiling import PRODUCTS
    from bebert_infer.profiling import profile as measure_operations

    rows = measure_operations(Ensemble(artifact, threads=1), tokens)
    total = sum(row.ms for row in rows)
    products = sum(row.ms for row in rows if row.operation in PRODUCTS)
    if as_json:
        sums = {"ms": total, "products_ms": products}
        typer.echo(json.dumps(facts | sums | {"operations": [asdict(row) for row in rows]}))
        return
    table = Table(title=f"one pass of one member, {tokens} tokens, 1 thread")
    table.add_column("operation", no_wrap=True)
    for heading in ("calls", "ms", "share", "TMAC/s", "of the bound"):
        table.add_column(heading, justify="right")
    for row in sorted(rows, key=lambda row: -row.ms):
        rate = f"{row.tmacs:.3f}" if row.tmacs else ""
        bound = f"{row.tmacs / row.bound:.0%}" if row.tmacs and row.bound else ""
        table.add_row(escape(row.operation), str(row.calls), f"{row.ms:.3f}", f"{row.share:.0%}", rate, bound)
    Console().print(table)
    Console().print(
        f"{total:.2f} ms in all: {products:.2f} in products, {total - products:.2f} elsewhere", highlight=False
    )
