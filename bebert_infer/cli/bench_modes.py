"""What `bebert bench --sustained` shows instead of comparing engines: one packed model under load."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from bebert_infer.console import stderr_console, stdout_console
from bebert_infer.errors import InputError

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
