"""Early exit: no label changes under "exact", whatever the weights, classes, ties, windows, batch and threads."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from micro import micro_config, write_micro

from bebert_infer import Ensemble, InputError
from bebert_infer.artifact.config import Config
from bebert_infer.early_exit import Decision, ask_members, checked_early_exit, speaking_order
from bebert_infer.measure.sample_models import demo_path
from bebert_infer.prediction import early_predictions, predictions
from bebert_infer.text.windows import EncodedText

TEXTS = [
    "a gripping, funny film",
    "dull",
    "not bad at all, though it takes its time",
    "the worst two hours of my life",
    "fine.",
    "a giggle a minute .",
    "old-form moviemaking at its best .",
    "the film is odd but simple",
]


def classes(count: int, rule: str, problem: str = "single_label_classification") -> Config:
    names = [f"class {index}" for index in range(count)]
    return msgspec.structs.replace(
        micro_config(),
        problem_type=problem,
        combination=rule,
        num_labels=count,
        id2label={str(index): name for index, name in enumerate(names)},
        label2id={name: index for index, name in enumerate(names)},
    )


def asked_early(config, alphas, logits, counts, pool, early_exit):
    """Answers of `logits` float32[members, windows, labels], member by member, and which rows each was asked for."""
    seen = []

    def ask(member, rows):
        seen.append((member, rows.tolist()))
        return logits[member, rows]

    encoded = [EncodedText((([], []),) * count) for count in counts]
    found, asked = ask_members(Decision.of(config), alphas, counts, pool, early_exit, ask)
    return early_predictions(config, alphas, found, asked, encoded, pool), seen


# Few values make ties, between members and between classes; wide ones make members that outweigh others.
LOGITS = st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0, 3.0, 20.0, -20.0, 1e-7])
ALPHAS = st.sampled_from([0.0, 1.0, 0.5, 0.25, 0.1, 1e-6, 2.0, -0.5, -1.0, 1 / 3])


@st.composite
def ensembles(draw):
    members, labels = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    counts = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3]), min_size=1, max_size=5))
    shape = (members, sum(counts), labels)
    floats = LOGITS | st.floats(-30, 30, width=32)
    logits = draw(arrays(np.float32, shape, elements=floats.map(np.float32)))
    weights = st.sampled_from([ALPHAS, ALPHAS.map(abs), st.floats(0, 5), st.floats(-5, 5)])
    alphas = draw(arrays(np.float64, members, elements=draw(weights)))
    problem = draw(st.sampled_from(["single_label_classification", "multi_label_classification"]))
    return alphas, logits, counts, draw(st.sampled_from(["mean", "max"])), labels, problem


@settings(max_examples=1500, deadline=None)
@given(ensembles(), st.sampled_from(["probabilities", "vote"]))
def test_exact_changes_no_label(case, rule):
    alphas, logits, counts, pool, labels, problem = case
    config = classes(labels, rule, problem)
    encoded = [EncodedText((([], []),) * count) for count in counts]
    early, seen = asked_early(config, alphas, logits, counts, pool, "exact")
    for one, whole in zip(early, predictions(config, alphas, logits, encoded, pool), strict=True):
        assert (one.label, one.labels, one.windows) == (whole.label, whole.labels, whole.windows)
        if one.members_run == len(alphas):
            assert one.probabilities == whole.probabilities and one.logits.tobytes() == whole.logits.tobytes()
    assert [member for member, _ in seen] == speaking_order(alphas)[: len(seen)].tolist()


@settings(max_examples=300, deadline=None)
@given(ensembles(), st.sampled_from(["probabilities", "vote", "logits"]), st.floats(0.5, 1))
def test_a_threshold_stops_where_it_is_reached(case, rule, threshold):
    """A text that stopped is as sure as was asked for, or settled; what it says is what its members say together."""
    alphas, logits, counts, pool, labels, problem = case
    if rule == "logits" and not np.abs(alphas).sum():
        return
    config = classes(labels, rule, problem)
    early, _ = asked_early(config, alphas, logits, counts, pool, threshold)
    start = 0
    for one, count in zip(early, counts, strict=True):
        heard = np.sort(speaking_order(alphas)[: one.members_run])
        text = [EncodedText((([], []),) * count)]
        alone = predictions(config, alphas[heard], logits[heard, start : start + count], text, pool)[0]
        assert (one.label, one.probabilities, one.votes) == (alone.label, alone.probabilities, alone.votes)
        start += count
    if rule == "logits":
        for one in early:
            shares = one.probabilities.values()
            sure = min(max(p, 1 - p) for p in shares) if "multi" in problem else max(shares)
            assert one.members_run == len(alphas) or sure >= threshold


def test_a_lead_that_rounding_may_take_is_none():
    """The second member could turn the label at exactly the lead: it is asked."""
    config = classes(2, "vote")
    logits = np.array([[[0, 1]], [[1, 0]]], np.float32)
    (answer,), _ = asked_early(config, np.array([0.5, 0.5]), logits, [1], "mean", "exact")
    assert (answer.label, answer.members_run) == ("class 0", 2)
    (answer,), _ = asked_early(config, np.array([0.4, 0.5]), logits, [1], "mean", "exact")
    assert (answer.label, answer.members_run) == ("class 0", 1), "the second member speaks first: it weighs more"


def test_members_are_asked_for_open_texts_only():
    config = classes(2, "probabilities")
    sure, unsure = [9.0, -9.0], [0.1, 0.0]
    logits = np.array([[sure, unsure, sure], [sure, sure, unsure]], np.float32)
    answers, seen = asked_early(config, np.array([1.0, 0.9]), logits, [1, 1, 1], "mean", "exact")
    assert seen == [(0, [0, 1, 2]), (1, [1])]
    assert [answer.members_run for answer in answers] == [1, 2, 1]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_shipped_model_answers_the_same(threads):
    """Texts alone and in a batch, on any threads: labels as of all members, scores as of those that spoke."""
    model = Ensemble.from_pretrained(demo_path(), threads=threads)
    whole, early = model.predict(TEXTS), model.predict(TEXTS, early_exit="exact")
    assert [one.label for one in early] == [one.label for one in whole]
    assert {one.members_run for one in whole} == {2} and {one.members_run for one in early} == {1, 2}
    for text, one, other in zip(TEXTS, early, whole, strict=True):
        (alone,) = model.predict(text, early_exit="exact")
        assert (alone.probabilities, alone.members_run) == (one.probabilities, one.members_run)
        assert one.members_run == 1 or one.probabilities == other.probabilities
        assert model(text, early_exit="exact")["label"] == one.label
    rows = model.encode(TEXTS)
    from_ids = model.predict_ids(*rows.arrays, early_exit="exact")
    assert [one.probabilities for one in from_ids] == [one.probabilities for one in early]


def test_engines_agree(tmp_path):
    folder = write_micro(tmp_path / "model", micro_config(members=3))
    ids = np.random.default_rng(0).integers(0, 9, (9, 7))
    for early_exit in ("exact", 0.6):
        native, truth = (
            Ensemble.from_pretrained(folder, backend=backend).predict_ids(ids, early_exit=early_exit)
            for backend in ("native", "reference")
        )
        assert [(one.probabilities, one.members_run) for one in native] == [
            (one.probabilities, one.members_run) for one in truth
        ]


@pytest.mark.parametrize("early_exit", [True, 0, 0.0, -1, 1.01, float("nan"), "Exact", "0.9", b"exact", [0.9]])
def test_other_values_are_refused(early_exit):
    with pytest.raises(InputError, match='accepted are "exact", or a probability'):
        checked_early_exit(early_exit, classes(2, "probabilities"))


def test_what_has_no_bound_says_so():
    with pytest.raises(InputError, match="rule of this model is logits"):
        checked_early_exit("exact", classes(2, "logits"))
    with pytest.raises(InputError, match="answers a value"):
        checked_early_exit(0.9, classes(1, "mean", "regression"))
    assert checked_early_exit(0.9, classes(2, "logits")) == 0.9
    model = Ensemble.from_pretrained(demo_path(), backend="reference", minimum="batch")
    with pytest.raises(InputError, match='early_exit needs minimum="zero"'):
        model.predict("fine", early_exit="exact")


def test_no_texts_have_no_answers():
    model = Ensemble.from_pretrained(demo_path())
    assert model.predict([], early_exit="exact") == [] == model.predict([])
