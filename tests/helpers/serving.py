"""A server as a process, for tests that meet it as its clients do."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "bebert_infer" / "demo_model"


def checkout(*rooms: str) -> dict[str, str]:
    """The environment, in which Python finds this checkout's packages: those of infer and kernels, and of `rooms`."""
    paths = [str(ROOT), str(ROOT / "kernels"), *(str(ROOT / room) for room in rooms), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


class Server:
    """`bebert serve` on a free port."""

    def __init__(self, *options: str, model: Path = MODEL, **environment: str):
        command = [sys.executable, "-m", "bebert_infer", "serve", str(model), "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=checkout() | environment)
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if line.startswith("answering at "):
                self.url = line.removeprefix("answering at ").strip()
                self.port = int(self.url.rsplit(":", 1)[1])
                return
        raise AssertionError(f"the server did not start: {''.join(self.said)}")

    def resident(self) -> int:
        """Bytes in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        self.said += err.splitlines(keepends=True)
        return self.process.returncode


@contextlib.contextmanager
def serving(*options: str, **settings) -> Iterator[Server]:
    """A server that is gone afterwards, having said nothing but where it is."""
    server = Server(*options, **settings)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            assert server.end() == 0, server.said
        assert not [line for line in server.said if "Traceback" in line], server.said


def request(path: str, body: bytes = b"", method: str = "POST", **headers: str) -> bytes:
    """Bytes of a whole request; names of headers with _ for -."""
    said = {"Host": "localhost", "Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def exchange(port: int, raw: bytes, seconds: float = 30) -> tuple[int, dict[str, str], bytes]:
    """Send bytes on a connection of their own; status, headers and body of the one answer."""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        with contextlib.suppress(ConnectionError):  # an answer may come before the end of what is sent
            connection.sendall(raw)
        return answer(connection)


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next answer on a connection; AssertionError if it ends before."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        assert part, f"the connection ended after {received!r}"
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers["content-length"]):
        part = connection.recv(65536)
        assert part, "the connection ended in the middle of an answer"
        body += part
    assert len(body) == int(headers["content-length"]), "more than one answer"
    return int(first.split()[1]), headers, body


def ask(port: int, value: object, path: str = "/", **headers: str) -> tuple[int, object]:
    """Status and JSON of the answer to a JSON body."""
    status, _, body = exchange(port, request(path, json.dumps(value).encode(), **headers))
    return status, json.loads(body)


def sentence(body: bytes) -> str:
    """The one sentence of an error, checked to be one."""
    value = json.loads(body)
    assert set(value) == {"error", "error_type"} and value["error"] and "\n" not in value["error"]
    assert "Traceback" not in value["error"]
    return value["error"]
