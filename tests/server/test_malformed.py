"""500 malformed requests each get one 4xx with one sentence, and the server answers the next good one."""

import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

for package in ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")

from serving import answer, ask, exchange, request, sentence, serving

GOOD = {"inputs": "a gripping, funny film", "parameters": {"top_k": 1}}
MEGA = 10**6


@pytest.fixture(scope="module")
def server():
    with serving("--read-timeout", "1") as found:
        yield found
        assert ask(found.port, GOOD)[0] == 200


def wrong_values():
    """JSON that says nothing that can be answered."""
    odd = [None, True, 0, -1, 1.5, 1e300, [], {}, [[]], [None], [1], [["a", "b", "c"]], [["a", 1]], [[["a"]]], {"a": 1}]
    odd += ["", " \t\n", [""], ["a", ""], [["", "b"]], {"text": None}, {"text": "a", "more": 1}, {"text_pair": "b"}]
    yield from ({"inputs": value} for value in odd)
    yield from odd  # as the body itself
    yield from ({}, {"input": "a"}, {"text": "a"}, {"inputs": "a", "unknown": 1}, {"Inputs": "a"})
    for name in ("top_k", "early_exit", "truncate", "function_to_apply"):
        for value in (-1, 0, 1.5, 2, "x", [], {}, [1], 1e9, "0.9", "Exact", ""):
            if (name, value) not in (("top_k", 2), ("top_k", 1e9)):
                yield {"inputs": "a", "parameters": {name: value}}
    yield {"inputs": "a", "parameters": {"top_k": True}}
    yield from ({"inputs": "a", "parameters": value} for value in ("x", 1, [1], {"topk": 1}, {"": 1}))
    yield {"inputs": "a", "parameters": {"function_to_apply": "sigmoid"}}
    yield {"inputs": ["a"] * 129}
    yield {"inputs": "a" * 20_001}
    yield {"inputs": "good " * 200}


def broken_bytes(draw):
    """Bodies that are no JSON, and some that are no text."""
    whole = json.dumps({"inputs": ["a text", ["one", "other"]], "parameters": {"top_k": 1}}).encode()
    yield from (whole[:length] for length in range(1, len(whole)))
    yield from (whole + end for end in (b"}", b"\0", b"{}", b"xx", b"\xff"))
    for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp037"):
        yield whole.decode().encode(code)
    yield from (
        b'{"inputs": "\xe9"}',
        b'{"inputs": "\xc0\xaf"}',
        b'{"inputs": "\xed\xa0\x80"}',
        b'{"inputs": "\xf4\x90\x80\x80"}',
    )
    yield from (
        b'{"inputs": "\\ud800"}',
        b'{"inputs": "a\\udc00b"}',
        b'{"inputs": "\\ud800\\ud800"}',
        b'{"inputs": "\\uZZZZ"}',
    )
    yield from (b'{"inputs": "a\0b"}', b'{"inputs": "a\nb"}', b"\0", b"\0" * 1000, b" " * 1000, b"")
    yield from (
        b'{"inputs": NaN}',
        b"{'inputs': 'a'}",
        b'{"inputs": "a",}',
        b'{inputs: "a"}',
        b"inputs=a",
        b"<xml/>",
        b"null",
        b"1" * 5000,
    )
    for deep in (100, 1000, 10_000, 400_000):
        yield b"[" * deep
        yield b'{"inputs": ' + b"[" * deep + b"]" * deep + b"}"
        yield b'{"inputs":' * min(deep, 90_000) + b"1" + b"}" * min(deep, 90_000)
    yield b'{"inputs": [' + b"0," * 300_000 + b"0]}"
    yield b'{"inputs": "' + b"a" * 1_000_000 + b'"}'
    for _ in range(150):
        yield draw.randbytes(draw.randrange(1, 300))
    for _ in range(100):  # one byte of a good body is another one, and it is no JSON any more
        place = draw.randrange(len(whole))
        yield whole[:place] + bytes([draw.choice(b"\x00\x01\x1f\xff\xfe\x80")]) + whole[place + 1 :]


def malformed(draw):
    """(what a connection sends, accepted statuses)."""
    for index, value in enumerate(wrong_values()):
        yield request(("/", "/predict")[index % 2], json.dumps(value).encode()), {413, 422}
    for index, body in enumerate(broken_bytes(draw)):
        yield request(("/", "/predict", "/votes")[index % 3], body), {400, 413, 422}
    for method, path in (
        *(("GET", path) for path in ("/predict", "/votes", "/nowhere", "//", "/%00", "/predict/")),
        *(("GET", path) for path in ("/../etc/passwd", "/%2e%2e", "/page.html")),
        *(("PUT", path) for path in ("/", "/predict", "/info", "/nowhere")),
        *(("POST", path) for path in ("/health", "/info", "/metrics", "/page.js", "/nowhere", "/openapi.json")),
        *(("DELETE", path) for path in ("/", "/health", "/x")),
        ("PATCH", "/"), ("OPTIONS", "/"), ("TRACE", "/predict"),
    ):  # fmt: skip
        yield request(path, b'{"inputs": "a"}', method), {404, 405}
    good = json.dumps(GOOD).encode()
    yield request("/", good, Content_Encoding="gzip"), {415}
    yield request("/", good, Content_Encoding="br"), {415}
    yield request("/", good, Content_Type="application/json; charset=utf-16"), {415}
    yield request("/", good, Content_Type='application/json; charset="latin-1"'), {415}
    for raw in (
        b"\r\n\r\nxx\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"no http at all\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nbad header\r\n\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nA\0b: c\r\n\r\n",
    ):  # fmt: skip
        yield raw, {400}
    yield b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: %s\r\n" % (n, b"x" * 90) for n in range(1000)) + b"\r\n", {431}
    yield b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", {431}
    yield b"GET / HTTP/1.1\r\nlong: " + b"a" * 200_000, {431}


def test_each_gets_one_answer_with_one_sentence(server):
    cases = list(malformed(random.Random(27)))
    assert len(cases) >= 500
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: exchange(server.port, case[0]), cases))
    for (raw, accepted), (status, _, body) in zip(cases, found, strict=True):
        assert status in accepted, (raw[:300], status, body)
        sentence(body)


def chunked(size, part=65536):
    """A body without a length, in parts."""
    yield b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(size // part + 1):
        yield b"%x\r\n%s\r\n" % (part, b" " * part)
    yield b"0\r\n\r\n"


def announced(size, part=65536):
    """The same with a length."""
    yield b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    for start in range(0, size, part):
        yield b"a" * min(part, size - start)


def to_nowhere(size, part=65536):
    """The same where nobody reads it."""
    first, *rest = announced(size, part)
    return [first.replace(b"/predict", b"/nowhere"), *rest]


@pytest.mark.parametrize(("body", "status"), [(chunked, 413), (announced, 413), (to_nowhere, 404)])
def test_100_mb_are_refused_while_they_come_and_never_held(server, body, status):
    """The client sends all of it before it reads: the answer waits for it, and no reset takes it away."""
    before = server.resident()
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        for part in body(100 * MEGA):
            connection.sendall(part)
        found, _, said = answer(connection)
    assert found == status
    sentence(said)
    assert server.resident() - before < 20 * MEGA


def test_a_length_is_refused_before_a_byte_is_sent(server):
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        assert answer(connection)[0] == 413


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([b"POST / HT"], 408),
        ([b"POST / HTTP/1.1\r\nHost: x\r\n"], 408),
        ([b""], 408),
        ([b"P", b"O", b"S", b"T", b" ", b"/", b" ", b"H", b"T"], 408),  # a byte now and then
        ([b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n"], 408),
        ([b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n", *[b"{"] * 9], 408),
        ([b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n"], 408),
    ],
)
def test_slow_senders_are_told_so(server, parts, status):
    """They have one second here."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.2 if len(parts) > 2 else 0)
        found, headers, body = answer(connection)
    assert found == status and headers["connection"] == "close"
    assert "within 1 s" in sentence(body)
    assert 0.9 < time.monotonic() - started < 4


@pytest.mark.parametrize("raw", [b"POST / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n{"])
def test_senders_that_stop_in_the_middle_are_told_so(server, raw):
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        status, _, body = answer(connection)
    assert status == 400 and "ended" in sentence(body)


def test_a_client_that_sends_nothing_more_still_gets_its_answer(server):
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(request("/", json.dumps(GOOD).encode()))
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[0] == 200


def test_a_connection_goes_on_after_a_refusal(server):
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        for raw, status in (
            (request("/", b"{"), 400),
            (request("/nowhere", b"", "GET"), 404),
            (request("/", json.dumps(GOOD).encode()), 200),
        ):
            connection.sendall(raw)
            assert answer(connection)[0] == status


def test_clients_that_leave_are_no_fault(server):
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", server.port), 30)
        connection.sendall(request("/", json.dumps(GOOD).encode()))
        connection.close()
    assert ask(server.port, GOOD)[0] == 200
