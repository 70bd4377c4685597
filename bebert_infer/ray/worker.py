"""What goes to the workers of a cluster, a model as bytes, and how a worker becomes one that answers.

The files of a model are a few MB, so they travel with the job: a path that only the driver has will do, every worker
answers with the files that the driver checked, and none asks the hub.
"""

import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bebert_infer
from bebert_infer.artifact.folder import CONFIG, TENSORS, TOKENIZER
from bebert_infer.bulk.arrow import answer_batch, with_answers
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.early_exit import checked_early_exit
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import BebertError, InputError, ModelFormatError
from bebert_infer.limits import InputLimits


@dataclass(frozen=True)
class Shipped:
    """A model that has passed every check: its files, and what its answers are called.

    title : as the user wrote it;  release : of this package where it was checked
    """

    title: str
    files: dict[str, bytes]
    labels: tuple[str, ...]
    problem: str
    limits: InputLimits | None
    release: str


def ship(model: str | os.PathLike[str], options: BulkOptions, limits: InputLimits | None = None) -> Shipped:
    """Load a model here, see that it takes texts with these options, and pack its files.

    Raises what `Ensemble.from_pretrained` raises, and InputError for options that this model cannot take.
    """
    if not isinstance(model, str | os.PathLike):
        raise InputError(
            f"model is a {type(model).__name__}; pass its folder or its name on the hub, from which every worker has it"
        )
    ensemble = Ensemble.from_pretrained(model, threads=1, limits=limits)
    ensemble.check_texts(options.long)
    checked_early_exit(options.early_exit, ensemble.config)
    files = {name: (ensemble.path / name).read_bytes() for name in (CONFIG, TENSORS, TOKENIZER)}
    config = ensemble.config
    return Shipped(str(model), files, tuple(config.labels), config.problem_type, limits, bebert_infer.__version__)


def load(shipped: Shipped, threads: int) -> Ensemble:
    """The model on a worker, with so many threads. Raises ModelFormatError, with the worker's name."""
    where = f"worker {os.getpid()} on {socket.gethostname()}"
    if shipped.release != bebert_infer.__version__:
        raise ModelFormatError(
            f"{where} has bebert-infer {bebert_infer.__version__}, the driver {shipped.release}; answers are the same "
            "bits only within a release: install one on all machines"
        )
    try:
        with tempfile.TemporaryDirectory(prefix="bebert-") as folder:  # what is mapped outlives its name
            for name, content in shipped.files.items():
                (Path(folder) / name).write_bytes(content)
            return Ensemble.from_pretrained(folder, threads=threads, limits=shipped.limits)
    except (BebertError, OSError) as error:
        raise ModelFormatError(f'"{shipped.title}" cannot be loaded by {where}: {error}') from None


class Worker:
    """Actor that loads the model once.

    An error of loading is raised at the first call: Ray tells of one in a constructor by its text alone.
    """

    def __init__(self, shipped: Any, options: BulkOptions, threads: int) -> None:
        """Load the model; `shipped` is a reference to a `Shipped` in the object store."""
        import pyarrow as pa
        import ray

        self.options, self.threads = options, threads
        self._failure: BebertError | None = None
        pa.set_cpu_count(threads)  # Arrow's pool is of all cores of the machine otherwise
        try:
            self.shipped: Shipped = ray.get(shipped)
            self._model = load(self.shipped, threads)
        except BebertError as error:
            self._failure = error

    @property
    def model(self) -> Ensemble:
        """The model. Raises what its loading raised."""
        if self._failure is not None:
            raise self._failure
        return self._model


class TableWorker(Worker):
    """Answers tables of a dataset whose columns of texts `options` name."""

    def __call__(self, table: Any) -> Any:
        """The `pyarrow.Table` with columns of answers behind its own. Raises RowError, InputError."""
        import pyarrow as pa

        model = self.model
        for name in (self.options.text_column, self.options.pair_column):
            if name is not None and name not in table.column_names:  # of rows without it, as JSON may have
                table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
        schema = with_answers(table.schema, self.shipped.labels, self.shipped.problem, self.options)
        batches = [answer_batch(model, batch, schema, self.options) for batch in table.to_batches()]
        return pa.Table.from_batches(batches, schema)
