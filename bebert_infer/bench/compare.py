"""`bebert bench --compare A B`: ratios of two runs, row by row, with the noise of both.

Rule: a row is slower or faster only where the ranges from p10 to p90 of the two runs do not overlap. The noise band
printed beside the ratio B/A of the medians says the same: the ratios at which the two ranges would still touch.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bebert_infer.bench.records import BUSY, FEWEST, EngineFacts, RunRecord, Timing, read_run, timing_key
from bebert_infer.console import plain

CHANGED = 1.1  # figures that were taken once are listed when they differ by more than this factor
SLOWER, FASTER, SAME, UNKNOWN = "slower", "faster", "in noise", f"< {FEWEST} calls"
RULE = (
    "B/A is the ratio of the medians; a row is slower or faster only where the ranges from p10 to p90 of the two runs "
    "do not overlap, and the band holds the ratios at which they would still touch."
)


@dataclass(frozen=True)
class Change:
    """One row that both runs have: milliseconds, their ratio B/A, the noise band of that ratio, and what it means."""

    group: str
    engine: str
    packed: bool
    threads: int
    tokens: int
    batch: int
    before_ms: float
    after_ms: float
    ratio: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """What two runs have to say about each other.

    differences     : sentences on what differs around the figures
    changes         : rows of both;  only_a, only_b : rows of one run, in words
    figures         : engine, what, A and B of figures without a band that differ
    """

    differences: list[str]
    changes: list[Change]
    only_a: list[str]
    only_b: list[str]
    figures: list[tuple[str, str, str, str]]


def compare(a: RunRecord, b: RunRecord) -> Comparison:
    """Match the rows of two runs by group, engine, threads, tokens and batch."""
    packed = {(engine.group, engine.name): engine.kind == "packed" for engine in a.engines}
    changes: list[Change] = []
    only_a: list[str] = []
    only_b: list[str] = []
    pairs: list[tuple[list[Any], list[Any]]] = [(a.latency, b.latency), (a.throughput, b.throughput)]
    for rows_a, rows_b in pairs:
        of_b = {timing_key(row): row for row in rows_b}
        keys = {timing_key(row) for row in rows_a}
        for row in rows_a:
            other = of_b.get(timing_key(row))
            if other is None:
                only_a.append(_words(row))
            else:
                changes.append(_change(row, other, packed[row.group, row.engine]))
        only_b += [_words(row) for row in rows_b if timing_key(row) not in keys]
    order = {engine: place for place, engine in enumerate(packed)}
    changes.sort(key=lambda row: (order[row.group, row.engine], row.threads, row.batch, row.tokens))
    return Comparison(_differences(a, b), changes, only_a, only_b, _figures(a, b))


def compare_runs(a: Path, b: Path, console: Console) -> None:
    """Read two runs and print how B differs from A. Raises DataError for a file that is no run of bebert bench."""
    run_a, run_b = read_run(a), read_run(b)
    found = compare(run_a, run_b)
    for name, file, run in (("A", a, run_a), ("B", b, run_b)):
        changed = "-dirty" if run.commit and run.commit.endswith("-dirty") else ""
        commit = f", commit {run.commit[:12]}{changed}" if run.commit else ""
        _say(console, f"{name}: {file}, {run.date}, bebert-infer {run.version_of_bebert}{commit}")
    for sentence in found.differences:
        _say(console, sentence, "yellow")
    if not found.changes:
        _say(console, "The two runs have no row in common.", "yellow")
    for group in dict.fromkeys(change.group for change in found.changes):
        console.print(_table(group, [change for change in found.changes if change.group == group]))
    if found.changes:
        _say(console, RULE, "dim")
        for sentence in _summary(found.changes):
            _say(console, sentence)
    if found.figures:
        table = Table(title="figures without a noise band")
        for heading in ("engine", "figure", "A", "B"):
            table.add_column(heading, justify="left" if heading in ("engine", "figure") else "right")
        for row in found.figures:
            table.add_row(*map(plain, row))
        console.print(table)
    for name, rows in (("A", found.only_a), ("B", found.only_b)):
        if rows:
            _say(console, f"Only in {name}: {'; '.join(rows)}", "dim")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(plain(text), style=style, highlight=False, soft_wrap=True)


def _change(a: Timing, b: Timing, packed: bool) -> Change:
    ratio = b.median_ms / a.median_ms
    low = a.p10_ms / a.median_ms * b.median_ms / b.p90_ms
    high = a.p90_ms / a.median_ms * b.median_ms / b.p10_ms
    if min(a.calls, b.calls) < FEWEST:
        verdict = UNKNOWN
    else:
        verdict = SLOWER if b.p10_ms > a.p90_ms else FASTER if b.p90_ms < a.p10_ms else SAME
    return Change(
        *(a.group, a.engine, packed, a.threads, a.tokens, a.batch),
        *(a.median_ms, b.median_ms, ratio, low, high, verdict),
    )


def _words(row: Timing) -> str:
    return f"{row.group}, {row.engine}, {_threads(row.threads)}, {row.tokens} tokens, batch {row.batch}"


def _differences(a: RunRecord, b: RunRecord) -> list[str]:
    """What else differs between the runs: any of it may be the reason of a ratio."""
    found: list[str] = []
    for what, name in (
        ("CPU", "cpu"),
        ("number of cores", "cores"),
        ("memory (bytes)", "memory_bytes"),
        ("instruction set", "isa"),
        ("Python", "python"),
    ):
        found += _differ(what, getattr(a.machine, name), getattr(b.machine, name))
    found += _differ("version of bebert-infer", a.version_of_bebert, b.version_of_bebert)
    for title, left, right in (
        ("kernel of product", a.machine.products, b.machine.products),
        ("version of", a.machine.versions, b.machine.versions),
        ("setting", a.settings, b.settings),
        ("geometry of", _geometries(a), _geometries(b)),
    ):
        for key in dict.fromkeys([*left, *right]):
            if title != "geometry of" or (key in left and key in right):  # rows of a missing group are listed as such
                found += _differ(f"{title} {key}", left.get(key), right.get(key))
    if a.version != b.version:
        found.append(
            f"Different format: A {a.version}, B {b.version}. Since version 2 starts are those of a text in an "
            "environment with only what the engine needs: starts and memory are not compared."
        )
    for name, run in (("A", a), ("B", b)):
        if run.cores_of_others is not None and run.cores_of_others > BUSY:
            found.append(
                f"Others kept {run.cores_of_others:.2f} cores busy during {name} (more than {BUSY:g}): "
                "its times may be too long."
            )
        found += [f"Note of {name}: {note}" for note in run.notes]
    return list(dict.fromkeys(found))


def _geometries(run: RunRecord) -> dict[str, Any]:
    return {group.name: group.geometry for group in run.groups}


def _differ(what: str, left: Any, right: Any) -> Iterable[str]:
    if left != right:
        yield f"Different {what}: A {_shown(left)}, B {_shown(right)}."


def _shown(value: Any) -> str:
    return "none" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _figures(a: RunRecord, b: RunRecord) -> list[tuple[str, str, str, str]]:
    """Figures that were taken once for each engine: any other size or score, and starts and memory that moved."""
    of_b = {(engine.group, engine.name): engine for engine in b.engines}
    found = []
    for left in a.engines:
        right = of_b.get((left.group, left.name))
        if right is not None:
            alike = a.version == b.version
            pairs = zip(_once(left, alike), _once(right, alike), strict=True)
            for (what, before, exact), (_, after, _) in pairs:
                if before is not None and after is not None and _moved(before, after, exact):
                    form = "{:,.4g}" if isinstance(before, float) else "{:,}"
                    found.append((f"{left.group}: {left.name}", what, form.format(before), form.format(after)))
    return found


def _once(engine: EngineFacts, starts: bool) -> list[tuple[str, float | None, bool]]:
    """Name, value, and whether any difference counts; with those of a start or without."""
    score = engine.accuracy
    found: list[tuple[str, float | None, bool]] = [
        ("bytes on disk", engine.bytes, True),
        (f"{score.metric} on {score.rows:,} rows" if score else "score", score.value if score else None, True),
    ]
    if starts:
        found += [
            ("install size (bytes)", engine.install_bytes, True),
            ("model ready (s)", engine.load_s, False),
            ("first answer (s)", engine.first_answer_s, False),
            ("peak memory (bytes)", engine.peak_rss_bytes, False),
        ]
    return found


def _moved(before: float, after: float, exact: bool) -> bool:
    if exact:
        return before != after
    return max(before, after) > CHANGED * min(before, after)


def _table(group: str, changes: list[Change]) -> Table:
    """Rows under the names of their engines, narrow enough for 80 columns."""
    table = Table(title=plain(group), box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("milliseconds of a call", overflow="fold")
    for heading in ("A", "B", "B/A", "noise band", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    colours = {SLOWER: "bold red", FASTER: "bold green"}
    engine = None
    for change in changes:
        if change.engine != engine:
            engine = change.engine
            table.add_row(plain(engine), style="bold")
        batch = f" ×{change.batch}" if change.batch > 1 else ""
        table.add_row(
            f"  {change.tokens} tokens{batch}, {_threads(change.threads)}",
            *(f"{value:.4g}" if value < 1e4 else f"{value:.0f}" for value in (change.before_ms, change.after_ms)),
            f"{change.ratio:.2f}",
            "–" if change.verdict == UNKNOWN else f"{change.low:.2f}–{change.high:.2f}",
            change.verdict,
            style=colours.get(change.verdict, ""),
        )
    return table


def _threads(count: int) -> str:
    return f"{count} thread" + "s" * (count > 1)


def _summary(changes: list[Change]) -> Iterable[str]:
    """Counts, and geometric means: many rows that all move a little show what no single row proves."""
    for packed, who in ((True, "Packed models"), (False, "Engines of others, which only machine and versions move")):
        here = [change for change in changes if change.packed == packed]
        if here:
            mean = math.exp(sum(math.log(change.ratio) for change in here) / len(here))
            counts = {verdict: sum(change.verdict == verdict for change in here) for verdict in (SLOWER, FASTER)}
            yield (
                f"{who}: B takes {mean:.3f} times as long as A in the geometric mean; of {len(here)} rows "
                f"{counts[SLOWER]} slower, {counts[FASTER]} faster."
            )
