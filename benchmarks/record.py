"""One JSON line a run: commit, CPU, versions, threads, settings, numbers."""

import json
import platform
import time
from pathlib import Path
from typing import Any

from bebert_infer.bench.machine import ROOT, OtherLoad, commit, cpu_name, versions
from bebert_infer.bench.renamed import kernel_today, product_today

RESULTS = Path(__file__).parent / "results"
__all__ = ["RESULTS", "ROOT", "OtherLoad", "read_records", "write_record"]


def read_records(name: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Return all records of <folder>/<name>.jsonl, oldest first, with today's names of kernels, stages and products."""
    records = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]
    for record in records:
        for row in record.get("kernels", ()) if name == "kernels" else ():
            row["kernel"] = kernel_today(row["kernel"])
        if "share" in record:
            record["share"] = {kernel_today(stage): share for stage, share in record["share"].items()}
        if "products" in record:
            record["products"] = {layer: product_today(product) for layer, product in record["products"].items()}
    return records


def write_record(name: str, numbers: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Append one line to <folder>/<name>.jsonl and return that file. An uncommitted change shows as `dirty`."""
    head = commit() or ""
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": head.removesuffix("-dirty"),
        "dirty": head.endswith("-dirty"),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "versions": versions(),
    } | numbers
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl"
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")
    return file
