"""`bebert doctor`: what this machine is, what the kernels make of it, and whether they compute what they should."""

import json
from typing import TYPE_CHECKING, Any

import click

from bebert_infer.cli.options import as_json, threads
from bebert_infer.cli.usage import command, option
from bebert_infer.console import plain, stdout_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@command()
@threads
@option("--tune", is_flag=True, help="Measure first which product is the fastest here, and keep it (some seconds).")
@as_json
def doctor(threads: int | None, tune: bool, as_json: bool) -> None:
    r"""Show CPU, instruction sets, kernels, cache and threads, and check the kernels against plain NumPy.

    \b
    bebert doctor
    BEBERT_ISA=avx2 bebert doctor --json
    bebert doctor --tune

    Exit code 1 means that a kernel computed something wrong.
    """
    from bebert_infer.measure import machine  # imports numpy, which the help does without

    kept = machine.tuned() if tune else None
    facts = machine.examine(threads)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, default=str))
    else:
        print_facts(stdout_console(), facts)
        if kept is not None:
            click.echo(kept)
    if not facts["self_test"]["passed"]:
        raise click.exceptions.Exit(1)


def print_facts(console: "Console", facts: dict[str, Any]) -> None:
    """The same for people."""
    from rich.table import Table

    sets, code, test = facts["instruction_sets"], facts["code"], facts["self_test"]
    used = "all of them" if sets["used"] == sets["found"] else " ".join(sets["used"])
    wrong = [name for name, equal in test["cases"].items() if not equal]
    verdict = f"WRONG: {', '.join(wrong)}" if wrong else f"all {len(test['cases'])} cases equal NumPy, bit for bit"
    table = Table(show_header=False, box=None)
    for name, value in (
        ("CPU", f"{facts['cpu']['name']}, {facts['cpu']['machine']}, {facts['cpu']['logical_cpus']} logical CPUs"),
        ("instruction sets found", " ".join(sets["found"])),
        ("used", used or "none: NUMBA_DISABLE_JIT runs the kernels as plain Python"),
        ("level", f"{sets['level']}; accepted here: {', '.join(sets['accepted'])}"),
        *_code(code),
        ("threads", f"{facts['threads']['budget']}, from {facts['threads']['from']}"),
        ("versions", ", ".join(f"{package} {number}" for package, number in facts["versions"].items())),
        ("self test", f"{verdict} ({test['seconds']} s)"),
    ):
        if name or value:
            table.add_row(name, plain(value))
    console.print(table, highlight=False, soft_wrap=True)
    console.print(_choices_table(facts["kernels"], facts["costs"]))


def _code(code: dict[str, Any]) -> list[tuple[str, str]]:
    """Where the machine code of the kernels comes from."""
    if code["from"] == "library":
        return [
            ("kernels", f"compiled ahead for {code['level']}: {code['why']}"),
            ("", f"{code['file']}, sha256 {code['sha256'][:16]}, of sources {code['sources'][:16]}"),
        ]
    if code["from"] != "Numba":
        return [("kernels", f"{code['from']}: {code['why']}")]
    kept = f"{code['kernels']} kernels, {code['bytes']:,} bytes; {code['other_versions']} folders of other versions"
    return [
        ("kernels", f"compiled just in time by Numba for {code['code_for']}: {code['why']}"),
        ("kernel cache", f"{code['folder']}: {code['state']}" if code["folder"] else code["state"]),
        ("", kept if code["folder"] else ""),
    ]


def _choices_table(rows: list[dict[str, Any]] | None, costs: str) -> "Table | str":
    from rich.table import Table

    if not rows:
        return "products by shape: none is chosen where the kernels run as plain Python"
    table = Table(*rows[0], title=f"products by shape, chosen by their rates (TMAC/s, one thread): {costs}")
    for row in rows:
        cells = ("–" if value is None else value for value in row.values())
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else plain(str(value)) for value in cells))
    return table
