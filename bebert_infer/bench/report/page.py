"""`report.html` of a benchmark run: one file with pictures inside, no script, nothing loaded from elsewhere.

Everything that comes from the run is escaped. Pictures are also written as PNG files beside the report.
"""

from collections.abc import Callable, Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from bebert_infer.atomic_files import whole_file
from bebert_infer.bench.records import BUSY, MIB, EngineFacts, RunRecord, parse_run
from bebert_infer.bench.report import sections
from bebert_infer.bench.report.drawing import NONE, digits
from bebert_infer.bench.report.html import bullets, facts, figure, paragraph, shown, threads_in_words
from bebert_infer.bench.report.plots import Picture, save_plots
from bebert_infer.errors import MissingExtraError

METHOD = (
    "All engines of a group take turns in one run, with the same token ids and the same number of threads, in an order "
    "that rotates, so that whatever else the machine does falls on all of them alike.",
    "Every turn begins with a pause and a call that is not timed, which long calls do without; tables show the median "
    "of the timed calls of all turns and in brackets p10 and p90, below and above which a tenth of them lay.",
    "Start-up and peak memory come from a process of its own for each engine, sizes are the bytes of all files that an "
    "engine loads, and random weights take the same time as trained ones but answer nothing.",
)


def write_report(run: dict[str, Any], folder: Path) -> Path:
    """Write report.html and its pictures, PNG, into a folder, each whole or not at all; returns the report.

    run : what `bebert bench --json` prints. Without matplotlib the report has tables only and says what to install.
    Raises DataError if something is missing in the run.
    """
    checked = parse_run(run)
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[Picture] = []
    notes = []
    try:
        pictures = save_plots(checked, folder)
    except MissingExtraError as error:
        notes.append(f"No pictures: {error}")
    page = Template(files("bebert_infer.bench.report").joinpath("page.html").read_text("utf-8"))
    report = folder / "report.html"
    with whole_file(report) as stream:
        stream.write(
            page.substitute(title=f"bebert bench, {escape(checked.date)}", body=_body(checked, pictures, notes))
        )
    return report


def _body(run: RunRecord, pictures: list[Picture], notes: list[str]) -> str:
    contents: list[tuple[str, str, Callable[[RunRecord], Iterable[str]]]] = [  # heading, pictures of, text
        ("In short", "", _summary),
        ("What was measured", "", _subject),
        ("Machine", "", _machine),
        ("Method", "", lambda run: [paragraph(" ".join(METHOD))]),
        ("Latency of one sentence", "latency", sections.latency),
        ("Times faster than full precision", "speedup", sections.speedup),
        ("Throughput of batches", "throughput", sections.throughput),
        ("Real texts", "", sections.texts),
        ("Start-up and memory", "", sections.start),
        ("Size", "size", sections.size),
        ("Operations", "", sections.operations),
        ("Time by operation", "time", sections.time),
        ("Accuracy", "accuracy", sections.accuracy),
        ("Energy", "", sections.energy),
        ("Engines that are missing", "", sections.missing),
    ]
    if run.cores_of_others is not None and run.cores_of_others > BUSY:
        busy = f"Other processes kept {run.cores_of_others:.2f} cores busy meanwhile (more than {BUSY:g})"
        notes = [*notes, f"{busy}: these times may be too long. Measure again on a quiet machine."]
    parts = [paragraph(note, "warning") for note in [*notes, *run.notes]]
    for heading, kind, write in contents:
        parts.append(f"<section>\n<h2>{heading}</h2>")
        parts += [figure(picture) for picture in pictures if picture.section == kind]
        parts += write(run)
        parts.append("</section>")
    return "\n".join(parts)


def _summary(run: RunRecord) -> Iterable[str]:
    """One sentence a group: the fastest packed engine against the fastest fp32 and int8 ones, at 128 tokens or near."""
    sentences = []
    for group in run.groups:
        rows = [row for row in run.latency if row.group == group.name]
        if not rows:
            continue
        threads = max(row.threads for row in rows)
        tokens = min((row.tokens for row in rows if row.threads == threads), key=lambda value: abs(value - 128))
        here = {row.engine: row.median_ms for row in rows if (row.threads, row.tokens) == (threads, tokens)}
        fastest: dict[str, EngineFacts] = {}
        for engine in sorted((e for e in run.engines_of(group) if e.name in here), key=lambda e: here[e.name]):
            fastest.setdefault(engine.kind, engine)
        if "packed" not in fastest:
            continue
        mine = fastest["packed"]
        text = (
            f"{group.name}, {tokens} tokens, {threads_in_words(threads)}: the fastest packed model, {shown(mine)}, "
            f"answers in {digits(here[mine.name])} ms ({_kept(mine)})"
        )
        for kind in ("fp32", "int8"):
            if kind in fastest:
                other = fastest[kind]
                text += (
                    f"; the fastest {kind} engine, {other.name}, takes {here[other.name] / here[mine.name]:.2f} times "
                    f"as long ({_kept(other)})"
                )
        sentences.append(text + ".")
    return [bullets(sentences)] if sentences else [paragraph("No packed engine was timed.")]


def _kept(engine: EngineFacts) -> str:
    """Size, and score where there is one."""
    score = engine.accuracy
    words = "" if score is None else f", {score.metric} {100 * score.value:.1f}"
    return f"{digits(engine.bytes / MIB)} MiB{words}"


def _subject(run: RunRecord) -> Iterable[str]:
    lines = []
    for group in run.groups:
        widths = ", ".join(f"{name} {value:,}" for name, value in group.geometry.items())
        left_out = ", ".join(map(str, group.left_out))
        title = "" if group.title == group.name else f": {group.title}"
        lines.append(
            f"{group.name}{title} ({widths})"
            + (f"; too long for it and left out: {left_out} tokens" if left_out else "")
        )
    yield bullets(lines)
    yield facts((name.replace("_", " "), value) for name, value in run.settings.items())


def _machine(run: RunRecord) -> Iterable[str]:
    machine = run.machine
    versions = (f"{name} {version}" for name, version in machine.versions.items() if version)
    others = "not known" if run.cores_of_others is None else f"{run.cores_of_others:.2f} (up to {BUSY:g} is quiet)"
    rows: list[tuple[str, Any]] = [
        ("CPU", machine.cpu),
        ("cores", machine.cores),
        ("memory", "not known" if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.1f} GiB"),
        ("instruction set of the kernels", machine.isa),
        (
            "kernels by product",
            "; ".join(f"{product}: {kernel}" for product, kernel in machine.products.items()) or NONE,
        ),
        ("Python", machine.python),
        ("packages", ", ".join(versions) or NONE),
        ("bebert-infer", run.version_of_bebert + (f", commit {run.commit}" if run.commit else "")),
        ("cores kept busy by others", others),
    ]
    yield facts(rows)
