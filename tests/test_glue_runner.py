"""A cell of the results page: one command trains, scores, records; the page shows what the records say, and no more."""

# ruff: noqa: E402 - the imports below need the extra

import json
import os
import sys
from pathlib import Path
from statistics import stdev

import pytest

pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")
pytest.importorskip("matplotlib", reason="plots need the extra [export]")

from toy import write_data, write_encoder

from bebert_infer.errors import InputError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts find their neighbours so

import glue
from glue_records import Cell, cell_options, planned, read_records, read_settings, teacher_options

SETTINGS = """
[report]
members = 2
rule = "probabilities"
regression_rule = "median"
sizes = [1, 2]

[[cells]]
encoder = ["toy"]
task = ["CoLA"]
base = ["binarybert"]
distill = ["none"]
seed = [1, 2]

[[settings]]
members = 2
max_length = 16
hold_out = 0.1
teacher_epochs = 6.0
teacher_learning_rate = 5e-3
ternary_epochs = 3.0
epochs = 3.0
learning_rate = 5e-3

[[settings]]
when = { base = "binarybert" }
scheme = "1-1-4"

[[settings]]
when = { base = ["bibert"], task = "CoLA" }
scheme = "1-1-1"
"""


@pytest.fixture(autouse=True)
def quick_backend(monkeypatch):
    """With the JIT off the compiled kernels are plain Python loops; the NumPy reference answers the same, sooner."""
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        monkeypatch.setenv("BEBERT_BACKEND", "reference")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An encoder of two layers, a GLUE folder of one task, settings."""
    folder = tmp_path_factory.mktemp("glue")
    write_encoder(folder / "toy", layers=2)
    (folder / "data" / "CoLA").mkdir(parents=True)
    write_data(folder / "data" / "CoLA" / "train.tsv", 320, 1, noise=0.1)
    write_data(folder / "data" / "CoLA" / "dev.tsv", 60, 2, noise=0.1)
    (folder / "settings.toml").write_text(SETTINGS)
    return folder


def run(folder, monkeypatch, *more: str) -> None:
    words = ["--data", folder / "data", "--encoder", folder / "toy", "--out", folder / "runs", "--threads", "1"]
    words += ["--settings", folder / "settings.toml", "--results", folder / "results", "--task", "CoLA"]
    monkeypatch.setattr(sys, "argv", ["glue.py", *map(str, words), "--noise-seeds", "3", *more])
    glue.main()


def test_a_cell_is_trained_scored_and_recorded_once(folder, monkeypatch, capsys):
    run(folder, monkeypatch)
    lines = (folder / "results" / "glue.jsonl").read_text().splitlines()
    assert len(lines) == 1
    record = json.loads(lines[0])
    assert record["cell"] == {"encoder": "toy", "task": "CoLA", "base": "binarybert", "distill": "none", "seed": 1}
    assert record["metric"] == ["matthews"] and record["threads"] == 1 and len(record["commit"]) == 40
    results = json.loads((folder / "runs" / "toy-CoLA-binarybert-none-1" / "results.json").read_text())
    # Scores are those of the run's own report, times 100; the first prefix of an ensemble is member 0.
    assert record["full_precision"] == pytest.approx(100 * results["dev"]["full_precision"]["matthews"], abs=1e-4)
    assert record["full_precision"] > 50, "the shared full-precision model has learned something"
    assert record["members"] == pytest.approx([100 * m["matthews"] for m in results["dev"]["members"]], abs=1e-4)
    assert set(record["ensembles"]) == {"vote", "logits", "probabilities"}
    for rule, entries in record["ensembles"].items():
        assert len(entries) == len(record["members"])
        assert entries[0] == record["members"][0]
        assert entries[-1] == pytest.approx(100 * results["dev"]["ensemble"][rule]["matthews"], abs=1e-4)
    assert [(level["sigma"], level["seeds"]) for level in record["noise"]] == [(0.1, 3), (0.01, 3)]
    for level in record["noise"]:
        assert len(level["members"]) == len(record["members"]) and level["members"][0]["std"] >= 0
        assert level["ensembles"]["probabilities"][0] == level["members"][0]
    # The full-precision stage was trained in its own folder: its seconds are those of that run.
    shared = folder / "runs" / "toy-CoLA-full-1"
    facts = [json.loads(line) for line in (shared / "log.jsonl").read_text().splitlines()]
    seconds = next(entry["seconds"] for entry in facts if "seconds" in entry)
    assert record["seconds"]["full_precision"] == pytest.approx(seconds, abs=0.06) and seconds > 0
    assert results["full_precision"]["steps"] == 0
    assert record["seconds"]["students"] > 0 and record["seconds"]["whole_run"] > record["seconds"]["students"]
    assert record["bytes"] == {
        "model": sum(file.stat().st_size for file in shared.parent.glob("toy-CoLA-binary*/model/*")),
        "full_precision": (shared / "full_precision" / "model.safetensors").stat().st_size,
    }
    # Once more: nothing is done. With --again the finished run is scored anew, to the same figures.
    capsys.readouterr()
    run(folder, monkeypatch)
    assert "has a record" in capsys.readouterr().out
    run(folder, monkeypatch, "--again")
    first, second = map(json.loads, (folder / "results" / "glue.jsonl").read_text().splitlines())
    for name in ("members", "ensembles", "noise", "full_precision", "bytes", "alphas"):
        assert first[name] == second[name], name
    assert second["seconds"]["whole_run"] is None, "a run that was resumed has no time as a whole"
    assert second["seconds"]["students"] == first["seconds"]["students"]
    capsys.readouterr()
    run(folder, monkeypatch, "--list")
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "binarybert" in line]
    assert [part.strip() for part in row.split("│")[5:7]] == ["1", "2"]


def test_settings_go_from_general_to_special_and_spare_the_shared_stage(folder):
    settings = read_settings(folder / "settings.toml")
    settings["settings"] += [
        {"when": {"encoder": "toy", "task": ["RTE", "CoLA"]}, "epochs": 9.0, "teacher_epochs": 2.0},
        {"when": {"base": "bibert"}, "epochs": 1.0, "max_length": 8},
    ]
    cells = planned(settings)
    assert cells == [Cell("toy", "CoLA", "binarybert", "none", seed) for seed in (1, 2)]
    other = Cell("toy", "CoLA", "bibert", "none", 1)
    assert cell_options(settings, cells[0])["epochs"] == 9 and cell_options(settings, other)["epochs"] == 1
    assert cell_options(settings, other)["scheme"] == "1-1-1" and "teacher_epochs" not in cell_options(settings, other)
    assert teacher_options(settings, other) == teacher_options(settings, cells[0])
    assert (
        teacher_options(settings, other)["max_length"] == 16 and teacher_options(settings, other)["teacher_epochs"] == 2
    )
    settings["settings"].append({"when": {"base": "bibert"}, "hold_out": 0.3})
    with pytest.raises(InputError, match="hold_out of toy-CoLA-bibert-none-1 is 0.3, of its full-precision stage 0.1"):
        cell_options(settings, other)


def test_mistakes_are_one_sentence(folder, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="has no train.tsv or train_subset.tsv; pass --data"):
        run(folder, monkeypatch, "--task", "RTE")
    (tmp_path / "bad.toml").write_text("= =")
    with pytest.raises(SystemExit, match="bad.toml cannot be read"):
        run(folder, monkeypatch, "--settings", str(tmp_path / "bad.toml"))
