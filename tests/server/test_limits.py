"""What is too much is refused at once, and says when to try again; who has no token gets nothing."""

import json
import socket

import pytest

for package in ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")

from serving import answer, ask, exchange, request, sentence, serving

from bebert_infer.errors import InputError
from bebert_infer.server.settings import Settings

GOOD = {"inputs": "a gripping, funny film"}
SLOW = {"BEBERT_BACKEND": "reference"}  # plain NumPy, so that texts wait


def test_a_full_queue_says_when_to_try_again():
    with serving("--queue", "4", "--max-texts", "4", "--batch", "1", **SLOW) as server:
        raw = request("/", json.dumps({"inputs": ["a gripping , funny film " * 8] * 4}).encode())
        found, statuses = [], []
        for _ in range(20):  # on a busy machine the server may keep up with those who ask
            clients = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(32)]
            for client in clients:
                client.sendall(raw)  # nobody waits for an answer before all have asked
            found += [answer(client) for client in clients]
            for client in clients:
                client.close()
            statuses = [status for status, _, _ in found]
            if 503 in statuses:
                break
        assert set(statuses) == {200, 503}
        for status, headers, body in found:
            if status == 503:
                assert int(headers["retry-after"]) >= 1
                assert "(--queue); try again in" in sentence(body)
        answers = {body for status, _, body in found if status == 200}
        assert len(answers) == 1, "those that were taken are answered as ever"


def test_an_answer_that_takes_too_long_is_given_up():
    with serving("--answer-timeout", "0.001", **SLOW) as server:
        status, _, body = exchange(server.port, request("/", json.dumps({"inputs": ["a film"] * 100}).encode()))
        assert status == 504 and "no answer within 0.001 s" in sentence(body)
        assert exchange(server.port, request("/health", method="GET"))[0] == 200


def test_texts_characters_and_bytes_have_limits():
    with serving("--max-texts", "2", "--max-characters", "10", "--max-body", "200") as server:
        for value, word in (({"inputs": ["a"] * 3}, "3 texts"), ({"inputs": "a" * 11}, "11 characters")):
            status, found = ask(server.port, value)
            assert status == 413 and word in found["error"]
        assert ask(server.port, {"inputs": ["a" * 10, "b"]})[0] == 200
        status, found = ask(server.port, {"inputs": "a" * 300})
        assert status == 413 and "200" in found["error"]


def test_connections_have_a_limit():
    with serving("--max-connections", "2") as server:
        held = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(2)]
        held[0].sendall(request("/health", method="GET"))
        assert answer(held[0])[0] == 200  # both are taken now
        status, headers, body = exchange(server.port, request("/health", method="GET"))
        assert status == 503 and headers["retry-after"] == "1" and "2 clients" in sentence(body)
        for connection in held:
            connection.close()


@pytest.mark.parametrize("way", ["file", "variable"])
def test_a_token(tmp_path, way):
    file = tmp_path / "token"
    file.write_text("s3cret-token\n")
    options, environment = (
        (["--token-file", str(file)], {}) if way == "file" else ([], {"BEBERT_TOKEN": "s3cret-token"})
    )
    with serving(*options, **environment) as server:
        right = {"Authorization": "Bearer s3cret-token"}
        for path in ("/", "/predict", "/votes"):
            assert ask(server.port, GOOD, path, **right)[0] == 200
            for wrong in ({}, {"Authorization": "Bearer s3cret-tokeN"}, {"Authorization": "Bearer"}):
                status, headers, body = exchange(server.port, request(path, json.dumps(GOOD).encode(), **wrong))
                assert status == 401 and headers["www-authenticate"].startswith("Bearer")
                assert "s3cret" not in sentence(body)
            assert ask(server.port, GOOD, path, Authorization="Basic s3cret-token")[0] == 401
            assert ask(server.port, GOOD, path, Authorization="bearer s3cret-token")[0] == 200
        for path in ("/info", "/metrics"):
            assert exchange(server.port, request(path, method="GET"))[0] == 401
            assert exchange(server.port, request(path, method="GET", **right))[0] == 200
        for path in ("/", "/health", "/page.js", "/answer.js", "/page.css", "/openapi.json"):
            assert exchange(server.port, request(path, method="GET"))[0] == 200
        hub = pytest.importorskip("huggingface_hub")
        client = hub.InferenceClient(base_url=server.url, token="s3cret-token")
        assert client.text_classification(GOOD["inputs"])[0].label == "positive"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"queue": 0}, "queue is 0"),
        ({"body_bytes": 1.5}, "body_bytes is 1.5"),
        ({"gather": -1}, "gather is -1"),
        ({"read_timeout": float("nan")}, "read_timeout is nan"),
        ({"texts": 10, "queue": 9}, "10 texts"),
        ({"token": "a\nb"}, "token"),
    ],
)
def test_settings_that_cannot_be(values, word):
    with pytest.raises(InputError, match=word):
        Settings(**values)
