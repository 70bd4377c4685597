"""Every kernel has a case in the kernel benchmarks, a case computes what NumPy says, and a run prints and records."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

if numba.config.DISABLE_JIT:
    pytest.skip("compiled kernels are measured", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # scripts find their neighbours so

from kernel_bench.case import SIZES, Case, Work, check
from kernel_bench.cases import all_cases
from kernel_bench.stage_cases import kernel_modules, stages

from bebert_kernels.abi.stage import Stage

CASES = all_cases(SIZES["small"])
OURS = [case for case in CASES if not case.needs]


@cache
def work(case: Case) -> Work:
    return case.prepare()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_computes_what_numpy_says(case):
    if case.needs and find_spec(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
    check(case, work(case))
    work(case).call()


def test_a_wrong_result_is_not_timed():
    case = OURS[0]
    wrong = replace(work(case), result=lambda: work(case).call() + 1)
    with pytest.raises(AssertionError, match="popcount, signs from planes 1×24×136 computes something else"):
        check(case, wrong)


def test_ids_are_unique_and_readable():
    ids = [case.id for case in all_cases(SIZES["bert"])]
    assert len(set(ids)) == len(ids)
    assert all(name.isascii() and " " not in name for name in ids)
    assert "popcount-signs-from-planes-128x3072x768" in ids


def test_every_operation_of_native_programs_is_run_by_a_case():
    entered = {function for case in OURS for function in work(case).functions}
    missing = [stage.path for stage in stages().values() if stage not in entered]
    assert not missing, f"{missing} have no case; add one to benchmarks/kernel_bench/stage_cases.py"


def python(function: Any) -> Any:
    """The Python function of a kernel or an operation."""
    if isinstance(function, Dispatcher):
        return function.py_func
    if isinstance(function, Stage):
        importlib.import_module(function.module)
        return function.function
    return function


def reached(functions: Iterable[Any]) -> set[Any]:
    """Python functions that these call, directly or through others, as far as global names tell."""
    seen: set[Any] = set()
    todo = list(functions)
    while todo:
        function = python(todo.pop())
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        names = function.__code__.co_names
        values = [function.__globals__[name] for name in names if name in function.__globals__]
        modules = [
            value for value in values if isinstance(value, ModuleType) and value.__name__.startswith("bebert_kernels.")
        ]
        values += [getattr(module, name) for module in modules for name in names if hasattr(module, name)]
        todo += [value for value in values if callable(value)]
    return seen


def public_kernels() -> dict[str, Any]:
    """Every compiled kernel whose name does not begin with an underscore."""
    found = {}
    modules = list(kernel_modules())
    assert len(modules) > 45
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__ and name[0] != "_":
                found[f"{module.__name__.rsplit('.', 1)[-1]}.{name}"] = value.py_func
    return found


def test_every_kernel_is_run_by_some_case():
    kernels = public_kernels()
    assert {"stages.popcount_panel", "softmax.softmax_attention", "index.index_row"} <= set(kernels)
    seen = reached(function for case in OURS for function in work(case).functions)
    missing = [name for name, function in kernels.items() if function not in seen]
    assert not missing, f"no case of benchmarks/kernel_bench/cases.py runs {missing}"


RUN = """
import importlib.util, sys
real, hidden = importlib.util.find_spec, sys.argv[1].split(",")
importlib.util.find_spec = lambda name, *rest: None if name in hidden else real(name, *rest)
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


def test_a_run_prints_a_table_names_missing_peers_and_records_when_asked(tmp_path):
    command = [
        sys.executable,
        "-c",
        RUN,
        "numkong,torch",
        str(ROOT / "benchmarks" / "kernel_bench" / "test_kernels.py"),
    ]
    command += [f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"), "-q", "-n0", "-p", "no:cacheprovider"]
    command += ["--benchmark-enable", "--benchmark-quiet", "--benchmark-max-time=0.001", "--benchmark-min-rounds=2"]
    command += [
        "--kernel-sizes=small",
        "-k",
        "NumKong or (popcount and planes) or quantize_row",
        f"--record={tmp_path}",
    ]
    # Not as a worker of this run, where pytest-benchmark measures nothing.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    head = next(line for line in lines if line.startswith("kernel "))
    assert head.endswith("  of the bound  against NumKong u1")
    assert any(line.startswith("popcount, signs from planes ") and "GMAC/s" in line for line in lines)
    assert any(line.startswith("quantize_row, sign ") and "GB/s" in line for line in lines)
    assert "numkong is not installed: pip install numkong" in lines
    (line,) = (tmp_path / "kernels.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert {"date", "commit", "cpu", "versions", "settings", "instruction_set", "products"} <= set(record)
    product = next(row for row in record["kernels"] if row["kernel"] == "popcount, signs from planes")
    assert {"shape", "median_us", "min_us", "gmacs", "of_bound"} <= set(product)
    assert np.isclose(product["gmacs"], 24 * 136 / product["median_us"] / 1e3, atol=0.1)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_records_only_when_asked():
    for asked, there in ((["RECORD=1"], True), ([], False)):
        command = ["make", "--dry-run", "--no-print-directory", "bench-kernels", *asked]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "benchmarks/kernel_bench/test_kernels.py" in done.stdout
        assert ("--record" in done.stdout) == there
