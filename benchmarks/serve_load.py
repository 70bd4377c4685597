"""The load that a server must bear, on one machine with its clients: `bebert serve` against `bebert predict`.

python benchmarks/serve_load.py TEXTS.tsv [--record] [--requests 10000] [--clients 64] [--soak 100000]

    throughput  texts of a file, one a request, from so many clients at once, each waiting for its answer before it
                asks again; every answer is compared with that of the library. Beside it `bebert predict --input` on
                the same texts, started and loaded as it is, in turn with the server
    soak        many requests more, of mixed lengths: does the server's memory grow?
    term        SIGTERM while all clients ask: every request that was sent is answered, exit code 0

The clients are one process of plain sockets, so that they take little from the two cores they share with the server.
"""

import argparse
import atexit
import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from record import ROOT, write_record

MODEL = ROOT / "bebert_infer" / "demo_model"


class Client:
    """One connection that asks, waits for the answer, and asks again."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number, self.began, self.buffer, self.waiting = -1, 0.0, b"", False

    def ask(self, number: int, request: bytes) -> None:
        """Send one request."""
        self.number, self.began, self.waiting = number, time.perf_counter(), True
        self.socket.sendall(request)

    def answer(self) -> tuple[int, bytes, bool] | None:
        """Status, body and whether the connection ends, once all is there. Raises ConnectionError if it broke off."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("closed")
        self.buffer += part
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        lower = head.lower()
        length = int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(body) < length:
            return None
        self.buffer, self.waiting = b"", False
        return int(head[9:12]), body, b"connection: close" in lower


def request_of(text: str) -> bytes:
    """What InferenceClient sends, with fewer headers."""
    body = json.dumps({"inputs": text, "parameters": {}}).encode()
    head = (
        f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def load(port: int, requests: list[bytes], clients: int, total: int) -> Iterator[tuple[int, float, int, bytes]]:
    """Ask `total` requests, in turn from the list; yields number, seconds, status and body of each answer."""
    waiting = selectors.DefaultSelector()
    sent = 0
    for _ in range(min(clients, total)):
        client = Client(port)
        waiting.register(client.socket, selectors.EVENT_READ, client)
        client.ask(sent, requests[sent % len(requests)])
        sent += 1
    answered = 0
    while answered < total:
        ready = waiting.select(60)
        if not ready:
            raise SystemExit(f"no answer within 60 s; {answered:,} of {total:,} requests were answered")
        for key, _ in ready:
            client = key.data
            found = client.answer()
            if found is None:
                continue
            seconds, number = time.perf_counter() - client.began, client.number
            if sent < total:
                client.ask(sent, requests[sent % len(requests)])
                sent += 1
            else:
                waiting.unregister(client.socket)
                client.socket.close()
            answered += 1
            yield number, seconds, found[0], found[1]


class Running:
    """A server as a process."""

    def __init__(self, threads: int, *options: str):
        command = [sys.executable, "-m", "bebert_infer", "serve", str(MODEL), "--port", "0", "--threads", str(threads)]
        self.process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)  # whatever ends this script
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "answering at" in line:
                self.port = int(line.rsplit(":", 1)[1])
                break
        else:
            raise SystemExit("the server did not start")

    def resident(self) -> int:
        """Bytes in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def predict_seconds(texts: list[str], threads: int, folder: Path) -> tuple[float, float]:
    """Seconds, and seconds of CPU, of `bebert predict --input` on these texts; less those for one text: its start."""

    def run(some: list[str]) -> tuple[float, float]:
        (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
        command = [sys.executable, "-m", "bebert_infer", "predict", str(MODEL), "--threads", str(threads)]
        command += ["--input", str(folder / "texts.jsonl"), "--output", str(folder / "answers.jsonl"), "--restart"]
        (folder / "answers.jsonl").unlink(missing_ok=True)
        started, cpu = time.perf_counter(), os.times()
        subprocess.run(command, check=True, capture_output=True)
        spent = os.times()
        used = spent.children_user + spent.children_system - cpu.children_user - cpu.children_system
        return time.perf_counter() - started, used

    whole, start = run(texts), run(texts[:1])
    return whole[0] - start[0], whole[1] - start[1]


def throughput(texts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Server and command in turn."""
    from bebert_infer import Ensemble

    model = Ensemble.from_pretrained(MODEL, threads=arguments.threads)
    expected = [answer.ranked() for answer in model.predict(texts, truncate=True)]
    requests = [request_of(text) for text in texts]
    rounds, latencies, wrong = [], [], 0
    many = [texts[index % len(texts)] for index in range(arguments.requests)]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            command = predict_seconds(many, arguments.threads, Path(folder))
            server = Running(arguments.threads, "--long", "truncate", *arguments.options)
            list(load(server.port, requests, arguments.clients, 4 * arguments.clients))  # warm
            started, server_cpu, own_cpu = time.perf_counter(), server.cpu(), time.process_time()
            answers = list(load(server.port, requests, arguments.clients, arguments.requests))
            spent, server_cpu, own_cpu = (
                time.perf_counter() - started,
                server.cpu() - server_cpu,
                time.process_time() - own_cpu,
            )
            assert server.end() == 0
            latencies += [seconds for _, seconds, _, _ in answers]
            wrong += sum(not _right(status, body, expected[number % len(texts)]) for number, _, status, body in answers)
            rounds.append(
                {
                    "server": arguments.requests / spent,
                    "predict": arguments.requests / command[0],
                    "server_cpu_ms": 1e3 * server_cpu / arguments.requests,
                    "predict_cpu_ms": 1e3 * command[1] / arguments.requests,
                    "clients_cpu_ms": 1e3 * own_cpu / arguments.requests,
                }
            )
            print(", ".join(f"{name} {value:.2f}" for name, value in rounds[-1].items()), flush=True)
    latencies.sort()
    ratio = statistics.median(one["server"] / one["predict"] for one in rounds)
    p50, p99 = (latencies[int(share * len(latencies))] for share in (0.5, 0.99))
    print(f"ratio {ratio:.3f} (at least 0.9), p50 {1e3 * p50:.1f} ms, p99 {1e3 * p99:.1f} ms, wrong or failed {wrong}")
    return {"rounds": rounds, "ratio": ratio, "p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99, "wrong": wrong}


def _right(status: int, body: bytes, expected: list[tuple[str, float]]) -> bool:
    """Whether an answer has the labels and the very scores of the library."""
    return status == 200 and [(one["label"], one["score"]) for one in json.loads(body)[0]] == expected


def soak(texts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Resident size of the server every twentieth of the requests; growth after the first tenth."""
    server = Running(arguments.threads, "--long", "truncate", *arguments.options)
    sizes, failed = [], 0
    requests = [request_of(text) for text in texts]
    for count, (_, _, status, _) in enumerate(load(server.port, requests, arguments.clients, arguments.soak), 1):
        failed += status != 200
        if count % max(1, arguments.soak // 20) == 0:
            sizes.append(server.resident())
            print(f"{count:>8,} requests {sizes[-1] / 1e6:9.3f} MB", flush=True)
    growth = max(sizes) - max(sizes[:2])
    print(f"grew by {growth:,} bytes after the first tenth; failed {failed}; exit code {server.end()}")
    return {"requests": arguments.soak, "resident": sizes, "growth": growth, "failed": failed}


def term(texts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """SIGTERM after a second of load; clients ask on until their connection says that it ends."""
    server = Running(arguments.threads, "--long", "truncate", *arguments.options)
    waiting = selectors.DefaultSelector()
    requests = [request_of(text) for text in texts]
    sent = answered = lost = 0
    for _ in range(arguments.clients):
        client = Client(server.port)
        waiting.register(client.socket, selectors.EVENT_READ, client)
        client.ask(sent, requests[sent % len(requests)])
        sent += 1
    started, ended = time.perf_counter(), False
    while waiting.get_map():
        if not ended and time.perf_counter() - started > 1:
            server.process.send_signal(signal.SIGTERM)
            ended = True
        for key, _ in waiting.select(1):
            client = key.data
            try:
                found = client.answer()
            except OSError:
                lost += client.waiting
                waiting.unregister(client.socket)
                continue
            if found is None:
                continue
            answered += found[0] == 200
            if found[2]:
                waiting.unregister(client.socket)
            else:
                client.ask(sent, requests[sent % len(requests)])
                sent += 1
    code = server.process.wait(60)
    print(f"SIGTERM: sent {sent:,}, answered {answered:,}, lost {lost}, exit code {code}")
    return {"sent": sent, "answered": answered, "lost": lost, "exit_code": code}


def main() -> int:
    """Run, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, help="real texts: the first column of a TSV with a header")
    parser.add_argument("--only", choices=("throughput", "soak", "term"))
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--soak", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--record", action="store_true", help="append a line to benchmarks/results/serve.jsonl")
    parser.add_argument("--note", default="", help="what else was running, for the record")
    arguments, arguments.options = parser.parse_known_args()  # others are the server's
    texts = [line.split("\t")[0].strip() for line in arguments.texts.read_text("utf-8").splitlines()[1:]]
    found: dict[str, Any] = {}
    for measure in (throughput, soak, term):
        if arguments.only in (None, measure.__name__):
            found[measure.__name__] = measure(texts, arguments)
    passed = (
        found.get("throughput", {"ratio": 1})["ratio"] >= 0.9
        and not found.get("throughput", {"wrong": 0})["wrong"]
        and found.get("soak", {"growth": 0})["growth"] <= 2e6
        and not found.get("soak", {"failed": 0})["failed"]
        and not found.get("term", {"lost": 0})["lost"]
        and not found.get("term", {"exit_code": 0})["exit_code"]
    )
    if arguments.record:
        facts = {"threads": arguments.threads, "clients": arguments.clients, "requests": arguments.requests}
        write_record("serve", facts | {"texts": arguments.texts.name, "note": arguments.note} | found)
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
