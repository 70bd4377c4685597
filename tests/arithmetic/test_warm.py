"""The first run compiles with a helper process, and without one where there can be none."""

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
assert all(stage.load() for stage in wanted)
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
    ],
)
def test_an_application_that_embeds_python_is_never_started(executable: str | None, python: bool) -> None:
    """It would begin anew, load the model again, and start itself again and again."""
    assert child_python.runs_python(executable) == python


def test_a_frozen_application_is_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not child_python.runs_python("/opt/app/python")
