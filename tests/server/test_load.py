"""A short form of the load of benchmarks/serve_load.py: nothing fails, nothing is lost, memory stays where it is."""

import argparse
import sys
from pathlib import Path

import pytest

for package in ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # scripts find their neighbours so

import serve_load
from serving import serving

from bebert_infer import Ensemble

TEXTS = [
    f"a {word} film {'that goes on and on ' * (number % 7)}"
    for number, word in enumerate(["dull", "funny", "good"] * 7)
]


def test_some_hundred_requests_of_many_clients():
    model = Ensemble.from_pretrained(serve_load.MODEL, threads=1)
    expected = [answer.ranked() for answer in model.predict(TEXTS)]
    requests = [serve_load.request_of(text) for text in TEXTS]
    with serving("--threads", "2") as server:
        list(serve_load.load(server.port, requests, 64, 300))
        before = server.resident()
        found = list(serve_load.load(server.port, requests, 64, 600))
        growth = server.resident() - before
    assert sorted(number for number, *_ in found) == list(range(600)), "every request has one answer"
    assert all(serve_load._right(status, body, expected[number % len(TEXTS)]) for number, _, status, body in found)
    assert growth < 4e6


def test_the_script_sees_what_is_lost(capsys):
    arguments = argparse.Namespace(threads=1, clients=16, options=[])
    found = serve_load.term(TEXTS, arguments)
    assert found["sent"] == found["answered"] > 0 and found["lost"] == found["exit_code"] == 0
    assert "SIGTERM" in capsys.readouterr().out
