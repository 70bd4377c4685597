"""What `bebert bench` shows instead of comparing engines: `--profile` and `--sustained`, of one packed model."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bebert_infer.console import stderr_console, stdout_console
from bebert_infer.errors import InputError

if TYPE_CHECKING:  # what loads Numba is imported when the command is called
    from bebert_infer.artifact.folder import Artifact

MISSING = "–"


def show_sustained(call: Callable[[], Any], seconds: float, facts: dict[str, Any], as_json: bool) -> None:
    """Print speed, energy and heat of every tenth of the time, and whether the machine kept its speed."""
    from bebert_infer.measure.sustained import SLOWER, slowdown, sustain

    if not 0 < seconds < float("inf"):
        raise InputError(f"--sustained is {seconds:g}; accepted are seconds above 0")
    with stderr_console().status(f"{seconds:g} seconds under load"):
        slices = sustain(call, seconds)
    factor = slowdown(slices)
    if as_json:
        click.echo(json.dumps(facts | {"slices": [asdict(part) for part in slices], "slowdown": factor}))
        return
    from rich.table import Table

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
    stdout_console().print(table)
    kept = "the machine does not keep its speed" if factor > SLOWER else "the machine keeps its speed"
    stdout_console().print(f"the last tenth takes {factor:.2f}× the fastest one: {kept}", highlight=False)
    if any(value is None for value in (slices[0].joules, slices[0].celsius, slices[0].megahertz)):
        stdout_console().print(f"{MISSING}: not available on this machine", style="dim", highlight=False)


def show_profile(artifact: "Artifact", tokens: int, facts: dict[str, Any], as_json: bool) -> None:
    """Print the time of each operation of one forward pass, with rates against the bound of the instructions."""
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.measure.profiling import PRODUCTS
    from bebert_infer.measure.profiling import profile as measure_operations

    rows = measure_operations(Ensemble(artifact, threads=1), tokens)
    total = sum(row.ms for row in rows)
    products = sum(row.ms for row in rows if row.operation in PRODUCTS)
    if as_json:
        sums = {"ms": total, "products_ms": products}
        click.echo(json.dumps(facts | sums | {"operations": [asdict(row) for row in rows]}))
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"one pass of one member, {tokens} tokens, 1 thread")
    table.add_column("operation", no_wrap=True)
    for heading in ("calls", "ms", "share", "TMAC/s", "of the bound"):
        table.add_column(heading, justify="right")
    for row in sorted(rows, key=lambda row: -row.ms):
        rate = f"{row.tmacs:.3f}" if row.tmacs else ""
        bound = f"{row.tmacs / row.bound:.0%}" if row.tmacs and row.bound else ""
        table.add_row(escape(row.operation), str(row.calls), f"{row.ms:.3f}", f"{row.share:.0%}", rate, bound)
    stdout_console().print(table)
    stdout_console().print(
        f"{total:.2f} ms in all: {products:.2f} in products, {total - products:.2f} elsewhere", highlight=False
    )
