"""What a record says about the machine and the code: CPU, cores, kernels, versions, commit, how busy others were."""

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bebert_infer.backend import chosen_backend
from bebert_infer.measure.machine import cpu_fields, instruction_sets, kernel_choices, machine_code
from bebert_infer.threads import granted_cores

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("bebert-infer", "numpy", "numba", "llvmlite", "torch", "transformers"),
    *("ai-edge-litert", "onnx", "onnxruntime", "openvino", "nncf", "numkong"),
)


def machine() -> dict[str, Any]:
    """CPU, cores, memory, the instruction set and products that the kernels use here, versions."""
    isa, products = _kernels()
    return {
        "cpu": cpu_name(),
        "cores": granted_cores()[0],
        "memory_bytes": _memory(),
        "isa": isa,
        "products": products,
        "python": platform.python_version(),
        "versions": versions(),
    }


def _kernels() -> tuple[str, dict[str, str]]:
    """Level of the kernels and where their code is from, and the product chosen for each shape of layer."""
    if chosen_backend() == "reference":
        return "none: the NumPy reference", {}
    sets = instruction_sets()
    rows = kernel_choices() or []
    code = machine_code()
    made = "compiled ahead" if code["from"] == "library" else f"compiled by {code['from']} for {code['code_for']}"
    return f"{sets['level']}, {made}", dict(_chosen(row) for row in rows)


def _chosen(row: dict[str, Any]) -> tuple[str, str]:
    """Shape and codes of a layer, and what is chosen for it."""
    codes, few = f"{row['bits']} bits" if row["bits"] else "signs", row["few_rows"]
    return f"{row['shape']}, {codes}", f"popcount to {few} rows, {row['chosen']}" if few else row["chosen"]


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def versions() -> dict[str, str | None]:
    """Version of each package that figures may depend on, None where it is not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def cpu_name() -> str:
    """Name, family, model and stepping of the CPU, as the kernel tells them; hypervisors hide the name."""
    fields = cpu_fields()
    if not fields:
        return platform.processor() or platform.machine()
    numbers = ", ".join(f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields)
    name = fields.get("model name", platform.machine())
    return f"{name} ({numbers})" if numbers else name


def commit() -> str | None:
    """Commit of the checkout that this code runs from, with "-dirty" for uncommitted changes; None elsewhere."""
    if not (ROOT / ".git").exists():  # an installed package may lie in somebody else's repository
        return None
    head = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", "bebert_infer", "kernels", "export", "benchmarks/*.py")
    return f"{head}-dirty" if head and changed else head or None


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return ""
    return done.stdout.strip()


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
        own = ours.user + ours.system + ours.children_user + ours.children_system
        return busy - own, time.monotonic()
