"""`bebert doctor` tells what the machine is and what kernels run on it, and notices a kernel that is wrong."""

import io
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bebert_infer.cli import doctor
from bebert_infer.errors import InputError
from bebert_infer.measure import machine
from bebert_kernels.cpu import isa
from bebert_kernels.jit import cache as kernel_cache
from bebert_kernels.jit import kernel as jit
from bebert_kernels.tuning.single_layer import OneLayer


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from bebert_infer.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "doctor", *arguments],
        env=os.environ | {"COLUMNS": "200", "NUMBA_DISABLE_JIT": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_json_tells_everything_and_stdout_holds_nothing_else():
    result = run("--json", "--threads", "3", BEBERT_ISA="generic", BEBERT_BACKEND="")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["cpu"]["machine"] == platform.machine() and facts["cpu"]["name"]
    sets = facts["instruction_sets"]
    assert sets["level"] == "generic" and {"generic", "native"} <= set(sets["accepted"])
    assert set(sets["used"]) <= set(sets["found"])
    assert facts["threads"] == {"budget": 3, "from": "argument"}
    cache = facts["cache"]
    assert Path(cache["folder"]).parent == Path(os.environ["BEBERT_CACHE_DIR"]).resolve()
    assert cache["state"] == "private, writable" and cache["kernels"] > 0 and cache["bytes"] > 0
    assert facts["self_test"]["passed"] and len(facts["self_test"]["cases"]) == 12
    assert facts["kernels"] and {"shape", "bits", "few_rows", "chosen"} < set(facts["kernels"][0])


def test_the_table_says_the_same_to_people():
    result = run(BEBERT_THREADS="2")
    assert result.returncode == 0, result.stderr
    for text in ("CPU", "level", "native, code for", "2, from BEBERT_THREADS", "private, writable", "bit for bit"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"BEBERT_ISA": "turbo"}, 'BEBERT_ISA is "turbo", which is unknown; accepted on this CPU: '),
        ({"BEBERT_THREADS": "0"}, 'BEBERT_THREADS is "0"'),
        ({"BEBERT_PRODUCT": "abacus"}, 'BEBERT_PRODUCT is "abacus"'),
    ],
)
def test_bad_settings_are_one_sentence_and_exit_code_2(environment, message):
    result = run(**environment)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr


def test_a_wrong_kernel_is_named(monkeypatch):
    right = OneLayer.__call__
    monkeypatch.setattr(OneLayer, "__call__", lambda layer, *given: right(layer, *given) + (layer._bits == 0))
    test = machine.self_test()
    assert not test["passed"]
    assert not test["cases"]["popcount product of signs"] and test["cases"]["popcount product of 4-bit codes"]
    facts = facts_with(self_test=test)
    assert "WRONG: popcount product of signs, " in printed(facts)


def test_a_wrong_kernel_is_exit_code_1(monkeypatch, capsys):
    facts = facts_with(self_test={"passed": False, "seconds": 0.1, "cases": {"product of signs": False}})
    monkeypatch.setattr(doctor, "examine", lambda threads: facts)
    with pytest.raises(doctor.typer.Exit) as stop:
        doctor.doctor(as_json=True)
    assert stop.value.exit_code == 1
    assert json.loads(capsys.readouterr().out)["self_test"]["passed"] is False


def test_a_cache_that_is_not_used_says_why(monkeypatch, tmp_path):
    tmp_path.chmod(0o755)
    monkeypatch.setenv("BEBERT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernel_cache, "cache_directory", lambda: kernel_cache.find_directory()[0])
    state = machine.cache_state()
    assert state["folder"] is None and f"{tmp_path} is open to others (mode 755, not 700)" in state["state"]
    tmp_path.chmod(0o700)
    state = machine.cache_state()
    assert Path(state["folder"]).parent == tmp_path.resolve() and state["kernels"] == state["other_versions"] == 0


def test_measured_products_are_a_table_and_none_is_no_failure(monkeypatch):
    rows = [{"shape": "768 × 3072", "bits": 4, "few_rows": 3, "chosen": "lookup", "lookup": 0.21875}]
    text = printed(facts_with(kernels=rows))
    assert "measured rates" in text and "768 × 3072" in text and "0.219" in text
    assert "not measured" in printed(facts_with(kernels=None))
    monkeypatch.setattr(jit, "cpu_features", frozenset)
    assert machine.kernel_choices() is None


def test_an_error_of_numbas_settings_is_an_input_error(monkeypatch):
    def refuse(name: str) -> None:
        raise isa.IsaError("no")

    monkeypatch.setattr(machine.importlib, "import_module", refuse)
    with pytest.raises(InputError, match="no"):
        machine.examine()


def facts_with(**changed: object) -> dict:
    """Facts in the shape of `examine`, without running anything."""
    return {
        "versions": {"python": "3"},
        "cpu": {"name": "a CPU [fast]", "machine": "x86_64", "logical_cpus": 2},
        "instruction_sets": {"found": ["avx"], "used": [], "code_for": "zen", "level": "avx2", "accepted": ["native"]},
        "threads": {"budget": 1, "from": "argument"},
        "cache": {"folder": None, "state": "not used", "kernels": 0, "bytes": 0, "other_versions": 0},
        "kernels": None,
        "self_test": {"passed": True, "seconds": 0.1, "cases": {"product of signs": True}},
    } | changed


def printed(facts: dict) -> str:
    text = io.StringIO()
    doctor.print_facts(Console(width=200, file=text), facts)
    return text.getvalue()
