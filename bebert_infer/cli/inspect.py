"""`bebert inspect`: what a model is, in tables; the facts come from `measure/inspection.py`."""

import json
from typing import Any

import click

from bebert_infer.cli.options import as_json, model
from bebert_infer.cli.usage import command, option
from bebert_infer.console import plain, wide_console


@command()
@model
@option("--tokens", type=click.IntRange(min=1), default=128, help="Sentence length for operation counts.")
@as_json
def inspect(model: str, tokens: int, as_json: bool) -> None:
    """Show what a model is: bits, bytes and operations by kind, and the evidence recorded at export."""
    from bebert_infer.artifact.folder import read_artifact
    from bebert_infer.hub import local_folder
    from bebert_infer.measure.inspection import describe

    facts = describe(read_artifact(local_folder(model)), tokens)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    _print_facts(facts, tokens)


def _print_facts(facts: dict[str, Any], tokens: int) -> None:
    from rich.table import Column, Table

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
