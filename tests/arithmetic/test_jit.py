"""Kernels are cached where only this user can write, and run without JIT and in many threads with equal results."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engine_kernels as engine
import numba
import numpy as np
import pytest
from kernel_cases import calls

import bebert_kernels
from bebert_kernels.jit import cache as kernel_cache
from bebert_kernels.jit import kernel as jit
from bebert_kernels.jit import target

HELPERS = Path(__file__).parents[1] / "helpers"


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


def test_why_there_is_no_cache_is_said_in_words(monkeypatch, tmp_path):
    tmp_path.chmod(0o750)
    monkeypatch.setenv("BEBERT_CACHE_DIR", str(tmp_path))
    assert kernel_cache.find_directory() == (
        None,
        f"{tmp_path.resolve()} is open to others (mode 750, not 700); chmod go= it",
    )


def test_a_change_in_any_file_or_in_the_target_changes_the_key(monkeypatch, tmp_path):
    (tmp_path / "kernel.py").write_text("import helper")
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "helper.py").write_text("a = 1")
    before = kernel_cache.source_key(tmp_path)
    assert before == kernel_cache.source_key(tmp_path)
    (tmp_path / "room" / "helper.py").write_text("a = 2")
    after = kernel_cache.source_key(tmp_path)
    assert before != after
    (tmp_path / "room").rename(tmp_path / "hall")
    assert after != kernel_cache.source_key(tmp_path)
    (tmp_path / "hall").rename(tmp_path / "room")
    monkeypatch.setattr(target, "target", lambda: ("znver4", "+avx512vbmi"))
    assert kernel_cache.source_key(tmp_path) != after


def test_folders_of_other_keys_go_after_a_month_and_nothing_else_does(tmp_path):
    kept, old, young, foreign, link, shared = (character * 16 for character in "012345")
    month = time.time() - 31 * 24 * 60 * 60
    for name in (kept, old, young, foreign, shared, "not-a-key"):
        (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / name / "relu-1.py311.nbi").touch()
        (tmp_path / name / "relu-1.py311.1.nbc").touch()
        (tmp_path / name / "rates-4.json").touch()
    (tmp_path / foreign / "diary.txt").touch()
    (tmp_path / shared).chmod(0o755)
    (tmp_path / link).symlink_to(tmp_path / kept)
    (tmp_path / "elsewhere").mkdir()
    for path in tmp_path.iterdir():
        if path.name != young:
            os.utime(path, (month, month), follow_symlinks=False)
    kernel_cache.remove_unused(tmp_path, tmp_path / kept)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {kept, young, foreign, link, shared, "not-a-key", "elsewhere"}
    assert len(list((tmp_path / kept).iterdir())) == len(list((tmp_path / shared).iterdir())) == 3
    assert (tmp_path / foreign / "diary.txt").exists()


def test_a_folder_in_use_is_marked_so(monkeypatch, tmp_path):
    tmp_path.chmod(0o700)
    directory = directory_for(monkeypatch, BEBERT_CACHE_DIR=str(tmp_path))
    assert directory is not None
    os.utime(directory, (0, 0))
    assert directory_for(monkeypatch, BEBERT_CACHE_DIR=str(tmp_path)) == directory
    assert time.time() - directory.stat().st_mtime < 60


JOIN = """
import numba, numpy as np
before = numba.config.CACHE_DIR
from bebert_kernels.rows.ranges import join_ranges
assert numba.config.CACHE_DIR == before
x = np.array([-2, 4], np.float32)
join_ranges(np.array([[-1, 4], [-2, 3]], np.float32), x)
print(x.tolist())
print(sum(join_ranges.stats.cache_hits.values()), join_ranges.stats.cache_path)
"""


def test_a_second_process_reads_the_cache_and_a_damaged_one_only_costs_the_compilation(tmp_path):
    environment = {"BEBERT_CACHE_DIR": str(tmp_path / "cache"), "NUMBA_DISABLE_JIT": "0"}
    for hits, damaged in (("0", "*.nb?"), ("0", "*.nbc"), ("0", "*.nbi"), ("0", None), ("1", None)):
        result = run(JOIN, **environment)
        assert result.returncode == 0, result.stderr
        answer, cache = result.stdout.splitlines()
        assert answer == "[-2.0, 4.0]"
        assert cache.split()[0] == hits
        assert Path(cache.split()[1]).parent == tmp_path / "cache"
        for path in (tmp_path / "cache").rglob(damaged) if damaged else ():
            path.write_bytes(b"damaged")


WARM = """
import sys
print("numba.np.linalg" in sys.modules)
@numba.njit
def total(x): return np.sort(x).sum()
print(total(np.arange(4.0)))
"""


def test_a_warm_start_leaves_out_what_only_compiling_needs_and_can_still_compile(tmp_path):
    environment = {"BEBERT_CACHE_DIR": str(tmp_path / "cache"), "NUMBA_DISABLE_JIT": "0"}
    for compiles in ("True", "False"):
        result = run(JOIN + WARM, **environment)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[2:] == [compiles, "6.0"]


FULL_DISK = """
import os
def full(*arguments, **options): raise OSError(28, "no space left on device")
os.replace = full
"""


def test_a_cache_that_takes_no_files_only_costs_the_compilation(tmp_path):
    result = run(FULL_DISK + JOIN, BEBERT_CACHE_DIR=str(tmp_path / "cache"), NUMBA_DISABLE_JIT="0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("[-2.0, 4.0]\n")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_cache_folder_that_vanishes_does_not_come_back_with_other_rights(tmp_path):
    vanish = (
        "import shutil\nfrom bebert_kernels.emit import scale; from bebert_kernels.jit import kernel as jit\n"
        "shutil.rmtree(jit.cache_directory())\n"
    )
    result = run(vanish + JOIN, BEBERT_CACHE_DIR=str(tmp_path / "cache"), NUMBA_DISABLE_JIT="0")
    assert result.returncode == 0, result.stderr
    assert not list((tmp_path / "cache").iterdir())


def test_compiling_is_announced_once_on_stderr_unless_quiet(tmp_path):
    cache = {
        "BEBERT_CACHE_DIR": str(tmp_path / "cache"),
        "NUMBA_DISABLE_JIT": "0",
        "BEBERT_ISA": "",
        "BEBERT_QUIET": "",
    }
    first = "bebert: compiling kernels for "
    two = JOIN + "from bebert_kernels.bitsliced.gemm import is_half; is_half(0, 1)\n"
    result = run(two, **cache)
    assert result.stderr.startswith(first) and result.stderr.endswith(f", once, about {kernel_cache.SECONDS} s\n")
    assert result.stderr.count("\n") == 1 and "bebert" not in result.stdout.splitlines()[0]
    assert run(two, **cache).stderr == ""
    more = JOIN + "from bebert_kernels.attention.boolean import _inside; _inside(3, 0)\n"
    assert run(more, **cache).stderr.startswith("bebert: compiling more kernels for ")
    quiet = {"BEBERT_QUIET": "1", "BEBERT_CACHE_DIR": str(tmp_path / "other")}
    assert run(two, **cache | quiet).stderr == ""
    (tmp_path / "file").touch()
    result = run(JOIN, **cache | {"BEBERT_CACHE_DIR": str(tmp_path / "file" / "cache")})
    assert result.stderr.startswith(first) and "without a cache to keep them" in result.stderr


def test_without_a_cache_kernels_run_and_leave_no_files_beside_their_source(tmp_path):
    (tmp_path / "file").touch()
    package = Path(bebert_kernels.__path__[0])
    result = run(JOIN, BEBERT_CACHE_DIR=str(tmp_path / "file" / "cache"), NUMBA_DISABLE_JIT="0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["[-2.0, 4.0]", "0 None"]
    assert not list(package.rglob("*.nb?"))


def test_every_function_runs_with_the_jit_off():
    result = run(HELPERS / "kernel_cases.py", NUMBA_DISABLE_JIT="1")
    assert result.returncode == 0, result.stderr


def test_importing_the_package_loads_no_compiler():
    result = run("import sys, bebert_kernels; assert not {'numba', 'numpy'} & set(sys.modules)")
    assert result.returncode == 0, result.stderr
    result = run(
        "import sys; from bebert_kernels import packing; from bebert_kernels.reference import integers; "
        "assert 'numba' not in sys.modules"
    )
    assert result.returncode == 0, result.stderr


def test_many_threads_get_the_same_bits():
    cases = list(calls(seed=3, rows=33, outputs=21, depth=200, heads=3, size=32, keys=70))

    def everything(_: int) -> list[list[np.ndarray]]:
        results = (getattr(engine, name)(*arguments) for name, arguments in cases)
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
