"""SIGTERM under load loses no request that was sent: what was taken is answered, and the exit code is 0."""

import json
import signal
import socket
import threading
import time

import pytest

for package in ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")

from serving import Server, answer, request

RAW = request("/", json.dumps({"inputs": "a gripping, funny film", "parameters": {"top_k": 1}}).encode())


class Client(threading.Thread):
    """Asks on one connection until an answer says that it is the last."""

    def __init__(self, port):
        super().__init__()
        self.connection = socket.create_connection(("127.0.0.1", port), 30)
        self.sent = self.answered = 0
        self.fault = None

    def run(self):
        """Until the last answer, or a fault."""
        try:
            while True:
                self.connection.sendall(RAW)
                self.sent += 1
                status, headers, body = answer(self.connection)
                assert status == 200 and b"positive" in body
                self.answered += 1
                if headers.get("connection") == "close":
                    return
        except (OSError, AssertionError) as error:
            self.fault = error
        finally:
            self.connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_request_is_lost(number):
    server = Server()
    clients = [Client(server.port) for _ in range(32)]
    for client in clients:
        client.start()
    time.sleep(0.7)
    assert server.end(number) == 0
    for client in clients:
        client.join(30)
    assert [client.fault for client in clients if client.fault] == []
    assert sum(client.sent for client in clients) == sum(client.answered for client in clients) > 32
    assert "Traceback" not in "".join(server.said)


def test_a_body_that_is_still_coming_is_waited_for():
    server = Server()
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(RAW[:-10])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert server.process.poll() is None
        connection.sendall(RAW[-10:])
        status, headers, _ = answer(connection)
        assert (status, headers["connection"]) == (200, "close")
    assert server.process.wait(30) == 0
    server.process.communicate()


def test_a_request_on_its_way_when_the_signal_comes_is_answered():
    server = Server()
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(RAW)
        assert answer(connection)[0] == 200
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.15)  # the connection is idle, and not closed yet
        connection.sendall(RAW)
        status, headers, _ = answer(connection)
        assert (status, headers["connection"]) == (200, "close")
    assert server.process.wait(30) == 0
    server.process.communicate()


def test_idle_connections_and_slow_senders_do_not_hold_it_up():
    server = Server("--grace", "1")
    idle = socket.create_connection(("127.0.0.1", server.port), 30)
    slow = socket.create_connection(("127.0.0.1", server.port), 30)
    slow.sendall(RAW[:-10])
    time.sleep(0.3)
    started = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - started < 8
    idle.close()
    slow.close()
