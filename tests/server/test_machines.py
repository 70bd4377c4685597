"""What machines read: a valid OpenAPI document that says what the server does, metrics that count, health."""

import json
import re
import socket
import time

import pytest

for package in ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")

from prometheus_client.parser import text_string_to_metric_families
from serving import answer, ask, exchange, request, serving


@pytest.fixture(scope="module")
def server():
    with serving() as found:
        yield found


def get(server, path):
    status, headers, body = exchange(server.port, request(path, method="GET"))
    assert status == 200
    return headers, body


@pytest.fixture(scope="module")
def document(server):
    headers, body = get(server, "/openapi.json")
    assert headers["content-type"] == "application/json"
    return json.loads(body)


def references(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from references(item)


def test_the_document_has_the_structure_of_openapi_3_1(document):
    assert document["openapi"] == "3.1.0" and {"title", "version"} <= set(document["info"])
    operations = [
        operation
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in ("get", "post")
    ]
    assert len({operation["operationId"] for operation in operations}) == len(operations) == 8
    for operation in operations:
        assert operation["summary"] and "200" in operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch("[1-5][0-9][0-9]", status) and response["description"]
    for reference in references(document):
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
        assert isinstance(place, dict)


def test_the_document_is_valid(document):
    validator = pytest.importorskip("openapi_spec_validator", reason="openapi-spec-validator is not installed")
    validator.validate(document)


def test_every_path_of_the_document_is_there_and_no_other(server, document):
    for path, methods in document["paths"].items():
        for method in ("get", "post"):
            status, _, _ = exchange(server.port, request(path, b'{"inputs": "a film"}', method.upper()))
            assert (status == 200) == (method in methods), (path, method, status)


GOOD = [
    ("/", {"inputs": "a"}),
    ("/", {"inputs": ["a", ["b"], ["c", "d"], {"text": "e", "text_pair": None}], "parameters": {"top_k": 1}}),
    (
        "/",
        {
            "inputs": "a",
            "parameters": {"early_exit": 0.9, "truncate": None, "function_to_apply": "none"},
            "options": {},
        },
    ),
    ("/predict", {"inputs": ["a", "b"], "raw_scores": True, "truncation_direction": "Right"}),
    ("/predict", {"inputs": [["a"], ["a", "b"]], "early_exit": "exact", "top_k": None}),
    ("/votes", {"inputs": "a"}),
]
BAD = [
    ("/", {"inputs": 1}),
    ("/", {"inputs": []}),
    ("/", {"inputs": "a", "more": 1}),
    ("/", {"inputs": "a", "parameters": {"top_k": 0}}),
    ("/", {"inputs": "a", "parameters": {"early_exit": 1.5}}),
    ("/predict", {"inputs": ["a", "b", "c"]}),
    ("/predict", {"inputs": "a", "truncate": 1}),
]


@pytest.mark.parametrize(
    ("path", "value", "good"), [*((*case, True) for case in GOOD), *((*case, False) for case in BAD)]
)
def test_schema_and_server_agree(server, document, path, value, good):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

    def valid(schema, instance):
        whole = schema | {"components": document["components"]}
        return jsonschema.Draft202012Validator(whole).is_valid(instance)

    operation = document["paths"][path]["post"]
    assert valid(operation["requestBody"]["content"]["application/json"]["schema"], value) == good
    status, answer = ask(server.port, value, path)
    assert (status == 200) == good
    assert valid(operation["responses"][str(status)]["content"]["application/json"]["schema"], answer)


def test_metrics_count_what_was_done():
    with serving() as server:
        for count in (1, 5):
            assert ask(server.port, {"inputs": ["a film"] * count})[0] == 200
        assert ask(server.port, {"inputs": "a film", "early_exit": 0.5}, "/predict")[0] == 200
        assert ask(server.port, {"inputs": 1})[0] == 422
        exchange(server.port, request("/secret-of-somebody", method="GET"))
        headers, body = get(server, "/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["bebert_requests_total", "/", "200"] == 2
    assert samples["bebert_requests_total", "/", "422"] == 1
    assert samples["bebert_requests_total", "other", "404"] == 1
    assert samples["bebert_request_seconds_count", "/predict"] == 1
    assert samples["bebert_texts_total",] == samples["bebert_batch_texts_sum",] == 7
    assert samples["bebert_members_run_total",] == 2 * 6 + 1
    assert samples["bebert_queue_texts",] == 0
    assert samples["process_resident_memory_bytes",] > 1e7
    assert any(key[0] == "bebert_model_info" and "demo_model" in key for key in samples)
    assert "secret" not in body.decode()


def test_health_says_no_while_the_server_ends(server):
    assert get(server, "/health")[1] == b'{"status":"ok"}'
    with serving() as ending, socket.create_connection(("127.0.0.1", ending.port), 10) as connection:
        connection.sendall(request("/health", method="GET"))
        assert answer(connection)[0] == 200
        ending.process.terminate()

        time.sleep(0.15)
        connection.sendall(request("/health", method="GET"))
        assert answer(connection)[0] == 503
        assert ending.process.wait(30) == 0
