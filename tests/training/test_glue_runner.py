"""A cell of the results page: one command trains, scores and records it, once, and resumes."""

# ruff: noqa: E402 - the imports below need the extra

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from safetensors.torch import load_file
from toy import write_data, write_encoder

from bebert_infer.errors import InputError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts find their neighbours so

from glue import run as glue
from glue.records import Cell, cell_options, planned, read_settings, teacher_options

pytestmark = pytest.mark.usefixtures("quick_backend")

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
start_epochs = 3.0
epochs = 3.0
learning_rate = 5e-3

[[settings]]
when = { base = "binarybert" }
scheme = "1-1-4"

[[settings]]
when = { base = ["bibert"], task = "CoLA" }
scheme = "1-1-1"
"""


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
    assert record["metric"] == "matthews" and record["threads"] == 1 and len(record["commit"]) == 40
    results = json.loads((folder / "runs" / "toy-CoLA-binarybert-none-1" / "results.json").read_text())
    assert record["precision"] == results["machine"]["precision"]
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
    stages = record["seconds"]["ternary"] + sum(record["seconds"]["members"])
    assert record["seconds"]["students"] == pytest.approx(stages, abs=0.3) and record["seconds"]["ternary"] > 0
    assert record["seconds"]["whole_run"] > record["seconds"]["students"]
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
        {"when": {"base": "bibert"}, "epochs": 1.0, "max_length": 8, "steps": [2]},
    ]
    cells = planned(settings)
    assert cells == [Cell("toy", "CoLA", "binarybert", "none", seed) for seed in (1, 2)]
    other = Cell("toy", "CoLA", "bibert", "none", 1)
    assert cell_options(settings, cells[0])["epochs"] == 9 and cell_options(settings, other)["epochs"] == 1
    assert cell_options(settings, other)["steps"] == (2,)
    assert cell_options(settings, other)["scheme"] == "1-1-1" and "teacher_epochs" not in cell_options(settings, other)
    assert teacher_options(settings, other) == teacher_options(settings, cells[0])
    assert (
        teacher_options(settings, other)["max_length"] == 16 and teacher_options(settings, other)["teacher_epochs"] == 2
    )
    settings["settings"].insert(0, {"when": {"base": "own-name"}, "base": "bibert", "warm_start": "previous"})
    own = cell_options(settings, Cell("toy", "CoLA", "own-name", "none", 1))
    assert own == cell_options(settings, other) | {"base": "bibert", "warm_start": "previous"}
    settings["settings"].append({"when": {"base": "bibert"}, "hold_out": 0.3})
    with pytest.raises(InputError, match="hold_out of toy-CoLA-bibert-none-1 is 0.3, of its full-precision stage 0.1"):
        cell_options(settings, other)


def test_a_cell_that_fails_says_why_and_does_not_keep_others_from_running(folder, monkeypatch, tmp_path, capsys):
    done = tmp_path / "glue.jsonl"
    done.write_text(json.dumps({"cell": Cell("toy", "CoLA", "bit", "none", 1).__dict__, "options": {"members": 2}}))
    with pytest.raises(SystemExit, match="no record of toy-RTE-bit-none-1; the reasons are above"):
        run(folder, monkeypatch, "--task", "RTE,CoLA", "--base", "bit", "--results", str(tmp_path))
    said = capsys.readouterr().out
    assert "has no train.tsv or train_subset.tsv; pass --data" in said
    assert "toy-CoLA-bit-none-1 has a record" in said
    (tmp_path / "bad.toml").write_text(SETTINGS + "lerning_rate = 1\n")
    with pytest.raises(SystemExit, match="no record of toy-CoLA-bibert-none-3"):
        run(folder, monkeypatch, "--base", "bibert", "--seed", "3", "--settings", str(tmp_path / "bad.toml"))
    assert "the settings have lerning_rate; accepted are" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="^2$"):
        run(folder, monkeypatch, "--seed", "3", "--members", "0")
    assert "--members must be at least 1" in capsys.readouterr().err, "before full precision is trained"
    (tmp_path / "bad.toml").write_text("= =")
    with pytest.raises(SystemExit, match="bad.toml cannot be read"):
        run(folder, monkeypatch, "--settings", str(tmp_path / "bad.toml"))


@pytest.mark.long
def test_an_encoder_of_a_first_task_is_tuned_once_for_all_its_cells(folder, monkeypatch, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "CoLA").symlink_to(folder / "data" / "CoLA")
    (tmp_path / "data" / "STS-B").mkdir()
    write_data(tmp_path / "data" / "STS-B" / "train.tsv", 320, 3, regression=True)
    write_data(tmp_path / "data" / "STS-B" / "dev.tsv", 60, 4, regression=True)
    special = """
[[encoders]]
name = "toy-scores"
first_task = "STS-B"

[[settings]]
when = { base = "own-first" }
base = "binarybert"
scheme = "1-1-4"
students_of = "own-first"

[[settings]]
when = { task = "STS-B" }
regression = true
teacher_epochs = 1.0
epochs = 0.5
start_epochs = 0.5

[[settings]]
members = 1

[[settings]]
when = { task = "CoLA" }
teacher_epochs = 0.5
"""
    (tmp_path / "settings.toml").write_text(SETTINGS + special)
    words = ["--data", tmp_path / "data", "--settings", tmp_path / "settings.toml", "--out", tmp_path / "runs"]
    words += ["--results", tmp_path, "--name", "toy-scores", "--members", "1"]
    run(folder, monkeypatch, *map(str, words), "--seed", "1")
    first = tmp_path / "runs" / "toy-scores-STS-B-full-1"
    weights = (first / "full_precision" / "model.safetensors").stat().st_mtime_ns
    run(folder, monkeypatch, *map(str, words), "--seed", "2")
    assert (first / "full_precision" / "model.safetensors").stat().st_mtime_ns == weights, "all seeds share it"
    assert json.loads((first / "options.json").read_text())["init"] == str(folder / "toy")
    for seed in (1, 2):
        chosen = json.loads((tmp_path / "runs" / f"toy-scores-CoLA-full-{seed}" / "options.json").read_text())
        assert (chosen["init"], chosen["teacher_epochs"]) == (str(first / "full_precision"), 0.5)
    run(folder, monkeypatch, *map(str, words), "--seed", "1", "--base", "own-first")
    student = tmp_path / "runs" / "toy-scores-STS-B-own-first-none-1" / "stages" / "ternary.safetensors"
    kept = load_file(tmp_path / "runs" / "toy-scores-CoLA-own-first-none-1" / "stages" / "start_from.safetensors")
    made = load_file(student)
    assert kept and all(torch.equal(tensor, made[f"model.{name}"]) for name, tensor in kept.items())
    (tmp_path / "settings.toml").write_text(SETTINGS + special.replace("start_epochs = 0.5", "start_epochs = 1.0"))
    with pytest.raises(SystemExit):
        run(folder, monkeypatch, *map(str, words), "--seed", "2", "--base", "own-first")
    refused = "toy-scores-STS-B-own-first-none-1 holds a run with start_epochs 0.5, this one has 1.0"
    assert refused in capsys.readouterr().out.replace("\n", ""), "a student made with other settings is not taken"
    (tmp_path / "settings.toml").write_text(SETTINGS + special)
    student.unlink()
    run(folder, monkeypatch, *map(str, words), "--seed", "2", "--base", "own-first")
    assert student.is_file() and "Finished" in (student.parents[1] / "README.md").read_text(), "it is made again"
    few = special.replace('when = { base = "own-first" }', 'when = { base = "own-first", task = "CoLA" }')
    (tmp_path / "settings.toml").write_text(SETTINGS + few)
    with pytest.raises(SystemExit):
        run(folder, monkeypatch, *map(str, words), "--seed", "3", "--base", "own-first")
    assert "own-first-none-3 is not for STS-B, its first task; name no task" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(folder, monkeypatch, *map(str, words), "--base", "own-first", "--name", "toy")
    assert "students_of of toy-CoLA-own-first-none-1 is for encoders that have a first_task" in capsys.readouterr().out
    records = list(map(json.loads, (tmp_path / "glue.jsonl").read_text().splitlines()))[:2]
    assert [(r["cell"]["encoder"], r["cell"]["seed"], r["first_task"]) for r in records] == [
        ("toy-scores", 1, "STS-B"),
        ("toy-scores", 2, "STS-B"),
    ]
