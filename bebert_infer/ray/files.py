"""Classify all rows of a file or a folder of files on a Ray cluster, for `bebert predict --engine ray`.

A task reads a file with the readers of `bebert predict`, so the rows, their numbers and their errors are the same, and
hands out chunks of rows. A worker answers a chunk and writes it as one part of the output. What comes back to the
driver is a line a chunk, by which it sees that no chunk is missing before it says that the output is whole.

Reading takes a few hundredths of the time of answering, so these tasks ask Ray for no CPU: all CPUs may answer, and
none of the readers waits for one.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bebert_infer.bulk.classify import Asked, Counts, answer_asked, asked_rows
from bebert_infer.bulk.columns import answer_types, arrow_schema, cells
from bebert_infer.bulk.readers import open_rows, row_bytes
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.bulk.row import RowFile
from bebert_infer.bulk.text_columns import Names, text_columns
from bebert_infer.errors import BebertError, DataError
from bebert_infer.limits import InputLimits
from bebert_infer.optional import load_package
from bebert_infer.ray.capacity import cluster_cpus, pool_size
from bebert_infer.ray.connection import cluster, failures_told, settings
from bebert_infer.ray.storage import Output, Source, sources
from bebert_infer.ray.worker import Shipped, Worker, ship

WORKERS_A_READER = 8  # it could feed hundreds, but far away files are slow to begin
MOST_BLOCKS = 10_000  # of names of files
PART_ROWS, PART_CHARACTERS = 4096, 2**23  # of a chunk, which becomes a part of the output: it ends at either


@dataclass(frozen=True)
class Input:
    """How to read the files of one input: all of them have their texts in the columns `names`, if those are known."""

    system: Any
    files: tuple[Source, ...]
    options: BulkOptions
    kind: str | None
    max_bytes: int
    part_rows: int = PART_ROWS
    names: Names | None = None

    def open(self, file: Source) -> RowFile:
        """The rows of a file. Raises DataError."""
        wanted = self.options.texts + self.options.pairs
        try:
            if self.kind is None and file.name.endswith(".parquet"):
                stream = self.system.open_input_file(file.path)  # its end is read first
            else:
                stream = self.system.open_input_stream(file.path, compression=None, buffer_size=2**20)
        except OSError as error:
            raise DataError(
                f'cannot read "{file.title}" on {socket.gethostname()}: {error.strerror or error}; every machine of '
                "the cluster reads the input, so put it where all of them do"
            ) from None
        return open_rows(Path(file.title), wanted, plain=True, max_bytes=self.max_bytes, kind=self.kind, opened=stream)

    def chunks(self, number: int) -> Iterator[Any]:
        """Tables of one row, each of which is a chunk of the file of this number. Raises RowError, DataError."""
        file = self.open(self.files[number])
        with closing(file):
            rows: list[Asked] = []
            first, characters = 1, 0
            for row in asked_rows(file, self.options, names=self.names):
                if len(rows) == self.part_rows or characters >= PART_CHARACTERS:
                    yield _chunk(number, first, rows, False)
                    rows, first, characters = [], row.index, 0
                rows.append(row)
                characters += sum(map(len, row.texts.values()))
            yield _chunk(number, first, rows, True)


def _chunk(number: int, first: int, rows: list[Asked], last: bool) -> Any:
    """A table of one row: a list of rows, the number of their file, the first one's, and whether the file ends here."""
    import pyarrow as pa

    text = pa.string()
    kind = pa.struct([("text", text), ("text_pair", text), ("name", text), ("error", text)])
    asked: list[dict[str, str | None]] = [{**row.texts, "name": row.name, "error": row.error} for row in rows]
    return pa.table(
        {
            "file": pa.array([number]),
            "first": pa.array([first]),
            "last": pa.array([last]),
            "rows": pa.array([asked], pa.list_(kind)),
        }
    )


def open_input(
    uri: str, options: BulkOptions, kind: str | None, max_characters: int, part_rows: int = PART_ROWS
) -> Input:
    """Find the files of an input, and the columns of their texts by the first file that has one.

    Raises InputError if there are none, DataError for a file that cannot be read.
    """
    system, files = sources(uri, kind)
    found = Input(system, tuple(files), options, kind, row_bytes(max_characters), part_rows)
    for source in files:
        with closing(found.open(source)) as file:
            names = text_columns(file, options)
        if names[0] is not None:
            return replace(found, names=names)
    return found


class ChunkWorker(Worker):
    """Answers chunks and writes them as parts of the output."""

    def __init__(self, shipped: Any, threads: int, input: Input, output: Output) -> None:
        """Make one; `shipped` is a reference to a `Shipped`."""
        super().__init__(shipped, input.options, threads)
        self._input, self._output = input, output
        try:
            output.check(socket.gethostname())
        except BebertError as error:
            self._failure = self._failure or error

    def __call__(self, table: Any) -> Any:
        """A table with one line for each chunk: where it is from, its part, the attempt that holds it, and counts.

        Raises RowError, DataError.
        """
        import pyarrow as pa

        return pa.Table.from_pylist([self._answer(chunk) for chunk in table.to_pylist()], _line_schema(pa))

    def _answer(self, chunk: dict[str, Any]) -> dict[str, Any]:
        import pyarrow as pa

        number, first = chunk["file"], chunk["first"]
        rows = (
            Asked(
                first + place,
                {key: row[key] for key in ("text", "text_pair") if row[key] is not None},
                row["name"],
                row["error"],
            )
            for place, row in enumerate(chunk["rows"])
        )
        counts = Counts()
        records = []
        for batch in answer_asked(self.model, rows, self.options):
            counts.add(batch)
            records += [{"file": self._input.files[number].name} | cells(record) for record in batch]
        line = {"file": number, "first": first, "last": chunk["last"], "rows": counts.rows, "bad": counts.bad}
        line |= {"cut": counts.cut, "part": f"part-{number:06d}-{first:012d}.parquet", "attempt": None}
        if records:
            schema = output_schema(self.shipped, self._input)
            line["attempt"] = self._output.write(line["part"], pa.Table.from_pylist(records, schema))
        return line


def _line_schema(pa: Any) -> Any:
    whole, text = pa.int64(), pa.string()
    numbers = [(name, whole) for name in ("file", "first", "rows", "bad", "cut")]
    return pa.schema([*numbers, ("last", pa.bool_()), ("part", text), ("attempt", text)])


def output_schema(shipped: Shipped, input: Input) -> Any:
    """Columns of the output: file, row, those of texts, and those of answers, as in `bebert predict`."""
    import pyarrow as pa

    pairs = input.options.pairs if input.names is None else input.names[1]
    answers = answer_types(shipped.labels, shipped.problem, input.options.early_exit is not None)
    own = {"file": "string", "row": "int64", "text": "string"} | ({"text_pair": "string"} if pairs else {})
    return arrow_schema(pa, own | answers)


def classify_files(
    model: str | os.PathLike[str],
    input: Input,
    output: str,
    *,
    limits: InputLimits | None = None,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    restart: bool = False,
    report: Callable[[Counts], None] = lambda counts: None,
    counts: Counts | None = None,
) -> Counts:
    """Write the answers to all rows of `input` into the folder `output`, and count them.

    address : of a cluster, as `ray.init` takes it; None: RAY_ADDRESS, else one that is started here, and ended again
    workers : default as many as the cluster has room for;  threads : of each, and the CPUs that it asks for
    restart : drop what an unfinished run left in `output`
    report  : called with the counts after every chunk; `counts` is counted up, also where this raises

    Nothing is in the output until all is (`storage.py`). Raises, before any row is answered, what
    `Ensemble.from_pretrained` raises and InputError; then RowError where a row is to stop the job, DataError for files
    that cannot be read or written, BebertError if the cluster fails.
    """
    load_package("ray.data", "ray")
    counts = Counts() if counts is None else counts
    shipped = ship(model, input.options, limits)
    place = Output(output, restart)  # before a cluster is started
    try:
        with cluster(address), settings():
            _, size = pool_size(workers, cluster_cpus(), threads, spare=0)
            lines = _run(shipped, threads, input, place, size, lambda line: _count(counts, line, report))
        parts = _whole(lines, input)
        if not parts:  # no row at all: a part that has the columns
            empty = output_schema(shipped, input).empty_table()
            parts = {"part-000000-000000000001.parquet": place.write("none", empty)}
        facts = {"rows": counts.rows, "errors": counts.bad, "files": len(input.files), "parts": len(parts)}
        place.finish(parts, facts)
    except BaseException:
        place.drop()
        raise
    return counts


def _count(counts: Counts, line: dict[str, Any], report: Callable[[Counts], None]) -> None:
    counts.rows, counts.bad, counts.cut = counts.rows + line["rows"], counts.bad + line["bad"], counts.cut + line["cut"]
    report(counts)


def _run(
    shipped: Shipped, threads: int, input: Input, output: Output, size: int, tell: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Run the job on the cluster; returns a line a chunk."""
    import ray
    import ray.data

    numbers = [{"number": number} for number in range(len(input.files))]

    def read(table: Any) -> Iterator[Any]:
        for number in table.column("number").to_pylist():
            yield from input.chunks(number)

    chunks = ray.data.from_items(numbers, override_num_blocks=min(len(numbers), MOST_BLOCKS)).map_batches(
        read,
        batch_format="pyarrow",
        batch_size=1,
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=min(size, max(2, size // WORKERS_A_READER))),
    )
    answered = chunks.map_batches(
        ChunkWorker,
        fn_constructor_args=(ray.put(shipped), threads, input, output),
        batch_format="pyarrow",
        batch_size=1,
        num_cpus=threads,
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
    )
    lines = []
    with failures_told():
        for batch in answered.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for line in batch.to_pylist():
                lines.append(line)
                tell(line)
    return lines


def _whole(lines: list[dict[str, Any]], input: Input) -> dict[str, str]:
    """Parts and their attempts, if these chunks are all rows of all files. Raises DataError."""
    found: dict[int, dict[int, dict[str, Any]]] = {number: {} for number in range(len(input.files))}
    for line in lines:
        found[line["file"]][line["first"]] = line
    for number, chunks in found.items():
        first, last = 1, False
        for start in sorted(chunks):
            if start != first:
                break
            first, last = first + chunks[start]["rows"], chunks[start]["last"]
        if not last:
            raise DataError(
                f"{input.files[number].title}: the cluster has lost the answers from row {first} on; run it again"
            )
    chosen = [line for chunks in found.values() for line in chunks.values()]
    return {line["part"]: line["attempt"] for line in chosen if line["attempt"] is not None}
