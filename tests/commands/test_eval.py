"""`bebert eval` counts right: textbook statistics, noise that repeats, a report that says what was measured."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bebert_infer import Ensemble, InputError
from bebert_infer.measure.sample_models import demo_path, random_model
from bebert_infer.model.batch import Batch
from bebert_infer.model.noise import Noise
from bebert_infer.text.tokenizer import EncodedBatch

pytest.importorskip("sklearn")

from bebert_export.data.examples import read_examples
from bebert_export.data.metrics import classification_metrics, counted_metrics
from bebert_export.evaluate import Bootstrap, noise_report, report, split_kind, split_logits, targets_of, texts_of
from bebert_export.evaluation.reliability import agreement, calibration, intervals, resamples
from bebert_infer.errors import DataError

CLASSES = "single_label_classification"
REVIEWS = [
    ("a wonderful , moving and funny film", "positive"),
    ("an awful , boring mess", "negative"),
    ("one of the best performances of the year", "positive"),
    ("a complete waste of time", "negative"),
    ("neither good nor bad", "positive"),
    ("i loved every minute of it", "positive"),
    ("dull and far too long", "negative"),
    ("nothing works here", "positive"),  # a wrong label, so that no figure is perfect
]


@pytest.fixture(scope="module")
def demo() -> Ensemble:
    return Ensemble.from_pretrained(demo_path())


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("eval") / "reviews.tsv"
    file.write_text("sentence1\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in REVIEWS))
    return file


# Statistics


def test_calibration_error_of_five_answers_by_hand():
    """Bins of 1/15: 0.95 and 0.99 share the last, 0.5 is alone, 0.61 and 0.65 share (9/15, 10/15]."""
    labels, answers = np.array([1, 1, 0, 1, 0]), np.array([1, 0, 0, 1, 0])
    confidences = np.array([0.95, 0.99, 0.5, 0.61, 0.65])
    result = calibration(labels, answers, confidences)
    assert result["ece"] == pytest.approx(2 / 5 * abs(0.5 - 0.97) + 1 / 5 * abs(1 - 0.5) + 2 / 5 * abs(1 - 0.63))
    assert [row["count"] for row in result["bins"]] == [0] * 7 + [1, 0, 2, 0, 0, 0, 0, 2]
    assert result["bins"][14]["accuracy"] == 0.5 and result["bins"][0]["accuracy"] is None


def test_borders_of_calibration_bins():
    """A confidence on a border is in the lower bin, 0 in the first and 1 in the last."""
    counts = [row["count"] for row in calibration(np.zeros(4), np.zeros(4), np.array([0.0, 0.2, 0.2001, 1.0]))["bins"]]
    assert counts == [1, 0, 1, 1] + [0] * 10 + [1]


def test_a_model_as_sure_as_it_is_right_has_no_calibration_error():
    assert calibration(np.array([0, 0, 1, 1]), np.zeros(4), np.full(4, 0.5))["ece"] == 0


def test_agreement_by_hand():
    answers = np.array([[0, 1, 2, 0], [0, 1, 1, 0], [2, 1, 1, 1]])
    np.testing.assert_array_equal(agreement(answers), [[1, 0.75, 0.25], [0.75, 1, 0.5], [0.25, 0.5, 1]])


@pytest.mark.parametrize("classes", [2, 3])
def test_counted_metrics_are_those_of_scikit_learn(classes):
    generator = np.random.default_rng(classes)
    for rows in (1, 2, 5, 100):  # few rows: classes that never occur, constant answers
        labels, answers = generator.integers(0, classes, (2, rows))
        counts = np.bincount(labels * classes + answers, minlength=classes**2).reshape(1, classes, classes)
        expected = classification_metrics(labels, answers, classes)
        assert {name: pytest.approx(float(v[0])) for name, v in counted_metrics(counts).items()} == expected


def test_bootstrap_interval_by_enumeration():
    """Two examples, one right: a resample is right on 0, 1 or 2 of 2, with chances 1/4, 1/2, 1/4."""
    targets, outputs = np.array([0, 0]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert intervals(targets, outputs, 1000, seed=0)["accuracy"] == (0, 1)
    means = [float((index == 0).mean()) for index in resamples(2, 4000, seed=1)]
    # Standard error of a share of 4,000 draws is at most 0.008; five of them.
    for value, chance in ((0, 0.25), (0.5, 0.5), (1, 0.25)):
        assert means.count(value) / 4000 == pytest.approx(chance, abs=0.04)


def test_bootstrap_interval_is_that_of_the_binomial_for_accuracy():
    """90 of 100 right: standard error 3 points, 95 % interval 84 to 95 (one step, a point, of slack)."""
    targets = np.zeros(100, np.int64)
    outputs = np.eye(2)[(np.arange(100) >= 90).astype(int)]
    low, high = intervals(targets, outputs, 2000, seed=3)["accuracy"]
    assert low == pytest.approx(0.84, abs=0.0101) and high == pytest.approx(0.95, abs=0.0101)
    assert intervals(targets, outputs, 2000, seed=3)["accuracy"] == (low, high)


def test_intervals_of_a_regression_hold_its_metrics():
    values = np.linspace(0, 5, 30)
    bounds = intervals(values, (values + np.sin(7 * values))[:, None], 200, seed=0)
    assert set(bounds) == {"pearson_spearman", "pearson", "spearman", "mean_absolute_error"}
    assert 0 < bounds["pearson"][0] < bounds["pearson"][1] <= 1


# Noise


def _pad(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    ids, mask = np.zeros((2, len(rows), max(map(len, rows))), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
    return ids, mask


@pytest.fixture(scope="module")
def sentences() -> list[np.ndarray]:
    generator = np.random.default_rng(5)
    return [generator.integers(0, 50, length) for length in (1, 17, 2, 30, 5)]


@pytest.mark.parametrize("scheme", ["1-1-1", "1-1-4"])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_noise_of_sigma_0_is_no_noise_bit_for_bit(scheme, backend, sentences):
    model = Ensemble(random_model("tiny", scheme, 2, vocab_size=50), backend=backend)
    batch = _pad(sentences)
    np.testing.assert_array_equal(model.member_logits(*batch, noise=Noise(0, 7)), model.member_logits(*batch))


@pytest.mark.parametrize("scheme", ["1-1-1", "1-1-4"])
def test_noise_is_the_same_in_native_programs_and_in_the_reference(scheme, sentences):
    artifact, batch = random_model("tiny", scheme, 2, vocab_size=50), _pad(sentences)
    native, reference = Ensemble(artifact), Ensemble(artifact, backend="reference")
    expected = reference.member_logits(*batch, noise=Noise(0.1, 7))
    np.testing.assert_array_equal(native.member_logits(*batch, noise=Noise(0.1, 7)), expected)
    assert (native.member_logits(*batch) != expected).any(), "noise stays for the next call, or is none"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_noise_does_not_depend_on_batch_padding_order_or_threads(sentences, threads, monkeypatch):
    artifact = random_model("tiny", "1-1-4", 2, vocab_size=50)
    alone = Ensemble(artifact, threads=1)
    rows = [alone.member_logits(row[None], noise=Noise(0.1, 3, np.array([i]))) for i, row in enumerate(sentences)]
    expected = np.concatenate(rows, axis=1)
    model = Ensemble(artifact, threads=threads)
    np.testing.assert_array_equal(model.member_logits(*_pad(sentences), noise=Noise(0.1, 3)), expected)
    backwards = model.member_logits(*_pad(sentences[::-1]), noise=Noise(0.1, 3, np.arange(5)[::-1]))
    np.testing.assert_array_equal(backwards[:, ::-1], expected)
    monkeypatch.setattr("bebert_infer.token_model.MAX_ROWS", 20)
    np.testing.assert_array_equal(model.member_logits(*_pad(sentences), noise=Noise(0.1, 3)), expected)


def test_noise_is_new_for_every_seed_member_and_example():
    model = Ensemble(random_model("tiny", "1-1-4", 1, vocab_size=50))
    same = np.tile(np.arange(9), (2, 1))
    first, other = (model.member_logits(same, noise=Noise(0.5, seed)) for seed in (0, 1))
    assert (first != other).any() and (first[:, 0] != first[:, 1]).any()
    member = Noise(0.5, 0, np.array([0]))
    one, two = (member.part(slice(None), index).draw(_one_sentence(9), slice(0, 9), 8) for index in (0, 1))
    assert (one != two).all() and one.dtype == np.float32


def _one_sentence(tokens):
    rows = np.arange(tokens)
    return Batch(rows, rows, 0 * rows, np.array([0, tokens]))


def test_noise_has_the_standard_deviation_that_was_asked_for():
    """10,000 draws: the standard error of their deviation is 0.7 %; five of them."""
    noise = Noise(0.1, 0, np.array([4])).draw(_one_sentence(100), slice(0, 100), 100)
    assert noise.std() == pytest.approx(0.1, rel=0.035) and abs(noise.mean()) < 0.005


@pytest.mark.parametrize(
    "sigma, seed", [(-0.1, 0), (float("nan"), 0), (float("inf"), 0), (1e5, 0), (0.1, -1), (0.1, 1.5)]
)
def test_noise_refuses_what_it_cannot_be(sigma, seed):
    with pytest.raises(InputError, match="accepted are"):
        Noise(sigma, seed)


def test_noise_for_another_number_of_examples_is_refused(sentences):
    model = Ensemble(random_model("tiny", "1-1-4", 1, vocab_size=50))
    with pytest.raises(InputError, match="5"):
        model.member_logits(*_pad(sentences), noise=Noise(0.1, 0, np.arange(4)))


# The report


def test_labels_are_names_or_numbers_of_the_model(tmp_path, demo):
    def targets(*labels: str) -> list[int]:
        file = tmp_path / "labels.tsv"
        file.write_text("sentence1\tlabel\n" + "".join(f"text\t{label}\n" for label in labels))
        return targets_of(read_examples(file), demo.config).tolist()

    assert targets("negative", "positive") == targets("0", "1") == [0, 1]
    with pytest.raises(DataError, match='line 3 .*"1".*negative, positive, or in their place 0, 1'):
        targets("positive", "1")
    with pytest.raises(DataError, match='line 2 .*"2"'):
        targets("2", "1")


def test_labels_may_be_what_the_training_file_had_in_place_of_the_names(tmp_path, demo):
    """Found by reading: classes 1 and 2 of a model that was trained on 1, 2, 3 were taken for the second and third."""
    file = tmp_path / "labels.tsv"
    config = msgspec.structs.replace(demo.config, evidence={"labels": {"negative": "1", "positive": "2"}})
    file.write_text("sentence1\tlabel\na\t1\nb\t2\nc\t1\n")
    assert targets_of(read_examples(file), config).tolist() == [0, 1, 0]
    file.write_text("sentence1\tlabel\na\t0\nb\t1\n")
    with pytest.raises(DataError, match="negative, positive, or in their place 1, 2"):
        targets_of(read_examples(file), config)


def test_figures_are_called_what_they_are():
    evidence = {"data": {"train": {"sha256": "a"}, "dev": {"sha256": "b"}}, "dev": {"selection": "none: never"}}
    assert "TRAINED" in split_kind(evidence, "a")
    assert "dev split" in split_kind(evidence, "b") and "none: never" in split_kind(evidence, "b")
    assert "not known" in split_kind(evidence, "c") and "not known" in split_kind({}, "b")
    assert "not known" in split_kind({"data": {"train": ["a"], "dev": 3}}, "a"), "a record is free JSON"


def test_the_report_holds_members_prefixes_and_noise(demo, reviews):
    examples = read_examples(reviews)
    encoded = demo.encode(texts_of(examples))
    figures = report(demo, examples, encoded, None, Bootstrap(100, 0))
    answers = split_logits(demo, encoded).argmax(axis=2)
    labels = np.array([label == "positive" for _, label in REVIEWS])
    for member, entry in zip(answers, figures["members"], strict=True):
        assert entry["metrics"]["accuracy"]["value"] == np.mean(member == labels)
    for rule in ("vote", "logits", "probabilities"):
        first, both = figures["ensembles"][rule]
        assert first["metrics"]["accuracy"] == figures["members"][0]["metrics"]["accuracy"]
        assert both["metrics"]["accuracy"]["low"] <= both["metrics"]["accuracy"]["high"]
    assert figures["agreement"][0][1] == np.mean(answers[0] == answers[1])
    still = noise_report(demo, examples, encoded, 0.0, 2)
    assert still["members"][0]["accuracy"]["mean"] == figures["members"][0]["metrics"]["accuracy"]["value"]
    for rule in ("vote", "logits", "probabilities"):
        for quiet, entry in zip(still["ensembles"][rule], figures["ensembles"][rule], strict=True):
            assert quiet["accuracy"]["mean"] == entry["metrics"]["accuracy"]["value"]
            assert quiet["accuracy"]["std"] == 0


def test_early_exit_is_a_curve_of_members_against_scores(demo, reviews):
    """The rows are what the model answers with these options, and "exact" changes no label."""
    examples = read_examples(reviews)
    encoded = demo.encode(texts_of(examples))
    curve = report(demo, examples, encoded, None, Bootstrap(100, 0))["early_exit"]
    assert [row["early_exit"] for row in curve] == [None, "exact", 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    assert (curve[0]["mean_members"], curve[0]["labels_changed"], curve[1]["labels_changed"]) == (2, 0, 0)
    whole = demo.predict(texts_of(examples))
    for row in curve[1:]:
        answers = demo.predict(texts_of(examples), early_exit=row["early_exit"])
        assert row["mean_members"] == np.mean([one.members_run for one in answers])
        assert row["by_count"] == [np.mean([one.members_run == count for one in answers]) for count in (1, 2)]
        assert row["labels_changed"] == sum(a.label != b.label for a, b in zip(answers, whole, strict=True))
        right = [one.label == label for one, (_, label) in zip(answers, REVIEWS, strict=True)]
        assert row["metrics"]["accuracy"] == np.mean(right)


def test_a_rule_without_an_answer_is_undefined_and_not_a_crash(tmp_path):
    """Here the first member has alpha 0; the first two together have an answer."""
    artifact = random_model("tiny", "1-1-1", 2, vocab_size=50)
    model = Ensemble(artifact)
    model.alphas = np.array([0.0, 1.0])
    file = tmp_path / "two.tsv"
    file.write_text("sentence1\tlabel\na\t0\nb\t1\n")
    ids = np.array([[1, 2], [3, 4]])
    figures = report(model, read_examples(file), EncodedBatch(ids, ids * 0 + 1, ids * 0), None, Bootstrap(100, 0))
    assert "must not be 0" in figures["ensembles"]["logits"][0]["undefined"]
    assert "metrics" in figures["ensembles"]["logits"][1]
    noisy = noise_report(model, read_examples(file), EncodedBatch(ids, ids * 0 + 1, ids * 0), 0.1, 2)["ensembles"][
        "logits"
    ]
    assert "must not be 0" in noisy[0]["undefined"] and "accuracy" in noisy[1]


# The command


def test_the_command_prints_tables_and_writes_json_and_plots_without_torch(reviews, tmp_path):
    pytest.importorskip("matplotlib")
    out, plots = tmp_path / "out.json", tmp_path / "plots"
    code = (
        "import atexit, sys; from bebert_infer.cli.main import main; "
        "atexit.register(lambda: print('torch' in sys.modules)); main()"
    )
    options = ["--noise", "0.1,0.01", "--seeds", "2", "--json", str(out), "--plots", str(plots)]
    command = [sys.executable, "-c", code, "eval", str(demo_path()), str(reviews), *options]
    wide = os.environ | {"COLUMNS": "220"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=wide)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False\n"), "torch was loaded"
    for words in (
        "member 1",
        "first 2 by probabilities (the model)",
        "calibration error",
        "say the same",
        "sigma 0.01",
        "labels changed",
    ):
        assert words in done.stdout, words
    assert "8 rows" in done.stdout and "not known here" in done.stdout
    figures = json.loads(out.read_text())
    assert [level["sigma"] for level in figures["noise"]] == [0.1, 0.01]
    assert len(figures["noise"][0]["members"][1]["accuracy"]["values"]) == 2
    names = ("scores", "calibration", "agreement", "early_exit", "noise")
    assert {file.name for file in plots.iterdir()} == {f"{name}.png" for name in names}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in plots.iterdir())
    assert {file.name for file in tmp_path.iterdir()} == {"out.json", "plots"}


def test_full_precision_is_scored_beside_the_members(tmp_path):
    """Its classes are put into the order of the packed model by name."""
    pytest.importorskip("transformers")
    import torch
    from toy import NEGATIVE, POSITIVE, write_encoder
    from transformers import BertConfig, BertForSequenceClassification

    from bebert_export.peers.classifier import full_precision_logits

    folder = write_encoder(tmp_path / "full", pooler=True)
    torch.manual_seed(1)
    config = BertConfig.from_pretrained(
        folder, num_labels=2, id2label={0: "yes", 1: "no"}, label2id={"yes": 0, "no": 1}
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    file = tmp_path / "data.tsv"
    file.write_text("sentence1\tlabel\n" + "".join(f"the film is {word}\t0\n" for word in NEGATIVE + POSITIVE))
    examples = read_examples(file)
    there, back = (
        full_precision_logits(folder, examples, names, CLASSES, 20, 1) for names in (["yes", "no"], ["no", "yes"])
    )
    np.testing.assert_array_equal(there, back[:, ::-1])
    with pytest.raises(DataError, match="yes, no, the packed model negative, positive"):
        full_precision_logits(folder, examples, ["negative", "positive"], CLASSES, 20, 1)
    with pytest.raises(DataError, match="no config.json"):
        full_precision_logits(tmp_path, examples, ["yes", "no"], CLASSES, 20, 1)
    file.write_text("sentence1\tlabel\ngood\t0\n" + "good " * 60 + "\t0\n")  # the model has 40 positions
    with pytest.raises(DataError, match="line 3 .* 62 tokens"):
        full_precision_logits(folder, read_examples(file), ["yes", "no"], CLASSES, 64, 1)
    write_encoder(folder, pooler=True)  # an encoder without a classifier
    with pytest.raises(DataError, match="lacks weights: classifier.bias"):
        full_precision_logits(folder, examples, ["LABEL_0", "LABEL_1"], CLASSES, 20, 1)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--noise", "much"], 'noise is "much"; accepted are sigmas'),
        (["--noise", "-0.1"], "at least 0"),
        (["--noise", "0.1,nan"], "at least 0"),
        (["--noise", "1e308"], "at most 10000 with commas"),
        (["--json", "out.txt"], "ending in .json"),
        (["--json", "no-such-folder/out.json"], "folder that exists"),
        (["--json", "/proc/x.json"], '--json is "/proc/x.json", where nothing can be written: '),
        (["--plots", str(Path(__file__))], "which is a file"),
        (["--plots", "/proc/x/y"], '--plots is "/proc/x/y", where nothing can be written: '),
    ],
)
def test_wrong_options_are_one_sentence(reviews, options, words):
    """In this process: nothing heavy may be loaded before an option is refused."""
    from bebert_infer.cli.main import app

    with pytest.raises(InputError) as caught:
        app(["eval", str(demo_path()), str(reviews), *options], standalone_mode=False)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "has no example"),
        ("sentence1\tlabel\n", "has no example"),
        ("review\tlabel\ngood\t1\n", "one of sentence1"),
        ("sentence1\tscore\ngood\t1\n", "one of label"),
        ("sentence1\tlabel\ngood\tmaybe\n", '"maybe"'),
        ("sentence1\tlabel\ngood\t1\t2\n", "3 fields"),
        (
            "sentence1\tlabel\ngood\t1\n" + "very " * 100 + "good\t1\n",
            "data.tsv has 103 tokens; this model accepts at most 64: shorten it, or cut the end of all such texts off "
            "with --truncate",
        ),
    ],
)
def test_hostile_files_are_one_sentence(tmp_path, text, words):
    from bebert_infer.cli.main import app

    file = tmp_path / "data.tsv"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        app(["eval", str(demo_path()), str(file)], standalone_mode=False)
    assert words in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data.tsv"]


def test_a_folder_is_no_json_file_and_a_place_that_cannot_be_written_costs_no_evaluation(reviews, tmp_path):
    from bebert_infer.cli.main import app

    (tmp_path / "f.json").mkdir()
    with pytest.raises(InputError, match="accepted is a file ending in .json"):
        app(["eval", str(demo_path()), str(reviews), "--json", str(tmp_path / "f.json")], standalone_mode=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f.json"]


def test_what_cannot_be_written_in_the_end_is_one_sentence(reviews, tmp_path, monkeypatch, capsys):
    """The disk fills up while the evaluation runs: its tables are printed all the same."""
    from bebert_infer.cli import eval as cli_eval
    from bebert_infer.cli.main import app

    def full(file, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli_eval, "write_json", full)
    options = ["--json", str(tmp_path / "f.json"), "--resamples", "100"]
    with pytest.raises(DataError, match=r"cannot write .*f.json: No space left on device; make room or choose"):
        app(["eval", str(demo_path()), str(reviews), *options], standalone_mode=False)
    assert "member 1" in capsys.readouterr().out


def test_tables_are_whole_in_a_pipe_and_a_dollar_in_a_name_is_no_formula(reviews, tmp_path):
    pytest.importorskip("matplotlib")
    file, plots = tmp_path / "d$_$[red].tsv", tmp_path / "p"
    file.write_text(reviews.read_text())
    code = "from bebert_infer.cli.main import main; main()"
    command = [sys.executable, "-c", code, "eval", str(demo_path()), str(file), "--plots", str(plots)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout and "d$_$[red].tsv, 8 rows" in done.stdout
    assert len(list(plots.iterdir())) == 4


def test_one_class_is_scored_without_a_word_of_scikit_learn(recwarn):
    assert classification_metrics(np.zeros(3, np.int64), np.zeros(3, np.int64), 2)["matthews"] == 0
    assert not recwarn


def test_plots_without_matplotlib_say_what_to_install(reviews, tmp_path, monkeypatch):
    from bebert_infer.cli.main import app
    from bebert_infer.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "bebert_export.evaluation.plots", raising=False)
    with pytest.raises(MissingExtraError, match=r'"matplotlib.*pip install "bebert-infer\[export\]"'):
        app(["eval", str(demo_path()), str(reviews), "--plots", str(tmp_path / "plots")], standalone_mode=False)


def test_regression_is_scored_by_correlation(tmp_path):
    """The report then has no agreement and no calibration."""
    model = _regressor()
    file = tmp_path / "values.tsv"
    file.write_text("sentence1\tlabel\n" + "".join(f"text\t{value}\n" for value in (0.5, 1.5, 3, 4.5)))
    ids = np.arange(8).reshape(4, 2)
    figures = report(model, read_examples(file), EncodedBatch(ids, ids * 0 + 1, ids * 0), None, Bootstrap(100, 0))
    assert set(figures["ensembles"]) == {"mean", "median"} and "agreement" not in figures
    assert set(figures["members"][0]["metrics"]) == {"pearson_spearman", "pearson", "spearman", "mean_absolute_error"}
    assert "calibration" not in figures["members"][0]


def _regressor() -> Ensemble:
    artifact = random_model("tiny", "1-1-4", 2, vocab_size=50)
    one = {"num_labels": 1, "id2label": {"0": "score"}, "label2id": {"score": 0}}
    config = msgspec.structs.replace(artifact.config, problem_type="regression", combination="mean", **one)
    head = {name: array[:1] for name, array in artifact.tensors.items() if "classifier" in name}
    return Ensemble(replace(artifact, config=config, tensors=artifact.tensors | head))
