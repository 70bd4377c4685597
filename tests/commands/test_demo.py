"""The shipped ensemble is real: it loads, answers sensibly, is small, and its card says how it came to be."""

import json
import subprocess
import sys

import pytest
from demo_answers import check_stored_answers

from bebert_infer import Ensemble
from bebert_infer.cli.demo import SENTENCES
from bebert_infer.measure.sample_models import demo_path


@pytest.fixture(scope="module")
def model() -> Ensemble:
    return Ensemble.from_pretrained(demo_path())


def test_it_knows_praise_from_blame(model):
    """Not the demo's own sentences: plain ones that any sentiment model must get right."""
    plain = {
        "a wonderful, moving and funny film": "positive",
        "an awful, boring mess": "negative",
        "one of the best performances of the year": "positive",
        "a complete waste of time": "negative",
    }
    assert [prediction.label for prediction in model.predict(list(plain))] == list(plain.values())


def test_it_answers_the_shown_sentences_as_people_do(model):
    answers = [prediction.label for prediction in model.predict([sentence for sentence, _ in SENTENCES])]
    assert answers == [label for _, label in SENTENCES]


def test_it_gives_its_stored_answers():
    check_stored_answers()


def test_it_is_an_ensemble_of_a_few_megabytes(model):
    assert len(model.members) >= 2
    assert sum(file.stat().st_size for file in demo_path().iterdir()) < 8_000_000


def test_its_evidence_holds_scores_of_full_precision_members_and_ensemble(model):
    scores = model.config.evidence["dev"]
    ensemble = scores["ensemble"][model.config.combination]["accuracy"]
    assert len(scores["members"]) == len(model.members)
    assert 0.75 < ensemble <= 1 and 0.75 < scores["full_precision"]["accuracy"] <= 1


def test_its_evidence_says_that_packed_bits_compute_what_pytorch_does(model):
    """Code by code they agree. Left alone, a rounded value at a threshold changes about one answer in 500."""
    parity = model.config.evidence["parity"]
    assert parity["flips"] <= 3 < parity["codes"] / 1e6
    assert parity["max_hidden_difference"] < 2e-5 and parity["max_logit_difference"] < 2e-5
    assert model.config.evidence["dev"]["packed_against_torch"]["equal_answers"] > 0.99


def test_its_card_says_data_licence_command_seed_and_accuracy():
    card = (demo_path() / "README.md").read_text()
    for word in ("SST-2", "icence", "bebert train", "seed", "accuracy", "full precision", "member 0", "ensemble"):
        assert word in card, word


def test_no_file_of_it_names_a_place_on_the_machine_that_made_it():
    for name in ("config.json", "README.md"):
        text = (demo_path() / name).read_text()
        assert "/tmp" not in text and "/home" not in text and "/work" not in text


def test_the_demo_command_shows_answers_size_latency_accuracy_and_python():
    code = "from bebert_infer.cli.main import main; main()"
    command = [sys.executable, "-c", code, "demo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("confidence", "votes", "alpha", "MB", "latency", "accuracy", "Ensemble.from_pretrained"):
        assert word in done.stdout
    assert all(word in done.stdout for word in SENTENCES[0][0].split())


def test_the_config_is_readable_json():
    assert json.loads((demo_path() / "config.json").read_text())["format"] == "bebert-infer"
