"""The pages of results show what the records and the shipped model say, no more; they are what the report writes."""

# ruff: noqa: E402 - the imports below need the extra

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="tasks and metrics need the extra [export]")
pytest.importorskip("matplotlib", reason="plots need the extra [export]")

from glue_records import PLAN, RECORDS, made_up

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts find their neighbours so

from glue import report as glue_report
from glue import shipped
from glue.records import Cell, read_records
from glue.summary import CellGroup, Summary, change


def empty_blocks(*names: str) -> str:
    """Blocks that the report is to fill."""
    return "\n\n".join("\nold figures\n".join(glue_report.markers(name)) for name in names)


@pytest.fixture
def page(tmp_path):
    """A folder of records and settings made from RECORDS, and the two pages with their blocks."""
    toml = ["[report]", "members = 2", 'rule = "probabilities"', 'regression_rule = "median"', "sizes = [1, 2, 3]"]
    for grid in PLAN["cells"]:
        toml += ["[[cells]]", *(f"{name} = {json.dumps(values)}" for name, values in grid.items())]
    (tmp_path / "settings.toml").write_text("\n".join([*toml, "[[settings]]", "members = 2"]))
    (tmp_path / "glue.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "cells.md").write_text("# Cells\n\nProse.\n\n" + empty_blocks("figures"))
    (tmp_path / "results.md").write_text(f"# Results\n\n{empty_blocks('claims', 'tasks', 'model')}\n\nMore prose.\n")
    return tmp_path / "results.md"


def write_page(page, monkeypatch, *more) -> list[list[str]]:
    """Run the report; the lines of both pages, split into the cells of their tables."""
    words = ["--results", page.parent, "--settings", page.parent / "settings.toml", "--page", page, *more]
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, words)])
    glue_report.main()
    text = page.read_text() + (page.parent / "results" / "cells.md").read_text()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


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
    lines = write_page(page, monkeypatch)
    text = (page.parent / "results" / "cells.md").read_text()
    assert page.read_text().startswith("# Results\n\n<!-- claims") and page.read_text().endswith("More prose.\n")
    assert text.startswith("# Cells\n\nProse.") and "old figures" not in text + page.read_text()
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
    pictures = {file.name for file in (page.parent / "results").glob("*.png")}
    assert pictures == {"time.png"}, "groups of one or two tasks are not drawn"
    before = page.read_text() + text
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in before.splitlines()] == lines
    assert write_page(page, monkeypatch) == lines, "once more gives the same pages"


def test_all_plots_are_drawn_of_groups_with_three_tasks(page, monkeypatch):
    more = [made_up(base, "QQP", 1) for base in ("bibert", "bit")]
    more += [made_up(base, "RTE", seed) for base in ("binarybert", "bibert", "bit") for seed in (1, 2)]
    with (page.parent / "glue.jsonl").open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in more)
    write_page(page, monkeypatch)
    pictures = {file.name for file in (page.parent / "results").glob("*.png")}
    assert pictures == {"gap.png", "gain.png", "noise.png", "time.png", "size.png"}


def test_pages_without_records_name_what_is_missing_and_have_no_plots(page, monkeypatch):
    (page.parent / "glue.jsonl").unlink()
    lines = write_page(page, monkeypatch)
    assert [file.name for file in (page.parent / "results").iterdir()] == ["cells.md"]
    assert "(none: toy, binarybert, distillation A: none; " in (page.parent / "results" / "cells.md").read_text()
    assert not [row for row in lines if row[0] == "CoLA"]
    assert [row[3] for row in lines if row[0].startswith("two-stage distillation")] == ["**no record**"]


@pytest.mark.parametrize("text", ["no blocks", "twice", "unclosed"])
def test_a_page_that_lacks_a_block_is_refused_and_left_alone(page, monkeypatch, text):
    whole = page.read_text()
    broken = {
        "no blocks": "prose",
        "twice": whole + empty_blocks("tasks"),
        "unclosed": whole.replace(glue_report.markers("tasks")[1], ""),
    }[text]
    page.write_text(broken)
    cells = (page.parent / "results" / "cells.md").read_text()
    with pytest.raises(SystemExit, match="results.md needs the lines .* once each"):
        write_page(page, monkeypatch)
    assert page.read_text() == broken and (page.parent / "results" / "cells.md").read_text() == cells


def test_of_several_records_the_last_with_the_most_members_counts(tmp_path):
    rows = [
        made_up("bit", "CoLA", 1, full=full, scores=scores) for full, scores in ((1, (1, 2)), (2, (1, 2)), (3, (1,)))
    ]
    (tmp_path / "glue.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [record["full_precision"] for record in read_records(tmp_path).values()] == [2]


# The shipped model


def test_the_shipped_models_table_comes_from_its_folder_and_its_own_records(page, monkeypatch, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(glue_report.MODEL, model)
    config = json.loads((model / "config.json").read_text())
    rows = [
        {"tensors_sha256": sha256, "name": "reviews", "data": {"sha256": "other", "rows": 100}, "metric": "accuracy"}
        | {"full_precision": 95.0, "members": [80.0, 1.0], "ensemble": 90.0, "members_run_exact": 1.25}
        | {"noise": {"sigma": 0.1, "seeds": 30, "members": [0.8, 9.0], "ensemble": 0.6}}
        for sha256 in (config["tensors_sha256"], "of another model")
    ]
    rows[1]["ensemble"] = 11.0
    (page.parent / "shipped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = config["evidence"]["dev"]
    scores["full_precision"]["accuracy"], scores["members"][0]["accuracy"] = 0.875, 0.8474
    scores["ensemble"][config["combination"]]["accuracy"] = 0.8544
    (model / "config.json").write_text(json.dumps(config))
    table = {row[0]: row[1:] for row in write_page(page, monkeypatch, "--model", model) if len(row) > 1}
    assert table["score, times 100"] == ["dev split", "reviews"], "no record has its dev file, so no task is named"
    assert table["full precision"] == ["87.5", "95.0"] and table["first member"] == ["84.7", "80.0"]
    assert table["**ensemble of 2**"] == ["85.4", "90.0"]
    assert table["gap to full precision"] == ["-2.1", "-5.0"] and table["gain over the first member"][1] == "+10.0"
    assert table["one standard error"][1] == "3.0"  # the root of 0.9 · 0.1 / 100
    assert "0.80 first member, 0.60 ensemble: -25 %" in table["deviation under noise of sigma 0.1, reviews"][0]
    assert table["members that run on reviews, early exit `exact`"] == ["1.25 on average"]
    del config["evidence"]["dev"]
    (model / "config.json").write_text(json.dumps(config))
    lines = write_page(page, monkeypatch, "--model", model)
    assert ["score, times 100", "reviews"] in lines, "without evidence the dev split has no column"
    (model / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(SystemExit, match="error: "):
        write_page(page, monkeypatch, "--model", model)


def test_the_shipped_model_is_scored_on_texts_by_one_command(page, monkeypatch, tmp_path, capsys):
    texts = tmp_path / "texts.tsv"
    texts.write_text("sentence1\tlabel\na gripping, funny film\t1\ndull and far too long\t0\na great phone\t0\n")
    words = ["shipped.py", f"my texts={texts}", "--noise-on", "my texts", "--noise-seeds", "2", "--threads", "1"]
    words += ["--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    shipped.main()
    record = json.loads((tmp_path / "shipped.jsonl").read_text())
    assert record["name"] == "my texts" and record["data"]["rows"] == 3 and record["full_precision"] is None
    assert record["ensemble"] == pytest.approx(200 / 3, abs=1e-4) and len(record["members"]) == 2
    assert (record["noise"]["sigma"], record["noise"]["seeds"]) == (0.1, 2) and len(record["noise"]["members"]) == 2
    table = {row[0]: row[1:] for row in write_page(page, monkeypatch) if len(row) > 1}
    assert table["score, times 100"][1:] == ["my texts"] and table["**ensemble of 2**"][1:] == ["66.7"]
    monkeypatch.setattr(sys, "argv", [*words, "--full-precision", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="^error: .*nothing"):
        shipped.main()
    for wrong in (["texts.tsv"], [f"a={texts}", "--noise-on", "b"], [f"a={texts}", "--noise-seeds", "1"]):
        monkeypatch.setattr(sys, "argv", ["shipped.py", *wrong])
        with pytest.raises(SystemExit, match="^2$"):
            shipped.main()
    assert "accepted is NAME=FILE" in capsys.readouterr().err
    assert len((tmp_path / "shipped.jsonl").read_text().splitlines()) == 1, "what fails records nothing"


# The pages of this repository


def test_the_pages_are_what_the_report_writes():
    _, texts = glue_report.pages(glue_report.PAGE, glue_report.RESULTS, glue_report.SETTINGS, glue_report.MODEL)
    assert len(texts) == 2
    for path, text in texts.items():
        assert path.read_text("utf-8") == text, f"{path.name} is not what benchmarks/glue/report.py writes: run it"


def test_the_page_is_read_in_minutes_and_shows_every_plot():
    text = glue_report.PAGE.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert pictures == [f"results/{name}.png" for name in ("gap", "gain", "noise", "time", "size")]
    assert all((glue_report.PAGE.parent / picture).is_file() for picture in pictures)


def test_no_figure_of_the_page_is_written_by_hand():
    """Outside of the blocks digits are parts of names only."""
    text = glue_report.PAGE.read_text("utf-8")
    for name in ("claims", "tasks", "model"):
        first, last = map(re.escape, glue_report.markers(name))
        text = re.sub(f"{first}.*?{last}", "", text, flags=re.DOTALL)
    text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)  # commands
    names = r"ICASSP 2023|1-1-4|1-1-1|SST-2|MiniLM-L6|`l3`|`l6`"
    assert re.findall(r".*\d.*", re.sub(names, "", text)) == []
