"""What `bebert bench --profile` shows instead of comparing engines: where the time of one packed model goes."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bebert_infer.console import stderr_console, stdout_console

if TYPE_CHECKING:  # what loads Numba is imported when the command is called
    from rich.table import Table

    from bebert_infer.artifact.folder import Artifact
    from bebert_infer.measure.layer_profile import LayerProfile
    from bebert_infer.measure.profiling import Stage
    from bebert_infer.measure.waiting import CallProfile

SHOWN_MS = 0.0005  # parts that take less are 0.000


def show_profile(artifact: "Artifact", tokens: int, threads: int, facts: dict[str, Any], as_json: bool) -> None:
    """Print one pass of a member by operation, its linear layers by part, and a call of all members by thread.

    facts : of the pass, for JSON
    """
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.measure.layer_profile import profile_layers
    from bebert_infer.measure.profiling import PRODUCTS
    from bebert_infer.measure.waiting import profile_call

    ensemble = Ensemble(artifact, threads=threads)
    with stderr_console().status("time by operation, by part and by thread"):
        found, call = profile_layers(ensemble, tokens), profile_call(ensemble, tokens)
    total = sum(row.ms for row in found.operations)
    products = sum(row.ms for row in found.operations if row.operation in PRODUCTS)
    members = len(artifact.config.members)
    if as_json:
        sums = {"ms": total, "products_ms": products, "operations": [asdict(row) for row in found.operations]}
        parts = {"parts": [asdict(row) for row in found.parts]}
        clock = {"gigahertz": found.gigahertz, "cycles_counted": found.counted}
        of_call = {"call": {"members": members, "threads": threads} | asdict(call)}
        click.echo(json.dumps(facts | sums | parts | clock | of_call))
        return
    console = stdout_console()
    console.print(_operations(found.operations, tokens))
    console.print(
        f"{total:.2f} ms in all: {products:.2f} in products, {total - products:.2f} elsewhere\n", highlight=False
    )
    console.print(_parts(found))
    source = "counted by the processor" if found.counted else "time by a measured clock; no counter can be read here"
    console.print(f"cycles: {source}, {found.gigahertz:.2f} GHz", highlight=False)
    console.print("an output: one of one row; other: weights and rows that come from afar\n", highlight=False)
    console.print(_threads(call, members, tokens))
    engine = call.ms - call.outside_ms
    console.print(
        f"{call.ms:.2f} ms in all: {engine:.2f} in the engine, {call.outside_ms:.2f} before and after", highlight=False
    )


def _operations(rows: "list[Stage]", tokens: int) -> "Table":
    from rich.markup import escape

    table = _table(
        f"one pass of one member, {tokens} tokens, 1 thread",
        ("operation", "calls", "ms", "share", "TMAC/s", "of the bound"),
    )
    for row in sorted(rows, key=lambda row: -row.ms):
        rate = f"{row.tmacs:.3f}" if row.tmacs else ""
        bound = f"{row.tmacs / row.bound:.0%}" if row.tmacs and row.bound else ""
        table.add_row(escape(row.operation), str(row.calls), f"{row.ms:.3f}", f"{row.share:.0%}", rate, bound)
    return table


def _parts(found: "LayerProfile") -> "Table":
    """Layers with their sums, and below each its parts."""
    from rich.markup import escape

    table = _table(
        "linear layers of this pass, with the encode stages before them",
        ("layer, part", "ms", "share", "ns an output", "cycles an output"),
    )
    for layer in dict.fromkeys(part.layer for part in found.parts):
        parts = [part for part in found.parts if part.layer == layer]
        fields = ("ms", "share", "ns_an_output", "cycles_an_output")
        sums = [sum(getattr(part, field) for part in parts) for field in fields]
        rows = [(part.part, *(getattr(part, field) for field in fields)) for part in parts if abs(part.ms) >= SHOWN_MS]
        table.add_section()
        for name, ms, share, nanoseconds, cycles in [(layer, *sums), *((f"  {row[0]}", *row[1:]) for row in rows)]:
            table.add_row(escape(name), f"{ms:.3f}", f"{share:.1%}", f"{nanoseconds:.2f}", f"{cycles:.2f}")
    return table


def _threads(call: "CallProfile", members: int, tokens: int) -> "Table":
    threads = len(call.computes_ms)
    ensemble = f"{members} member{'s' * (members > 1)}, {tokens} tokens, {threads} thread{'s' * (threads > 1)}"
    table = _table(f"one call: {ensemble}", ("thread", "computes ms", "waits ms", "waits"))
    for thread, (computes, waits) in enumerate(zip(call.computes_ms, call.waits_ms, strict=True)):
        table.add_row(str(thread), f"{computes:.3f}", f"{waits:.3f}", f"{waits / (computes + waits):.0%}")
    return table


def _table(title: str, headings: tuple[str, ...]) -> "Table":
    from rich.table import Table

    table = Table(title=title)
    table.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    return table
