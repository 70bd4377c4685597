"""An ensemble answers the same bits whatever the batch, padding, threads and backend, and votes by the stated rules."""

import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from bebert_infer import Ensemble, InputError
from bebert_infer.combine import class_probabilities, combine
from bebert_infer.measure.sample_models import random_model
from bebert_infer.native.workspace import Workspace

SCHEMES = ("1-1-1", "1-1-4")


@pytest.fixture(scope="module", params=SCHEMES)
def artifact(request):
    return random_model("tiny", request.param, 3, vocab_size=300)


@pytest.fixture(scope="module")
def sentences():
    """Sentences of 1 to 90 tokens, word edges among them."""
    generator = np.random.default_rng(1)
    return [generator.integers(0, 300, length) for length in (1, 2, 17, 63, 64, 65, 90, 5)]


def _pad(rows, width=None):
    width = width or max(len(row) for row in rows)
    ids, mask = np.zeros((2, len(rows), width), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
    return ids, mask


def test_answers_do_not_depend_on_batch_padding_order_or_threads(artifact, sentences):
    alone = Ensemble(artifact, threads=1)
    expected = np.concatenate([alone.member_logits(row[None]) for row in sentences], axis=1)
    for threads in (1, 2, 3, 4, 7):
        model = Ensemble(artifact, threads=threads)
        np.testing.assert_array_equal(model.member_logits(*_pad(sentences)), expected)
        np.testing.assert_array_equal(model.member_logits(*_pad(sentences, 128)), expected)
        backwards = model.member_logits(*_pad(sentences[::-1]))
        np.testing.assert_array_equal(backwards[:, ::-1], expected)
        for row, want in zip(sentences, expected.transpose(1, 0, 2), strict=True):
            np.testing.assert_array_equal(model.member_logits(row[None])[:, 0], want)


def test_answers_do_not_depend_on_how_a_batch_is_cut(artifact, sentences, monkeypatch):
    """Memory stays bounded: a call computes at most MAX_ROWS rows at a time."""
    model = Ensemble(artifact, threads=2)
    expected = model.member_logits(*_pad(sentences))
    for limit in (1, 64, 65, 100, 306, 307):
        monkeypatch.setattr("bebert_infer.token_model.MAX_ROWS", limit)
        np.testing.assert_array_equal(model.member_logits(*_pad(sentences)), expected)


def test_backends_agree_bit_for_bit(artifact, sentences):
    numba, reference = (
        Ensemble(artifact, backend=name).member_logits(*_pad(sentences)) for name in ("native", "reference")
    )
    np.testing.assert_array_equal(numba, reference)


def test_a_hole_in_the_mask_removes_the_token_but_keeps_positions(artifact):
    """Masked tokens are never attended to, so their ids cannot matter; the others keep their place."""
    model = Ensemble(artifact)
    ids = np.array([[5, 6, 7, 8]])
    mask = np.array([[1, 0, 1, 1]])
    base = model.member_logits(ids, mask)
    ids[0, 1] = 99
    np.testing.assert_array_equal(model.member_logits(ids, mask), base)
    assert np.any(model.member_logits(np.array([[5, 7, 8]])) != base), "positions were not kept"


def test_many_python_threads_share_one_model(artifact, sentences):
    model = Ensemble(artifact, threads=2)
    expected = model.member_logits(*_pad(sentences))
    failures = []

    def call():
        for _ in range(3):
            if not np.array_equal(model.member_logits(*_pad(sentences)), expected):
                failures.append("differs")

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not failures and not any(caller.is_alive() for caller in callers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_answers_the_same():
    code = """
import os, sys, numpy as np
from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import random_model
model = Ensemble(random_model("tiny", "1-1-1", 1, vocab_size=50), threads=2)
ids = np.arange(40)[None]
before = model.logits(ids)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(model.logits(ids), before) else 7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


def test_an_error_before_one_member_runs_reaches_the_caller_and_the_model_goes_on(artifact, monkeypatch):
    """Nothing has run then, and the memory of those that were ready is free again."""
    model = Ensemble(artifact, threads=2)
    ids = np.arange(30)[None]
    expected = model.member_logits(ids)
    prepare, calls = Workspace.prepare, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError("no room for the second member")
        return prepare(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "prepare", failing)
        with pytest.raises(MemoryError, match="second member"):
            model.member_logits(ids)
    np.testing.assert_array_equal(model.member_logits(ids), expected)
    assert [len(member._free) for member in model.engine.members] == [1, 1, 1]


def test_an_empty_batch_gives_an_empty_answer(artifact):
    model = Ensemble(artifact)
    assert model.logits(np.zeros((0, 4), np.int64)).shape == (0, 2)
    assert model.member_logits(np.zeros((0, 0), np.int64)).shape == (3, 0, 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (([[1, 300]],), r"input_ids\[0, 1\] is 300; this model accepts 0 to 299"),
        (([[1, -1]],), r"input_ids\[0, 1\] is -1"),
        (([1, 2],), r"shape \[2\]; accepted is \[sentences, tokens\]"),
        (([[1.5]],), "dtype float64; accepted are integers"),
        (([[1, 2], [3]],), "rows of different lengths"),
        (([[1, 2]], [[1]]), r"attention_mask has shape \[1, 1\], but input_ids has \[1, 2\]"),
        (([[1, 2]], [[0, 1]]), "the first token carries the answer"),
        (([[1, 2]], [[1, 2]]), r"attention_mask\[0, 1\] is 2"),
        (([[1, 2]], None, [[0, 5]]), r"token_type_ids\[0, 1\] is 5"),
        (([[1] * 600],), "600 tokens a row; this model has 512 positions"),
        (([[]],), "rows of 0 tokens"),
    ],
)
def test_bad_token_ids_are_refused_with_place_and_value(artifact, inputs, message):
    with pytest.raises(InputError, match=message):
        Ensemble(artifact).logits(*inputs)


def test_bad_options_are_refused(artifact, monkeypatch):
    with pytest.raises(InputError, match='backend is "cuda"; accepted are native and reference'):
        Ensemble(artifact, backend="cuda")
    with pytest.raises(InputError, match='threads is "0"'):
        Ensemble(artifact, threads=0)
    with pytest.raises(InputError, match='needs backend="reference"'):
        Ensemble(artifact, backend="native", minimum="batch")
    with pytest.raises(InputError, match="takes token ids only"):
        Ensemble(artifact).predict("no tokenizer here")
    monkeypatch.setenv("BEBERT_BACKEND", "cuda")
    with pytest.raises(InputError, match='BEBERT_BACKEND is "cuda"'):
        Ensemble(artifact)


@pytest.mark.parametrize("threads", [1.7, float("inf"), [2], "2", True])
def test_threads_are_a_whole_number(artifact, threads):
    """1.7 was 1 without a word; infinity and lists were errors of Python's own."""
    with pytest.raises(InputError, match="^threads is .*; accepted is a whole number of at least 1$"):
        Ensemble(artifact, threads=threads)


def test_limits_of_another_kind_are_refused(artifact, tmp_path):
    with pytest.raises(InputError, match=r"^limits is \{'tokens': 5\}; accepted is InputLimits\(…\) or None$"):
        Ensemble(artifact, limits={"tokens": 5})
    with pytest.raises(InputError, match="^limits is 5; accepted is"):
        Ensemble.from_pretrained(tmp_path, limits=5)


@pytest.mark.parametrize("top_k", [0, 1.5, "all", True, [1]])
def test_top_k_is_a_whole_number_or_none(artifact, top_k):
    with pytest.raises(InputError, match="^top_k is .*; accepted are whole numbers of at least 1, or None for all"):
        Ensemble(artifact)("text", top_k=top_k)


def test_thread_budget_comes_from_argument_then_variable_then_machine(artifact, monkeypatch):
    monkeypatch.setenv("BEBERT_THREADS", "3")
    assert (Ensemble(artifact).threads, Ensemble(artifact).threads_from) == (3, "BEBERT_THREADS")
    assert (Ensemble(artifact, threads=5).threads, Ensemble(artifact, threads=5).threads_from) == (5, "argument")
    monkeypatch.setenv("BEBERT_THREADS", "lots")
    with pytest.raises(InputError, match='BEBERT_THREADS is "lots"'):
        Ensemble(artifact)
    monkeypatch.delenv("BEBERT_THREADS")
    assert Ensemble(artifact).threads <= len(os.sched_getaffinity(0))


# Three members, two samples, three classes: small enough to vote by hand.
LOGITS = np.array([[[2, 1, 0], [0, 3, 1]], [[0, 1, 0], [5, 0, 0]], [[1, 0, 4], [0, 1, 0]]], np.float32)
ALPHAS = np.array([0.5, 0.3, 0.4])


def test_vote_adds_alphas_of_the_winners():
    np.testing.assert_allclose(combine("vote", LOGITS, ALPHAS), [[0.5, 0.3, 0.4], [0.3, 0.9, 0.0]])


def test_a_tie_goes_to_the_first_class():
    scores = combine("vote", LOGITS[:2], np.array([0.5, 0.5]))
    np.testing.assert_array_equal(scores.argmax(axis=1), [0, 0])


def test_a_negative_alpha_votes_against():
    scores = combine("vote", LOGITS, np.array([0.5, -0.3, 0.4]))
    np.testing.assert_allclose(scores, [[0.5, -0.3, 0.4], [-0.3, 0.9, 0.0]])
    np.testing.assert_allclose(class_probabilities("vote", scores, ALPHAS).sum(axis=1), 1)
    assert class_probabilities("vote", scores, ALPHAS).min() >= 0


def test_soft_rules_add_logits_or_probabilities():
    np.testing.assert_allclose(combine("logits", LOGITS, ALPHAS), np.tensordot(ALPHAS, LOGITS, 1), atol=1e-12)
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    np.testing.assert_allclose(combine("probabilities", LOGITS, ALPHAS), np.tensordot(ALPHAS, shares, 1), atol=1e-6)


def test_regression_means_and_medians():
    outputs = np.array([[[1.0]], [[2.0]], [[10.0]]], np.float32)
    assert combine("mean", outputs, np.array([1.0, 1.0, 2.0])) == pytest.approx((1 + 2 + 20) / 4)
    assert combine("median", outputs, np.array([1.0, 1.0, 1.0])) == 2.0
    assert combine("median", outputs, np.array([1.0, 1.0, 5.0])) == 10.0


def test_an_unknown_rule_is_no_median():
    with pytest.raises(
        InputError, match='^combination is "votes"; accepted are vote, logits, probabilities, mean, med'
    ):
        combine("votes", np.zeros((2, 1, 2), np.float32), np.ones(2))


def test_more_equal_members_do_not_mean_more_confidence():
    one = class_probabilities("logits", combine("logits", LOGITS[:1], np.ones(1)), np.ones(1))
    five = class_probabilities("logits", combine("logits", LOGITS[[0] * 5], np.ones(5)), np.ones(5))
    np.testing.assert_allclose(one, five)


def test_predictions_are_plain_data(artifact):
    """They cross process borders."""
    (prediction,) = Ensemble(artifact).predict_ids([[1, 2, 3]])
    again = pickle.loads(pickle.dumps(prediction))
    assert again.label == prediction.label and len(prediction.votes) == 3
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
