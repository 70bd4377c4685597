"""Tables of a benchmark report: each function writes one section of `page.py` from a run, as pieces of HTML."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bebert_infer.bench.records import FEWEST, MIB, EngineFacts, GroupFacts, RunRecord, Throughput, Timing, baseline
from bebert_infer.bench.report.drawing import NONE, digits
from bebert_infer.bench.report.html import bullets, paragraph, shown, table, threads_in_words
from bebert_infer.bench.report.plots import scored
from bebert_infer.bench.report.published import ROWS, SCORE, SOURCE

FORMULA = (
    "FLOPs as the papers count them: (linear layers: 2·MAC·w·a + attention products: 2·MAC·a·a) / 64 + float "
    "element-wise work, for weights of w and activations of a bits, divided by the number of members, because they run "
    "in parallel; full precision: 2·MAC + element-wise work. The honest columns count every multiply-add (MAC) of "
    "all members by the bits of its factors, and float operations; a 1-bit MAC is cheaper than one of 4 bits, and how "
    "much cheaper depends on the CPU."
)

STARTS = (
    "Every engine starts in an environment that has only what its user installs. Install size is the bytes of the "
    "files of all these packages as they are installed here, each file once, without Python itself, byte code, scripts "
    "and the model. The first start there is not timed: it writes byte code. First answers are compared with a process "
    "that imports numpy, in an environment with nothing else."
)
OLD_STARTS = "Engines started in the environment that the command ran in, with ready token ids."


def _timing_tables(
    run: RunRecord, rows: Sequence[Timing], column: Callable[[Any], str], cell: Callable[[Any], str], unit: str
) -> Iterable[str]:
    """A table for each group and number of threads: an engine a row, a column for each length or batch."""
    found = False
    for group in run.groups:
        for threads in run.threads():
            here = [row for row in rows if (row.group, row.threads) == (group.name, threads)]
            if not here:
                continue
            found = True
            order = sorted(here, key=lambda row: (row.tokens, row.batch))
            columns = list(dict.fromkeys(column(row) for row in order))
            cells = {(row.engine, column(row)): cell(row) for row in here}
            lines = [
                (shown(engine), *(cells.get((engine.name, heading), NONE) for heading in columns))
                for engine in run.engines_of(group)
                if any(row.engine == engine.name for row in here)
            ]
            yield table(f"{group.name}, {threads_in_words(threads)}: {unit}", ("engine", *columns), lines)
    if not found:
        yield paragraph("Not measured in this run.")


def _range(row: Timing) -> str:
    if row.calls < FEWEST:
        return f"{digits(row.median_ms)} ({_calls(row)})"
    return f"{digits(row.median_ms)} ({digits(row.p10_ms)}–{digits(row.p90_ms)})"


def _calls(row: Timing) -> str:
    return f"{row.calls} call" + "s" * (row.calls > 1)


def latency(run: RunRecord) -> Iterable[str]:
    """Medians and ranges of one sentence."""
    return _timing_tables(
        run, run.latency, lambda row: f"{row.tokens} tokens", _range, "median (p10–p90) in milliseconds"
    )


def speedup(run: RunRecord) -> Iterable[str]:
    """How many times faster each engine is than the full-precision one."""
    for group in run.groups:
        base = baseline(run, group)
        rows = [row for row in run.latency if row.group == group.name]
        own = {} if base is None else {(r.threads, r.tokens): r.median_ms for r in rows if r.engine == base.name}
        if base is None or not own:
            yield paragraph(
                f"{group.name}: no full-precision engine was measured, so there is nothing to compare with."
            )
            continue

        def ratio(row: Timing, own: dict[tuple[int, int], float] = own) -> str:
            mine = own.get((row.threads, row.tokens))
            return NONE if mine is None else f"{mine / row.median_ms:.2f}×"

        yield from _timing_tables(
            run, rows, lambda row: f"{row.tokens} tokens", ratio, f"times faster than {base.name}"
        )


def throughput(run: RunRecord) -> Iterable[str]:
    """Sentences a second in batches."""
    return _timing_tables(
        run,
        run.throughput,
        lambda row: f"{row.batch} × {row.tokens} tokens",
        _rate,
        "sentences a second at the median time of a batch (at p90–p10)",
    )


def _rate(row: Throughput) -> str:
    if row.calls < FEWEST:
        return f"{digits(row.sentences_per_s)} ({_calls(row)})"
    slow, fast = 1e3 * row.batch / row.p90_ms, 1e3 * row.batch / row.p10_ms
    return f"{digits(row.sentences_per_s)} ({digits(slow)}–{digits(fast)})"


def texts(run: RunRecord) -> Iterable[str]:
    """Milliseconds of a real text, and how many members spoke."""
    for group in run.groups:
        for threads in run.threads():
            rows = [row for row in run.texts if (row.group, row.threads) == (group.name, threads)]
            if not rows:
                continue
            kinds = {engine.name: engine.kind for engine in run.engines_of(group)}
            eight = [row.median_ms for row in rows if kinds.get(row.engine) == "int8"]
            lines = [
                (
                    row.engine + ("" if row.early_exit is None else f", early exit {row.early_exit}"),
                    f"{digits(row.median_ms)} ({digits(row.p10_ms)}–{digits(row.p90_ms)})",
                    NONE if row.members_run is None else f"{row.members_run:.2f}",
                    *([f"{min(eight) / row.median_ms:.2f}×"] if eight else []),
                )
                for row in rows
            ]
            headings = (
                "engine",
                "a text (p10–p90)",
                "members run",
                *(["times faster than the best int8"] if eight else []),
            )
            about = (
                f"{rows[0].texts} texts of {rows[0].mean_tokens:.1f} tokens on average, one by one, without tokenizing"
            )
            yield table(f"{group.name}, {threads_in_words(threads)}: milliseconds, {about}", headings, lines)
    if not run.texts:
        yield paragraph("Not measured: no labelled file was given.")


def start(run: RunRecord) -> Iterable[str]:
    """What installing an engine takes, seconds until it is ready and has answered once, and its memory."""
    floor = run.import_numpy_s
    for group in run.groups:
        rows = [
            (
                shown(engine),
                NONE if engine.install_bytes is None else digits(engine.install_bytes / MIB),
                NONE if engine.install_packages is None else str(len(engine.install_packages)),
                digits(engine.load_s),
                digits(engine.first_answer_s),
                NONE if floor is None or engine.first_answer_s is None else f"{engine.first_answer_s / floor:.1f}×",
                NONE if engine.peak_rss_bytes is None else digits(engine.peak_rss_bytes / MIB),
            )
            for engine in run.engines_of(group)
        ]
        headings = (
            *("engine", "install size (MiB)", "packages", "model ready (s)", "first answer (s)"),
            *("times import numpy", "peak memory (MiB)"),
        )
        if rows:
            asked = f"; the first answer is to {group.start_of}" if group.start_of else ""
            caption = f"{group.name}: each in a process of its own; seconds count from the start of the process{asked}"
            yield table(caption, headings, rows)
    yield paragraph(STARTS if run.version > 1 else OLD_STARTS)


def _by_group(
    run: RunRecord, values: Callable[[EngineFacts], dict[str, Any] | None]
) -> Iterable[tuple[GroupFacts, list[str]]]:
    """Groups that have engines, with all keys that their engines have, in the order of the run."""
    for group in run.groups:
        engines = run.engines_of(group)
        if engines:
            yield group, list(dict.fromkeys(key for engine in engines for key in values(engine) or {}))


def size(run: RunRecord) -> Iterable[str]:
    """Real bytes, in all and by kind."""
    for group, kinds in _by_group(run, lambda engine: engine.bytes_by_kind):
        base, engines = baseline(run, group), run.engines_of(group)
        rows = [
            (
                shown(engine),
                digits(engine.bytes / MIB),
                f"{engine.bytes:,}",
                *([] if base is None else [f"{base.bytes / engine.bytes:.1f}×" if engine.bytes else NONE]),
            )
            for engine in engines
        ]
        than = [] if base is None else [f"times smaller than {base.name}"]
        yield table(f"{group.name}: all files that an engine loads", ("engine", "MiB", "bytes", *than), rows)
        itemised = [(engine, engine.bytes_by_kind) for engine in engines if engine.bytes_by_kind]
        if itemised:
            rows = [(shown(engine), *(f"{parts.get(kind, 0):,}" for kind in kinds)) for engine, parts in itemised]
            yield table(f"{group.name}: bytes by kind", ("engine", *kinds), rows)


def operations(run: RunRecord) -> Iterable[str]:
    """Operations by kind with nothing left out, and as the papers count them."""
    for group, kinds in _by_group(run, lambda engine: engine.operations):
        headings = [f"{kind} (GFLOPs)" if kind == "fp32" else f"{kind} (GMACs)" for kind in kinds]
        rows = [
            (
                shown(engine),
                *(NONE if engine.operations is None else _billions(engine.operations.get(kind, 0.0)) for kind in kinds),
                NONE if engine.flops_paper is None else _billions(engine.flops_paper),
            )
            for engine in run.engines_of(group)
        ]
        caption = f"{group.name}: operations for {run.operation_tokens(group)} tokens, all members"
        yield table(caption, ("engine", *headings, "as the papers count (GFLOPs)"), rows)
    yield paragraph(FORMULA)


def _billions(value: float) -> str:
    return digits(value / 1e9) if value else "0"


def time(run: RunRecord) -> Iterable[str]:
    """Milliseconds of each operation of one pass."""
    found = False
    for group in run.groups:
        here = [row for row in run.time_by_operation if row.group == group.name]
        if here:
            found = True
            engines = list(dict.fromkeys(row.engine for row in here))
            cells = {(row.engine, row.operation): f"{row.ms:.3f} ({row.share:.1%})" for row in here}
            sums: dict[str, float] = {}
            for row in here:
                sums[row.operation] = sums.get(row.operation, 0.0) + row.ms
            rows = [
                (operation, *(cells.get((engine, operation), NONE) for engine in engines))
                for operation in sorted(sums, key=lambda operation: -sums[operation])
            ]
            tokens = run.operation_tokens(group)
            caption = f"{group.name}: milliseconds (share) of one pass of one member, {tokens} tokens, 1 thread"
            yield table(caption, ("operation", *engines), rows)
    if not found:
        yield paragraph("Not measured in this run.")


def accuracy(run: RunRecord) -> Iterable[str]:
    """Scores measured here, and published ones beside them."""
    rows = [
        (
            f"{engine.group}: {shown(engine)}",
            f"{100 * a.value:.2f}",
            a.metric,
            f"{a.rows:,}",
            digits(engine.bytes / MIB),
        )
        for engine in scored(run)
        if (a := engine.accuracy) is not None
    ]
    if rows:
        yield table("Measured here", ("engine", "score ×100", "metric", "labelled rows", "size (MiB)"), rows)
    else:
        yield paragraph("Not measured: no labelled file was given.")
    published = [(row.name, row.bits, f"{row.score:.2f}", f"{row.mib:g}", row.gflops) for row in ROWS]
    headings = ("model", "bits", "score ×100", "size (MiB)", "GFLOPs")
    yield table("Published, for BERT-base; not measured here", headings, published)
    yield paragraph(
        f"Published scores are the {SCORE}, with data augmentation, and sizes and FLOPs as the papers count them "
        f"({SOURCE}); they are not to be compared digit by digit with a score on one file of your own."
    )


def energy(run: RunRecord) -> Iterable[str]:
    """Joules of an answer, or that the machine cannot tell."""
    rows = [row for row in run.latency if row.joules is not None]
    yield paragraph(
        f"Source: {run.energy}.".replace("..", ".") if rows else run.energy[:1].upper() + run.energy[1:] + "."
    )
    if rows:
        yield from _timing_tables(
            run, rows, lambda row: f"{row.tokens} tokens", lambda row: digits(row.joules), "joules an answer"
        )


def missing(run: RunRecord) -> Iterable[str]:
    """What was not installed, and what to do about it."""
    if run.missing:
        yield bullets(f"{name}: {reason}" for name, reason in run.missing.items())
    else:
        yield paragraph("None: every engine that is known was measured.")
