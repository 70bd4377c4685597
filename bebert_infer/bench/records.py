"""One run of `bebert bench` as records: what bench.json holds, read back with errors that say what is missing.

Seconds of a start count from the start of a process of its own; bytes are those of all files that an engine loads.
Fields that a later writer adds are ignored; a figure that could not be taken is None.

Version 2 starts engines in environments with only what each needs, on a text. In version 1 they started in the one that
the command ran in, on random token ids: the same fields, but no figures to compare.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from bebert_infer.bench.renamed import product_today
from bebert_infer.errors import DataError

FORMAT = "bebert-bench"
VERSION, READABLE = 2, (1, 2)
MIB = 2**20
FEWEST = 3  # calls, below which p10 and p90 say nothing
BUSY = 0.2  # cores that others may keep busy before times are not to be trusted

Positive = Annotated[float, msgspec.Meta(gt=0)]
Size = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Kind = Literal["packed", "fp32", "bf16", "int8", "int4", "packed ONNX"]


class Machine(msgspec.Struct, frozen=True):
    """Where it ran; `isa` is the chosen instruction set, `products` the chosen kernel of each kind of product."""

    cpu: str
    cores: int
    isa: str
    products: dict[str, str]
    python: str
    versions: dict[str, str | None]
    memory_bytes: Size | None = None


class GroupFacts(msgspec.Struct, frozen=True):
    """Engines that do the same work: one packed model and the full-precision BERT of its geometry."""

    name: str
    title: str
    geometry: dict[str, int]
    left_out: list[int] = []  # lengths that were asked for and are too long for it
    start_of: str | None = None  # what the first answer is to, in words


class Accuracy(msgspec.Struct, frozen=True):
    """A score on a labelled file of so many rows."""

    metric: str
    value: float
    rows: int


class EngineFacts(msgspec.Struct, frozen=True):
    """What an engine is and costs apart from its speed.

    operations   : multiply-adds by "weight bits×activation bits", "fp32" in FLOPs; all members
    operations_tokens : length of the sentence that operations are counted and timed for
    flops_paper  : FLOPs as the papers count them
    install_bytes : of the files of all packages that its user installs, without byte code and scripts
    install_packages : their names and versions
    """

    group: str
    name: str
    kind: Kind
    random_weights: bool
    bytes: Size
    members: int | None = None
    scheme: str | None = None
    bytes_by_kind: dict[str, Size] | None = None
    operations: dict[str, float] | None = None
    operations_tokens: Count = 128
    flops_paper: float | None = None
    accuracy: Accuracy | None = None
    load_s: float | None = None
    first_answer_s: float | None = None
    peak_rss_bytes: float | None = None  # a median may lie between two
    install_bytes: Size | None = None
    install_packages: list[str] | None = None


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds of an engine: median, and what a tenth of the calls was below and above."""

    group: str
    engine: str
    threads: Count
    median_ms: Positive
    p10_ms: Positive
    p90_ms: Positive
    calls: Count


class Timing(Spread, frozen=True):
    """One call, for so many sentences of so many tokens."""

    tokens: Count
    batch: Count


class Latency(Timing, frozen=True):
    """One sentence; joules of an answer where the machine can tell."""

    joules: float | None = None


class Throughput(Timing, frozen=True, kw_only=True):
    """A batch."""

    sentences_per_s: Positive


class TextTiming(Spread, frozen=True):
    """Milliseconds of one real text: a pass over all of them divided by their number.

    early_exit  : what our engine was asked with, None for all members and for peers
    members_run : of ours, the mean of all texts
    """

    texts: Count
    mean_tokens: Positive
    early_exit: str | None = None
    members_run: float | None = None


class OperationTime(msgspec.Struct, frozen=True):
    """All operations of one kind in one pass of one member on 1 thread; share of the pass, 0 to 1."""

    group: str
    engine: str
    operation: str
    calls: int
    ms: float
    share: float


class RunRecord(msgspec.Struct, frozen=True):
    """Everything that one `bebert bench` measured."""

    format: Literal["bebert-bench"]
    version: Literal[1, 2]
    date: str
    version_of_bebert: str
    machine: Machine
    settings: dict[str, Any]
    groups: list[GroupFacts]
    engines: list[EngineFacts]
    latency: list[Latency]
    throughput: list[Throughput] = []
    texts: list[TextTiming] = []
    time_by_operation: list[OperationTime] = []
    missing: dict[str, str] = {}
    notes: list[str] = []
    energy: str = "not available on this machine"
    commit: str | None = None
    cores_of_others: float | None = None
    import_numpy_s: Positive | None = None  # start of a process that imports NumPy and nothing else

    def engines_of(self, group: GroupFacts) -> list[EngineFacts]:
        """Engines of a group, in the order of the run."""
        return [engine for engine in self.engines if engine.group == group.name]

    def operation_tokens(self, group: GroupFacts) -> int:
        """Length of the sentence that operations of a group are counted and timed for."""
        return max((engine.operations_tokens for engine in self.engines_of(group)), default=128)

    def threads(self) -> list[int]:
        """Numbers of threads that something was measured with."""
        return sorted({row.threads for row in [*self.latency, *self.throughput]})


def baseline(run: RunRecord, group: GroupFacts) -> EngineFacts | None:
    """The engine that speed-ups are taken against: PyTorch fp32, or else the first fp32 engine; None without one."""
    floats = [engine for engine in run.engines_of(group) if engine.kind == "fp32"]
    of_torch = [engine for engine in floats if engine.name.lower().startswith("pytorch")]
    return next(iter(of_torch + floats), None)


def parse_run(run: dict[str, Any]) -> RunRecord:
    """Check a run that was just measured, plain JSON values. Raises DataError."""
    return _decode(json.dumps(run), "this run")


def read_run(file: Path) -> RunRecord:
    """Read bench.json, the last line of a .jsonl, or the bench.json of a folder. Raises DataError."""
    if file.is_dir():
        file = file / "bench.json"
    if not file.is_file():
        raise DataError(f'there is no file "{file}"; pass what bebert bench --output wrote')
    place = f'"{file}"'
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{place} cannot be read as text: {error}") from None
    if file.suffix == ".jsonl":
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if not lines:
            raise DataError(f"{place} is empty; pass a file that bebert bench wrote")
        number, text = lines[-1]
        place += f", line {number},"
    return _decode(text, place)


def _decode(text: str, place: str) -> RunRecord:
    try:
        head = msgspec.json.decode(text)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise DataError(f'{place} is no run of bebert bench: "format" is not "{FORMAT}"')
        if head.get("version") not in READABLE:
            raise DataError(
                f"{place} has version {head.get('version')!r:.20} of the format; this bebert-infer reads "
                f"{' and '.join(map(str, READABLE))}"
            )
        run = msgspec.json.decode(text, type=RunRecord)
    except msgspec.ValidationError as error:
        raise DataError(f"{place} is damaged: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"{place} is not JSON: {error}") from None
    _refer(run, place)
    products = {layer: product_today(product) for layer, product in run.machine.products.items()}
    return msgspec.structs.replace(run, machine=msgspec.structs.replace(run.machine, products=products))


def _refer(run: RunRecord, place: str) -> None:
    """Every row must name an engine that the run describes, and none may be there twice."""
    engines = [(engine.group, engine.name) for engine in run.engines]
    groups = {group.name for group in run.groups}
    strange = next((group for group, _ in engines if group not in groups), None)
    if strange is not None:
        raise DataError(f"{place} has an engine of group {strange!r:.60}, which it does not describe")
    _once(place, "engines", run.engines, lambda row: (row.group, row.name))
    named = set(engines)
    lists: dict[str, list[Any]] = {
        "latency": run.latency,
        "throughput": run.throughput,
        "texts": run.texts,
        "time_by_operation": run.time_by_operation,
    }
    for name, rows in lists.items():
        unknown = next((row for row in rows if (row.group, row.engine) not in named), None)
        if unknown is not None:
            raise DataError(f"{place} has a row in {name} of engine {unknown.engine!r:.60}, which it does not describe")
    for name in ("latency", "throughput"):
        _once(place, name, lists[name], timing_key)
    _once(place, "texts", run.texts, lambda row: (row.group, row.engine, row.threads, row.early_exit))
    _once(place, "time_by_operation", run.time_by_operation, lambda row: (row.group, row.engine, row.operation))


def timing_key(row: Timing) -> tuple[str, str, int, int, int]:
    """What tells a timing from the others of its list, and finds its like in another run."""
    return row.group, row.engine, row.threads, row.tokens, row.batch


def _once(place: str, name: str, rows: Iterable[Any], key: Callable[[Any], tuple]) -> None:
    seen = set()
    for row in rows:
        if key(row) in seen:
            raise DataError(f"{place} has two rows in {name} for {', '.join(str(part) for part in key(row))}")
        seen.add(key(row))
