"""Labels that do not exclude each other: each is decided alone, by every rule, in windows, in files and in eval."""

import io
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from micro import micro_config, write_micro

from bebert_infer import Ensemble, ModelFormatError
from bebert_infer.artifact.config import Config
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.bulk.writers import table_maker
from bebert_infer.combine import class_probabilities, combine
from bebert_infer.prediction import predictions
from bebert_infer.text.windows import EncodedText

NAMES = ["toxic", "threat", "insult"]
MULTI = "multi_label_classification"
RULES = ("vote", "logits", "probabilities")
LOGITS = np.array([[[2.0, -1.0, 0.5]], [[-1.0, -3.0, 0.25]]], np.float32)  # two members, one text


def several(config: Config, rule: str) -> Config:
    return msgspec.structs.replace(
        config,
        problem_type=MULTI,
        combination=rule,
        num_labels=3,
        id2label={str(i): name for i, name in enumerate(NAMES)},
        label2id={name: i for i, name in enumerate(NAMES)},
    )


CONFIG = several(micro_config(), "probabilities")


@pytest.fixture
def folder(tmp_path):
    """A micro model of two members whose three labels do not exclude each other."""
    return write_micro(tmp_path / "model", several(micro_config(members=2), "probabilities"))


@pytest.mark.parametrize(
    ("rule", "shares"),
    [
        ("vote", [3 / 4, 0, 1]),
        ("logits", [1 / (1 + np.exp(-(3 * 2 - 1) / 4)), 1 / (1 + np.exp(6 / 4)), 1 / (1 + np.exp(-1.75 / 4))]),
        (
            "probabilities",
            [(3 / (1 + np.exp(-x)) + 1 / (1 + np.exp(-y))) / 4 for x, y in LOGITS[:, 0].T.astype(np.float64)],
        ),
    ],
)
def test_every_rule_gives_each_label_its_own_share(rule, shares):
    config = several(CONFIG, rule)
    (answer,) = predictions(config, np.array([3.0, 1.0]), LOGITS)
    np.testing.assert_allclose(list(answer.probabilities.values()), shares, rtol=1e-12)
    assert answer.labels == [NAMES[i] for i in np.argsort(-np.array(shares)) if shares[i] > 0.5]
    assert answer.votes == [["toxic", "insult"], ["insult"]]
    assert answer.label == answer.labels[0] and answer.score == max(answer.probabilities.values())


@given(
    logits=arrays(np.float32, (3, 4, 5), elements=st.floats(-50, 50, width=32)),
    alphas=arrays(np.float64, 3, elements=st.floats(-4, 4)),
    rule=st.sampled_from(RULES),
)
def test_a_label_is_said_exactly_where_its_share_is_above_a_half(logits, alphas, rule):
    """Also with negative alphas, which vote against; shares stay between 0 and 1."""
    if rule == "logits" and not np.abs(alphas).sum() > 1e-9:
        return
    scores = combine(rule, logits, alphas, multi_label=True)
    shares = class_probabilities(rule, scores, alphas, multi_label=True)
    assert ((shares >= 0) & (shares <= 1)).all()
    clear = np.abs(shares - 0.5) > 1e-12
    np.testing.assert_array_equal((scores > 0)[clear], (shares > 0.5)[clear])
    turned = class_probabilities(rule, combine(rule, -logits, alphas, multi_label=True), alphas, multi_label=True)
    if (logits != 0).all():  # a logit of exactly 0 votes no on both sides
        np.testing.assert_allclose(turned, 1 - shares, atol=1e-9)


def test_windows_give_each_label_its_mean_or_its_surest_window():
    config = several(CONFIG, "probabilities")
    logits = np.array([[[4.0, -4.0, -1.0], [-2.0, 3.0, -1.0]]], np.float32)  # one member, two windows of one text
    text = [EncodedText((([], []),) * 2)]
    each = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    (mean,) = predictions(config, np.ones(1), logits, text, "mean")
    np.testing.assert_allclose(list(mean.probabilities.values()), each.mean(axis=0), rtol=1e-12)
    assert mean.labels == ["toxic"] and mean.votes == [["toxic"]]
    (surest,) = predictions(config, np.ones(1), logits, text, "max")
    np.testing.assert_allclose(list(surest.probabilities.values()), each.max(axis=0), rtol=1e-12)
    assert surest.labels == ["toxic", "threat"] and surest.votes == [["toxic", "threat"]]


def test_a_folder_is_read_and_answers_like_a_pipeline(folder):
    model = Ensemble.from_pretrained(folder)
    answers = model(["good film", "bad film"], top_k=None)
    for ranked, prediction in zip(answers, model.predict(["good film", "bad film"]), strict=True):
        assert {one["label"]: one["score"] for one in ranked} == prediction.probabilities
        assert [one["score"] for one in ranked] == sorted(prediction.probabilities.values(), reverse=True)
        assert sum(prediction.probabilities.values()) != pytest.approx(1)
    assert np.array_equal(
        model.logits(model.encode(["good film"]).input_ids)[0], model.predict("good film")[0].logits.astype(np.float32)
    )


def test_a_config_of_several_labels_takes_no_rule_of_regression(folder):
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"combination": "mean"}))
    with pytest.raises(ModelFormatError, match='"mean" does not fit problem_type "multi_label_classification"'):
        Ensemble.from_pretrained(folder)


def test_answers_in_files_have_all_labels(tmp_path):
    part = tmp_path / "part"
    record = {
        "row": 1,
        "text": "a, b",
        "label": "toxic",
        "score": 0.9,
        "votes": [["toxic", "insult"], []],
        "labels": ["toxic"],
        "probabilities": {"toxic": 0.9, "threat": 0.1, "insult": 0.4},
    }
    nothing = record | {"row": 2, "labels": [], "votes": [[], []]}
    error = {"row": 3, "error": "why"}
    part.write_text("".join(json.dumps(row) + "\n" for row in (record, nothing, error)))
    table_maker(tmp_path / "out.csv", NAMES, MULTI)(part, tmp_path / "out.csv")
    import csv

    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [row["labels"] for row in rows] == ['["toxic"]', "[]", ""]
    assert json.loads(rows[0]["votes"]) == [["toxic", "insult"], []] and rows[0]["probability_insult"] == "0.4"
    parquet = pytest.importorskip("pyarrow.parquet")
    table_maker(tmp_path / "out.parquet", NAMES, MULTI)(part, tmp_path / "out.parquet")
    read = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["labels"] for row in read] == [["toxic"], [], None]
    assert [row["votes"] for row in read] == [[["toxic", "insult"], []], [[], []], None]


def test_the_table_of_the_command_line_has_one_label_a_line():
    from rich.console import Console

    from bebert_infer.bulk.record import as_record
    from bebert_infer.cli.predict_view import answer_table

    config = several(CONFIG, "probabilities")
    none = np.array([[[-2.0, -1.0, -0.5]], [[-1.0, -3.0, -0.25]]], np.float32)
    records = [
        as_record("a text", predictions(config, np.ones(2), logits)[0], BulkOptions()) for logits in (LOGITS, none)
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(answer_table(records))
    shown = console.export_text()
    assert "toxic+insult insult" in shown and "none none" in shown
