"""A packed ensemble as ONNX gives the engine's answers in ONNX Runtime, bit for bit where no GELU is rounded."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="exporting needs the extra [onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="exporting needs the extra [onnx]")

from any_member import members, model_of
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import micro_config, random_tensors

from bebert_export.packed_onnx import check as checking
from bebert_export.packed_onnx import floats
from bebert_export.packed_onnx.build import build
from bebert_export.packed_onnx.export import export_packed
from bebert_export.packed_onnx.graph import Graph
from bebert_export.packed_onnx.signs import weight_signs
from bebert_export.packed_onnx.vote import vote
from bebert_infer import Ensemble
from bebert_infer.artifact.folder import Artifact, finish_config
from bebert_infer.cli.demo import SENTENCES
from bebert_infer.combine import class_probabilities, combine
from bebert_infer.errors import ParityError
from bebert_infer.measure.sample_models import demo_path, random_model
from bebert_kernels.reference import floats as truth

ROUNDING = 2e-6  # of GELU in float32 instead of float64, two layers on
ROOT = Path(__file__).parents[2]
FROZEN = ROOT / "tests" / "data" / "artifacts" / "v1"
CPU = ["CPUExecutionProvider"]


def session_of(ensemble: Ensemble):
    return onnxruntime.InferenceSession(build(ensemble).SerializeToString(), providers=CPU)


def feed(ids, mask=None, types=None) -> dict:
    ids = np.asarray(ids, np.int64)
    mask = np.ones_like(ids) if mask is None else np.asarray(mask, np.int64)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids) if types is None else np.asarray(types, np.int64),
    }


def random_batch(ensemble: Ensemble, lengths: list[int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = random.integers(0, ensemble.limits.vocabulary, mask.shape)
    return ids, mask, random.integers(0, ensemble.limits.types, mask.shape)


@settings(max_examples=int(os.environ.get("BEBERT_EXAMPLES", "12")), deadline=None)
@given(members(), st.lists(st.sampled_from([1, 2, 15, 16, 17, 63, 65]), min_size=1, max_size=3), st.integers(0, 99))
def test_any_legal_member_gives_the_codes_of_the_truth(member, lengths, seed):
    """Every quantizer, hidden state and logit, with the truth's codes put in; then the model alone, padded."""
    ensemble = Ensemble(model_of(member, seed), backend="reference")
    seen = checking.Agreement()
    batch = random_batch(ensemble, lengths, seed)
    with np.errstate(over="ignore", invalid="ignore"):
        checking._check_member(ensemble, 0, ensemble.trace(*batch)[0], batch, seen)
        expected = ensemble.member_logits(*batch)
    assert seen.faults == [] and seen.codes > 0
    if member.activation == "relu":
        assert seen.flips == 0 and seen.max_hidden_difference == 0
        found = session_of(ensemble).run(["member_logits"], feed(*batch))[0]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("scheme", ["codes", "sign"])
def test_word_edges(width, scheme):
    config = micro_config(hidden_size=width, attention_size=2 * width, intermediate_size=width)
    if scheme == "sign":
        sites = {name: msgspec.structs.replace(site, kind="sign", bits=1, signed=True) for name, site in
                 config.members[0].sites.items() if not name.endswith("_codes")}  # fmt: skip
        member = msgspec.structs.replace(config.members[0], sites=sites, attention="boolean")
        config = msgspec.structs.replace(config, members=[member])
    config, _ = finish_config(config, tensors := random_tensors(config, width))
    ensemble = Ensemble(Artifact(Path("edges"), config, tensors, None), backend="reference")
    batch = random_batch(ensemble, [1, 3, 8], width)
    np.testing.assert_array_equal(
        session_of(ensemble).run(["member_logits"], feed(*batch))[0], ensemble.member_logits(*batch)
    )


@pytest.mark.parametrize("folder", sorted(path.name for path in FROZEN.iterdir() if path.is_dir()))
def test_frozen_models_of_every_family(folder, tmp_path):
    """Export with its check, then answers to what the frozen answers were made of."""
    out = tmp_path / folder / "model.onnx"
    exported = export_packed(FROZEN / folder, out)
    assert exported.bytes == out.stat().st_size and exported.agreement.codes > 0
    ensemble = Ensemble.from_pretrained(FROZEN / folder)
    batch = random_batch(ensemble, [ensemble.limits.positions, 1, 5], 3)
    found = onnxruntime.InferenceSession(str(out), providers=CPU).run(None, feed(*batch))
    gelu = any(member.activation == "gelu" and member.attention == "softmax" for member in ensemble.config.members)
    np.testing.assert_allclose(found[2], ensemble.member_logits(*batch), atol=ROUNDING if gelu else 0, rtol=0)
    shares = [list(answer.probabilities.values()) for answer in ensemble.predict_ids(*batch)]
    np.testing.assert_allclose(found[1], shares, atol=ROUNDING if gelu else 1e-7, rtol=1e-6)  # float64 to float32


@pytest.mark.parametrize("case", ["bebert_binarybert_1_1_4", "bibert_1_1_1", "bit_1_1_2", "ternarybert_2_2_8"])
def test_a_published_checkpoint_gives_its_published_logits(golden, case, tmp_path):
    pytest.importorskip("torch")
    from bebert_export.convert import convert

    convert([golden / case], tmp_path / "model")
    export_packed(tmp_path / "model", tmp_path / "model.onnx")
    # 8-bit scales are those of a sentence: the published ones where the batch is one sentence.
    suffix = "_b1" if case == "ternarybert_2_2_8" else ""
    stored, expected = np.load(golden / case / f"batch{suffix}.npz"), np.load(golden / case / f"expected{suffix}.npz")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=CPU)
    (logits,) = session.run(["logits"], {name: stored[name].astype(np.int64) for name in feed([[0]])})
    np.testing.assert_allclose(
        logits, expected["logits"], atol=1e-5, rtol=0
    )  # as in tests/runtime/test_golden_models.py


def test_padding_and_neighbours_change_no_bit():
    for scheme in ("1-1-4", "1-1-1", "2-2-8"):
        ensemble = Ensemble(random_model("tiny", scheme, 2, vocab_size=50))
        session = session_of(ensemble)
        ids, mask, types = random_batch(ensemble, [1, 9, 30, 16], 1)
        together = session.run(["member_logits"], feed(ids, mask, types))[0]
        for row, length in enumerate(mask.sum(axis=1)):
            part = (slice(row, row + 1), slice(length))
            alone = session.run(["member_logits"], feed(ids[part], mask[part], types[part]))[0]
            np.testing.assert_array_equal(together[:, row], alone[:, 0])


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_every_rule_of_the_vote(problem):
    """Scores and shares of the graph are those of `combine.py`, for alphas of both signs where they are allowed."""
    base = micro_config(members=3)
    rules = ("mean", "median") if problem == "regression" else ("vote", "logits", "probabilities")
    labels = 1 if problem == "regression" else 4
    names = {str(i): f"label {i}" for i in range(labels)}
    for rule in rules:
        for alphas in ([0.83, 0.47, 0.61], [0.1, 0.2, 0.3], [0.9, 0.25 if rule == "median" else -0.25, 0.52]):
            config = msgspec.structs.replace(
                base,
                num_labels=labels,
                id2label=names,
                label2id={name: int(key) for key, name in names.items()},
                problem_type=problem,
                combination=rule,
                members=[*base.members],
            )
            tensors = random_tensors(config, 5)
            tensors["alphas"][:] = alphas
            config, _ = finish_config(config, tensors)
            ensemble = Ensemble(Artifact(Path("rule"), config, tensors, None))
            batch = random_batch(ensemble, [1, 4, 8, 3, 5, 2], 2)
            logits, shares, each = session_of(ensemble).run(None, feed(*batch))
            np.testing.assert_array_equal(each, ensemble.member_logits(*batch))
            scores = combine(rule, each, ensemble.alphas, multi_label=config.multi_label)
            np.testing.assert_allclose(logits, scores, rtol=1e-6, atol=1e-7)  # float32 of float64
            if problem != "regression":
                wanted = class_probabilities(rule, scores, ensemble.alphas, multi_label=config.multi_label)
                np.testing.assert_allclose(shares, wanted, rtol=1e-6, atol=1e-7)


def test_what_the_engine_refuses_is_an_error():
    """No answer to a token, type or mask that there is not, to a padded first token, or to too many tokens."""
    ensemble = Ensemble(random_model("tiny", "1-1-4", 1, vocab_size=50))
    session, limit = session_of(ensemble), ensemble.limits.positions
    fine = [[1, 2, 3]]
    assert session.run(["logits"], feed(fine))[0].shape == (1, 2)
    assert session.run(["logits"], feed(np.ones((1, limit))))[0].shape == (1, 2)
    for bad in (
        feed([[1, 50, 3]]),
        feed([[1, -1, 3]]),
        feed(fine, [[0, 1, 1]]),
        feed(fine, [[1, 2, 1]]),
        feed(fine, [[1, 1, -1]]),
        feed(fine, None, [[0, 0, 2]]),
        feed(fine, None, [[0, -1, 0]]),
        feed(np.ones((1, limit + 1))),
    ):
        with pytest.raises(Exception, match="out of data bounds"):
            session.run(None, bad)


def test_float_operations_are_those_of_the_engine_bit_for_bit():
    """With all of ONNX Runtime's own changes to a graph; each of these was found undone by one of them."""
    random = np.random.default_rng(0)

    def run(operation, x):
        graph = Graph()
        graph.output("y", operation(graph, graph.input("x", np.float32, [None] * x.ndim)), np.float32, [None] * x.ndim)
        session = onnxruntime.InferenceSession(graph.model("one", "", {}).SerializeToString(), providers=CPU)
        return session.run(None, {"x": x})[0]

    for width in (1, 15, 16, 17, 384):
        x = random.normal(0, 3, (2, 9, width)).astype(np.float32)
        gamma, beta = random.normal(0, 1, (2, width)).astype(np.float32)
        found = run(lambda graph, x, g=gamma, b=beta: floats.layer_norm(graph, x, g, b, 1e-12), x)
        np.testing.assert_array_equal(
            found, truth.layer_norm(x.reshape(-1, width), None, gamma, beta, 1e-12).reshape(x.shape)
        )
    x = -np.concatenate([np.linspace(0, 87.29, 100_001), np.arange(88) * np.log(2)]).astype(np.float32)
    x = x[x > -87.3]
    np.testing.assert_array_equal(run(floats.exp, x), truth.exp(x))
    x = random.normal(0, 20, (2, 3, 5, 37)).astype(np.float32)
    x[0, 0, 0, 1:] = -np.inf
    found = run(lambda graph, x: floats.softmax(graph, x, graph.constant(np.zeros(11, np.float32))), x)
    np.testing.assert_allclose(found[1], truth.softmax(x[1]), rtol=0, atol=1.3e-38)  # what underflows, see `floats.exp`
    assert found[0, 0, 0, 0] == 1 and found[0, 0, 0, 1:].max() < 1.3e-38
    x = random.normal(0, 2, (4, 50)).astype(np.float32)
    np.testing.assert_array_equal(run(floats.tanh, x), truth.tanh(x))


def test_the_shipped_model_stays_packed_and_answers_without_us(tmp_path):
    """At most 1.1 times the packed tensors; standard operators only; read by a process that has ONNX Runtime alone."""
    out = tmp_path / "packed" / "model.onnx"
    exported = export_packed(demo_path(), out)
    assert out.stat().st_size <= 1.1 * exported.packed_bytes
    assert exported.agreement.flips == 0 and exported.agreement.max_logit_difference == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.onnx", "tokenizer.json"]
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert {(one.domain, one.version >= 21) for one in model.opset_import} == {("", True)}
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    ensemble = Ensemble.from_pretrained(demo_path())
    about = {field.key: field.value for field in model.metadata_props}
    assert json.loads(about["labels"]) == ensemble.config.labels
    assert about["tensors_sha256"] == ensemble.config.tensors_sha256
    assert about["combination"] == "probabilities" and json.loads(about["families"]) == ["bwn"] * 2
    # The program of the page, in a process that cannot see us, on more texts.
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "onnx.md").read_text("utf-8"), re.DOTALL)
    texts = [sentence for sentence, _ in SENTENCES]
    assert '["a gripping, funny film", "dull"]' in code
    code = code.replace('["a gripping, funny film", "dull"]', json.dumps(texts))
    code += "import sys\nassert not [name for name in sys.modules if name.startswith('bebert')]\n"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([answer.label for answer in ensemble.predict(texts)])


def test_the_word_table_stays_packed_in_memory(tmp_path):
    """What ONNX Runtime holds after loading: int8 weights of the layers, but of the table of words bytes of signs."""
    ensemble = Ensemble(random_model("tiny", "1-1-1", 1, vocab_size=3000))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(build(ensemble).SerializeToString(), options, providers=CPU)
    loaded = onnx.load(tmp_path / "loaded.onnx")
    shapes = {(tuple(tensor.dims), tensor.data_type) for tensor in loaded.graph.initializer}
    assert ((3000, 128 // 8), onnx.TensorProto.UINT8) in shapes
    assert ((128, 512), onnx.TensorProto.INT8) in shapes
    assert not any(dims[:1] == (3000,) and np.prod(dims) > 3000 * 16 for dims, _ in shapes)


def test_a_model_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    out = tmp_path / "model.onnx"
    out.write_bytes(b"before")
    monkeypatch.setattr(
        "bebert_export.packed_onnx.linear.weight_signs",
        lambda graph, words, depth: weight_signs(graph, words ^ np.uint64(1), depth),
    )
    with pytest.raises(ParityError, match="member 0 codes.l0.*codes differ"):
        export_packed(FROZEN / "own_text_probabilities", out)
    assert out.read_bytes() == b"before" and [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("damage", ["alphas", "rule"])
def test_a_wrong_vote_is_not_written(tmp_path, monkeypatch, damage):
    """The members may be right: then labels tell."""
    from bebert_export.packed_onnx import build as building

    def wrong(graph, config, logits, alphas):
        scores, shares = vote(graph, config, logits, -alphas if damage == "alphas" else alphas)
        return (scores, shares) if damage == "alphas" else (graph("Neg", scores), shares)

    monkeypatch.setattr(building, "vote", wrong)
    with pytest.raises(ParityError, match="labels are"):
        export_packed(FROZEN / "own_text_probabilities", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_loading_takes_no_time_that_grows_with_the_square_of_the_layers():
    """ONNX Runtime plans memory quickly where it knows the shapes; 24 layers once took 13 times as long as 6."""
    seconds = {}
    for layers in (6, 24):
        config, _ = finish_config(config := micro_config(num_hidden_layers=layers), tensors := random_tensors(config))
        model = build(Ensemble(Artifact(Path("deep"), config, tensors, None), backend="reference")).SerializeToString()
        seconds[layers] = []
        for _ in range(3):
            start = time.process_time()
            onnxruntime.InferenceSession(model, providers=CPU)
            seconds[layers].append(time.process_time() - start)
    assert min(seconds[24]) < 8 * min(seconds[6])
