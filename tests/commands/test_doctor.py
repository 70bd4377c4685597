"""`bebert doctor` tells what the machine is and what kernels run on it, and notices a kernel that is wrong."""

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import click
import pytest
from rich.console import Console

from bebert_infer.cli import doctor
from bebert_infer.errors import InputError
from bebert_infer.measure import machine
from bebert_kernels.cpu import isa
from bebert_kernels.jit import cache as kernel_cache
from bebert_kernels.machine_code import library
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
    result = run("--json", "--threads", "3", BEBERT_ISA="generic", BEBERT_BACKEND="", BEBERT_KERNELS="jit")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["cpu"]["machine"] == platform.machine() and facts["cpu"]["name"]
    sets = facts["instruction_sets"]
    assert (
        sets["level"] == "generic"
        and facts["costs"].startswith("known for this")
        and {"generic", "native"} <= set(sets["accepted"])
    )
    assert set(sets["used"]) <= set(sets["found"])
    assert facts["threads"] == {"budget": 3, "from": "argument"}
    code = facts["code"]
    assert code["from"] == "Numba" and code["why"] == "BEBERT_KERNELS" and code["code_for"]
    assert Path(code["folder"]).parent == Path(os.environ["BEBERT_CACHE_DIR"]).resolve()
    assert code["state"] == "private, writable" and code["kernels"] > 0 and code["bytes"] > 0
    assert facts["self_test"]["passed"] and len(facts["self_test"]["cases"]) == 12
    assert facts["kernels"] and {"shape", "bits", "few_rows", "chosen"} < set(facts["kernels"][0])


def test_the_table_says_the_same_to_people():
    result = run(BEBERT_THREADS="2")
    assert result.returncode == 0, result.stderr
    for text in ("CPU", "level", "2, from BEBERT_THREADS", "bit for bit", "products by shape, chosen by their rates"):
        assert text in result.stdout


def test_a_library_is_named_with_its_level_its_hash_and_why():
    found = library()
    if found is None:
        pytest.skip("Numba compiles the kernels here: there is no library of these sources")
    facts = json.loads(run("--json", BEBERT_BACKEND="").stdout)
    assert facts["code"] == {
        "from": "library",
        "file": str(found.file),
        "level": found.level,
        "why": found.why,
        "sha256": hashlib.sha256(found.file.read_bytes()).hexdigest(),
        "sources": found.sources,
    }
    text = printed(facts_with(code=facts["code"]))
    assert f"compiled ahead for {found.level}: {found.why}" in text and found.sha256[:16] in text


def test_tuning_measures_here_and_is_kept(tmp_path):
    tmp_path.chmod(0o700)
    result = run("--tune", BEBERT_BACKEND="", BEBERT_CACHE_DIR=str(tmp_path))
    assert result.returncode == 0 and f"measured, and kept in {tmp_path.resolve()}" in result.stdout, result.stderr
    facts = json.loads(run("--json", BEBERT_BACKEND="", BEBERT_CACHE_DIR=str(tmp_path)).stdout)
    assert facts["costs"] == "measured here (`bebert doctor --tune`)"
    (file,) = (tmp_path / "tuning").iterdir()
    file.write_text(file.read_text()[:100])
    assert (
        "known for this" in json.loads(run("--json", BEBERT_BACKEND="", BEBERT_CACHE_DIR=str(tmp_path)).stdout)["costs"]
    )


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
    monkeypatch.setattr(machine, "examine", lambda threads: facts)
    with pytest.raises(click.exceptions.Exit) as stop:
        doctor.doctor.callback(threads=None, tune=False, as_json=True)
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
    assert "chosen by their rates" in text and "768 × 3072" in text and "0.219" in text
    assert "none is chosen" in printed(facts_with(kernels=None))
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert machine.kernel_choices() is None


def test_an_error_of_numbas_settings_is_an_input_error(monkeypatch):
    def refuse() -> None:
        raise isa.IsaError("no")

    monkeypatch.setattr(machine, "machine_code", refuse)
    with pytest.raises(InputError, match="no"):
        machine.examine()


def facts_with(**changed: object) -> dict:
    """Facts in the shape of `examine`, without running anything."""
    return {
        "versions": {"python": "3"},
        "cpu": {"name": "a CPU [fast]", "machine": "x86_64", "logical_cpus": 2},
        "instruction_sets": {"found": ["avx"], "used": [], "level": "avx2", "accepted": ["native"]},
        "threads": {"budget": 1, "from": "argument"},
        "code": {"from": "plain Python", "why": "NUMBA_DISABLE_JIT"},
        "costs": "known",
        "kernels": None,
        "self_test": {"passed": True, "seconds": 0.1, "cases": {"product of signs": True}},
    } | changed


def printed(facts: dict) -> str:
    text = io.StringIO()
    doctor.print_facts(Console(width=200, file=text), facts)
    return text.getvalue()
