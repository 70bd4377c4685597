"""Bring a model to the workers, and see that they can load it before there is any work.

The driver reads and checks the model, whatever only the driver can see: a folder of its disk, a private model of the
hub. Then Spark itself carries it, as an archive (`SparkContext.addArchive`): every executor, also one that comes later
or in the place of a dead one, fetches it from the driver and unpacks it, once.

Spark repeats a task that fails, four times by default, in the hope of a better worker. So the workers are asked first
in a job whose tasks do not fail, but answer why the model does not load. What they loaded they keep.
"""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

from pyspark import SparkFiles

import bebert_infer
from bebert_infer import errors
from bebert_infer.bulk.classify import model_digest
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import BebertError, InputError
from bebert_infer.spark.sent import SentModel

_lock = threading.Lock()
_added: set[tuple[str, str]] = set()  # applications and the archives that they have
_checked: set[tuple[str, SentModel]] = set()  # applications and the models that their workers can load


def send_model(spark: Any, name: str, model: Ensemble, send: bool, check: bool) -> SentModel:
    """See that workers can load a model that the driver has.

    name : of its folder or on the hub     send : False if workers are to open `name` themselves
    check : ask them, in a job that loads it once for each task that can run at a time

    Raises what `Ensemble.from_pretrained` raised at a worker, BebertError if bebert-infer is not there.
    """
    context = _context(spark)
    digest = model_digest(model.config, model.tokenizer_json)
    with _lock:
        archive = _add(context, model, digest) if send else None
        sent = SentModel(name, digest, bebert_infer.__version__, archive)
        if check and (context.applicationId, sent) not in _checked:
            _ask_workers(spark, context, sent)
            _checked.add((context.applicationId, sent))
    return sent


def _context(spark: Any) -> Any:
    try:
        return spark.sparkContext
    except Exception:  # of a session of Spark Connect, whose class says so in many words
        raise InputError(
            "this session is of Spark Connect, which has no way to send a model with; use a session with a master of "
            "its own (SparkSession.builder.master)"
        ) from None


def _add(context: Any, model: Ensemble, digest: str) -> str:
    archive = f"bebert-{digest[:32]}"
    if (context.applicationId, archive) in _added:
        return archive
    # The driver's own folder of Spark: its files are served as long as the application lives, and go when it ends.
    place = Path(SparkFiles.getRootDirectory()).absolute() / "bebert-models"
    folder = place / archive
    model.save_pretrained(folder)
    packed = Path(shutil.make_archive(os.fspath(folder), "zip", folder))
    shutil.rmtree(folder)
    context.addArchive(f"{packed.as_uri()}#{archive}")
    _added.add((context.applicationId, archive))
    return archive


def _ask_workers(spark: Any, context: Any, sent: SentModel) -> None:
    """Raise the first reason why a worker does not load the model."""
    facts: Any = tuple(sent)

    # A function in a function is pickled whole, where one of a module is pickled as its name: it must run, and answer,
    # where bebert-infer is not installed.
    def load(batches: Any) -> Any:
        import pyarrow

        for _ in batches:
            pass
        kind = problem = None
        try:
            from bebert_infer.spark.sent import SentModel
            from bebert_infer.spark.worker import load_model

            load_model(SentModel(*facts))
        except Exception as error:
            kind, problem = type(error).__name__, str(error)
        text = pyarrow.string()
        yield pyarrow.RecordBatch.from_arrays(
            [pyarrow.array([kind], text), pyarrow.array([problem], text)], ["kind", "problem"]
        )

    tasks = max(1, context.defaultParallelism // _task_cpus(context))
    answers = spark.range(0, tasks, 1, tasks).mapInArrow(load, "kind string, problem string").collect()
    for kind, problem in answers:
        if kind is not None:
            known = getattr(errors, kind, None)
            missing = "; install bebert-infer for the Python of the workers, docs/scale.md"
            advice = missing if kind == "ModuleNotFoundError" else f" ({kind})"
            advice = "" if known else advice
            raise (known or BebertError)(f'a worker of Spark cannot load the model "{sent.name}": {problem}{advice}')


def _task_cpus(context: Any) -> int:
    """CPUs of a task; newer Sparks also give fractions of one."""
    return max(1, int(float(context.getConf().get("spark.task.cpus", "1"))))
