"""Texts with any number of labels: read from files of every form, trained, boosted by decision, packed and scored."""

# ruff: noqa: E402 - the imports below need the extra

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from command import bebert
from rich.console import Console
from toy import NEGATIVE, NEUTRAL, POSITIVE, write_encoder
from transformers import BertForSequenceClassification

from bebert_export.checkpoints.pretrained import load_pretrained
from bebert_export.data.examples import class_ids, label_names, named_class_ids, read_examples
from bebert_export.data.metrics import multi_label_metrics
from bebert_export.train import TrainOptions, train
from bebert_export.training.loss import example_losses
from bebert_infer import Ensemble
from bebert_infer.errors import DataError, InputError

SETS = [["pos"], ["neg", "pos"], [], ["neg"]]
TARGETS = [[0, 1], [1, 1], [0, 0], [1, 0]]


def written(folder, kind):
    """The same four rows in each form that a file may have."""
    texts = [f"text {i}" for i in range(4)]
    if kind == "columns":
        rows = [f"{text},{neg},{pos}" for text, (neg, pos) in zip(texts, TARGETS, strict=True)]
        (folder / "a.csv").write_text("\n".join(["text,neg,pos", *rows]) + "\n")
        return folder / "a.csv"
    if kind == "tsv":
        cells = [",".join(said) or "[]" for said in SETS]
        rows = [f"{text}\t{cell}" for text, cell in zip(texts, cells, strict=True)]
        (folder / "a.tsv").write_text("\n".join(["text\tlabels", *rows]) + "\n")
        return folder / "a.tsv"
    records = [{"text": text, "labels": said} for text, said in zip(texts, SETS, strict=True)]
    if kind == "jsonl":
        (folder / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return folder / "a.jsonl"
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(arrow.Table.from_pylist(records), folder / "a.parquet")
    return folder / "a.parquet"


@pytest.mark.parametrize("kind", ["tsv", "columns", "jsonl", "parquet"])
def test_all_forms_of_a_file_mean_the_same(tmp_path, kind):
    examples = read_examples(written(tmp_path, kind), multi_label=True, names=["neg", "pos"])
    assert label_names(examples) == ["neg", "pos"]
    np.testing.assert_array_equal(class_ids(examples, ["neg", "pos"]), TARGETS)
    np.testing.assert_array_equal(named_class_ids(examples, ["pos", "neg"])[:, ::-1], TARGETS)


def test_numbers_stand_for_names(tmp_path):
    """GoEmotions: `2,27`, and in JSON lists of numbers."""
    (tmp_path / "a.tsv").write_text("text\tlabel\na\t0\nb\t0,1\n")
    (tmp_path / "b.jsonl").write_text('{"text": "a", "labels": [0]}\n{"text": "b", "labels": [0, 1]}\n')
    for file in ("a.tsv", "b.jsonl"):
        examples = read_examples(tmp_path / file, multi_label=True)
        np.testing.assert_array_equal(named_class_ids(examples, ["joy", "love"]), [[1, 0], [1, 1]])


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("a.tsv", "text\tlabels\na\tx\nb\t\n", 'line 3 of .* has an empty "labels"'),
        ("a.tsv", "text\tlabels\na\tx\nb\tx,,y\n", r"has the labels 'x,,y'; accepted are names with commas, or"),
        ("a.csv", "text,labels\na,\"['x', 'y']\"\n", r"has the labels .*and \[\] for none"),
        ("a.jsonl", '{"text": "a", "labels": null}\n', 'has an empty "labels"'),
        ("a.jsonl", '{"text": "a", "labels": [null]}\n', r"has the labels \[None\]; accepted"),
        ("a.jsonl", '{"text": "a", "labels": [["x"]]}\n', r"has the label \['x'\]; accepted are strings"),
        ("a.csv", "text,neg,pos\na,1,2\n", "has '2' in \"pos\"; accepted are 1 for the label, 0 for none"),
        ("a.csv", "text,neg,pos\na,1,\n", "has '' in \"pos\"; accepted are 1"),
        ("a.csv", "text,neg\na,1\n", "columns text, neg; one of label, labels is missing"),
    ],
)
def test_what_is_no_set_of_labels_is_named_with_its_place(tmp_path, file, content, said):
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=said):
        read_examples(tmp_path / file, multi_label=True, names=["neg", "pos"])


def test_lists_without_the_option_get_a_hint(tmp_path):
    with pytest.raises(DataError, match="or with --multi-label lists of these"):
        read_examples(written(tmp_path, "jsonl"))


def test_metrics_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score, hamming_loss

    random = np.random.default_rng(0)
    truth, said = (random.random((50, 4)) < 0.3 for _ in range(2))
    truth[:, 3] = said[:, 3] = False  # a label that is never there
    found = multi_label_metrics(truth, said)
    assert found == pytest.approx(
        {
            "micro_f1": f1_score(truth, said, average="micro"),
            "macro_f1": f1_score(truth, said, average="macro", zero_division=0),
            "label_accuracy": 1 - hamming_loss(truth, said),
            "exact_match": accuracy_score(truth, said),
        }
    )


def test_the_loss_is_that_of_transformers():
    logits, targets = torch.randn(5, 3), (torch.rand(5, 3) < 0.5).float()
    expected = torch.nn.BCEWithLogitsLoss()(logits, targets)
    torch.testing.assert_close(example_losses(logits, targets, None).mean(), expected)
    teacher = torch.randn(5, 3)
    soft = -(teacher.sigmoid() * logits.sigmoid().log() + (1 - teacher.sigmoid()) * (-logits).sigmoid().log())
    torch.testing.assert_close(example_losses(logits, targets, teacher), soft)


def sentences(file, rows, seed):
    """Opinion words of one kind, of both, or of none; each kind is a label."""
    random = np.random.default_rng(seed)
    lines = ["sentence1\tlabel"]
    for _ in range(rows):
        kinds = [name for name, share in (("neg", 0.5), ("pos", 0.5)) if random.random() < share]
        words = [*random.choice(NEUTRAL, 3), *(random.choice(NEGATIVE if k == "neg" else POSITIVE) for k in kinds)]
        lines.append(" ".join(random.permutation(words)) + "\t" + (",".join(kinds) or "[]"))
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    options = TrainOptions(
        init=str(write_encoder(folder / "encoder", layers=1)),
        train=sentences(folder / "train.tsv", 300, 1),
        dev=sentences(folder / "dev.tsv", 100, 2),
        out=folder / "run",
        multi_label=True,
        members=2,
        scheme="1-1-1",
        base="bit",
        distill="prediction",
        max_length=16,
        teacher_epochs=6,
        epochs=6,
        teacher_learning_rate=5e-3,
        learning_rate=5e-3,
        dropout=0.0,
        threads=1,
    )
    return options, train(options, Console(quiet=True))


def test_a_run_learns_each_label_and_the_packed_model_answers_with_sigmoids(run):
    options, results = run
    model = Ensemble.from_pretrained(options.out / "model")
    assert model.config.problem_type == "multi_label_classification" and model.config.labels == ["neg", "pos"]
    scores = results["dev"]
    assert scores["main_metric"] == "micro_f1" and scores["full_precision"]["micro_f1"] > 0.9
    assert scores["packed_against_torch"]["equal_answers"] == 1
    dev = read_examples(options.dev, multi_label=True)
    said = [prediction.labels for prediction in model.predict(dev.texts)]
    exact = np.mean([sorted(a) == sorted(b) for a, b in zip(said, dev.labels, strict=True)])
    assert exact == scores["ensemble"]["probabilities"]["exact_match"] > 0.4  # guessing gets a quarter
    config = json.loads((options.out / "full_precision" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


def test_every_decision_has_a_boosting_weight(run):
    from bebert_export.pipeline.run_folder import RunFolder

    options, results = run
    weights = RunFolder(options.out).load("member_0")[0]["weights"].numpy()
    assert weights.shape == (results["trained_rows"], 2) and weights.sum() == pytest.approx(1)
    error = results["members"][0]["train_error"]
    assert 0 < error < 0.5 and len(np.unique(weights.round(12))) == 2  # of right decisions and of wrong ones


def test_eval_scores_all_forms_of_a_file(run, tmp_path):
    options, results = run
    model = options.out / "model"
    dev = read_examples(options.dev, multi_label=True)
    rows = [f"{t},{int('neg' in s)},{int('pos' in s)}" for t, s in zip(dev.texts, dev.labels, strict=True)]
    (tmp_path / "marked.csv").write_text("\n".join(["text,neg,pos", *rows]) + "\n")
    files = []
    for file in (options.dev, tmp_path / "marked.csv"):
        files.append(tmp_path / f"{file.stem}.json")
        compared = ("--full-precision", options.out / "full_precision", "--noise", 0.1, "--seeds", 2)
        done = bebert("eval", model, file, "--json", files[-1], *compared, "--plots", tmp_path / "plots")
        assert done.returncode == 0 and "micro f1" in done.stdout, done.stderr
    first, second = (json.loads(file.read_text()) for file in files)
    for figures in (first, second):
        best = figures["ensembles"]["probabilities"][-1]
        assert best["metrics"]["micro_f1"]["value"] == results["dev"]["ensemble"]["probabilities"]["micro_f1"]
        assert 0 <= best["calibration"]["ece"] <= 1 and np.shape(figures["agreement"]) == (2, 2)
        assert figures["full_precision"]["metrics"]["micro_f1"]["value"] == pytest.approx(
            results["dev"]["full_precision"]["micro_f1"]
        )
    assert first["ensembles"] == second["ensembles"]
    assert {file.name for file in (tmp_path / "plots").iterdir()} >= {"scores.png", "calibration.png"}


def test_a_head_of_another_problem_is_no_head(run):
    options, _ = run
    folder = options.out / "full_precision"
    choices = {"vocabulary_size": None, "positions": None, "dropout": 0.0, "seed": 0}
    kept = load_pretrained(str(folder), None, ["neg", "pos"], "multi_label_classification", with_head=True, **choices)
    original = BertForSequenceClassification.from_pretrained(folder)
    torch.testing.assert_close(kept.model.classifier.weight, original.classifier.weight)
    with pytest.raises(DataError, match="fine-tuned for multi label classification, this run is single label"):
        load_pretrained(str(folder), None, ["neg", "pos"], with_head=True, **choices)
    fresh = load_pretrained(str(folder), None, ["neg", "pos"], **choices).model.classifier.weight
    assert not torch.equal(fresh, original.classifier.weight)


@pytest.mark.parametrize(("more", "said"), [({"task": "sst2"}, "task sst2"), ({"regression": True}, "regression")])
def test_several_labels_are_no_task_and_no_regression(tmp_path, more, said):
    options = TrainOptions(init="x", out=tmp_path / "run", multi_label=True, **more)
    with pytest.raises(InputError, match=f"any number of labels, not for {said}"):
        train(options)
