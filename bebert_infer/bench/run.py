"""One run of `bebert bench`: every group's engines are opened, take turns, and are then started alone.

The result is plain data for tables, `--json`, reports and comparisons.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bebert_infer.artifact.folder import read_artifact
from bebert_infer.bench.accuracy import accuracies
from bebert_infer.bench.engines import PACKED, Engine, EngineGroup, OnTokens
from bebert_infer.bench.machine import OtherLoad, commit, machine
from bebert_infer.bench.peers import failure, find_peers, mark_used
from bebert_infer.bench.process import question
from bebert_infer.bench.records import FORMAT, VERSION
from bebert_infer.bench.settings import Settings
from bebert_infer.bench.starts import measure_starts
from bebert_infer.bench.texts import text_rows
from bebert_infer.bench.turns import FULL_PRECISION, PACKED_ONNX, random_tokens, spread, take_turns
from bebert_infer.errors import BebertError, InputError
from bebert_infer.measure.power import read_energy

NO_ENERGY = "not available on this machine"
BASELINE = "PyTorch fp32"
TURNS = 0.6  # of the time for measuring belongs to turns, the rest to processes
SAME = 1e-3  # two full-precision engines with the same weights differ by less in every logit
Status = Callable[[str], AbstractContextManager[Any]]  # shows what is being done while a block runs


@dataclass
class Run:
    """What has been measured so far; the lists have one dict a row, as in the record."""

    settings: Settings
    status: Status
    engines: list[Engine] = field(default_factory=list)
    facts: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    latency: list[dict[str, Any]] = field(default_factory=list)
    throughput: list[dict[str, Any]] = field(default_factory=list)
    operations: list[dict[str, Any]] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def late(self, what: str, share: float = 1.0) -> bool:
        """Whether a quick run has used up this share of its time; then what is left out is noted."""
        limit = self.settings.prepare_seconds
        over = self.settings.spent() > limit + share * (self.settings.total_seconds - limit)
        if over:
            self.left_out.append(what)
        return over


def run_groups(groups: list[EngineGroup], settings: Settings, folder: Path, status: Status) -> dict[str, Any]:
    """Measure all groups and return the record. `folder` keeps files of peers.

    Raises InputError for lengths that no group can take, BebertError where a full-precision peer computes another
    network than PyTorch, and what reading models and data raises.
    """
    run = Run(settings, status)
    load = OtherLoad()
    for group in groups:
        if not group.lengths(settings.lengths):
            limit = group.positions
            raise InputError(f"--tokens is {min(settings.lengths)}; {group.name} takes at most {limit}")
        _accuracy(run, group)  # first: a wrong file is told before minutes of work
    peers: dict[str, list[Engine]] = {}
    if settings.peers:
        peers, run.missing = find_peers(groups, settings, folder, status)
    for number, group in enumerate(groups, start=1):
        ours = group.packed_engines(group.tokens(settings.batch_tokens))
        _take_turns(run, group, peers.get(group.name, []) + ours, TURNS * number / len(groups))
    asked = {
        group.name: question(group.tokenizer, group.vocabulary, group.tokens(settings.batch_tokens)) for group in groups
    }
    starts = measure_starts(run.engines, groups, asked, settings, status, run.late)
    for key, figures in starts.figures.items():
        run.facts[key] = run.facts.get(key, {}) | figures
    run.notes += starts.notes
    about = {"import_numpy_s": starts.import_numpy_s}
    return _record(run, groups, {name: one.words for name, one in asked.items()}, load.cores()) | about


def _accuracy(run: Run, group: EngineGroup) -> None:
    if group.data is None:
        return
    (name, (folder, _)), *_ = group.packed.items()
    with run.status(f"{group.name}: accuracy on {group.data.name}"):
        found = accuracies(folder, group.data, group.full_precision, run.settings.threads[0])
    run.facts[group.name, name] = {"accuracy": found["packed"]}
    if "full precision" in found:
        run.facts[group.name, BASELINE] = {"accuracy": found["full precision"]}


def _take_turns(run: Run, group: EngineGroup, engines: list[Engine], share: float) -> None:
    """Latency and throughput of all engines of a group for every thread budget, what matters most first.

    share : of the time for measuring, after which a quick run leaves out the rest
    """
    settings, tokens = run.settings, group.tokens(run.settings.batch_tokens)
    shapes = [(1, length) for length in group.lengths(settings.lengths)] + [
        (batch, tokens) for batch in settings.batches
    ]
    shapes.sort(key=lambda shape: shape != (1, tokens))
    for number, threads in enumerate(settings.threads):
        opened: dict[str, OnTokens] = {}  # those of another budget go before the next ones are loaded
        opened = _open(run, group, engines, threads)
        if number == 0:
            engines = [engine for engine in engines if engine.name in opened]
            mark_used(engines)
            run.engines += engines
            _same_network(run, group, engines, opened)
        for batch, length in shapes:
            main = (batch, length) == (1, tokens)  # what ratios are made of is never left out
            if not main and run.late(f"{group.name}, {batch} × {length} tokens, {threads} threads", share):
                continue
            rows = _shape(run, group, opened, threads, batch, length)
            if batch == 1:
                run.latency += rows
            else:
                run.throughput += [_per_second(row) for row in rows]
        if group.data is not None and not run.late(f"{group.name}, texts of {group.data.name}", share):
            with run.status(
                f"{group.name}: texts of {group.data.name}, {threads} threads, {len(opened)} engines in turn"
            ):
                limits = settings.batch_rounds, settings.shape_seconds
                run.texts += text_rows(engines, opened, group.data, threads, *limits)
    for engine in engines:
        if engine.kind == PACKED and not run.late(f"{engine.name}: time by operation", share):
            run.operations += _by_operation(run, engine, tokens)


def _open(run: Run, group: EngineGroup, engines: list[Engine], threads: int) -> dict[str, OnTokens]:
    """Load all engines into this process; a peer that fails is missing, one of ours ends the run."""
    opened = {}
    for engine in engines:
        with run.status(f"{group.name}: loading {engine.name}"):
            try:
                on_tokens = engine.load(threads)
                on_tokens(random_tokens(group.vocabulary, 1, min(run.settings.lengths)))()
            except BebertError:
                raise
            except Exception as error:
                if engine.kind == PACKED:
                    raise
                run.missing[engine.name] = failure(error)
                continue
        opened[engine.name] = on_tokens
    return opened


def _same_network(run: Run, group: EngineGroup, engines: list[Engine], opened: dict[str, OnTokens]) -> None:
    """Compare the logits of peers with PyTorch's, so that nothing else is measured under their names."""
    if BASELINE not in opened:
        return
    ids = random_tokens(group.vocabulary, 1, group.lengths(run.settings.lengths)[0])
    expected = opened[BASELINE](ids)()
    for engine in engines:
        if engine.kind in (PACKED, PACKED_ONNX):  # of other weights; an export has its own check
            continue
        difference = float(np.abs(opened[engine.name](ids)() - expected).max())
        run.facts.setdefault((group.name, engine.name), {})["logit_difference"] = difference
        if engine.kind == FULL_PRECISION and difference > SAME * max(1.0, float(np.abs(expected).max())):
            raise BebertError(
                f"{engine.name} computes another network than {BASELINE}: logits differ by {difference:.2g}; "
                "remove the folder of peers and run again"
            )


def _shape(
    run: Run, group: EngineGroup, opened: dict[str, OnTokens], threads: int, batch: int, tokens: int
) -> list[dict[str, Any]]:
    """Turns of all engines on one batch of sentences of one length; joules are of one call."""
    rounds = run.settings.rounds if batch == 1 else run.settings.batch_rounds
    ids = random_tokens(group.vocabulary, batch, tokens)
    what = f"{batch} sentences" if batch > 1 else "one sentence"
    with run.status(f"{group.name}: {what} of {tokens} tokens, {threads} threads, {len(opened)} engines in turn"):
        calls = {name: on_tokens(ids) for name, on_tokens in opened.items()}
        times = take_turns(calls, rounds, seconds=run.settings.shape_seconds)
    shape = {"threads": threads, "tokens": tokens, "batch": batch}
    return [
        {"group": group.name, "engine": name, **shape, **spread(found.ms), "joules": found.joules_a_call}
        for name, found in times.items()
    ]


def _per_second(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"sentences_per_s": round(1e3 * row["batch"] / row["median_ms"], 2)}


def _by_operation(run: Run, engine: Engine, tokens: int) -> list[dict[str, Any]]:
    """Time of every operation of the first member, on one thread; nothing for members on the general path."""
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.measure.profiling import profile

    with run.status(f"{engine.group}: time by operation of {engine.name}"):
        try:
            rows = profile(Ensemble(read_artifact(engine.folder), threads=1), tokens, run.settings.profile_rounds)
        except InputError:
            return []
    fields = ("operation", "calls", "ms", "share")
    return [
        {"group": engine.group, "engine": engine.name} | {name: getattr(row, name) for name in fields} for row in rows
    ]


def _record(
    run: Run, groups: Iterable[EngineGroup], starts_of: dict[str, str], cores_of_others: float | None
) -> dict[str, Any]:
    figures = ("accuracy", "load_s", "first_answer_s", "peak_rss_bytes", "install_bytes", "install_packages")
    unknown = dict.fromkeys(figures)
    engines = [
        {"group": engine.group, "name": engine.name, "kind": engine.kind}
        | engine.facts
        | unknown
        | run.facts.get((engine.group, engine.name), {})
        for engine in run.engines
    ]
    measured = {(engine.group, engine.name) for engine in run.engines}
    for (group_name, name), facts in run.facts.items():
        if (group_name, name) not in measured and facts.get("accuracy"):  # of the parent, which could not be timed
            score = facts["accuracy"]
            run.notes.append(f"{group_name}, full precision: {score['metric']} {score['value']:.4f}")
    if run.left_out:
        what = "; ".join(dict.fromkeys(run.left_out))
        run.notes.append(f"left out, because --quick had no time left (the next run finds files of peers made): {what}")
    with run.status("which kernels this machine uses"):
        about = machine()
    return {
        "format": FORMAT,
        "version": VERSION,
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "version_of_bebert": version("bebert-infer"),
        "machine": about,
        "settings": run.settings.as_json(),
        "cores_of_others": cores_of_others,
        "groups": [
            {
                "name": group.name,
                "title": group.title,
                "geometry": asdict(group.geometry),
                "left_out": [n for n in run.settings.lengths if n > group.positions],
                "start_of": starts_of[group.name],
            }
            for group in groups
        ],
        "engines": engines,
        "latency": sorted(run.latency, key=lambda row: row["tokens"]),
        "throughput": run.throughput,
        "texts": run.texts,
        "time_by_operation": run.operations,
        "missing": run.missing,
        "notes": run.notes,
        "energy": "RAPL, all packages" if read_energy().microjoules else NO_ENERGY,
        "seconds": round(run.settings.spent(), 1),
    }
