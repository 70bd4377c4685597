"""Kernels are cached where only this user can write, and run without JIT and in many threads with equal results."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from kernel_cases import calls

from bebert_kernels import compiled, jit

TESTS = Path(__file__).parent


def directory_for(monkeypatch: pytest.MonkeyPatch, **environment: str | None) -> Path | None:
    """The cache directory that a fresh process with these variables would choose."""
    for name in ("BEBERT_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    return jit.cache_directory.__wrapped__()


def run(code_or_file: str | Path, **environment: str) -> subprocess.CompletedProcess:
    command = ["-c", code_or_file] if isinstance(code_or_file, str) else [str(code_or_file)]
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_cache_is_a_new_private_folder_below_the_chosen_one(monkeypatch, tmp_path):
    for environment, base in [
        ({"BEBERT_CACHE_DIR": str(tmp_path / "own"), "XDG_CACHE_HOME": str(tmp_path / "xdg")}, tmp_path / "own"),
        ({"XDG_CACHE_HOME": str(tmp_path / "xdg")}, tmp_path / "xdg" / "bebert-infer"),
        ({"HOME": str(tmp_path)}, tmp_path / ".cache" / "bebert-infer"),
    ]:
        directory = directory_for(monkeypatch, **environment)
        assert directory is not None
        assert directory.parent == base
        for folder in (base, directory):
            assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_enter_is_not_used(monkeypatch, tmp_path):
    for mode in (0o755, 0o770, 0o777):
        tmp_path.chmod(mode)
        assert directory_for(monkeypatch, BEBERT_CACHE_DIR=str(tmp_path)) is None
    tmp_path.chmod(0o700)
    directory = directory_for(monkeypatch, BEBERT_CACHE_DIR=str(tmp_path))
    assert directory is not None
    directory.chmod(0o777)
    assert directory_for(monkeypatch, BEBERT_CACHE_DIR=str(tmp_path)) is None


def test_a_folder_of_somebody_else_is_not_used(monkeypatch, tmp_path):
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert directory_for(monkeypatch, BEBERT_CACHE_DIR=str(tmp_path / "cache")) is None


def test_no_place_to_write_means_no_cache(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    assert directory_for(monkeypatch, BEBERT_CACHE_DIR=str(tmp_path / "file" / "cache")) is None


def test_no_home_means_no_cache(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("no home directory")

    monkeypatch.setattr(Path, "home", no_home)
    assert directory_for(monkeypatch) is None


def test_a_change_in_any_file_changes_the_key(tmp_path):
    (tmp_path / "kernel.py").write_text("import helper")
    (tmp_path / "helper.py").write_text("a = 1")
    before = jit._source_key(tmp_path)
    assert before == jit._source_key(tmp_path)
    (tmp_path / "helper.py").write_text("a = 2")
    assert before != jit._source_key(tmp_path)


RELU = """
import numba, numpy as np
before = numba.config.CACHE_DIR
from bebert_kernels import compiled, elementwise
assert numba.config.CACHE_DIR == before
print(compiled.relu(np.array([-1, 2], np.float32)).tolist())
print(sum(elementwise.relu.stats.cache_hits.values()), elementwise.relu.stats.cache_path)
"""


def test_a_second_process_reads_the_cache_and_a_damaged_one_only_costs_the_compilation(tmp_path):
    environment = {"BEBERT_CACHE_DIR": str(tmp_path / "cache"), "NUMBA_DISABLE_JIT": "0"}
    for hits in ("0", "1", "0"):
        result = run(RELU, **environment)
        assert result.returncode == 0, result.stderr
        answer, cache = result.stdout.splitlines()
        assert answer == "[0.0, 2.0]"
        assert cache.split()[0] == hits
        assert Path(cache.split()[1]).is_relative_to(tmp_path / "cache")
        if hits == "1":
            for path in (tmp_path / "cache").rglob("*.nb?"):
                path.write_bytes(b"damaged")


def test_without_a_cache_kernels_run_and_leave_no_files_beside_their_source(tmp_path):
    (tmp_path / "file").touch()
    package = Path(compiled.__file__).parent
    result = run(RELU, BEBERT_CACHE_DIR=str(tmp_path / "file" / "cache"), NUMBA_DISABLE_JIT="0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["[0.0, 2.0]", "0 None"]
    assert not list(package.rglob("*.nb?"))


def test_every_function_runs_with_the_jit_off():
    result = run(TESTS / "kernel_cases.py", NUMBA_DISABLE_JIT="1")
    assert result.returncode == 0, result.stderr


def test_every_function_gives_the_same_on_the_oldest_cpu_of_this_architecture():
    result = run(TESTS / "kernel_cases.py", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="", NUMBA_DISABLE_JIT="0")
    assert result.returncode == 0, result.stderr


def test_importing_the_package_loads_no_compiler():
    result = run("import sys, bebert_kernels; assert not {'numba', 'numpy'} & set(sys.modules)")
    assert result.returncode == 0, result.stderr
    result = run("import sys; from bebert_kernels import packing, reference; assert 'numba' not in sys.modules")
    assert result.returncode == 0, result.stderr


def test_many_threads_get_the_same_bits():
    cases = list(calls(seed=3, rows=33, outputs=21, depth=200, heads=3, size=32, keys=70))

    def everything(_: int) -> list[list[np.ndarray]]:
        results = (getattr(compiled, name)(*arguments) for name, arguments in cases)
        return [list(r) if isinstance(r, tuple) else [r] for r in results]

    expected = everything(0)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(everything, range(40)):
            for case, have, want in zip(cases, found, expected, strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(have, want, strict=True)), case[0]


@numba.njit
def _popcounts(words, out):
    for i in range(words.size):
        out[i] = jit.popcount(words[i])


def test_popcount_is_the_same_compiled_and_plain():
    words = np.array([0, 1, 2**63, 2**64 - 1, 0x5555555555555555], np.uint64)
    out = np.zeros(5, np.int64)
    _popcounts(words, out)
    assert out.tolist() == [0, 1, 1, 64, 32] == [jit.popcount(word) for word in words]
