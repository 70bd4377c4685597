"""Existing clients work unchanged, and every answer has the bits of `Ensemble.predict` alone."""

import json
import math
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

for package in ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")

from serving import MODEL, ask, serving

from bebert_infer import Ensemble

TEXTS = [
    "a gripping, funny film",
    "unflinchingly bleak and desperate",
    "it is not without its charms , but the story never goes anywhere and neither do its people",
    "\u00e9t\u00e9 \u4f60\u597d \U0001f600 naïve café",
    "x",
    'quotes " and \\ and \t tabs',
]
PAIRS = [("a film", "a dull one"), ("how old are you?", "what is your age?")]


@pytest.fixture(scope="module")
def server():
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def model():
    return Ensemble.from_pretrained(MODEL, threads=1)


def labels(prediction, top_k=None):
    return [{"label": label, "score": score} for label, score in prediction.ranked()[:top_k]]


def test_the_client_of_the_hub(server, model):
    hub = pytest.importorskip("huggingface_hub")
    client = hub.InferenceClient(base_url=server.url)
    for text, expected in zip(TEXTS, model.predict(TEXTS), strict=True):
        found = client.text_classification(text)
        assert [{"label": one.label, "score": one.score} for one in found] == labels(expected)
    (best,) = client.text_classification(TEXTS[0], top_k=1)
    assert best.label == "positive"
    assert len(client.text_classification(TEXTS[0], top_k=2, function_to_apply="softmax")) == 2
    raw = client.text_classification(TEXTS[0], function_to_apply="none")
    assert sorted(one.score for one in raw) == sorted(model.predict(TEXTS[:1])[0].logits.tolist())


def test_that_client_may_name_the_other_path_and_the_model(server, model):
    hub = pytest.importorskip("huggingface_hub")
    for place in (f"{server.url}/predict", server.url):
        (best,) = hub.InferenceClient(model=place, token="any").text_classification(TEXTS[0], top_k=1)
        assert [{"label": best.label, "score": best.score}] == labels(model.predict(TEXTS[:1])[0], 1)


def test_its_errors_are_told(server):
    hub = pytest.importorskip("huggingface_hub")
    with pytest.raises(hub.errors.HfHubHTTPError, match="inputs is empty"):
        hub.InferenceClient(base_url=server.url).text_classification(" ")


def test_text_embeddings_inference(server, model):
    (one,) = model.predict([TEXTS[0]])
    assert ask(server.port, {"inputs": TEXTS[0]}, "/predict") == (200, labels(one))
    assert ask(server.port, {"inputs": [TEXTS[0]]}, "/predict") == (200, labels(one))
    assert ask(server.port, {"inputs": [[text] for text in TEXTS]}, "/predict") == (
        200,
        [labels(answer) for answer in model.predict(TEXTS)],
    )
    (pair,) = model.predict(PAIRS[:1])
    assert ask(server.port, {"inputs": list(PAIRS[0])}, "/predict") == (200, labels(pair))
    mixed = [["a film"], list(PAIRS[0]), {"text": "a", "text_pair": "b"}, {"text": "c"}]
    expected = model.predict(["a film", PAIRS[0], ("a", "b"), "c"])
    assert ask(server.port, {"inputs": mixed}, "/predict") == (200, [labels(answer) for answer in expected])
    status, found = ask(server.port, {"inputs": TEXTS[0], "raw_scores": True, "truncate": False}, "/predict")
    assert status == 200 and {row["label"]: row["score"] for row in found} == dict(
        zip(model.config.labels, one.logits.tolist(), strict=True)
    )


def test_pairs_and_batches_of_the_hub(server, model):
    expected = [labels(answer) for answer in model.predict([*TEXTS, *PAIRS])]
    inputs = [*TEXTS, list(PAIRS[0]), {"text": PAIRS[1][0], "text_pair": PAIRS[1][1]}]
    assert ask(server.port, {"inputs": inputs}) == (200, expected)
    one = {"text": PAIRS[0][0], "text_pair": PAIRS[0][1]}
    assert ask(server.port, {"inputs": one}) == (200, expected[len(TEXTS) : len(TEXTS) + 1])
    best = [answer[:1] for answer in expected]
    assert ask(server.port, {"inputs": inputs, "parameters": {"top_k": 1}}) == (200, best)


def test_many_clients_at_once_get_the_bits_of_one(server, model):
    texts = [f"{text} {number}" for number in range(60) for text in TEXTS]
    expected = [[labels(model.predict([text])[0])] for text in texts]
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda text: ask(server.port, {"inputs": text}), texts))
    assert [status for status, _ in found] == [200] * len(texts)
    assert [answer for _, answer in found] == expected
    with urllib.request.urlopen(f"{server.url}/metrics") as response:
        sizes = [line for line in response.read().decode().splitlines() if line.startswith("bebert_batch_texts_")]
    counts = {line.split()[0]: float(line.split()[1]) for line in sizes}
    assert counts["bebert_batch_texts_count"] < counts["bebert_batch_texts_sum"], "nothing was gathered"


@pytest.mark.parametrize("way", ["exact", 0.9])
def test_early_exit_by_request(server, model, way):
    texts = [*TEXTS, *(f"{text} indeed" for text in TEXTS)]
    expected = [labels(answer) for answer in model.predict(texts, early_exit=way)]
    assert ask(server.port, {"inputs": texts, "parameters": {"early_exit": way}}) == (200, expected)
    assert expected != [labels(answer) for answer in model.predict(texts)], "some text asked fewer members"
    status, found = ask(server.port, {"inputs": texts[0], "early_exit": way}, "/predict")
    assert (status, found) == (200, expected[0])


def test_long_texts_are_refused_or_cut_as_the_request_says(server, model):
    long = "good " * 500
    for path, more in (("/", {"parameters": {"truncate": True}}), ("/predict", {"truncate": True})):
        status, refused = ask(server.port, {"inputs": long}, path)
        assert status == 422 and '502 tokens; this model accepts at most 64: shorten it, or send "truncate"' in str(
            refused
        )
        status, found = ask(server.port, {"inputs": long} | more, path)
        (expected,) = model.predict([long], truncate=True)
        assert status == 200 and (found[0] if path == "/" else found) == labels(expected)


def test_windows_if_the_server_reads_them(model):
    long = "a dull start . " * 30 + "but a gripping , funny film"
    with serving("--long", "windows") as server:
        (expected,) = model.predict([long], long="windows")
        assert expected.windows > 1
        assert ask(server.port, {"inputs": [long, "short"]}) == (
            200,
            [labels(expected), labels(model.predict(["short"])[0])],
        )


def test_votes_are_what_each_member_says(server, model):
    status, found = ask(server.port, {"inputs": TEXTS[2]}, "/votes")
    (expected,) = model.predict([TEXTS[2]])
    assert status == 200 and (found["label"], found["score"]) == (expected.label, expected.score)
    assert found["probabilities"] == expected.probabilities
    assert [member["label"] for member in found["members"]] == expected.votes
    assert [member["weight"] for member in found["members"]] == model.alphas.tolist()
    mixed = sum(member["weight"] * member["probabilities"]["positive"] for member in found["members"])
    assert math.isclose(mixed / model.alphas.sum(), expected.probabilities["positive"], rel_tol=1e-12)
    assert found["milliseconds"] > 0
    assert ask(server.port, {"inputs": TEXTS}, "/votes")[0] == 422


def test_info_tells_the_model_and_the_engine(server, model):
    with urllib.request.urlopen(f"{server.url}/info") as response:
        info = json.load(response)
    assert info["model_id"] == "demo_model" and len(info["model_sha"]) == 64
    assert info["tensors_sha256"] == model.config.tensors_sha256
    assert info["model_type"]["classifier"]["id2label"] == {"0": "negative", "1": "positive"}
    assert info["engine"]["threads"] >= 1 and info["kernels"]["from"] and info["members"] == 2
    assert str(MODEL.parent) not in json.dumps(info), "no path of the machine"
