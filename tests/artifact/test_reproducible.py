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

from bebert_export.convert import convert
from bebert_export.train import TrainOptions, train


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
    options = TrainOptions(
        init=str(task / "encoder"),
        train=task / "train.tsv",
        dev=task / "dev.tsv",
        out=tmp_path / "run",
        members=2,
        epochs=3,
        start_epochs=3,
        teacher_epochs=6,
        learning_rate=5e-3,
        teacher_learning_rate=5e-3,
        max_length=16,
        hold_out=0.2,
        threads=1,
    )
    train(options, Console(quiet=True))
    first = content(options.out / "model")
    shutil.rmtree(options.out / "model")
    train(options, Console(quiet=True))
    assert content(options.out / "model") == first
    train(options, Console(quiet=True))
    assert content(options.out / "model") == first
