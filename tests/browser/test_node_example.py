"""The example without a server, docs/examples.md, run by Node with the demo's packages: the engine's answers."""

import shutil
import subprocess
from pathlib import Path

import pytest
from examples import node

from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import demo_path

DEMO = Path(__file__).resolve().parents[2] / "docs" / "demo"
TEXTS = ["a gripping, funny film", "dull", "not bad at all , but far too long"]


@pytest.fixture(scope="module")
def folder(demo_folder, tmp_path_factory):
    """The packages of the lock file, and the model as the example wants it."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copyfile(DEMO / name, folder / name)
    done = subprocess.run(["npm", "ci"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    packed = folder / "packed"
    packed.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        shutil.copyfile(demo_folder / name, packed / name)
    shutil.copyfile(demo_path() / "config.json", packed / "config.json")
    return folder


@pytest.mark.parametrize("text", TEXTS)
def test_node_prints_the_engines_answer(folder, text):
    done = node(folder, "classify.mjs", "packed", text)
    assert done.returncode == 0, done.stderr
    label, score = done.stdout.split()
    expected = Ensemble.from_pretrained(demo_path())(text)
    assert label == expected["label"]
    assert float(score) == pytest.approx(expected["score"], abs=2e-5)
