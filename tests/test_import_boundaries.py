"""Imports go one way (kernels <- infer <- export), the runtime stays light, and no folder shadows another package."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "transformers", "sklearn", "scipy", "matplotlib", "huggingface_hub", "accelerate", "datasets"}
MAY_NOT_IMPORT = {
    "kernels/bebert_kernels": HEAVY | {"bebert_infer", "bebert_export", "tokenizers", "safetensors"},
    "bebert_infer": HEAVY,
}


@pytest.mark.parametrize("folder", MAY_NOT_IMPORT)
def test_no_file_imports_what_its_level_must_not_know(folder):
    files = list((ROOT / folder).rglob("*.py"))
    assert len(files) > 40, "rooms are looked into, too"
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file.name} imports relatively; full names only"
                names = [node.module or ""]
            forbidden = {name.split(".")[0] for name in names} & MAY_NOT_IMPORT[folder]
            assert not forbidden, f"{file.name} imports {forbidden}"


def test_bebert_infer_reaches_export_by_one_door_only():
    """Commands load bebert_export through extras.load_export, which says what to install where torch is missing."""
    for file in (ROOT / "bebert_infer").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not any(name.startswith("bebert_export") for name in names), file.name


def _loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_whoever_installs_the_peers_can_run_them():
    """Peers are made by the code of the extra export; without accelerate `bebert bench` once ended at its start."""
    with (ROOT / "pyproject.toml").open("rb") as stream:
        extras = tomllib.load(stream)["project"]["optional-dependencies"]
    assert "bebert-infer[export]" in extras["bench"] and "bebert-infer[export]" in extras["train"]


def test_a_peer_in_a_process_of_its_own_loads_no_training_code():
    """Its load time and memory are compared with ours."""
    pytest.importorskip("transformers")
    code = "import sys, bebert_export.peers.engines, bebert_export.quiet; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"bebert_export.training.loop", "accelerate", "sklearn"} & set(done.stdout.split())


def test_importing_the_runtime_loads_neither_torch_nor_numba():
    loaded = _loaded("import bebert_infer")
    assert not loaded & (HEAVY | {"bebert_export", "numba", "pyarrow"})


def test_classifying_needs_no_torch():
    statement = (
        "import numpy; from bebert_infer import Ensemble; from bebert_infer.measure.sample_models import random_model; "
        "Ensemble(random_model('tiny', '1-1-4', 1, vocab_size=9)).logits([[1, 2]])"
    )
    # numba itself looks whether scipy is there
    assert not _loaded(statement) & (HEAVY - {"scipy"} | {"bebert_export"})


def test_importing_the_kernels_does_not_load_the_runtime():
    assert "bebert_infer" not in _loaded("import bebert_kernels.reference.integers, bebert_kernels.packing")


def test_import_takes_less_than_half_a_second():
    """The best of three, in CPU time, since other load on a test machine is not ours."""
    code = "import time; t = time.process_time(); import bebert_infer; print(time.process_time() - t)"
    command = [sys.executable, "-c", code]
    times = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    assert min(times) < 0.5


def test_no_top_level_folder_shadows_a_package_of_that_name():
    """Transformers imports the PyPI package `kernels`; a kernels/__init__.py here would break BertModel."""
    for name in ("kernels", "export", "benchmarks", "tests"):
        assert not (ROOT / name / "__init__.py").exists(), f"{name}/ must stay a plain folder"
    for name in ("benchmarks", "tests"):
        assert not [path for path in (ROOT / name).rglob("kernels*") if path.is_dir() or path.suffix == ".py"]


def test_transformers_bert_works_in_the_repository_root():
    pytest.importorskip("transformers")
    code = (
        "import sys; sys.path.insert(0, '.'); from transformers import BertConfig, BertModel; "
        "BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, "
        "intermediate_size=8))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
