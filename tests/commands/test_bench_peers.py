"""Peers compute the same network as PyTorch, from files made once; what is missing is named with its pip line."""

import json
import os
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from bench_command import run

from bebert_export.peers import engines as peer_engines
from bebert_export.peers.engines import BASELINE, PEERS
from bebert_infer.bench import peers as bench_peers
from bebert_infer.bench.engines import Engine, EngineGroup
from bebert_infer.bench.peers import find_peers, peers_folder
from bebert_infer.bench.run import BASELINE as BASELINE_OF_RUN
from bebert_infer.bench.run import run_groups
from bebert_infer.bench.settings import make_settings
from bebert_infer.bench.turns import Geometry, random_tokens
from bebert_infer.errors import BebertError

SMALL = Geometry(layers=2, hidden=64, heads=2, intermediate=128, vocabulary=50, positions=32)
TOLERANCE = {
    "PyTorch fp32": 1e-6,
    "ONNX Runtime fp32": 1e-4,
    "OpenVINO fp32": 1e-4,
    "OpenVINO bf16": 0.05,
    "PyTorch int8 dynamic": 0.1,
    "ONNX Runtime int8 dynamic": 0.1,
    "ONNX Runtime int4 weights": 0.2,  # a step is a seventh of the largest weight of 32
    "OpenVINO int8 NNCF": 0.2,
    "LiteRT int8 XNNPACK": 0.1,
}
LITERT = "LiteRT int8 XNNPACK"


class Status(list):
    """Stands in for the progress display, and remembers what it was told."""

    def __call__(self, text):  # noqa: D102
        self.append(text)
        return nullcontext()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory):
    """What peers of a small BERT are made from."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from bebert_export.peers.files import Workshop

    return Workshop(SMALL, tmp_path_factory.mktemp("peers"))


def load(workshop, name):
    peer = PEERS[name]
    if reason := peer_engines.missing(peer) or peer.unavailable():
        pytest.skip(reason)
    return peer.load(workshop.files(peer), 1)


@pytest.mark.parametrize("name", TOLERANCE)
def test_a_peer_computes_the_same_network_for_any_batch_and_length(workshop, name):
    assert set(PEERS) - set(TOLERANCE) == {"bebert ONNX"} and BASELINE == BASELINE_OF_RUN
    engine, baseline = load(workshop, name), load(workshop, BASELINE)
    for shape in ((1, 7), (3, 20)):
        ids = random_tokens(SMALL.vocabulary, *shape)
        expected = baseline(ids)()
        assert expected.shape == (shape[0], 2)
        assert engine(ids)() == pytest.approx(expected, abs=TOLERANCE[name])
    assert not workshop.model.training  # an exporter that switched dropout on would slow PyTorch down


def test_int4_weights_run_on_the_product_for_them(workshop):
    """Every linear layer of the blocks and the pooler is a MatMulNBits of 4 bits."""
    onnx = pytest.importorskip("onnx")
    load(workshop, "ONNX Runtime int4 weights")
    graph = onnx.load(workshop.files(PEERS["ONNX Runtime int4 weights"]) / "model.onnx").graph
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert len(products) >= 6 * SMALL.layers
    assert {field.i for node in products for field in node.attribute if field.name == "bits"} == {4}


@pytest.mark.parametrize("batch", [1, 3])
def test_litert_runs_in_one_piece_on_xnnpack(workshop, batch):
    """From the look-ups of words and positions to the logits: no operator falls back to a slower kernel."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install ai-edge-litert")
    from bebert_export.peers.loaders import _litert

    interpreter = _litert(workshop.files(PEERS[LITERT]), batch, 1)
    nodes = interpreter._get_ops_details()
    (delegate,) = (node for node in nodes if node["op_name"] == "DELEGATE")
    found = {int(tensor) for node in nodes if node["op_name"] == "EMBEDDING_LOOKUP" for tensor in node["outputs"]}
    assert len(found) == 2 and found <= set(delegate["inputs"].tolist())
    assert delegate["outputs"].tolist() == [tensor["index"] for tensor in interpreter.get_output_details()]


def test_a_call_of_litert_is_right_after_others_of_other_lengths_and_batches(workshop, capfd):
    engine = load(workshop, LITERT)
    asked = [random_tokens(SMALL.vocabulary, *shape) for shape in ((1, 7), (2, 20), (1, 20), (2, 3))]
    calls = [engine(ids) for ids in asked]
    alone = [load(workshop, LITERT)(ids)() for ids in asked]
    for number in (0, 1, 2, 3, 1, 0):
        assert np.array_equal(calls[number](), alone[number])
    assert capfd.readouterr().err == ""  # LiteRT would tell of its delegate amid our tables


def test_litert_is_not_given_an_activation_that_it_would_compute_wrongly(tmp_path, workshop, monkeypatch):
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install ai-edge-litert")
    from bebert_export.peers.litert_graph import write_litert

    monkeypatch.setattr(workshop.model.config, "hidden_act", "silu")
    with pytest.raises(ValueError, match='hidden_act is "silu"; known are gelu, gelu_new, relu'):
        write_litert(workshop.model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_int8_files_are_smaller(workshop):
    sizes = {}
    for name in ("PyTorch fp32", "PyTorch int8 dynamic"):
        load(workshop, name)
        sizes[name] = sum(file.stat().st_size for file in workshop.files(PEERS[name]).iterdir())
    assert sizes["PyTorch int8 dynamic"] < 0.6 * sizes["PyTorch fp32"]


def test_files_are_made_once(workshop):
    made = []
    for _ in range(2):
        folder = workshop.made("thing", lambda folder: made.append((folder / "file").write_text("x")), "numpy")
    assert len(made) == 1 and (folder / "file").read_text() == "x"
    assert [path.name for path in workshop.folder.glob("thing*")] == [folder.name]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_build_that_fails_or_is_interrupted_leaves_nothing(workshop, error):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise error("disk full")

    with pytest.raises(error, match="disk full"):
        workshop.made("broken", fail, "numpy")
    assert not list(workshop.folder.glob("broken*"))


def group(name="small") -> EngineGroup:
    return EngineGroup(name, name, SMALL, {}, SMALL.vocabulary, SMALL.positions)


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch, tmp_path):
    monkeypatch.setattr(peer_engines, "find_spec", lambda name: None if name in ("nncf", "torch") else find_spec(name))
    found, missing = find_peers([group()], make_settings()[0], tmp_path, Status())
    assert found == {"small": []} and list(missing) == list(PEERS)
    assert missing["PyTorch fp32"].startswith("not installed: pip install torch")
    assert missing["OpenVINO int8 NNCF"].startswith("not installed: pip install torch")
    assert "nncf" in missing["OpenVINO int8 NNCF"] and "nncf" not in missing["OpenVINO fp32"]
    assert "ai_edge_litert" not in "".join(reason for name, reason in missing.items() if name != LITERT)
    assert not list(tmp_path.iterdir())


def test_without_litert_the_run_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(peer_engines, "PEERS", {LITERT: PEERS[LITERT]})
    monkeypatch.setattr(peer_engines, "find_spec", lambda name: None if name == "ai_edge_litert" else object())
    found, missing = find_peers([group()], make_settings()[0], tmp_path, Status())
    assert found == {"small": []} and missing == {LITERT: "not installed: pip install ai_edge_litert"}


def test_a_peer_that_breaks_costs_its_own_row(workshop, monkeypatch, tmp_path):
    def broken(self, peer):
        raise RuntimeError("of another version\nwith a long story")

    monkeypatch.setattr(type(workshop), "files", broken)
    found, missing = find_peers([group()], make_settings()[0], tmp_path, Status())
    assert found == {"small": []}
    assert missing["PyTorch fp32"] == "cannot run here: RuntimeError: of another version"


def test_a_quick_run_without_time_makes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(peer_engines, "missing", lambda peer: "")
    settings = make_settings(quick=True, begun=time.monotonic() - 61)[0]
    status = Status()
    found, missing = find_peers([group("one"), group("two")], settings, tmp_path, status)
    assert found == {"one": [], "two": []} and "time of --quick" in missing["OpenVINO int8 NNCF"]
    assert not status and not list(tmp_path.iterdir())


def test_the_cache_forgets_what_no_run_has_used_for_a_month(monkeypatch, tmp_path):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("BEBERT_CACHE_DIR", str(tmp_path))
    with peers_folder(None) as folder:
        assert folder == tmp_path / "peers"
        for name, days in (("new", 29), ("old", 31)):
            (folder / name).mkdir()
            (folder / name / "model.onnx").write_text("x")
            os.utime(folder / name, (time.time() - 86400 * days,) * 2)
    with peers_folder(None) as folder:
        assert [entry.name for entry in folder.iterdir()] == ["new"]
    bench_peers.mark_used([Engine("g", "n", "fp32", folder / "new")])
    assert time.time() - (folder / "new").stat().st_mtime < 60
    with peers_folder(tmp_path / "mine") as folder:
        assert folder == tmp_path / "mine"


def test_without_a_cache_peers_vanish_after_the_run(monkeypatch, tmp_path):
    tmp_path.chmod(0o755)  # others may look in: nothing is kept there
    monkeypatch.setenv("BEBERT_CACHE_DIR", str(tmp_path))
    with peers_folder(None) as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_another_network_under_the_name_of_a_full_precision_peer_ends_the_run(workshop, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    load(workshop, "ONNX Runtime fp32")
    right = peer_engines.PEERS["ONNX Runtime fp32"].load

    def wrong(folder, threads):
        engine = right(folder, threads)
        return lambda ids: lambda: engine(ids)() + np.float32(0.01)

    only = {BASELINE: PEERS[BASELINE]}
    only["ONNX Runtime fp32"] = peer_engines.Peer("fp32", "onnx", (), wrong, ())
    monkeypatch.setattr(peer_engines, "PEERS", only)
    settings = make_settings(quick=True, lengths="4", rounds=1, threads="1")[0]
    with pytest.raises(BebertError, match="ONNX Runtime fp32 computes another network than PyTorch fp32"):
        run_groups([group()], settings, workshop.folder, Status())


UNHURRIED = """
import dataclasses
import bebert_export.peers.engines as engines, bebert_infer.bench.settings as settings
engines.PEERS = {name: engines.PEERS[name] for name in ("PyTorch fp32", "ONNX Runtime int8 dynamic")}
make = settings.make_settings
def unhurried(**options):
    made, notes = make(**options)
    return dataclasses.replace(made, prepare_seconds=1e9, total_seconds=2e9), notes
settings.make_settings = unhurried
"""


@pytest.mark.slow
def test_a_run_with_peers_has_their_figures_too(tmp_path):
    """Two of them, and as much time as they want."""
    for package in ("torch", "transformers", "onnxruntime"):
        pytest.importorskip(package)
    done = run(
        *("--size", "tiny", "--scheme", "1-1-1", "--members", 1, "--tokens", 4, "--rounds", 1, "--quick", "--json"),
        *("--threads", 1, "--peers-folder", tmp_path),
        code=UNHURRIED,
    )
    assert done.returncode == 0, done.stderr
    assert "are kept for the next run" in done.stderr
    record = json.loads(done.stdout)
    engines = {engine["name"]: engine for engine in record["engines"]}
    assert list(engines) == ["PyTorch fp32", "ONNX Runtime int8 dynamic", "bebert 1-1-1, 1 member"]
    assert record["missing"] == {} and not record["notes"]
    assert {row["engine"] for row in record["latency"]} == set(engines)
    assert {row["engine"] for row in record["throughput"]} == set(engines)
    for name, engine in engines.items():
        assert 0 < engine["load_s"] < engine["first_answer_s"] and engine["bytes"] > 0, name
        names = {package.split()[0] for package in engine["install_packages"]}
        assert ("torch" in names, "bebert-infer" in names) == ("PyTorch" in name, "bebert" in name)
    assert engines["PyTorch fp32"]["install_bytes"] > engines["ONNX Runtime int8 dynamic"]["install_bytes"] > 0
    assert 0 < record["import_numpy_s"] < engines["PyTorch fp32"]["first_answer_s"]
    exact, int8 = engines["PyTorch fp32"], engines["ONNX Runtime int8 dynamic"]
    assert exact["operations"]["fp32"] > 2 * int8["operations"]["8×8"] > 0
    assert exact["logit_difference"] == 0 < int8["logit_difference"] < 0.1
    assert exact["bytes"] > 2 * int8["bytes"] and exact["peak_rss_bytes"] > int8["peak_rss_bytes"]
