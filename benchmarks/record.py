"""One JSON line a run: commit, CPU, versions, threads, settings, numbers."""

import json
import platform
import time
from pathlib import Path
from typing import Any

from bebert_infer.bench.machine import ROOT, OtherLoad, commit, cpu_name, versions

RESULTS = Path(__file__).parent / "results"
__all__ = ["RESULTS", "ROOT", "OtherLoad", "write_record"]


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
