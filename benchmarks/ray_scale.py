"""Rows through Ray beside as many plain processes: answers, throughput, memory, and where the time goes.

python benchmarks/ray_scale.py DATA [DATA …] --rows 200000 --workers 2

DATA are files of texts, such as GLUE's dev files; their rows are repeated to size. In this order:

    plain      one `bebert predict` on each of as many files as workers, at the same time, one thread each
    ray        `bebert predict --engine ray` on the folder of these files, with as many workers
    one        the same with one worker
    stages     reading, tokenizing, the model and writing, in CPU time of one core, of the first rows
    lengths    rows a second of CPU time by tokens, of the model and of one member of BERT-base size
    memory     private memory of a plain process, of a worker, and of Ray's actor without our model, at their largest

Start-up counts in no rate: time begins with the first answered batch or chunk, whose rows do not count. Answers of both
are compared bit for bit. Appends one line to results/clusters.jsonl.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from record import ROOT, write_record

from bebert_infer import Ensemble
from bebert_infer.bulk.classify import answer_rows
from bebert_infer.bulk.columns import cells
from bebert_infer.bulk.readers import open_rows
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.measure.sample_models import random_model
from bebert_infer.ray.files import classify_files, open_input

SKIP = BulkOptions(on_error="skip", early_exit=None)


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part-rows", type=int, default=4096)
    parser.add_argument("--model", type=Path, default=ROOT / "bebert_infer" / "demo_model")
    parser.add_argument("--note", default="")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    load = psutil.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        texts = write_texts(options.data, options.rows, options.workers, place / "in")
        numbers: dict[str, Any] = {"engine": "ray", "model": options.model.name, "rows": options.rows}
        numbers |= {
            "workers": options.workers,
            "part_rows": options.part_rows,
            "note": options.note,
            "load_before": load,
        }
        numbers["mean_characters"] = round(sum(map(len, texts)) / len(texts), 1)
        numbers["stages_us_a_row"] = stages(options.model, place / "in", place)
        numbers["rows_a_second_of_cpu"] = by_length(options.model)
        numbers["plain"] = plain(options.model, place / "in", place / "plain", options.workers)
        for name, workers in (("ray", options.workers), ("one", 1)):
            numbers[name] = on_ray(options.model, place / "in", place / name, workers, options.part_rows)
            numbers[name]["equal"] = equal(place / "in", place / "plain", place / name)
        numbers["actor_without_model_mb"] = bare_actor()
        numbers["ray_over_plain"] = round(numbers["ray"]["rows_a_second"] / numbers["plain"]["rows_a_second"], 3)
        numbers["workers_over_one"] = round(numbers["ray"]["rows_a_second"] / numbers["one"]["rows_a_second"], 3)
        worker, process = numbers["ray"]["worker_mb"], numbers["plain"]["process_mb"]
        numbers["worker_beyond_mb"] = round(worker - process - numbers["actor_without_model_mb"], 1)
    print(json.dumps(numbers, indent=2))
    if not options.no_record:
        print(write_record("clusters", numbers))


def write_texts(data: list[Path], rows: int, files: int, folder: Path) -> list[str]:
    """Texts of `data`, repeated to `rows`, in as many files of Parquet."""
    texts: list[str] = []
    for path in data:
        file = open_rows(path, SKIP.texts)
        name = next(name for name in SKIP.texts if name in (file.header or ["text"]))
        texts += [row.cells[name] for row in file.rows if row.cells.get(name)]
    texts = (texts * (rows // len(texts) + 1))[:rows]
    folder.mkdir()
    share = -(-rows // files)
    for number in range(files):
        part = texts[number * share : (number + 1) * share]
        pq.write_table(pa.table({"text": part}), folder / f"{number}.parquet")
    return texts


PLAIN = """
import json, sys, time
from pathlib import Path
import bebert_infer.cli.predict_files as files
from bebert_infer.cli.main import main
inside, seen = files.classify_file, []
def timed(model, file, part, options, make, report, counts):
    def tell(counts):
        seen.append((time.time(), counts.rows))
        report(counts)
    return inside(model, file, part, options, make, tell, counts)
files.classify_file = timed
times = Path(sys.argv.pop(1))
main_error = None
try:
    main()
except SystemExit as end:
    main_error = end.code
times.write_text(json.dumps([seen[0], seen[-1], time.time()]))
sys.exit(main_error)
"""


def private_mb(pid: int) -> float:
    """Private memory of a process, without pages that it shares with others; 0 if it has ended."""
    try:
        return psutil.Process(pid).memory_full_info().uss / 2**20
    except psutil.Error:
        return 0.0


def plain(model: Path, source: Path, out: Path, workers: int) -> dict[str, Any]:
    """As many `bebert predict` as files, side by side."""
    out.mkdir()
    running = []
    for file in sorted(source.iterdir()):
        words = [
            sys.executable,
            "-c",
            PLAIN,
            str(out / f"{file.stem}.json"),
            "predict",
            str(model),
            "--input",
            str(file),
        ]
        words += ["--output", str(out / file.name), "--threads", "1", "--on-error", "skip"]
        running.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    largest = 0.0
    while any(one.poll() is None for one in running):
        largest = max([largest, *(private_mb(one.pid) for one in running)])
        time.sleep(0.5)
    assert all(one.returncode == 0 for one in running)
    rate = 0.0
    for file in sorted(out.glob("*.json")):
        (start, first), (_, last), end = json.loads(file.read_text())
        rate += (last - first) / (end - start)  # the end: Parquet is written behind the last answer
    return {"rows_a_second": round(rate, 1), "process_mb": round(largest, 1)}


def on_ray(model: Path, source: Path, out: Path, workers: int, part_rows: int) -> dict[str, Any]:
    """The folder on a cluster of so many CPUs."""
    import ray

    ray.init("local", num_cpus=workers, include_dashboard=False, object_store_memory=300 * 2**20, log_to_driver=False)
    try:
        seen: list[tuple[float, int]] = []
        largest = [0.0]

        def report(counts: Any) -> None:
            seen.append((time.time(), counts.rows))
            for process in psutil.Process().children(recursive=True):
                if "ChunkWorker" in " ".join(process.cmdline() if process.is_running() else []):
                    largest[0] = max(largest[0], private_mb(process.pid))

        started = time.time()
        input = open_input(str(source), SKIP, None, 10**6, part_rows)
        classify_files(model, input, str(out), workers=workers, report=report)
        (begin, first), (_, last), end = seen[0], seen[-1], time.time()
    finally:
        ray.shutdown()
    return {
        "rows_a_second": round((last - first) / (end - begin), 1),
        "whole_job_seconds": round(end - started, 1),
        "worker_mb": round(largest[0], 1),
    }


def bare_actor() -> float:
    """Private MB of an actor of Ray Data that knows Arrow and nothing of us."""
    import ray
    import ray.data

    class Bare:
        def __call__(self, table: Any) -> Any:
            return pa.table({"mb": [psutil.Process().memory_full_info().uss / 2**20]})

    Bare.__module__ = "__main__"
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=300 * 2**20, log_to_driver=False)
    try:
        made = ray.data.range(1).map_batches(
            Bare, batch_format="pyarrow", compute=ray.data.ActorPoolStrategy(size=1), num_cpus=1
        )
        return round(made.take(1)[0]["mb"], 1)
    finally:
        ray.shutdown()


def equal(source: Path, one: Path, other: Path) -> bool:
    """Whether the answers to all files are the same bits."""
    found = pq.read_table(other)
    for file in sorted(source.iterdir()):
        rows = found.filter(pa.compute.equal(found["file"], file.name)).drop_columns("file")
        if not rows.combine_chunks().equals(pq.read_table(one / file.name).combine_chunks()):
            return False
    return True


class Timed:
    """An ensemble that adds up the seconds of its two halves."""

    def __init__(self, model: Ensemble) -> None:
        self.model, self.tokenizing, self.computing = model, 0.0, 0.0

    def encode_text(self, *words: Any) -> Any:
        """Tokenizer."""
        start = time.process_time()
        try:
            return self.model.encode_text(*words)
        finally:
            self.tokenizing += time.process_time() - start

    def predict_encoded(self, *words: Any) -> Any:
        """Members and vote."""
        start = time.process_time()
        try:
            return self.model.predict_encoded(*words)
        finally:
            self.computing += time.process_time() - start


def stages(model: Path, source: Path, place: Path, rows: int = 8192) -> dict[str, float]:
    """Microseconds of CPU a row, by stage, in one process on one core, of the first rows of the first file."""
    file = next(iter(sorted(source.iterdir())))
    some = pq.read_table(file).slice(0, rows)
    pq.write_table(some, place / "some.parquet")
    timed = Timed(Ensemble.from_pretrained(model, threads=1))
    start = time.process_time()
    for _ in open_rows(place / "some.parquet", SKIP.texts).rows:
        pass
    reading = time.process_time() - start
    start = time.process_time()
    records = [one for part in answer_rows(timed, open_rows(place / "some.parquet", SKIP.texts), SKIP) for one in part]
    whole = time.process_time() - start
    start = time.process_time()
    pq.write_table(pa.Table.from_pylist([cells(one) for one in records]), place / "answers.parquet")
    writing = time.process_time() - start
    seconds = {"reading": reading, "tokenizing": timed.tokenizing, "model": timed.computing, "writing": writing}
    seconds["between"] = whole - reading - timed.tokenizing - timed.computing
    return {name: round(1e6 * value / some.num_rows, 1) for name, value in seconds.items()}


def by_length(model: Path, sentences: int = 32) -> dict[str, dict[int, float]]:
    """Rows a second of CPU time, on one core, of token ids: the model, and BERT-base size, 1-1-1."""
    contestants = {
        model.name: Ensemble.from_pretrained(model, threads=1),
        "BERT-base 1-1-1": Ensemble(random_model("base", "1-1-1", 1), threads=1),
    }
    rates: dict[str, dict[int, float]] = {}
    for name, one in contestants.items():
        rates[name] = {}
        for tokens in (length for length in (16, 32, 64, 128) if length <= one.limits.positions):
            ids = np.random.default_rng(0).integers(1000, 2000, (sentences, tokens))
            one.logits(ids)
            begin = time.process_time()
            for _ in range(5):
                one.logits(ids)
            rates[name][tokens] = round(5 * sentences / (time.process_time() - begin), 1)
    return rates


if __name__ == "__main__":
    main()
