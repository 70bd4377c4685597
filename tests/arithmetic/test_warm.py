"""The first run compiles with a helper process, and without one where there can be none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bebert_kernels import child_python
from bebert_kernels.abi.stage import available

if not available():
    pytest.skip("programs are compiled code", allow_module_level=True)

PROGRAM = """
import sys
from bebert_kernels.program import stages
from bebert_kernels.abi import precompile
{change}
wanted = [stages.classify, stages.gather, stages.norm, stages.embed]
precompile.precompile(wanted)
assert all(stage.compiled.load() for stage in wanted)
print("compiled")
"""


def run(folder: Path, change: str) -> str:
    environment = os.environ | {"BEBERT_CACHE_DIR": str(folder), "BEBERT_QUIET": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(change=change)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout == "compiled\n"
    return done.stderr


@pytest.mark.parametrize(
    "change",
    [
        "",
        pytest.param("sys.executable = '/nowhere/python'", marks=pytest.mark.long),
        "sys.executable = '/bin/false'",
    ],
)
def test_a_first_run_compiles_and_the_next_one_finds_it(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    assert "compiling kernels" in run(folder, change)
    assert run(folder, "precompile._helper = None") == ""


def test_without_a_cache_there_is_no_helper(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    change = "import subprocess; subprocess.Popen = None"
    assert "without a cache" in run(folder, change)


@pytest.mark.parametrize(
    ("executable", "python"),
    [
        ("/usr/bin/python3.11", True),
        ("C:/Python/python.exe", True),
        ("/opt/app/pypy3", True),
        (None, False),
        ("", False),
        ("/opt/app/reviews", False),
        ("/usr/sbin/uwsgi", False),
        ("/opt/app/python-reviews", False),
        ("/opt/app/pythonista", False),
        ("/usr/bin/python3.13t", True),
        ("/usr/bin/python3-dbg", True),
    ],
)
def test_an_application_that_embeds_python_is_never_started(executable: str | None, python: bool) -> None:
    """It would begin anew, load the model again, and start itself again and again."""
    assert child_python.runs_python(executable) == python


def test_a_frozen_application_is_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not child_python.runs_python("/opt/app/python")


def test_a_child_has_the_modules_and_the_isolation_of_this_process_and_no_warnings_as_errors() -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; sys.path.insert(0, '/only/here'); "
        "from bebert_kernels.child_python import child_environment, python_command; import subprocess; "
        "say = 'import json; print(json.dumps([sys.path, sys.argv, sys.flags.isolated, sys.flags.optimize, "
        "sys.warnoptions]))'; "
        "subprocess.run(python_command(say, 'a', 'b c'), env=child_environment(), check=True)"
    )
    done = subprocess.run([sys.executable, "-I", "-OO", "-Werror", "-c", code], capture_output=True, text=True)
    path, arguments, isolated, optimize, warned = json.loads(done.stdout)
    assert path == ["/only/here", *sys.path] and arguments == ["-c", "a", "b c"]
    assert (isolated, optimize, warned) == (1, 2, [])
