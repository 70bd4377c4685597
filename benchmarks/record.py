"""One JSON line a run: commit, CPU, versions, threads, settings, numbers."""

import json
import os
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


class OtherLoad:
    """How many cores other processes kept busy since this object was made; None where the kernel does not tell.

    Engines that split their work statically suffer from it far more than others, so figures count only if it is near 0.
    """

    def __init__(self) -> None:
        self._started = self._seconds()

    def cores(self) -> float | None:
        """Cores in use by others, on average."""
        now, before = self._seconds(), self._started
        if now is None or before is None:
            return None
        return round(max(0.0, now[0] - before[0]) / max(now[1] - before[1], 1e-3), 2)

    @staticmethod
    def _seconds() -> tuple[float, float] | None:
        """CPU seconds of others, and the time."""
        try:
            ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        except (OSError, ValueError):
            return None
        user, nice, system, _, _, irq, softirq, steal = ticks[:8]
        ours = os.times()
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy - ours.user - ours.system, time.monotonic()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write_record(name: str, numbers: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Append one line to <folder>/<name>.jsonl and return that file. An uncommitted change shows as `dirty`."""
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
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl"
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")
    return file
