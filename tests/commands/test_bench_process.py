"""Seconds and memory of a start are those of the program, seen from outside; a start that fails says why."""

import os
import subprocess
import sys
import time

import pytest

from bebert_infer.bench import process as bench_process
from bebert_infer.bench.engines import Engine, random_group
from bebert_infer.bench.process import NoStartError, peak_memory, start
from bebert_infer.measure.sample_models import random_model

PROGRAM = """
import sys, time
print("a library that talks, loaded with words", flush=True)
time.sleep(0.3)
print("loaded", flush=True)
ballast = bytearray({ballast})
ballast[::4096] = b"x" * len(ballast[::4096])
del ballast
time.sleep(0.2)
print("answer", [0.25, 0.75], flush=True)
sys.stdin.read()
"""


def program(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Engine:
    folder = tmp_path_factory.mktemp("models")
    group = random_group({"ours": random_model("tiny", "1-1-1", 1, vocab_size=50)}, "g", "g", folder)
    (engine,) = group.packed_engines(4)
    return engine


def test_size_is_that_of_the_files_that_are_loaded(engine):
    files = {file.name: file.stat().st_size for file in engine.folder.iterdir()}
    assert engine.facts["bytes"] == files["config.json"] + files["model.safetensors"]
    assert sum(engine.facts["bytes_by_kind"].values()) == engine.facts["bytes"]


def test_seconds_and_memory_are_those_of_the_program():
    """It sleeps before it is ready and before it answers, and holds 64 MiB in between."""
    size = 64 * 2**20
    started = time.monotonic()
    found = start(program(PROGRAM.format(ballast=size)))
    assert set(found) == {"load_s", "first_answer_s", "peak_rss_bytes"}
    assert 0.3 < found["load_s"] < found["first_answer_s"] - 0.2 < time.monotonic() - started
    assert size < found["peak_rss_bytes"] < size + start(program(PROGRAM.format(ballast=1)))["peak_rss_bytes"] + 2**22


def test_memory_of_a_large_parent_is_not_counted():
    ballast = bytearray(400 * 2**20)
    ballast[:: 2**12] = b"x" * len(ballast[:: 2**12])
    assert (peak_memory("self") or 0) > len(ballast)
    assert start(program(PROGRAM.format(ballast=1)))["peak_rss_bytes"] < len(ballast) / 4


def test_what_a_program_does_after_its_answer_is_nobodys_time():
    started = time.monotonic()
    found = start(program('print("loaded"); print("answer", flush=True); import time; time.sleep(60)'))
    assert found["first_answer_s"] <= time.monotonic() - started < 30


def test_a_start_that_fails_says_why(monkeypatch, tmp_path):
    for code, words in (
        ("import no_such_thing", "its process ended with 1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ('print("loaded", flush=True); raise SystemExit(3)', "its process ended with 3: no message"),
        ('print("answer")', "its process ended with"),
    ):
        with pytest.raises(NoStartError) as raised:
            start(program(code))
        assert str(raised.value).startswith(words)
    with pytest.raises(NoStartError, match="its process cannot be started: "):
        start([str(tmp_path / "python")])
    monkeypatch.setattr(bench_process, "LIMIT", 0.1)
    with pytest.raises(NoStartError, match="no answer in 0 s"):
        start(program("import time; time.sleep(60)"))


@pytest.mark.parametrize("flag", ["-I", "-OO"])
def test_however_the_command_was_started_ours_starts_as_its_user_does(engine, flag):
    code = f"""
import sys
sys.path[:0] = {[path for path in sys.path if path]!r}
import tempfile
from pathlib import Path
from bebert_infer.bench.engines import PACKED, Engine
from bebert_infer.bench.environment import make_environment
from bebert_infer.bench.process import engine_command, question, start
with tempfile.TemporaryDirectory() as folder:
    environment = make_environment(("bebert-infer",), Path(folder) / "environment")
    engine = Engine("g", "ours", PACKED, Path({str(engine.folder)!r}))
    print(start(engine_command(engine, environment, question(None, 50, 4), 1)))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"BEBERT_BACKEND": "reference"}
    done = subprocess.run([sys.executable, flag, "-c", code], capture_output=True, text=True, env=environment)
    assert "peak_rss_bytes" in done.stdout, done.stdout + done.stderr
