"""The environment of an engine has what its user installs and nothing else; its size is the bytes of these files."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import Distribution, PackageNotFoundError, distributions
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bebert_export.peers import engines as peer_engines
from bebert_export.peers.loaders import INPUTS
from bebert_infer.bench import environment as bench_environment
from bebert_infer.bench.engines import Engine, random_group
from bebert_infer.bench.environment import Environment, make_environment
from bebert_infer.bench.process import Question, engine_command, numpy_command, question, start
from bebert_infer.bench.requirements import NoEnvironmentError, installed_files, needed
from bebert_infer.bench.settings import Settings
from bebert_infer.bench.starts import measure_starts
from bebert_infer.bench.turns import random_tokens
from bebert_infer.ensemble import Ensemble
from bebert_infer.measure.sample_models import demo_path, random_model

ONNX = "ONNX Runtime int8 dynamic"


def install(site: Path, name: str, *requires: str, record: tuple[str, ...] | None = ()) -> None:
    """A distribution that is nothing but its metadata and empty files."""
    about = site / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    lines = [f"Requires-Dist: {line}" for line in requires]
    (about / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines]))
    if record is not None:
        (about / "RECORD").write_text("".join(f"{place},,\n" for place in record))


def finder(site: Path):
    def find(name: str) -> Distribution:
        for found in Distribution.discover(name=name, path=[str(site)]):
            return found
        raise PackageNotFoundError(name)

    return find


def test_requirements_are_followed_through_markers_and_extras(tmp_path):
    for name, *requires in (
        ("engine", "some_array>=1", "text[fast]; python_version > '3'", "windows; sys_platform == 'win32'"),
        ("some.array", "engine"),  # a circle
        ("text", "quick; extra == 'fast'", "plots; extra == 'draw'", "base"),
        ("quick", "text"),
        ("base",),
        ("plots",),
        ("stranger",),
    ):
        install(tmp_path, name, *requires)
    find = finder(tmp_path)
    assert list(needed(["engine"], find)) == ["base", "engine", "quick", "some-array", "text"]
    assert list(needed(["text"], find)) == ["base", "text"]
    assert list(needed(["text", "text[draw]", "Some-Array"], find)) == [
        *("base", "engine", "plots", "quick", "some-array", "text")
    ]


def test_what_is_not_installed_is_named_with_who_needs_it(tmp_path):
    install(tmp_path, "engine", "array")
    with pytest.raises(NoEnvironmentError, match="^engine needs array, which is not installed$"):
        needed(["engine"], finder(tmp_path))
    with pytest.raises(NoEnvironmentError, match="^the engine needs nothing, which is not installed$"):
        needed(["nothing"], finder(tmp_path))


def test_files_are_those_of_the_record_below_site_packages(tmp_path):
    install(tmp_path, "engine", record=("engine/a.py", "../../bin/engine", "/etc/engine", "engine/../engine.libs/b.so"))
    assert installed_files("engine", finder(tmp_path)("engine")) == {
        "engine/a.py": tmp_path / "engine" / "a.py",
        "engine.libs/b.so": tmp_path / "engine.libs" / "b.so",
    }
    install(tmp_path, "of-debian", record=None)
    with pytest.raises(NoEnvironmentError, match="^of-debian has no RECORD"):
        installed_files("of-debian", finder(tmp_path)("of-debian"))
    install(tmp_path, "mine", record=("__editable__.mine-1.0.pth",))
    with pytest.raises(NoEnvironmentError, match="^mine is installed as editable"):
        installed_files("mine", finder(tmp_path)("mine"))


def test_a_checkout_in_which_a_build_has_left_its_metadata_is_a_checkout(tmp_path):
    """Found first by `python -m bebert_infer` in the checkout: no RECORD, but the files are known."""
    about = tmp_path / "bebert_infer.egg-info"
    about.mkdir()
    (about / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: bebert-infer\nVersion: 9\n")
    (left,) = distributions(path=[str(tmp_path)])
    files = installed_files("bebert-infer", left)
    assert files["bebert_infer.egg-info/PKG-INFO"] == about / "PKG-INFO"
    assert {"bebert_infer/ensemble.py", "bebert_kernels/packing.py", "bebert_export/convert.py"} <= files.keys()


def test_size_counts_each_file_once_and_no_byte_code(tmp_path, monkeypatch):
    site = tmp_path / "site"
    both = ("shared/name.py", "gone.py")
    install(site, "one", "two", record=(*both, "one.py", "__pycache__/one.cpython-311.pyc"))
    install(site, "two", record=both)
    for place, size in (("shared/name.py", 5), ("one.py", 70), ("__pycache__/one.cpython-311.pyc", 900)):
        (site / place).parent.mkdir(exist_ok=True)
        (site / place).write_bytes(b"#" * size)
    monkeypatch.setattr(bench_environment, "needed", lambda names: needed(names, finder(site)))
    made = make_environment(["one"], tmp_path / "made")
    assert made.packages == ("one 1.0", "two 1.0") and made.bytes == 75
    (packages,) = (tmp_path / "made").glob("lib/python*/site-packages")
    links = {path.relative_to(packages).as_posix(): path for path in packages.rglob("*") if path.is_symlink()}
    assert set(links) == {"shared/name.py", "one.py", "__pycache__/one.cpython-311.pyc"}


def test_requirements_that_nobody_can_read_cost_no_more_than_a_row(tmp_path, monkeypatch):
    install(tmp_path, "old", "array (>dev)")
    monkeypatch.setattr(bench_environment, "needed", lambda names: needed(names, finder(tmp_path)))
    with pytest.raises(NoEnvironmentError, match="^no environment of its own: .*array"):
        make_environment(["old"], tmp_path / "made")


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Environment:
    return make_environment(("bebert-infer",), tmp_path_factory.mktemp("ours") / "environment")


def importable(environment: Environment, *names: str) -> set[str]:
    code = "import sys; from importlib.util import find_spec; print(*filter(find_spec, sys.argv[1:]))"
    command = [str(environment.python), "-I", "-c", code, *names]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_ours_has_the_runtime_and_nothing_of_the_extras(ours):
    runtime = {"bebert_infer", "bebert_kernels", "numpy", "tokenizers", "safetensors"}
    others = {"numba", "llvmlite", "torch", "transformers", "pyarrow", "onnxruntime", "pip", "pytest"}
    assert importable(ours, *runtime, *others) == runtime


def test_size_of_ours_is_that_of_the_files_that_are_there(ours):
    (packages,) = ours.python.parents[1].glob("lib/python*/site-packages")
    links = [path for path in packages.rglob("*") if path.is_symlink()]
    assert len(links) > 500 and all(path.is_file() for path in links)
    assert ours.bytes == sum(path.stat().st_size for path in links if path.suffix != ".pyc")


# One of each engine: int8 and float32 have the same packages.
ONE_EACH = {peer.runtime: peer for peer in peer_engines.PEERS.values()}


@pytest.mark.parametrize("peer", ONE_EACH.values(), ids=lambda peer: peer.runtime[0])
def test_a_peer_has_its_engine_and_nothing_of_ours(peer, tmp_path):
    if reason := peer_engines.missing(peer):
        pytest.skip(reason)
    made = make_environment(peer.runtime, tmp_path / "environment")
    engines = {"torch", "onnxruntime", "openvino", "ai_edge_litert"}
    (own,) = engines & set(peer.runtime)
    assert importable(made, *engines, "tokenizers", "bebert_infer", "bebert_export", "onnx") == {own, "tokenizers"}


@pytest.fixture
def starts(tmp_path, monkeypatch):
    """Starts of ours and of a peer on a text or on token ids, and what was told meanwhile."""
    monkeypatch.setenv("BEBERT_BACKEND", "reference")  # compiles nothing
    (tmp_path / "random").mkdir()
    group = random_group({"ours": random_model("tiny", "1-1-1", 1, vocab_size=50)}, "g", "g", tmp_path / "random")
    told: list[str] = []

    def status(text: str):
        told.append(text)
        return nullcontext()

    def measure(engines: list[Engine], asked: Question):
        return measure_starts(engines, [group], {"g": asked}, Settings(processes=2), status, lambda what: False), told

    return group.packed_engines(4), measure


def test_an_engine_that_its_environment_does_not_suffice_costs_its_own_row(starts, monkeypatch):
    (ours,), measure = starts
    poor = replace(peer_engines.PEERS[ONNX], runtime=("numpy",))
    monkeypatch.setitem(peer_engines.PEERS, ONNX, poor)
    monkeypatch.setitem(peer_engines.PEERS, "OpenVINO fp32", replace(poor, runtime=("no-such-engine",)))
    peers = [Engine("g", name, "int8", Path("nowhere")) for name in (ONNX, "OpenVINO fp32")]
    found, told = measure([*peers, ours], question(None, 50, 4))
    assert found.notes == [
        f"g, start of {ONNX}: its process ended with 1: ModuleNotFoundError: No module named 'onnxruntime'",
        "g, start of OpenVINO fp32: the engine needs no-such-engine, which is not installed",
    ]
    mine = found.figures["g", "ours"]
    assert (found.import_numpy_s or 0) > 0  # one start each: which was quicker is noise
    assert mine["load_s"] < mine["first_answer_s"]
    assert "first_answer_s" not in found.figures["g", ONNX] and found.figures["g", ONNX]["install_bytes"] > 0
    assert "install_bytes" not in found.figures["g", "OpenVINO fp32"]
    assert told.count("g, start of ours") == 2 and told.count("an environment with numpy alone") == 1


def test_all_engines_of_a_group_answer_the_same_text(tmp_path, ours):
    """ONNX Runtime with a graph that answers the ids that it was given; ours with the shipped model."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make = onnx.helper
    inputs = [make.make_tensor_value_info(name, onnx.TensorProto.INT64, [None, None]) for name in INPUTS]
    output = make.make_tensor_value_info("logits", onnx.TensorProto.INT64, [None, None])
    graph = make.make_graph([make.make_node("Identity", INPUTS[:1], ["logits"])], "echo", inputs, [output])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    tokenizer = demo_path() / "tokenizer.json"
    asked = question(tokenizer, 50, 4)
    assert asked.words == f'the text "{asked.given}"'
    peer = make_environment(peer_engines.PEERS[ONNX].runtime, tmp_path / "peer")
    ids = Tokenizer.from_file(str(tokenizer)).encode(asked.given).ids
    assert answer(Engine("g", ONNX, "int8", tmp_path), peer, asked) == str(np.array([ids]))
    assert answer(Engine("g", ONNX, "int8", tmp_path), peer, question(None, 50, 4)) == str(random_tokens(50, 1, 4))
    mine = answer(Engine("g", "ours", "packed", demo_path()), ours, asked)
    assert mine == str(Ensemble.from_pretrained(demo_path(), threads=1)(asked.given))


def answer(engine: Engine, environment: Environment, asked: Question) -> str:
    """What the program of a start prints when it is asked."""
    command = engine_command(engine, environment, asked, 1)
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    loaded, answered = said.rstrip().split("\n", 1)
    assert loaded == "loaded"
    return answered.removeprefix("answer ")


def test_a_start_imports_nothing_from_the_current_folder_or_pythonpath(ours, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert start(numpy_command(ours))["first_answer_s"] > 0


def test_an_application_that_embeds_python_is_not_started_for_an_environment(monkeypatch, tmp_path):
    program = tmp_path / "reviews"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    program.chmod(0o755)
    for executable in (None, "", str(program), str(tmp_path / "python")):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(NoEnvironmentError, match="^no environment of its own: "):
            make_environment(("numpy",), tmp_path / "environment")
    assert not (tmp_path / "mark").exists() and not (tmp_path / "environment").exists()


def test_where_nothing_can_be_written_one_sentence_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoEnvironmentError, match="^no environment of its own: .*Not a directory"):
        make_environment(("numpy",), tmp_path / "file" / "environment")
