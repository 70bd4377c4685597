"""Figures of a process of its own are what the system says about a process that does the same."""

import json
import os
import resource
import subprocess
import sys
import time

import pytest

from bebert_infer.bench import process as bench_process
from bebert_infer.bench.engines import PACKED, Engine, random_group
from bebert_infer.bench.process import CODE, peak_memory, process_figures
from bebert_infer.measure.sample_models import random_model


@pytest.fixture(autouse=True)
def reference(monkeypatch):
    """The backend that compiles nothing."""
    monkeypatch.setenv("BEBERT_BACKEND", "reference")


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


def test_seconds_and_memory_agree_with_an_independent_measurement(engine):
    """The same program, timed from outside, with the peak that the system reports for the child that ended."""
    task = {"group": "g", "name": "ours", "kind": PACKED, "folder": str(engine.folder), "threads": 1, "tokens": 4}
    task |= {"vocabulary": 50, "started": time.monotonic()}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", CODE, json.dumps(task)], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    seconds = time.monotonic() - started
    assert status == 0 and 0 < said["load_s"] <= said["first_answer_s"] <= seconds
    assert seconds - said["first_answer_s"] < 0.5 * seconds + 0.5, "what comes after the answer is short"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < usage.ru_maxrss:  # else Linux reports ours for the child
        assert said["peak_rss_bytes"] == pytest.approx(1024 * usage.ru_maxrss, rel=0.1)

    found = process_figures(engine, 1, 4, 50)
    assert not isinstance(found, str) and set(found) == {"load_s", "first_answer_s", "peak_rss_bytes"}
    assert found["peak_rss_bytes"] == pytest.approx(said["peak_rss_bytes"], rel=0.1)


def test_memory_of_a_large_parent_is_not_counted(engine):
    ballast = bytearray(400 * 2**20)
    ballast[:: 2**12] = b"x" * len(ballast[:: 2**12])
    assert peak_memory() > len(ballast)
    found = process_figures(engine, 1, 4, 50)
    assert not isinstance(found, str) and found["peak_rss_bytes"] < len(ballast)


def test_a_process_that_fails_says_why(engine, monkeypatch):
    broken = Engine("g", "ours", PACKED, engine.folder / "nowhere")
    found = process_figures(broken, 1, 4, 50)
    assert isinstance(found, str) and "ended with 1" in found and "no model folder" in found
    monkeypatch.setattr(bench_process, "LIMIT", 0.01)
    assert process_figures(engine, 1, 4, 50) == "no answer in 0 s"


def test_an_application_that_embeds_python_is_not_measured_by_starting_it(engine, monkeypatch, tmp_path):
    program = tmp_path / "reviews"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    program.chmod(0o755)
    for executable in (None, "", str(program), str(tmp_path / "python")):
        monkeypatch.setattr(sys, "executable", executable)
        found = process_figures(engine, 1, 4, 50)
        assert isinstance(found, str) and found.startswith("no process of its own: ")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("flag", ["-I", "-OO"])
def test_the_process_is_isolated_as_this_one_and_finds_the_same_modules(engine, flag):
    code = (
        f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; from pathlib import Path; "
        "from bebert_infer.bench.engines import Engine; from bebert_infer.bench.process import process_figures; "
        f"print(process_figures(Engine('g', 'ours', {PACKED!r}, Path({str(engine.folder)!r})), 1, 4, 50))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, flag, "-c", code], capture_output=True, text=True, env=environment)
    assert "peak_rss_bytes" in done.stdout, done.stdout + done.stderr
