"""`bebert serve` as a command: one sentence for what cannot be, and it listens on this machine only."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command import bebert

for package in ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")

from serving import MODEL, serving


def test_it_listens_on_this_machine_only():
    with serving() as server:
        assert server.url.startswith("http://127.0.0.1:")
        listening = [line.split() for line in Path("/proc/net/tcp").open() if f":{server.port:04X} " in line]
        assert {line[1].split(":")[0] for line in listening if line[3] == "0A"} <= {"0100007F"}


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = bebert("serve", MODEL, "--port", port)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--port", "70000"], "70000"),
        (["--queue", "1"], "the queue takes 1"),
        (["--token-file", "nowhere"], "nowhere"),
        (["--max-texts", "0"], "0 is not in the range"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
    ],
)
def test_options_that_cannot_be(options, word):
    done = bebert("serve", MODEL, *options)
    assert done.returncode in (1, 2) and word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("text", "word"), [("", "no token"), ("one\ntwo\n", "several lines")])
def test_a_file_that_holds_no_token(tmp_path, text, word):
    (tmp_path / "token").write_text(text)
    done = bebert("serve", MODEL, "--token-file", tmp_path / "token")
    assert done.returncode == 2 and word in done.stderr


def test_a_folder_without_a_model(tmp_path):
    done = bebert("serve", tmp_path)
    assert done.returncode == 2 and str(tmp_path) in done.stderr


def test_what_is_missing_is_said():
    code = (
        "import sys; sys.modules['uvicorn'] = None; sys.argv = ['bebert', 'serve', 'x']; "
        "from bebert_infer.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert 'pip install "bebert-infer[serve]"' in done.stderr and "Traceback" not in done.stderr
