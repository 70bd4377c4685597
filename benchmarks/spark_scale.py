"""What Spark costs: the shipped model on a real local cluster, beside as many plain processes over the same rows.

python benchmarks/spark_scale.py TEXTS.tsv.gz [--rows 200000] [--workers 2] [--rounds 1] [--record] [--note "quiet"]

    plain     `bebert predict --threads 1` on each share of the rows, Parquet in and out, side by side
    spark     `classify` on local-cluster[workers,1,1024], Parquet in and out, in turn with them; every answer is
              compared with theirs, bit for bit. The start of the cluster does not count, that of Python workers does
    growth    one worker and one process, on a share of the rows
    parts     CPU seconds of reading, of Arrow to Python and back, of writing: jobs that do only that; of tokenizing and
              of the model: in this process
    memory    largest resident size of a plain process, of a Python worker that gives its batches back, and of one that
              classifies

Texts are the first column of a TSV with a header, repeated to so many rows. Fails below 0.85 of the throughput of plain
processes, above their memory plus 60 MB (beyond a worker that does nothing), and if an answer differs.
"""

import argparse
import gzip
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
from record import ROOT, OtherLoad, write_record

sys.path.insert(0, str(ROOT / "tests" / "helpers"))

MODEL = ROOT / "bebert_infer" / "demo_model"
MB = 1e6


def write_shares(texts: list[str], rows: int, shares: int, folder: Path) -> list[Path]:
    """Parquet files with equal shares of the rows: id, text."""
    folder.mkdir()
    files = []
    for share in range(shares):
        ids = range(share * rows // shares, (share + 1) * rows // shares)
        files.append(folder / f"{share}.parquet")
        parquet.write_table(pa.table({"id": ids, "text": [texts[index % len(texts)] for index in ids]}), files[-1])
    return files


def plain(files: list[Path], out: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and largest resident size of a process: `bebert predict` on each file, at the same time."""
    out.mkdir()
    command = [sys.executable, "-m", "bebert_infer", "predict", str(MODEL), "--threads", "1", "--on-error", "skip"]
    before, started = os.times(), time.perf_counter()
    running = [
        subprocess.Popen([*command, "--input", file, "--output", out / file.name], stderr=subprocess.DEVNULL)
        for file in files
    ]
    size = 0.0
    while any(process.poll() is None for process in running):
        size = max(size, *(largest_size(process.pid) for process in running))  # rusage would begin with ours
        time.sleep(0.1)
    seconds, after = time.perf_counter() - started, os.times()
    if any(process.returncode for process in running):
        raise SystemExit("bebert predict failed")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu, size


def largest_size(pid: int) -> float:
    """Largest resident size so far of a process, in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max([int(line.split()[1]) * 1024.0 for line in lines if line.startswith("VmHWM")], default=0.0)


def cpu_by_kind() -> dict[str, float]:
    """CPU seconds so far of the driver, of executors and of Python workers, whatever of them has ended included."""
    from spark import children, command, executors

    def spent(pid: int) -> float:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    jvms = set(executors())
    python = {pid for pid in children(os.getpid()) if "pyspark.daemon" in command(pid)}
    driver = set(children(os.getpid())) - jvms - python
    kinds = {"driver": driver, "executors": jvms, "python": python}
    return {kind: sum(map(spent, pids)) for kind, pids in kinds.items()}


def timed(job: Callable[[], Any]) -> tuple[float, dict[str, float]]:
    """Seconds of a job, and CPU seconds by kind of process."""
    before, started = cpu_by_kind(), time.perf_counter()
    job()
    seconds, after = time.perf_counter() - started, cpu_by_kind()
    return seconds, {kind: round(after[kind] - before[kind], 2) for kind in after}


def largest_worker() -> float:
    """Largest resident size so far, in bytes, of the Python workers."""
    from spark import python_workers

    return max(map(largest_size, python_workers()))


def on_spark(source: Path, out: Path, workers: int, cluster: Path, parts: bool) -> dict[str, Any]:
    """Classify a folder on a cluster of its own; parts : and the jobs that only read, hand over and write."""
    from spark import spark_cluster

    from bebert_infer.spark import classify

    def same(batches: Any) -> Any:
        yield from batches

    split = {"spark_sql_files_minPartitionNum": str(8 * workers)}
    with spark_cluster(cluster, f"local-cluster[{workers},1,1024]", "", **split) as spark:
        rows = spark.read.parquet(str(source))
        nothing = "noop"  # a sink of Spark that drops rows
        found: dict[str, Any] = {}
        rows.mapInArrow(same, rows.schema).write.format(nothing).mode("overwrite").save()  # JVMs are warm, too
        found["identity_bytes"] = largest_worker()
        if parts:
            jobs = {"read": rows, "read_and_transfer": rows.mapInArrow(same, rows.schema)}
            for name, frame in jobs.items():
                found[name] = timed(frame.write.format(nothing).mode("overwrite").save)
        answers = classify(rows, MODEL, check=False)
        found["seconds"], found["cpu"] = timed(lambda: answers.write.parquet(str(out)))
        found["worker_bytes"] = largest_worker()
        if parts:
            again = spark.read.parquet(str(out))
            found["read_answers"] = timed(again.write.format(nothing).mode("overwrite").save)
            found["read_and_write_answers"] = timed(lambda: again.write.parquet(str(cluster / "again")))
    return found


def check_same(plain_out: Path, spark_out: Path) -> int:
    """Rows whose answers differ, or that are not there once."""
    names = [
        name for name in parquet.read_schema(next(spark_out.glob("*.parquet"))).names if name not in ("id", "text")
    ]
    theirs = pa.concat_tables([parquet.read_table(file) for file in sorted(plain_out.glob("*.parquet"), key=_share)])
    ours = parquet.read_table(spark_out).sort_by("id")
    if ours["id"].to_pylist() != list(range(theirs.num_rows)):
        return abs(ours.num_rows - theirs.num_rows) or ours.num_rows
    differing = set()
    for name in names:
        one, other = ours[name].to_pylist(), theirs[name].to_pylist()
        if name == "error":  # which names the place in the file
            one, other = ([value is None for value in column] for column in (one, other))
        differing |= {row for row, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]}
    return len(differing)


def _share(file: Path) -> int:
    return int(file.stem)


def in_process(texts: list[str]) -> dict[str, float]:
    """Microseconds a row of the tokenizer and of the model, one thread, as `bebert predict` calls them."""
    from bebert_infer import Ensemble
    from bebert_infer.text.windows import LongTexts

    model = Ensemble.from_pretrained(MODEL, threads=1)
    some = texts[:4000]
    model.predict(some[:64], long="truncate")
    started = time.process_time()
    encoded = [model.encode_text(text, LongTexts("truncate"), "it") for text in some]
    tokenized = time.process_time()
    for start in range(0, len(some), 64):
        model.predict_encoded(encoded[start : start + 64], "mean", None)
    ended = time.process_time()
    tokens = statistics.mean(len(one.windows[0][0]) for one in encoded)
    return {
        "tokenize_us": 1e6 * (tokenized - started) / len(some),
        "model_us": 1e6 * (ended - tokenized) / len(some),
        "tokens": tokens,
    }


def compare(texts: list[str], rows: int, workers: int, folder: Path, parts: bool) -> dict[str, Any]:
    """Plain processes, then Spark, on the same rows."""
    folder.mkdir()
    files = write_shares(texts, rows, workers, folder / "in")
    seconds, cpu, size = plain(files, folder / "plain")
    found = on_spark(folder / "in", folder / "out", workers, folder / "cluster", parts)
    wrong = check_same(folder / "plain", folder / "out")
    found |= {"rows": rows, "workers": workers, "wrong": wrong, "ratio": seconds / found["seconds"]}
    found |= {"plain_seconds": seconds, "plain_cpu": cpu, "plain_bytes": size}
    print(
        f"{workers} workers, {rows:,} rows: spark {rows / found['seconds']:,.0f} rows/s, plain {rows / seconds:,.0f}, "
        f"ratio {found['ratio']:.3f} (at least 0.85), {wrong} answers differ; CPU seconds {found['cpu']}, plain "
        f"{cpu:.1f}; a worker {found['worker_bytes'] / MB:.0f} MB, one that does nothing "
        f"{found['identity_bytes'] / MB:.0f}, a plain process {size / MB:.0f}",
        flush=True,
    )
    return found


def main() -> int:
    """Run, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="append a line to benchmarks/results/clusters.jsonl")
    parser.add_argument("--note", default="", help="what else was running, for the record")
    arguments = parser.parse_args()
    opened = gzip.open if arguments.texts.suffix == ".gz" else open
    with opened(arguments.texts, "rt", encoding="utf-8") as stream:
        texts = [line.split("\t")[0].strip() for line in stream.read().split("\n")[1:]]
    texts = [text for text in texts if text]
    load = OtherLoad()
    with tempfile.TemporaryDirectory(prefix="bebert-spark-") as place:
        row = in_process(texts)
        print(", ".join(f"{name} {value:.1f}" for name, value in row.items()), flush=True)
        rounds = [
            compare(texts, arguments.rows, arguments.workers, Path(place) / str(number), number == 0)
            for number in range(arguments.rounds)
        ]
        one = compare(texts, arguments.rows // 4, 1, Path(place) / "one", False)
    for name in ("read", "read_and_transfer", "read_answers", "read_and_write_answers"):
        seconds, cpu = rounds[0][name]
        print(f"{name:24} {seconds:7.2f} s, CPU seconds {cpu}")
    print(f"{'classify':24} {rounds[0]['seconds']:7.2f} s, CPU seconds {rounds[0]['cpu']}")
    ratio = statistics.median(found["ratio"] for found in rounds)
    facts = {"engine": "spark", "texts": arguments.texts.name, "note": arguments.note, "other_cores": load.cores()}
    if arguments.record:
        import pyspark

        facts |= {"pyspark": pyspark.__version__, "pyarrow": pa.__version__}
        write_record("clusters", facts | {"ratio": ratio, "row": row, "rounds": rounds, "one": one})
    extra = max(found["worker_bytes"] - found["identity_bytes"] - found["plain_bytes"] for found in rounds)
    passed = ratio >= 0.85 and extra <= 60 * MB and not any(found["wrong"] for found in [*rounds, one])
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
