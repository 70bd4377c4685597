"""What a run writes for people: a log that machines can read, curves for TensorBoard, a README."""

# ruff: noqa: E402 - the imports below need the extra

import json
import sys

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")
pytest.importorskip("accelerate", reason="training needs the extra [export]")

from rich.console import Console
from toy import write_data, write_encoder

from bebert_export import train
from bebert_export.pipeline import progress
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.pipeline.run_readme import write_readme
from bebert_infer.errors import MissingExtraError

QUIET = Console(quiet=True)


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Options of a short run that stops before packing and logs every step."""
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)
    monkeypatch.setattr(train, "_finish", lambda *arguments: {})
    write_encoder(tmp_path / "encoder")
    write_data(tmp_path / "train.tsv", 120, 1)
    write_data(tmp_path / "dev.tsv", 20, 2)
    return {
        "init": str(tmp_path / "encoder"),
        "train": tmp_path / "train.tsv",
        "dev": tmp_path / "dev.tsv",
        "out": tmp_path / "run",
        "members": 1,
        "max_length": 16,
        "teacher_epochs": 2.0,
        "start_epochs": 2.0,
        "epochs": 1.0,
        "learning_rate": 5e-3,
        "teacher_learning_rate": 5e-3,
        "threads": 1,
        "patience": 5,
    }


def test_every_line_of_the_log_says_what_it_should(chosen):
    train.train(train.TrainOptions(**chosen), QUIET)
    lines = [json.loads(line) for line in (chosen["out"] / "log.jsonl").read_text().splitlines()]
    assert all(line["time"] > 1.7e9 and line["stage"] for line in lines)
    for stage in ("full precision", "ternary"):
        steps = [line for line in lines if line["stage"] == stage and {"step", "loss"} <= line.keys()]
        assert [line["step"] for line in steps] == list(range(1, 9)) and {line["steps"] for line in steps} == {8}
        assert all(line["examples_per_second"] > 0 and line["loss"] > 0 for line in steps)
        rates = [line["learning_rate"] for line in steps]
        assert rates[0] == max(rates) == 5e-3 and rates == sorted(rates, reverse=True) and rates[-1] > 0
        scores = [line for line in lines if line["stage"] == stage and "held_loss" in line]
        assert [line["step"] for line in scores] == [4, 8] and all(0 <= line["accuracy"] <= 1 for line in scores)


def test_the_same_figures_go_to_tensorboard(chosen):
    pytest.importorskip("tensorboard", reason="curves need the extra [train]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train.train(train.TrainOptions(**chosen, tensorboard=True), QUIET)
    events = EventAccumulator(str(chosen["out"] / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (chosen["out"] / "log.jsonl").read_text().splitlines()]
    for tag, name in (("ternary/loss", "loss"), ("full precision/held_loss", "held_loss")):
        stage = tag.split("/")[0]
        logged = [
            (line["step"], line[name]) for line in lines if line["stage"] == stage and {"step", name} <= line.keys()
        ]
        assert [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)] == logged


def test_tensorboard_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install \"bebert-infer\[train\]\""):
        RunFolder(tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_the_readme_names_every_file_of_the_run(chosen):
    train.train(train.TrainOptions(**chosen), QUIET)
    text = (chosen["out"] / "README.md").read_text()
    assert "--members 1" in text and "Not finished" in text
    assert str(chosen["out"].parent) not in text  # no private paths
    for entry in chosen["out"].iterdir():
        if entry.name not in ("README.md",):
            assert f"`{entry.name}" in text
    scores = {"accuracy": 0.75}
    results = {
        "combination": "vote",
        "members": [{}, {}],
        "data": {"dev": {"file": "dev.tsv"}},
        "dev": {"rows": 2000, "full_precision": {"accuracy": 0.8}, "ensemble": {"vote": scores}},
        "seconds": {"training": 12.0},
        "options": {"members": 2},
    }
    write_readme(chosen["out"], "bebert train", results)
    text = (chosen["out"] / "README.md").read_text()
    assert "2 members, combined by vote. On 2,000 rows of `dev.tsv` the ensemble has accuracy 0.7500" in text
    results["options"]["members"] = 4
    write_readme(chosen["out"], "bebert train", results)
    assert "2 members of 4 (the last one makes no error, or" in (chosen["out"] / "README.md").read_text()
