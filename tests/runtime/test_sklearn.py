"""A packed model is a classifier of scikit-learn: its estimator checks as far as they hold texts, pipelines, folds."""

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the classifier needs the extra [sklearn]")

from micro import micro_config, write_micro
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

from bebert_infer import Ensemble, InputError
from bebert_infer.sklearn import BebertClassifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_micro(tmp_path_factory.mktemp("sklearn") / "model", micro_config(members=3))


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEBERT_BACKEND", "reference")


LABELS = ["positive", "negative"] * 3
TEXTS = ["good film", "bad film", "the good", "bad bad film", "good", "film"]


NUMBERS = "it feeds numbers, or texts made of nothing but numbers, to `fit`"
FEEDS_NUMBERS = """
    check_fit_score_takes_y check_estimators_overwrite_params check_dont_overwrite_parameters
    check_estimators_fit_returns_self check_readonly_memmap_input check_n_features_in_after_fitting
    check_positive_only_tag_during_fit check_estimators_dtypes check_dtype_object check_pipeline_consistency
    check_estimators_nan_inf check_estimator_sparse_array check_estimators_pickle check_f_contiguous_array_estimator
    check_classifier_data_not_an_array check_classifiers_one_label check_classifiers_classes check_classifiers_train
    check_supervised_y_2d check_methods_sample_order_invariance check_methods_subset_invariance check_fit2d_1sample
    check_fit2d_1feature check_dict_unchanged check_fit_idempotent check_fit_check_is_fitted check_n_features_in
    check_fit2d_predict1d
""".split()
NEEDS_TRAINING = {
    "check_classifiers_train": "it asks for 83 % right answers after `fit`, which trains nothing",
    "check_classifiers_classes": "it trains on label names of its own, which the model must not guess",
    "check_classifiers_one_label": "it wants only the label that `fit` saw; the model answers all it knows",
}


class OfNumbers(BebertClassifier):
    """Rows of numbers as texts, a word a number, so that checks that know no texts reach all else."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags

    def _texts(self, X, reset):
        X = validate_data(self, X, reset=reset)
        words = np.array(["good", "bad", "film", "the"])
        rows = words[(np.floor(4 * np.abs(X)) % 4).astype(int)][:, :6]
        return super()._texts([" ".join(row) for row in rows], reset)


def statuses(results: list[dict]) -> dict[str, set[str]]:
    """What became of each check."""
    found: dict[str, set[str]] = {}
    for result in results:
        found.setdefault(result["check_name"], set()).add(result["status"])
    return found


@pytest.mark.filterwarnings("ignore")  # of checks about themselves
def test_it_passes_the_estimator_checks_that_feed_no_numbers(folder):
    expected = dict.fromkeys(FEEDS_NUMBERS, NUMBERS)
    found = statuses(check_estimator(BebertClassifier(str(folder)), expected_failed_checks=expected, on_skip=None))
    assert {name for name, status in found.items() if "xfail" in status} == set(expected), "none is listed in vain"
    assert sum(status == {"passed"} for status in found.values()) >= 20


@pytest.mark.filterwarnings("ignore")
def test_with_numbers_as_texts_it_passes_all_that_need_no_training(tmp_path):
    names = [str(number) for number in range(10)]
    ten = {"num_labels": 10, "id2label": {n: n for n in names}, "label2id": {n: int(n) for n in names}}
    model = write_micro(tmp_path / "ten", msgspec.structs.replace(micro_config(members=2), **ten))
    found = statuses(check_estimator(OfNumbers(str(model)), expected_failed_checks=NEEDS_TRAINING, on_skip=None))
    assert {name for name, status in found.items() if "xfail" in status} == set(NEEDS_TRAINING)
    assert sum(status == {"passed"} for status in found.values()) >= 45


def test_answers_are_those_of_the_ensemble(folder):
    model = Ensemble.from_pretrained(folder)
    wanted = model.predict(TEXTS)
    for classifier in (BebertClassifier(folder), BebertClassifier(model), BebertClassifier(model).fit(TEXTS, LABELS)):
        assert classifier.classes_.tolist() == ["negative", "positive"]
        assert classifier.predict(TEXTS).tolist() == [answer.label for answer in wanted]
        found = classifier.predict_proba(np.array(TEXTS))
        assert found.tolist() == [[one.probabilities[label] for label in classifier.classes_] for one in wanted]
    right = accuracy_score(LABELS, [answer.label for answer in wanted])
    assert BebertClassifier(folder).score(TEXTS, LABELS) == right


def test_labels_are_names_numbers_or_what_the_user_calls_them(folder):
    by_name = BebertClassifier(folder).predict(TEXTS)
    numbers = [LABELS.index(label) % 2 for label in LABELS]
    by_number = BebertClassifier(folder).fit(TEXTS, numbers)
    assert by_number.classes_.tolist() == [0, 1]
    assert by_number.predict(TEXTS).tolist() == [int(label == "positive") for label in by_name]
    called = BebertClassifier(folder, labels=["z", "a"]).fit(TEXTS, ["a", "z"] * 3)  # z is negative, and comes last
    assert called.classes_.tolist() == ["a", "z"]
    assert called.predict(TEXTS).tolist() == [{"negative": "z", "positive": "a"}[label] for label in by_name]
    swapped = BebertClassifier(folder).predict_proba(TEXTS)[:, ::-1]
    assert (called.predict_proba(TEXTS) == swapped).all()
    only = BebertClassifier(folder).fit(TEXTS, ["positive"] * 6)
    assert only.classes_.tolist() == ["negative", "positive"], "the model still answers both"


def test_pairs_are_two_columns(folder):
    pandas = pytest.importorskip("pandas", reason="the table is of the package pandas")
    pairs = [("good", "film"), ("bad", "film"), ("the", "good")]
    wanted = [answer.label for answer in Ensemble.from_pretrained(folder).predict(pairs)]
    table = pandas.DataFrame(pairs, columns=["first", "second"])
    for X in (pairs, np.array(pairs), table):
        assert BebertClassifier(folder).predict(X).tolist() == wanted
    fitted = BebertClassifier(folder).fit(table, LABELS[:3])
    assert fitted.n_features_in_ == 2 and fitted.feature_names_in_.tolist() == ["first", "second"]
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(table[["second", "first"]])
    fitted = BebertClassifier(folder).fit(pairs, LABELS[:3])
    with pytest.raises(ValueError, match="1 features, but BebertClassifier is expecting 2"):
        fitted.predict(np.array([["good"]]))
    column = BebertClassifier(folder).predict(pandas.Series(TEXTS))
    assert (BebertClassifier(folder).predict(np.array(TEXTS)[:, None]) == column).all()


def test_pipelines_folds_and_searches(folder):
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, BebertClassifier(str(folder)))
    loud = [text.upper() for text in TEXTS]
    wanted = BebertClassifier(folder).predict_proba(TEXTS)
    found = cross_val_predict(pipeline, loud, LABELS, cv=3, method="predict_proba")
    np.testing.assert_array_equal(found, wanted)
    search = GridSearchCV(BebertClassifier(str(folder)), {"long": ["truncate", "windows"]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_estimator_.predict(TEXTS).tolist() == BebertClassifier(folder).predict(TEXTS).tolist()
    memory = BebertClassifier(Ensemble(Ensemble.from_pretrained(folder).artifact))
    assert clone(memory).model is memory.model, "a clone has the same model, not a second one"
    changed = BebertClassifier(folder)
    first = changed.predict(TEXTS)
    other = write_micro(folder.parent / "other", micro_config(), seed=4)
    assert (changed.set_params(model=other).predict_proba(TEXTS) != wanted).any() and len(first) == 6


WRONG = [
    ("good film", None, "X is a str"),
    ([], None, "0 sample"),
    ([1.0, 2.0], None, r"X\[0\] is 1.0; accepted are texts"),
    (["good", None], None, r"X\[1\] is None"),
    ([["a", "b", "c"]], None, "X is 1 × 3"),
    (
        ["good"],
        ["great"],
        "y holds 'great', which this model never answers; accepted are negative, positive, or 0 to 1",
    ),
    (["good"], [2], "y holds 2, which"),
    (["good"], [0.5], "continuous"),
    (["good"], None, "the target y is None"),
    (["good"], ["negative", "positive"], "2 labels for 1 texts"),
]


@pytest.mark.parametrize("X, y, message", WRONG)
def test_what_it_cannot_take_is_one_sentence(folder, X, y, message):
    classifier = BebertClassifier(folder)
    with pytest.raises(ValueError, match=message):
        classifier.fit(X, y) if y is not None or "target" in message else classifier.predict(X)


def test_models_that_are_no_classifiers_and_wrong_names_are_refused(folder, tmp_path):
    value = {"num_labels": 1, "id2label": {"0": "score"}, "label2id": {"score": 0}, "problem_type": "regression"}
    config = msgspec.structs.replace(micro_config(), combination="mean", **value)
    with pytest.raises(InputError, match="this model is for regression"):
        BebertClassifier(write_micro(tmp_path / "value", config)).predict(TEXTS)
    with pytest.raises(InputError, match="model is None"):
        BebertClassifier().predict(TEXTS)
    with pytest.raises(InputError, match="accepted are 2 different ones, for the model's negative"):
        BebertClassifier(folder, labels=["a"]).fit(TEXTS, LABELS)


def test_without_scikit_learn_the_error_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; import bebert_infer.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert 'pip install "bebert-infer[sklearn]"' in done.stderr
