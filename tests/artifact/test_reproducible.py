"""One run, one model: packing the same checkpoint or the same run folder again gives the same bytes in every file."""

# ruff: noqa: E402 - the imports below need the extra

import os
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from rich.console import Console
from toy import write_task
from toy_checkpoints import ODD, make_checkpoint
from toy_runs import options

from bebert_export.convert import convert
from bebert_export.train import train


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":  # the reference answers the same, sooner than plain loops
        monkeypatch.setenv("BEBERT_BACKEND", "reference")


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_checkpoint_converted_twice_gives_the_same_bytes(tmp_path):
    source = make_checkpoint(tmp_path / "checkpoint", ODD)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    (source / "vocab.txt").write_text("\n".join(words) + "\n")
    for name in ("one", "two"):
        convert([source], tmp_path / name)
    convert([source], tmp_path / "one")  # over an old model too
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert set(content(tmp_path / "one")) == {"README.md", "config.json", "model.safetensors", "tokenizer.json"}


def test_a_run_folder_exported_twice_gives_the_same_bytes(tmp_path):
    task = write_task(tmp_path / "task", 60, 30)
    chosen = options(
        task,
        tmp_path / "run",
        members=2,
        epochs=3,
        start_epochs=3,
        hold_out=0.2,
        labels=None,
        vocabulary_size=None,
    )
    train(chosen, Console(quiet=True))
    first = content(chosen.out / "model")
    shutil.rmtree(chosen.out / "model")
    train(chosen, Console(quiet=True))
    assert content(chosen.out / "model") == first
    train(chosen, Console(quiet=True))
    assert content(chosen.out / "model") == first
