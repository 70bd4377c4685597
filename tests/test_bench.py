"""`bebert bench` times every engine in turn; peers compute the same network and are limited, kept and named as told."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bebert_infer.bench import Engine, Geometry, compare, measure, parent_geometry
from bebert_infer.errors import InputError
from bebert_infer.synthetic import random_model

SMALL = Geometry(layers=2, hidden=64, heads=2, intermediate=128, vocabulary=50, positions=32)
LOGITS = np.zeros((1, 2))


def run(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    """Call the command in a process of its own, on the reference backend, which compiles nothing."""
    import os

    code += "from bebert_infer.cli import main; main()"
    environment = os.environ | {"COLUMNS": "200", "BEBERT_BACKEND": "reference"}
    command = [sys.executable, "-c", code, "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_every_engine_has_its_turn_in_every_round():
    seen = []
    calls = {name: lambda name=name: seen.append(name) for name in "abc"}
    times = measure(calls, 2, calls_a_turn=2, pause=0)
    assert {name: len(values) for name, values in times.items()} == {"a": 4, "b": 4, "c": 4}
    assert "".join(seen) == "abc" + "aaabbbccc" + "bbbcccaaa"  # once each; then one call that is not timed and two


def test_ratios_are_taken_against_the_fastest_of_a_kind():
    kinds = {"slow": "fp32", "fast": "fp32", "int": "int8", "bits": "packed"}
    engines = [Engine(name, kind, lambda: LOGITS) for name, kind in kinds.items()]
    times = {"slow": [9, 8, 100], "fast": [4, 4, 4], "int": [3, 2, 1], "bits": [1, 1, 1]}
    rows = {row.name: row for row in compare(engines, times, "slow")}
    assert rows["bits"].ratios == {"slow": 9, "fastest fp32": 4, "fastest int8": 2}
    assert (rows["slow"].median_ms, rows["slow"].min_ms, rows["slow"].max_ms) == (9, 8, 100)
    assert compare(engines[3:], times)[0].ratios == {}


@pytest.mark.parametrize("size", ["base", "base-half"])
def test_the_parent_of_full_and_half_width_is_bert_base(size):
    assert parent_geometry(random_model(size, "1-1-4", 1, vocab_size=9).config) == Geometry(vocabulary=9)


def test_a_random_ensemble_alone():
    done = run("--size", "tiny", "--members", 1, "--tokens", 4, "--rounds", 1, "--no-peers", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["tokens"], facts["members"], facts["missing"]) == (4, 1, {})
    (ours,) = facts["engines"]
    assert ours["median_ms"] > 0 and ours["kind"] == "packed" and ours["ratios"] == {}


def test_without_torch_it_measures_ours_and_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None\n"
    done = run("--size", "tiny", "--members", 1, "--tokens", 4, "--rounds", 1, code=code)
    assert done.returncode == 0, done.stderr
    assert "bebert" in done.stdout and "bebert-infer[bench]" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [("--size", "huge", "base-half"), ("--scheme", "2-2-2", "1-1-4"), ("--tokens", 513, "at most 512")],
)
def test_a_wrong_option_is_one_sentence(option, value, part):
    done = run(option, value, "--no-peers")
    assert done.returncode == 2 and part in done.stderr and "Traceback" not in done.stderr


def test_the_profile_names_operations_and_rates():
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.profiling import profile

    try:
        rows = profile(Ensemble(random_model("tiny", "1-1-1", 1, vocab_size=9), threads=1), 4, rounds=2)
    except InputError:
        pytest.skip("no native program on this machine")
    assert {"attention", "norm", "output"} <= {row.operation for row in rows}
    assert sum(row.share for row in rows) == pytest.approx(1)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory):
    """What peers of a small BERT are built from."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from bebert_export.peers import Workshop

    ids = np.random.default_rng(0).integers(0, SMALL.vocabulary, (1, 7))
    return Workshop(SMALL, ids, 1, tmp_path_factory.mktemp("peers"))


NAMES = {
    "PyTorch fp32": 1e-6,
    "ONNX Runtime fp32": 1e-4,
    "OpenVINO fp32": 1e-4,
    "OpenVINO bf16": 0.05,
    "PyTorch int8 dynamic": 0.1,
    "ONNX Runtime int8 dynamic": 0.1,
    "OpenVINO int8 NNCF": 0.2,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_computes_the_same_network(workshop, name):
    from bebert_export.peers import PEERS, build_peer

    assert list(PEERS) == list(NAMES)
    built = build_peer(name, workshop)
    if isinstance(built, str):
        pytest.skip(built)
    expected = build_peer("PyTorch fp32", workshop).call()
    assert built.call() == pytest.approx(expected, abs=NAMES[name])
    assert not workshop.model.training  # an exporter that switched dropout on would slow PyTorch down


def test_files_are_made_once(workshop):
    made = []
    for _ in range(2):
        folder = workshop.made("thing", lambda folder: made.append((folder / "file").write_text("x")), "numpy")
    assert len(made) == 1 and (folder / "file").read_text() == "x"
    assert [path.name for path in workshop.folder.glob("thing*")] == [folder.name]


def test_a_failed_build_leaves_nothing(workshop):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        workshop.made("broken", fail, "numpy")
    assert not list(workshop.folder.glob("broken*"))


def test_a_missing_package_is_named(workshop, monkeypatch):
    from bebert_export import peers

    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == "nncf" else find_spec(name))
    answer = peers.build_peer("OpenVINO int8 NNCF", workshop)
    assert isinstance(answer, str) and answer.startswith("not installed: ") and "nncf" in answer
