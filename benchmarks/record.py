"""One JSON line a run: commit, CPU, versions, threads, settings, numbers."""

import json
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("bebert-infer", "numpy", "numba", "llvmlite", "torch", "transformers"),
    *("onnx", "onnxruntime", "openvino", "nncf", "numkong"),
)


def cpu_name() -> str:
    """Name, family, model and stepping of the CPU, as the kernel tells them; hypervisors hide the name."""
    fields = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    numbers = ", ".join(f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields)
    return f"{fields.get('model name', platform.machine())} ({numbers})"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write_record(name: str, numbers: dict[str, Any]) -> Path:
    """Append one line to results/<name>.jsonl and return that file. An uncommitted change shows as `dirty`."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    changed = _git("status", "--porcelain", "--", "bebert_infer", "kernels", "export", "benchmarks/*.py")
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(changed),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "versions": versions,
    } | numbers
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.jsonl"
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")
    return file
