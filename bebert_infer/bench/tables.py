"""Tables of one run for people, none wider than 120 columns: latency; throughput and ratios; start; size and work."""

from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

NOTHING = "–"
RATIOS = (("PyTorch fp32", None), ("fastest fp32", "fp32"), ("fastest int8", "int8"))


def print_run(run: dict[str, Any], console: Console) -> None:
    """All tables of a record, then what is missing or was left out."""
    for group in run["groups"]:
        console.print(f"\n{escape(group['title'])}", style="bold", highlight=False)
        engines = [engine for engine in run["engines"] if engine["group"] == group["name"]]
        for threads in run["settings"]["threads"]:
            here = [row for row in run["latency"] if row["group"] == group["name"] and row["threads"] == threads]
            batches = [row for row in run["throughput"] if row["group"] == group["name"] and row["threads"] == threads]
            if here:
                _print_table(console, latency_table(engines, here, threads))
            if here or batches:
                _print_table(console, ratio_table(engines, here, batches, run["settings"]["batch_tokens"]))
        texts = [row for row in run.get("texts", []) if row["group"] == group["name"]]
        for threads in _unique(row["threads"] for row in texts):
            _print_table(console, text_table(engines, [row for row in texts if row["threads"] == threads]))
        _print_table(console, process_table(engines, group["start_of"], run["import_numpy_s"]))
        _print_table(console, model_table(engines))
        if group["left_out"]:
            lengths = ", ".join(str(length) for length in group["left_out"])
            positions = group["geometry"]["positions"]
            console.print(
                f"{lengths} tokens are left out: this model has {positions} positions", style="dim", highlight=False
            )
    _print_ends(run, console)


def _print_table(console: Console, table: Table) -> None:
    """Title and caption as lines of their own: within a table they would be folded to its width."""
    title, caption = table.title, table.caption
    table.title = table.caption = None
    if table.row_count and table.columns[1:]:
        console.print(title, style="italic", highlight=False)
        console.print(table)
        if caption:
            console.print(caption, style="dim", highlight=False)


def _print_ends(run: dict[str, Any], console: Console) -> None:
    console.print()
    reasons: dict[str, list[str]] = {}
    for name, reason in run["missing"].items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        console.print(f"{escape(', '.join(names))}: {escape(reason)}", highlight=False, soft_wrap=True)
    for note in run["notes"]:
        console.print(escape(note), highlight=False, soft_wrap=True)
    lines = [f"energy: {run['energy']}"]
    if run["cores_of_others"] is not None:
        lines.append(f"other processes kept {run['cores_of_others']:.2f} cores busy meanwhile")
    lines.append(f"{run['seconds']:.0f} s in all")
    console.print("; ".join(lines), style="dim", highlight=False, soft_wrap=True)


def latency_table(engines: list[dict[str, Any]], rows: list[dict[str, Any]], threads: int) -> Table:
    """Milliseconds of one sentence for each length: the median, and below it the 10th to 90th percentile."""
    title = f"ms for one sentence by its tokens, {_threads(threads)}; median, below it 10th–90th percentile"
    table = _table(title, [str(length) for length in _unique(row["tokens"] for row in rows)])
    found = {(row["engine"], row["tokens"]): row for row in rows}
    for engine in engines:
        cells = []
        for length in _unique(row["tokens"] for row in rows):
            row = found.get((engine["name"], length))
            cells.append(
                f"{_ms(row['median_ms'])}\n[dim]{_ms(row['p10_ms'])}–{_ms(row['p90_ms'])}[/]" if row else NOTHING
            )
        if any(cell != NOTHING for cell in cells):
            table.add_row(escape(engine["name"]), *cells)
    joules = [row for row in rows if row.get("joules") is not None]
    if joules:
        longest = max(row["tokens"] for row in joules if row["tokens"] <= 128) if joules else 0
        table.caption = f"joules an answer, {longest} tokens: " + ", ".join(
            f"{row['engine']} {row['joules']:.3g}" for row in joules if row["tokens"] == longest
        )
    return table


def ratio_table(
    engines: list[dict[str, Any]], latency: list[dict[str, Any]], throughput: list[dict[str, Any]], tokens: int
) -> Table:
    """Sentences a second for each batch, and how many times faster one sentence is than with other engines."""
    length = max((row["tokens"] for row in latency if row["tokens"] <= tokens), default=0)
    medians = {row["engine"]: row["median_ms"] for row in latency if row["tokens"] == length}
    against = _against(engines, medians)
    batches = _unique(row["batch"] for row in throughput)
    rates = {(row["engine"], row["batch"]): row["sentences_per_s"] for row in throughput}
    tokens_of_batches = ", ".join(str(count) for count in _unique(row["tokens"] for row in throughput))
    title = f"sentences a second ({tokens_of_batches} tokens each)" if batches else ""
    if against:
        title += f"{' and ' if title else ''}how many times faster (one sentence of {length} tokens)"
    table = _table(title, [*(f"batch {batch}" for batch in batches), *(f"than {name}" for name in against)])
    for engine in engines:
        name = engine["name"]
        cells = [_number(rates.get((name, batch)), lambda value: f"{value:.1f}") for batch in batches]
        median = medians.get(name)
        cells += [f"{other / median:.2f}×" if median else NOTHING for other in against.values()]
        if any(cell != NOTHING for cell in cells):
            table.add_row(escape(name), *cells)
    return table


def _against(engines: list[dict[str, Any]], medians: dict[str, float]) -> dict[str, float]:
    """Name -> median of the engines that ratios are taken against, as far as they were measured."""
    found = {}
    for title, kind in RATIOS:
        fitting = [
            medians[engine["name"]]
            for engine in engines
            if engine["name"] in medians and (engine["name"] == title if kind is None else engine["kind"] == kind)
        ]
        if fitting:
            found[title] = min(fitting)
    return found


def text_table(engines: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Table:
    """Milliseconds of a real text, members that ran, and the ratio to the fastest int8 engine on the same texts."""
    first = rows[0]
    title = (
        f"ms a text, {first['texts']} texts of {first['mean_tokens']:.1f} tokens on average one by one, "
        f"{_threads(first['threads'])}"
    )
    kinds = {engine["name"]: engine["kind"] for engine in engines}
    eight = [row["median_ms"] for row in rows if kinds.get(row["engine"]) == "int8"]
    table = _table(title, ["ms", "members run", *(["than fastest int8"] if eight else [])])
    for row in rows:
        name = row["engine"] + (f", early exit {row['early_exit']}" if row["early_exit"] else "")
        cells = [_ms(row["median_ms"]), _number(row["members_run"], lambda value: f"{value:.2f}")]
        table.add_row(escape(name), *cells, *([f"{min(eight) / row['median_ms']:.2f}×"] if eight else []))
    return table


def process_table(engines: list[dict[str, Any]], start_of: str, import_numpy_s: float | None) -> Table:
    """Install size, load time, first answer and peak memory; `start_of` says what the first answer is to."""
    title = f"a process of its own in an environment with only what it needs; first answer to {start_of}"
    table = _table(title, ["install MB", "load s", "first answer s", "× import numpy", "peak MB"])
    for engine in engines:
        first = engine["first_answer_s"]
        table.add_row(
            escape(engine["name"]),
            _number(engine["install_bytes"], lambda value: f"{value / 1e6:.1f}"),
            _number(engine["load_s"], lambda value: f"{value:.2f}"),
            _number(first, lambda value: f"{value:.2f}"),
            _number(first and import_numpy_s and first / import_numpy_s, lambda value: f"{value:.1f}"),
            _number(engine["peak_rss_bytes"], lambda value: f"{value / 1e6:.0f}"),
        )
    table.caption = (
        "install: files of all packages that its user installs, as they are here, each once; byte code, scripts, Python"
        "\nand model left out; seconds from the start of Python, byte code written before"
    )
    if import_numpy_s is not None:
        table.caption += f"; import numpy: {import_numpy_s:.2f} s"
    return table


def model_table(engines: list[dict[str, Any]]) -> Table:
    """Size, operations, and accuracy where it was measured."""
    headings = ["size MB", "GMAC by bits", "GFLOPs, papers' way"]
    scores = [engine["accuracy"] for engine in engines if engine["accuracy"]]
    if scores:
        headings.append(scores[0]["metric"].replace("_", " "))
    tokens = engines[0]["operations_tokens"] if engines else 0
    table = _table(f"files of the network, without a tokenizer; operations for {tokens} tokens", headings)
    for engine in engines:
        cells = [
            _number(engine["bytes"], lambda value: f"{value / 1e6:.2f}"),
            _operations(engine["operations"]),
            _number(engine["flops_paper"], lambda value: f"{value / 1e9:.3g}"),
        ]
        if scores:
            cells.append(f"{100 * engine['accuracy']['value']:.2f} %" if engine["accuracy"] else NOTHING)
        table.add_row(escape(engine["name"]), *cells)
    table.caption = (
        "MB are 1,000,000 bytes; fp32 operations are GFLOP, two for each multiply-accumulate; the papers divide one-bit"
        "\noperations by 64 and an ensemble by its members"
    )
    if scores:
        table.caption += f"; {headings[-1]} on {scores[0]['rows']:,} rows"
    return table


def _operations(by_kind: dict[str, float] | None) -> str:
    if by_kind is None:
        return NOTHING
    return " + ".join(
        f"{count / 1e9:{'.3g' if count > 1e7 else '.4f'}} {kind}" for kind, count in by_kind.items() if count
    )


def _table(title: str, headings: list[str]) -> Table:
    table = Table(title=title)
    table.add_column("engine", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _ms(value: float) -> str:
    """Three digits that count, and no more."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _number(value: float | None, form: Callable[[float], str]) -> str:
    return NOTHING if value is None else form(value)


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _unique(values: Iterable[int]) -> list[int]:
    return sorted(set(values))
