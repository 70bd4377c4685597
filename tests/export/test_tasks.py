"""A GLUE task name gives data, label names and metrics: from the hub once, then from the cache, or from given files."""

import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

pytest.importorskip("torch", reason="training needs the extra [export]")

from toy import write_data, write_encoder

import bebert_infer
from bebert_export.data import metrics
from bebert_export.data.examples import read_examples
from bebert_export.data.glue import data_file, task_file
from bebert_export.data.tasks import TASKS, find_task
from bebert_export.evaluate import examples_of, targets_of, task_of
from bebert_export.pipeline.data import read_data
from bebert_export.pipeline.options import TrainOptions
from bebert_export.pipeline.settings import check, data_settings
from bebert_export.recipes import find_recipe, shipped_recipes
from bebert_export.train import command_line, train
from bebert_infer.cli.main import app
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import DataError, InputError, MissingExtraError
from bebert_kernels.jit.cache import cache_directory


class Hub:
    """Stands in for `datasets`: a few rows of every task, and a count of the calls."""

    def __init__(self):
        self.asked = []

    def load_dataset(self, path, config, split):
        """The one function of `datasets` that is used."""
        self.asked.append((path, config, split))
        task = TASKS[config]
        rows = Rows()
        labels = [np.float32(3.8).item(), 0.0] if task.regression else range(len(task.labels))
        for label in labels:
            texts = {name: f'{split} {name}\tof {label} "' for name in task.texts}
            rows.append(texts | {"label": label, "idx": 7})
        rows.features = {"label": SimpleNamespace(names=list(task.labels)) if task.labels else SimpleNamespace()}
        return rows


class Rows(list):
    """A data set: its rows, and what it says of its columns."""

    features: dict


@pytest.fixture
def hub(monkeypatch, tmp_path):
    cache_directory()  # remembers where this process keeps kernels, before another place is named for the data
    fake, module = Hub(), ModuleType("datasets")
    module.load_dataset = fake.load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setenv("BEBERT_CACHE_DIR", str(tmp_path / "cache"))
    return fake


def options(out, **changes):
    return TrainOptions(**({"init": "none", "out": out} | changes))


@pytest.mark.parametrize("name", TASKS)
def test_data_of_every_task_is_fetched_once_and_read_with_its_labels(hub, tmp_path, name):
    if name == "mnli-mismatched":  # the same data but for the dev split
        assert task_file(TASKS[name], "train") == task_file(TASKS["mnli"], "train")
        task_file(TASKS[name], "dev")
        assert hub.asked[-1] == ("nyu-mll/glue", "mnli", "validation_mismatched")
        return
    task = find_task(name)
    data = read_data(data_settings(options(tmp_path / "run", task=name)))
    assert data.train.texts[0].startswith(f"train {task.texts[0]}\t") and data.train.texts[0].endswith('"')
    assert (data.train.pairs is None) == (len(task.texts) == 1)
    if task.regression:
        assert data.train.labels == ["3.8", "0"] and data.names == ["score"]
    else:
        assert data.names == list(task.labels) and data.dev_targets.tolist() == list(range(len(task.labels)))
    fetched = len(hub.asked)
    assert fetched == 2 and hub.asked[1][2] == ("validation_matched" if name == "mnli" else "validation")
    assert (
        read_data(data_settings(options(tmp_path / "run", task=name))).train == data.train and len(hub.asked) == fetched
    )


def test_fetched_files_have_the_labels_of_glues_own_files(hub):
    assert read_examples(task_file(TASKS["cola"], "dev")).labels == ["0", "1"]
    assert read_examples(task_file(TASKS["mnli"], "dev")).labels == ["entailment", "neutral", "contradiction"]


def test_without_datasets_or_network_one_error_says_what_to_pass_or_install(hub, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", fail)
    with pytest.raises(DataError, match=r"cannot be fetched \(ConnectionError: no route to host\); pass --train and"):
        task_file(TASKS["cola"], "train")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        MissingExtraError, match=r"pass --train and --dev files.* pip install \"bebert-infer\[train\]\""
    ):
        task_file(TASKS["cola"], "train")
    assert not list((tmp_path / "cache" / "glue").rglob("*.*"))


def test_labels_that_the_hub_has_changed_are_refused(hub):
    other = replace(TASKS["rte"], labels=("a", "b"))
    with pytest.raises(DataError, match=r"now has the labels \['entailment', 'not_entailment'\], not \['a', 'b'\]"):
        task_file(other, "train")


def test_given_files_come_before_those_of_the_task_which_still_names_the_classes(hub, tmp_path):
    (tmp_path / "train.csv").write_text('text,label\n"a, b",1\nc,0\n')
    (tmp_path / "dev.jsonl").write_text('{"text": "d", "label": "acceptable"}\n')
    files = {"train": tmp_path / "train.csv", "dev": tmp_path / "dev.jsonl"}
    data = read_data(data_settings(options(tmp_path / "run", task="cola", **files)))
    assert not hub.asked and data.names == ["unacceptable", "acceptable"]
    assert data.train_targets.tolist() == [1, 0] and data.dev_targets.tolist() == [1]
    renamed = read_data(data_settings(options(tmp_path / "run", task="cola", labels=("bad", "good"), **files)))
    assert renamed.names == ["bad", "good"] and renamed.train_targets.tolist() == [1, 0]
    half = read_data(data_settings(options(tmp_path / "run", task="cola", train=files["train"])))
    assert half.dev.path.name == "validation.jsonl" and len(hub.asked) == 1


def test_a_tasks_own_columns_are_both_read_and_one_text_too_few_is_refused(tmp_path):
    """Found by reading: of QNLI's own files `sentence` alone was trained on, without a word."""
    (tmp_path / "train.tsv").write_text("index\tquestion\tsentence\tlabel\n0\twhy ?\tso .\tentailment\n")
    data = read_examples(tmp_path / "train.tsv", TASKS["qnli"])
    assert (data.texts, data.pairs) == (["why ?"], ["so ."])
    (tmp_path / "one.csv").write_text("sentence,label\nso .,entailment\n")
    with pytest.raises(DataError, match="one.csv has texts in sentence, task qnli in question, sentence; accepted are"):
        read_examples(tmp_path / "one.csv", TASKS["qnli"])
    (tmp_path / "two.csv").write_text("sentence1,sentence2,label\na,b,1\n")
    with pytest.raises(DataError, match="texts in sentence1, sentence2, task cola in sentence; .* or sentence1$"):
        read_examples(tmp_path / "two.csv", TASKS["cola"])


def test_a_task_decides_about_regression(tmp_path):
    assert options(tmp_path, task="stsb").regression and options(tmp_path, task="stsb", members=3).rule == "median"
    with pytest.raises(InputError, match="task cola has classes"):
        options(tmp_path, task="cola", regression=True)
    with pytest.raises(InputError, match='task is "wnli"; accepted are cola, sst2'):
        options(tmp_path, task="wnli")
    with pytest.raises(DataError, match="there is no train file; pass --train FILE, or --task with one of cola"):
        data_file(None, None, "train")
    assert command_line(options(tmp_path, task="cola")) == "bebert train --init none --task cola --out RUN"


def test_the_main_metric_is_that_of_the_task_and_comes_first():
    truth, outputs = np.array([0, 0, 1, 1, 1, 0]), np.eye(2)[[0, 1, 1, 1, 0, 0]]
    found = metrics.evaluate(truth, outputs)
    assert metrics.main_metric(None, found) == ("accuracy", pytest.approx(4 / 6))
    assert metrics.main_metric(TASKS["mrpc"], found) == ("accuracy", pytest.approx(4 / 6))
    assert metrics.main_metric(TASKS["cola"], found) == ("matthews", pytest.approx(1 / 3))
    assert list(metrics.main_first(TASKS["mrpc"], found))[:2] == ["accuracy", "f1"]
    assert list(metrics.main_first(TASKS["cola"], found))[0] == "matthews"
    assert metrics.main_first(TASKS["cola"], found) == found
    values = metrics.evaluate(np.array([1.0, 2, 3, 4]), np.array([[1.0], [2], [4], [30]]))
    name, value = metrics.main_metric(TASKS["stsb"], values)
    assert name == "pearson_spearman" and values["spearman"] == pytest.approx(1) and values["pearson"] < 0.9
    assert value == pytest.approx((values["pearson"] + 1) / 2)
    assert metrics.main_metric(None, values) == (name, value)


def test_a_model_knows_its_task_and_refuses_one_with_other_classes():
    config = SimpleNamespace(labels=("no", "yes"), evidence={"options": {"task": "cola"}})
    assert task_of(None, config) is TASKS["cola"] and task_of("mrpc", config) is TASKS["mrpc"]
    with pytest.raises(InputError, match='task is "mnli"; the model has other classes: no, yes'):
        task_of("mnli", config)
    for said in ("mnli", "other", None, 5):
        assert task_of(None, SimpleNamespace(labels=("no", "yes"), evidence={"options": {"task": said}})) is None


def test_eval_shows_the_main_metric_of_the_task_first(hub, tmp_path):
    model = Path(bebert_infer.__file__).parent / "demo_model"
    figures = tmp_path / "figures.json"
    arguments = ["eval", str(model), "--task", "cola", "--truncate", "--json", str(figures), "--resamples", "100"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False, terminal_width=200)
    assert done.exit_code == 0 and "main metric: matthews" in " ".join(done.output.split())
    found = json.loads(figures.read_text())
    assert found["task"] == "cola" and found["main_metric"] == "matthews"
    assert list(found["members"][0]["metrics"])[0] == "matthews" and hub.asked[0][2] == "validation"
    with pytest.raises(InputError, match="pass a labelled file, or --task"):
        CliRunner().invoke(app, ["eval", str(model)], catch_exceptions=False)


@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"])
def test_every_recipe_is_of_its_task_and_all_its_options_are_accepted(tmp_path, name):
    values = tomllib.loads(find_recipe(name).read_text())
    assert values["task"] == name
    check(options(tmp_path, **values))


def test_recipes_are_found_by_name_or_path_and_listed(tmp_path):
    assert find_recipe(str(tmp_path / "cola.toml")) == tmp_path / "cola.toml"
    assert find_recipe("cola.toml").parts == ("cola.toml",)
    with pytest.raises(InputError, match='recipe is "wnli"; accepted are cola, mnli, .* or the path of a .toml file'):
        find_recipe("wnli")
    listed = CliRunner().invoke(app, ["train", "--list-recipes"], catch_exceptions=False).output.splitlines()
    assert [line.split()[0] for line in listed] == list(shipped_recipes())
    assert listed[0].startswith("cola   CoLA: ")


def test_a_recipe_by_name_is_read_before_the_options(hub, tmp_path):
    """It sets the task, so that what is refused is the encoder and not missing data."""
    arguments = ["train", "--recipe", "rte", "--init", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")]
    with pytest.raises(InputError, match="nowhere"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert hub.asked[0][1] == "rte"


def test_a_run_of_a_task_names_its_classes_and_its_main_metric(hub, tmp_path):
    write_encoder(tmp_path / "encoder")
    files = {name: write_data(tmp_path / f"{name}.tsv", 320, seed) for seed, name in enumerate(("train", "dev"))}
    quick = {"members": 1, "max_length": 16, "epochs": 1, "learning_rate": 5e-3, "teacher_learning_rate": 5e-3}
    run = options(tmp_path / "run", init=str(tmp_path / "encoder"), task="cola", threads=1, **files, **quick)
    results = train(run, Console(quiet=True))
    scores = results["dev"]
    assert scores["main_metric"] == "matthews" and not hub.asked
    assert {next(iter(row)) for row in (scores["full_precision"], *scores["members"])} == {"matthews"}
    config = Ensemble.from_pretrained(tmp_path / "run" / "model").config
    assert list(config.labels) == ["unacceptable", "acceptable"] and task_of(None, config) is TASKS["cola"]
    # The file that it was trained with says 0 and 1, as the files of all tasks do: refused by eval until 2026-11-29.
    text = files["dev"].read_text()
    named = "\n".join(
        row.removesuffix(end) + end.replace("0", config.labels[0]).replace("1", config.labels[1])
        for row, end in ((row, row[row.rindex("\t") :]) for row in text.splitlines()[1:])
    )
    (tmp_path / "named.tsv").write_text(text.splitlines()[0] + "\n" + named + "\n")
    numbers, names = (
        targets_of(examples_of(file, config, None), config) for file in (files["dev"], tmp_path / "named.tsv")
    )
    assert numbers.tolist() == names.tolist() and set(numbers.tolist()) == {0, 1}
