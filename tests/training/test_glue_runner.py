"""A cell of the results page: one command trains, scores, records; the page shows what the records say, and no more."""

# ruff: noqa: E402 - the imports below need the extra

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")
pytest.importorskip("matplotlib", reason="plots need the extra [export]")

from safetensors.torch import load_file
from toy import write_data, write_encoder

from bebert_infer.errors import InputError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts find their neighbours so

from glue import report as glue_report
from glue import run as glue
from glue.records import Cell, cell_options, planned, read_records, read_settings, teacher_options
from glue.summary import CellGroup, Summary, change

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


# The page, from made-up records


def made_up(base, task, seed, *, distill="none", full=90.0, scores=(80.0, 82.0), seconds=(10.0, 20.0), **more):
    """A record whose ensembles of 1, 2, … members score `scores`; their noise deviates by 1, that of members by 2."""
    noise = [{"mean": 80.0, "std": 2.0} for _ in scores]
    rows = [{"mean": 80.0, "std": 2.0}] + [{"mean": 80.0, "std": 1.0}] * (len(scores) - 1)
    return {
        "cell": {"encoder": "toy", "task": task, "base": base, "distill": distill, "seed": seed},
        "options": {"members": len(scores)},
        "data": {"train": {"file": "train_subset.tsv" if task == "QQP" else "train.tsv"}, "dev": {"file": "dev.tsv"}},
        "full_precision": full,
        "members": [scores[0]] * len(scores),
        "ensembles": {rule: list(scores) for rule in ("vote", "logits", "probabilities")},
        "noise": [
            {"sigma": sigma, "seeds": 30, "members": noise, "ensembles": {"probabilities": rows}}
            for sigma in (0.1, 0.01)
        ],
        "seconds": {"members": list(seconds), "students": 5.0 + sum(seconds), "whole_run": 40.0},
        "bytes": {"model": 100, "full_precision": 1000},
    } | more


PLAN = {
    "report": {"members": 2, "rule": "probabilities", "regression_rule": "median", "sizes": [1, 2, 3]},
    "cells": [
        {"encoder": ["toy"], "task": ["CoLA", "QQP", "RTE"], "base": bases, "distill": distill, "seed": [1, 2]}
        for bases, distill in ((["binarybert", "bibert", "bit"], ["none"]), (["binarybert"], ["two-stage"]))
    ],
    "settings": [{"members": 2}],
}
RECORDS = [
    made_up("binarybert", "CoLA", 1, scores=(80.0, 82.0), full=83.0),
    made_up("binarybert", "CoLA", 2, scores=(80.0, 86.0), full=85.0),
    made_up("binarybert", "QQP", 1, scores=(70.0, 70.0), full=75.0),
    made_up("binarybert", "QQP", 2, scores=(70.0, 74.0), full=75.0),
    made_up("binarybert", "CoLA", 1, distill="two-stage", seconds=(30.0, 35.0)),
    made_up("bibert", "CoLA", 1, scores=(50.0, 60.0)),
    made_up("bit", "CoLA", 1, scores=(70.0, 81.0)),
    made_up("binarybert", "RTE", 1, scores=(50.0,), seconds=(10.0,)),  # asked for fewer members than the page shows
]


@pytest.fixture
def page(tmp_path):
    """The lines of a page made from RECORDS, split into cells."""
    toml = ["[report]", "members = 2", 'rule = "probabilities"', 'regression_rule = "median"', "sizes = [1, 2, 3]"]
    for grid in PLAN["cells"]:
        toml += ["[[cells]]", *(f"{name} = {json.dumps(values)}" for name, values in grid.items())]
    (tmp_path / "settings.toml").write_text("\n".join([*toml, "[[settings]]", "members = 2"]))
    (tmp_path / "glue.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return tmp_path / "results.md"


def write_page(page, monkeypatch) -> list[list[str]]:
    words = ["--results", page.parent, "--settings", page.parent / "settings.toml", "--page", page]
    monkeypatch.setattr(sys, "argv", ["glue_report.py", *map(str, words)])
    glue_report.main()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.read_text().splitlines()]


def test_averages_deviations_and_what_is_missing():
    records = {Cell(**record["cell"]): record for record in RECORDS}
    summary = Summary(records, PLAN)
    group, other = CellGroup("toy", "binarybert", "none"), CellGroup("toy", "bibert", "none")
    assert summary.of_task(group, "CoLA", summary.prefix()).text() == "84.0 ± 2.8"
    assert summary.of_task(group, "CoLA", summary.gap).text(sign=True) == "+0.0 ± 1.4"  # -1 and +1: seeds are paired
    assert summary.average(group, summary.gain).text(sign=True) == "+3.0 ± 2.8"  # (2 + 0) / 2 and (6 + 4) / 2
    assert summary.measured(group, summary.prefix()) == ["CoLA", "QQP"]
    assert summary.of_task(group, "RTE", summary.single).text() == "–", "a run of one member is not that of the page"
    assert summary.of_task(other, "CoLA", summary.prefix()).text() == "60.0", "one seed has no deviation"
    assert summary.average(group, summary.prefix(3)).text() == "–"
    regression = made_up("bit", "STS-B", 1, ensembles={"mean": [1, 2], "median": [3, 4]})
    assert summary.prefix()(regression) == 4, "scores are combined by the median"
    single, ensemble = (
        summary.average(group, measure) for measure in (summary.noise_single(0.1), summary.noise_ensemble(0.1))
    )
    assert change(single, ensemble) == -50


def test_more_members_than_the_page_shows_have_a_table_of_their_own(page, monkeypatch):
    more = made_up("binarybert", "CoLA", 2, scores=(80.0, 86.0, 87.0), full=85.0, seconds=(10.0, 20.0, 30.0))
    more["alphas"] = [1.0, 1.0, 0.5]
    steady = made_up("bibert", "CoLA", 1, scores=(50.0, 60.0, 60.0), seconds=(10.0, 20.0, 30.0), alphas=[1.0, 1.0, 1.0])
    steady["noise"][0]["ensembles"]["probabilities"] = [{"mean": 50.0, "std": 0.0}] * 3
    steady["full_precision_options"] = {"vocabulary_size": 7000}
    with (page.parent / "glue.jsonl").open("a") as file:
        file.write(json.dumps(more) + "\n" + json.dumps(steady) + "\n")
    page.write_text("\n".join(glue_report.MARKERS))
    lines = write_page(page, monkeypatch)
    sizes = lines[lines.index(["### Members: toy, binarybert, distillation A: none"]) :]
    assert sizes[4] == ["CoLA", "80.0 ± 0.0", "84.0 ± 2.8"], "the page's ensemble stays that of all records"
    table = lines[lines.index(["### More members: toy, binarybert, distillation A: none"]) + 2 :]
    assert [row for row in table[:6] if row[0] != "---"] == [
        ["members", "", "1", "2", "3"],
        ["CoLA, seed 2", "score", "80.0", "86.0", "87.0"],
        ["CoLA, seed 2", "deviation", "2.00", "1.00", "1.00"],
        ["CoLA, seed 2", "change", "+0 %", "-50 %", "-50 %"],
        ["CoLA, seed 2", "by alphas", "+0 %", "-16 %", "-23 %"],  # (2 + 0.5)^2 / (2 + 0.25): as 2.8 equal members
    ]
    assert ["CoLA, seed 1", "change", "–", "–", "–"] in lines, "noise that changes nothing has no change in percent"
    assert sum(row[0].startswith("### More members") for row in lines) == 2
    assert ["toy", "bibert", "3", "7,000", "1,000", "100", "10.0×"] in lines
    assert ["toy", "binarybert", "2", "all", "1,000", "100", "10.0×"] in lines
    assert Summary({}, PLAN).seconds(more) == 35, "the third member's 30 s are not those of the page's ensemble"


def test_the_page_shows_records_and_published_figures_and_dashes(page, monkeypatch):
    page.write_text("# Results\n\nProse.\n\n" + "\nold figures\n".join(glue_report.MARKERS) + "\n\nMore prose.\n")
    lines = write_page(page, monkeypatch)
    text = page.read_text()
    assert text.startswith("# Results\n\nProse.") and text.endswith("More prose.\n") and "old figures" not in text
    assert "7 of 24 cells have a record" in text
    rows = lines[lines.index(["### toy, binarybert, distillation A: none"]) :]
    task = {row[0]: row[1:] for row in rows[: rows.index(["### toy, bibert, distillation A: none"])]}
    assert task["CoLA"] == [
        "0.0",
        "84.0 ± 1.4",
        "80.0 ± 0.0",
        "84.0 ± 2.8",
        "+0.0 ± 1.4",
        "+4.0 ± 2.8",
        "2",
        "59.7",
        "44.4",
        "52.2",
    ]
    assert task["RTE"] == ["52.7", "–", "–", "–", "–", "–", "0", "72.2", "65.3", "68.8"]
    assert task["QQP (subset)"][1] == "75.0 ± 0.0"
    assert task["**average of 2**"][3:5] == ["78.0 ± 2.8", "-1.5 ± 2.1"] and task["**average of 2**"][-3] == "75.6"
    claims = [row[1:] for row in lines if row[0] == "training time, two-stage / none"]
    assert claims == [["2.0", "toy, binarybert, distillation C: two-stage", "2.00", "CoLA", "1"]]  # 70 s against 35 s
    times = lines[lines.index(["### Distillation: toy, binarybert"]) :]
    rows = [row for row in times if row[0] == "**average of 1**"][:2]
    # Seed 2 has no C: its A is left out.
    assert rows[0][1:] == ["A: none", "82.0", "-1.0", "35", "1.00", "40", "1"]
    assert rows[1][1:] == ["C: two-stage", "82.0", "-8.0", "70", "2.00", "40", "1"]
    noise = [row for row in lines if row[0].startswith("deviation under noise")]
    assert noise[0][1:] == ["-65 %", "toy, binarybert, distillation A: none", "-50 %", "CoLA, QQP", "2"]
    heading = "### 1-1-1: toy, bit, distillation A: none, against toy, bibert, distillation A: none"
    one_bit = lines[lines.index([heading]) :]
    row = next(row for row in one_bit if row[0] == "CoLA")
    assert row == ["CoLA", "90.0", "50.0", "70.0", "60.0", "81.0", "+20.0", "+21.0", "1"]
    assert not any(row[0] == "QQP" for row in one_bit[: one_bit.index(["## Size of the ensemble"])])
    sizes = lines[lines.index(["### Members: toy, binarybert, distillation A: none"]) :]
    assert sizes[2] == ["members", "1", "2"] and sizes[4] == ["CoLA", "80.0 ± 0.0", "84.0 ± 2.8"]
    pictures = {file.name for file in (page.parent / "results").iterdir()}
    assert pictures == {"gap.png", "gain.png", "noise.png", "time.png", "size.png"}
    assert all(f"](results/{name})" in text for name in pictures)
    before = page.read_bytes()
    write_page(page, monkeypatch)
    assert page.read_bytes() == before, "once more gives the same page"


def test_a_page_without_records_names_what_is_missing_and_has_no_plots(page, monkeypatch):
    (page.parent / "glue.jsonl").unlink()
    page.write_text("\n".join(glue_report.MARKERS))
    lines = write_page(page, monkeypatch)
    assert not (page.parent / "results").exists() and "![" not in page.read_text()
    assert "(none: toy, binarybert, distillation A: none; " in page.read_text()
    assert not [row for row in lines if row[0] == "CoLA"]
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="needs the lines"):
        write_page(page, monkeypatch)
    assert page.read_text() == "no markers"


def test_of_several_records_the_last_with_the_most_members_counts(tmp_path):
    rows = [
        made_up("bit", "CoLA", 1, full=full, scores=scores) for full, scores in ((1, (1, 2)), (2, (1, 2)), (3, (1,)))
    ]
    (tmp_path / "glue.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [record["full_precision"] for record in read_records(tmp_path).values()] == [2]
