"""Cards of training and conversion tell the hub what is known, in its own words, and nothing of people's data."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="packing needs the extra [export]")
pytest.importorskip("transformers", reason="packing needs the extra [export]")

from command import bebert
from hub_server import card_faults
from huggingface_hub import ModelCard
from rich.console import Console
from toy import write_task
from toy_checkpoints import ODD, make_checkpoint
from toy_runs import options

from bebert_export.pack.card_metadata import EXAMPLE, LICENCES, CardFacts, Measured, front_matter
from bebert_export.pipeline.results import card_facts
from bebert_export.train import TrainOptions, train
from bebert_infer.artifact.folder import read_config
from bebert_infer.measure.sample_models import demo_path


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":  # the reference answers the same, sooner than plain loops
        monkeypatch.setenv("BEBERT_BACKEND", "reference")


def read_card(folder: Path) -> ModelCard:
    """By the reader of the hub's client, after what the hub itself asks of a card."""
    text = (folder / "README.md").read_text("utf-8")
    assert card_faults(text) == []
    return ModelCard(text)


@pytest.mark.parametrize("licence", ["bigcode-openrail-m", "cc-by-2.0", "CC-BY-ND-4.0", "cdla-permissive-1.0", "mit"])
def test_licences_of_the_hub_are_called_as_it_calls_them(licence):
    config = read_config(demo_path())
    assert f"license: {licence.lower()}\n" in front_matter(config, CardFacts(licence=licence))
    assert all(name[0] != "-" != name[-1] for name in LICENCES)


def test_a_trained_model_says_what_it_is_made_of_and_what_was_measured(tmp_path):
    task = write_task(tmp_path / "task", 60, 30)
    chosen = options(
        task,
        tmp_path / "run",
        members=1,
        epochs=3,
        start_epochs=3,
        hold_out=0.2,
        labels=None,
        vocabulary_size=None,
        licence="Apache-2.0",
        languages=("en", "de"),
        base_models=("me/encoder",),
        datasets=("me/reviews",),
    )
    results = train(chosen, Console(quiet=True))
    card = read_card(chosen.out / "model")
    data = card.data.to_dict()
    assert (data["license"], data["language"], data["base_model"]) == ("apache-2.0", ["en", "de"], ["me/encoder"])
    assert (data["library_name"], data["pipeline_tag"]) == ("bebert-infer", "text-classification")
    assert data["datasets"] == ["me/reviews"] and data["widget"] == [{"text": EXAMPLE}]
    scores = results["dev"]["ensemble"][results["combination"]]
    found = {one.metric_name: one for one in card.data.eval_results}
    assert found["Accuracy"].metric_value == round(scores["accuracy"], 4)
    assert found["Matthews correlation"].metric_type == "matthews_correlation"
    assert (found["Accuracy"].dataset_type, found["Accuracy"].dataset_name) == ("me/reviews", "dev.tsv")
    text = (chosen.out / "model" / "README.md").read_text("utf-8")
    lines = (task / "train.tsv").read_text().splitlines()[1:]
    assert not [line for line in lines if len(line) > 25 and line.partition("\t")[0] in text], "no text of the data"
    assert str(tmp_path) not in text
    other = TrainOptions(**{**vars(chosen), "languages": (), "licence": "ask me"})
    train(other, Console(quiet=True))  # the card is free: the run is the same


def test_a_converted_model_says_what_it_was_told_and_no_scores(tmp_path):
    source = make_checkpoint(tmp_path / "checkpoint", ODD)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    (source / "vocab.txt").write_text("\n".join(words) + "\n")
    told = (
        "--licence",
        "My own terms: no war",
        "--languages",
        "en",
        "--base-models",
        "google/bert",
        "--example",
        "so: bad",
    )
    done = bebert("convert", source, "--out", tmp_path / "model", *told, "--datasets", "me/a, me/b")
    assert done.returncode == 0, done.stderr
    card = read_card(tmp_path / "model")
    data = card.data.to_dict()
    assert data["license"] == "other" and "Licence: My own terms: no war." in card.text
    assert data["datasets"] == ["me/a", "me/b"] and data["base_model"] == ["google/bert"]
    assert data["widget"] == [{"text": "so: bad"}] and "model-index" not in data
    done = bebert("convert", source, "--out", tmp_path / "bare")
    data = read_card(tmp_path / "bare").data.to_dict()
    assert not {"license", "language", "datasets", "base_model", "model-index"} & set(data), "nothing is guessed"


class Data:
    """Of a run: only where the dev rows are."""

    def __init__(self, dev: Path):
        self.dev = type("File", (), {"path": dev})


@pytest.mark.parametrize("own", [False, True])
def test_a_glue_task_is_named_only_where_its_own_rows_were_used(tmp_path, own):
    files = {"train": tmp_path / "train.tsv", "dev": tmp_path / "dev.csv"} if own else {}
    options = TrainOptions(init="google/bert", out=tmp_path / "run", task="mnli", **files)
    results = {"combination": "vote", "dev": {"ensemble": {"vote": {"accuracy": 0.71234, "macro_f1": 0.5}}}}
    facts = card_facts(options, Data(tmp_path / "dev.csv"), results)
    assert facts.languages == ("en",) and facts.base_models == ("google/bert",)
    assert facts.datasets == (() if own else ("nyu-mll/glue",))
    assert facts.measured is not None
    named = (facts.measured.dataset, facts.measured.config, facts.measured.split)
    assert named == (("csv", None, "validation") if own else ("nyu-mll/glue", "mnli", "validation_matched"))
    local = TrainOptions(init=str(tmp_path), out=tmp_path / "run", task="mnli", **files)
    assert card_facts(local, Data(tmp_path / "dev.csv"), results).base_models == ()


def test_texts_of_people_cannot_break_the_front_matter():
    odd = 'a: "b" # c\n---\nlicense: mit'
    facts = CardFacts(odd, ("en",), (), (), odd, Measured("csv", odd, {"accuracy": 0.5, "unheard of": 1.0}))
    text = f"---\n{front_matter(read_config(demo_path()), facts)}\n---\n\n# x\n"
    data = ModelCard(text).data.to_dict()
    assert data["license"] == "other" and data["widget"][0]["text"] == odd
    assert json.dumps(data["model-index"][0]["results"][0]["dataset"]["name"]) == json.dumps(odd)
    assert card_faults(text) == []
