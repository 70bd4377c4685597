"""What this machine is, what the kernels make of it, and whether they compute what they should."""

import importlib
import os
import platform
import re
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bebert_infer.errors import InputError
from bebert_infer.threads import thread_budget

KEY = re.compile("[0-9a-f]{16}")  # how folders of compiled kernels are named
PACKAGES = ("bebert-infer", "numpy", "tokenizers", "numba", "llvmlite")


def examine(threads: int | None = None) -> dict[str, Any]:
    """Everything that the command shows, as plain data.

    Raises InputError for a BEBERT_ISA, BEBERT_KERNELS, BEBERT_PRODUCT, BEBERT_THREADS or `threads` that cannot be.
    """
    budget, source = thread_budget(threads)
    try:
        machine_code()
    except ValueError as error:  # of BEBERT_ISA or BEBERT_KERNELS, or no code at all
        raise InputError(str(error)) from None
    kernels, test = kernel_choices(), self_test()
    code = machine_code()  # anew: where Numba compiles, the cache now has what these two needed
    return {
        "versions": {"python": platform.python_version()} | versions(),
        "cpu": {"name": cpu_name(), "machine": platform.machine(), "logical_cpus": os.cpu_count()},
        "instruction_sets": instruction_sets(),
        "code": code,
        "threads": {"budget": budget, "from": source},
        "kernels": kernels,
        "costs": costs_from(),
        "self_test": test,
    }


def versions() -> dict[str, str]:
    """Versions of the packages that answers depend on; "not installed" for those that are not."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def cpu_fields() -> dict[str, str]:
    """What Linux tells of the first CPU: "model name", "cpu family", …; empty elsewhere."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    return fields


def cpu_name() -> str:
    """Name of the CPU as Linux tells it, else what Python knows."""
    return cpu_fields().get("model name") or platform.processor() or platform.machine()


def instruction_sets() -> dict[str, Any]:
    """What the CPU has, what kernels are compiled for, and the levels that BEBERT_ISA accepts here."""
    from bebert_kernels.cpu import isa
    from bebert_kernels.machine_code import accepted_levels, code_features, library

    host, found = isa.host_features(), library()
    return {
        "found": isa.vector_features(host),
        "used": isa.vector_features(dict.fromkeys(code_features(), True)),
        "level": isa.chosen_level() if found is None else found.level,
        "accepted": accepted_levels(),
    }


def machine_code() -> dict[str, Any]:
    """Where the code of the kernels comes from, and why: a library of the package, or Numba and its cache."""
    from bebert_kernels.machine_code import library, may_compile

    found = library()
    if found is not None:
        return {
            "from": "library",
            "file": str(found.file),
            "level": found.level,
            "why": found.why,
            "sha256": found.sha256,
            "sources": found.sources,
        }
    if not may_compile():
        return {"from": "plain Python", "why": "NUMBA_DISABLE_JIT"}
    target = importlib.import_module("bebert_kernels.jit.target").target()[0]
    return {"from": "Numba", "why": _why_numba(), "code_for": target} | cache_state()


def _why_numba() -> str:
    from bebert_kernels.ahead.library import LibraryError, open_library

    if os.environ.get("BEBERT_KERNELS"):
        return "BEBERT_KERNELS"
    try:
        open_library()
    except LibraryError as error:
        return str(error)
    return ""


def cache_state() -> dict[str, Any]:
    """Folder of the kernels that Numba compiled for this version, whether it can be used, and what lies in it."""
    from bebert_kernels.jit.cache import cache_directory, find_directory

    directory = cache_directory()
    if directory is None:
        state = f"not used: {find_directory()[1]}"
        return {"folder": None, "state": state, "kernels": 0, "bytes": 0, "other_versions": 0}
    files = [file.stat().st_size for file in directory.glob("*.nb[ci]")]
    keys = [folder for folder in directory.parent.iterdir() if KEY.fullmatch(folder.name) and folder != directory]
    return {
        "folder": str(directory),
        "state": "private, writable" if os.access(directory, os.W_OK) else "private, read only",
        "kernels": sum(1 for _ in directory.glob("*.nbc")),
        "bytes": sum(files),
        "other_versions": len(keys),
    }


def costs_from() -> str:
    """Where the costs come from by which products are chosen."""
    from bebert_kernels.machine_code import may_compile

    return importlib.import_module("bebert_kernels.tuning.costs").entry()[1] if may_compile() else ""


def tuned() -> str:
    """Measure what the products cost here, keep it for later processes, and say where. Raises InputError."""
    from bebert_kernels.machine_code import may_compile

    if not may_compile():
        raise InputError("kernels run as plain Python (NUMBA_DISABLE_JIT), whose speed says nothing; unset it to tune")
    autotune = importlib.import_module("bebert_kernels.tuning.autotune")
    costs = importlib.import_module("bebert_kernels.tuning.costs")
    try:
        file = costs.keep(autotune.measure())
    except ValueError as error:
        raise InputError(str(error)) from None
    autotune.forget()
    return f"measured, and kept in {file}" if file else "measured, but there is no private folder to keep it in"


def kernel_choices() -> list[dict[str, Any]] | None:
    """Layer shapes with the product chosen for each and its rates in TMAC/s, or None without machine code.

    Raises InputError for a BEBERT_PRODUCT that cannot be.
    """
    from bebert_kernels.machine_code import may_compile

    if not may_compile():  # the rates of plain Python say nothing
        return None
    choice = importlib.import_module("bebert_kernels.tuning.autotune")
    try:
        return [dict(row) for row in choice.choices()]
    except ValueError as error:
        raise InputError(str(error)) from None


def self_test() -> dict[str, Any]:
    """Compare products of odd sizes and small random ensembles of both schemes with the truth, bit for bit."""
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.measure.sample_models import random_model
    from bebert_kernels.tuning.single_layer import check_products

    started = time.perf_counter()
    cases = check_products()
    ids = np.random.default_rng(1).integers(0, 50, (3, 21))
    mask = np.arange(21) < np.array([[21], [1], [8]])
    for scheme in ("1-1-1", "1-1-4"):
        model = random_model("tiny", scheme, 2, vocab_size=50)  # type: ignore[arg-type]
        found, expected = (
            Ensemble(model, threads=threads, backend=backend).member_logits(ids, mask)
            for threads, backend in ((2, "native"), (1, "reference"))
        )
        cases[f"two members of {scheme}"] = bool(np.array_equal(found, expected))
    return {"passed": all(cases.values()), "seconds": round(time.perf_counter() - started, 2), "cases": cases}
