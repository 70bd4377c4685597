"""The examples of docs/examples.md do what they say: each is cut out of the page and run as a reader would."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples import example, node
from serving import MODEL, checkout, serving

from bebert_infer import Ensemble

TEXTS = ["a gripping, funny film", "dull", "naïve 电影 🎬"]


def expected() -> list[dict[str, object]]:
    return list(Ensemble.from_pretrained(MODEL)(TEXTS))


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the FastAPI example, run by uvicorn."""
    pytest.importorskip("fastapi", reason="fastapi is not installed (extra dev)")
    folder = tmp_path_factory.mktemp("application")
    (folder / "app.py").write_text(example("app.py"), "utf-8")
    (folder / "model").symlink_to(MODEL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=folder, env=checkout())
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/reviews"
    finally:
        process.terminate()
        process.wait(30)


def ask(url: str, body: object) -> object:
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def test_the_fastapi_example_answers_as_the_model_does(application: str) -> None:
    assert ask(application, {"texts": TEXTS}) == expected()


@pytest.mark.parametrize(
    ("body", "sentence"), [({"texts": [""]}, "is empty"), ({"texts": []}, "at least 1 item"), ({}, "required")]
)
def test_the_fastapi_example_says_what_is_wrong(application: str, body: object, sentence: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(application, body)
    assert raised.value.code == 422 and sentence in raised.value.read().decode()


def test_the_javascript_example_prints_the_answers_of_a_server(tmp_path: Path) -> None:
    with serving() as server:
        done = node(tmp_path, "ask.mjs", server.url, *TEXTS)
        failed = node(tmp_path, "ask.mjs", server.url, "good " * 600)
    assert done.stdout.splitlines() == [f"{one['label']} {one['score']}" for one in expected()], done.stderr
    assert failed.returncode == 1 and "422: " in failed.stderr and "tokens" in failed.stderr
