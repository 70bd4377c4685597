"""Long texts are refused, cut with a warning, or read in windows that miss no token; a text that fits never notices."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from bebert_infer import Ensemble, InputError, InputLimits
from bebert_infer.artifact.config import TokenizerConfig
from bebert_infer.measure.sample_models import random_model
from bebert_infer.prediction import pooled, predictions
from bebert_infer.text.tokenizer import TextEncoder
from bebert_infer.text.windows import EncodedText, LongTexts

LENGTH = 16
CLS, SEP = 1, 2


def tokenizer_json():
    """Words w0 to w199 are tokens 3 to 202."""
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2} | {f"w{number}": 3 + number for number in range(200)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer.to_str()


def words(first, count):
    return " ".join(f"w{number}" for number in range(first, first + count))


def ids(first, count):
    return [3 + number for number in range(first, first + count)]


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(tokenizer_json(), LENGTH, 300)


@pytest.fixture(scope="module")
def model():
    artifact = random_model("tiny", "1-1-4", 2, vocab_size=300)
    config = replace(artifact.config, tokenizer=TokenizerConfig(LENGTH), combination="probabilities")
    artifact = type(artifact)(artifact.path, config, artifact.tensors, tokenizer_json())
    return Ensemble(artifact, threads=1, backend="reference")


def test_windows_by_hand(encoder):
    """14 of 20 words fit; a quarter of 14, 3, are shared: words 0 to 13, and the last 14."""
    single = encoder.encode(words(0, 20), LongTexts("windows"), "it")
    assert single.windows == (
        ([CLS, *ids(0, 14), SEP], [0] * 16),
        ([CLS, *ids(6, 14), SEP], [0] * 16),
    )
    pair = encoder.encode((words(0, 5), words(10, 18)), LongTexts("windows", overlap=4), "it")
    types = [0] * 7 + [1] * 9
    assert pair.windows == tuple(([CLS, *ids(0, 5), SEP, *ids(first, 8), SEP], types) for first in (10, 14, 18, 20))
    assert pair.cut == single.cut == 0


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 150), st.integers(0, 8), st.integers(0, 7))
def test_windows_cover_every_token_and_share_no_fewer_than_asked(encoder, count, first, overlap):
    """Whatever the lengths; first 0 is a text without a pair."""
    room = LENGTH - 2 if not first else LENGTH - 3 - first
    overlap = min(overlap, room // 2)
    text = words(0, count) if not first else (words(150, first), words(0, count))
    windows = encoder.encode(text, LongTexts("windows", overlap), "it").windows
    covered, before = set(), None
    for tokens, types in windows:
        assert len(tokens) == len(types) == (LENGTH if len(windows) > 1 else len(tokens)) <= LENGTH
        assert tokens[0] == CLS and tokens[-1] == SEP
        head = [] if not first else [*ids(150, first), SEP]
        assert tokens[1 : 1 + len(head)] == head
        body = tokens[1 + len(head) : -1]
        assert body == list(range(body[0], body[-1] + 1))
        if before is not None:
            assert body[0] > before[0] and before[-1] - body[0] + 1 >= overlap
        covered |= set(body)
        before = body
    assert covered == set(ids(0, count))


@pytest.mark.parametrize("text", ["w1", words(0, 14), (words(0, 5), words(0, 8))])
def test_a_text_that_fits_has_the_same_answer_under_every_policy(model, text):
    expected = model.predict([text])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in (
            {"truncate": True},
            {"long": "truncate"},
            {"long": "windows"},
            {"long": "windows", "pool": "max"},
            {"long": "windows", "overlap": 0},
        ):
            found = model.predict([words(0, 90), text] if "windows" in options.values() else [text], **options)[-1]
            assert found.logits.tolist() == expected.logits.tolist()
            assert (found.label, found.score, found.probabilities, found.votes, found.windows, found.cut) == (
                expected.label,
                expected.score,
                expected.probabilities,
                expected.votes,
                1,
                0,
            )


def test_windows_are_answered_like_texts_of_their_own_and_combined(model):
    """Mean and surest window, from the answers to the windows themselves."""
    text, texts = words(0, 20), [words(0, 14), words(6, 14)]
    parts = model.predict(texts)
    (mean,) = model.predict([text], long="windows")
    (surest,) = model.predict([text], long="windows", pool="max")
    for label in ("negative", "positive"):
        assert mean.probabilities[label] == pytest.approx(np.mean([part.probabilities[label] for part in parts]))
    assert mean.label == max(mean.probabilities, key=mean.probabilities.get) and mean.windows == 2
    best = max(parts, key=lambda part: part.score)
    assert (surest.label, surest.score, surest.votes) == (best.label, best.score, best.votes)
    assert model(text, long="windows") == {"label": mean.label, "score": mean.score}


CLASSES = "single_label_classification"
# Two members, three windows, two classes.
MEMBERS = np.log(np.array([[[1, 9], [8, 2], [6, 4]], [[7, 3], [5, 5], [9, 1]]], np.float32) / 10)
SCORES = np.array([[1.0, 3], [4, 1], [0, 2]])
SHARES = np.array([[0.25, 0.75], [0.8, 0.2], [0.3, 0.7]])


def test_combination_by_hand():
    members, scores, shares = pooled(MEMBERS, SCORES, SHARES, "mean", CLASSES)
    np.testing.assert_allclose(members, [[0.5, 0.5], [0.7, 0.3]], atol=1e-7)
    np.testing.assert_allclose(scores, [5 / 3, 2])
    np.testing.assert_allclose(shares, [0.45, 0.55])
    members, scores, shares = pooled(MEMBERS, SCORES, SHARES, "max", CLASSES)
    np.testing.assert_array_equal(members, MEMBERS[:, 1])
    assert scores.tolist() == [4, 1] and shares.tolist() == [0.8, 0.2]
    equal = np.array([[0.5, 0.5], [0.2, 0.8], [0.8, 0.2]])
    assert pooled(MEMBERS, SCORES, equal, "max", CLASSES)[2].tolist() == [0.2, 0.8]  # the earliest of equals


def test_windows_of_a_regression_give_the_mean_or_the_largest_value(model):
    config = replace(model.config, problem_type="regression", combination="mean", num_labels=1, id2label={"0": "score"})
    outputs = np.array([[[1.0], [5.0], [3.0]], [[2.0], [2.0], [8.0]]], np.float32)
    encoded = [EncodedText((([], []),) * 2), EncodedText((([], []),))]
    mean, alone = predictions(config, np.ones(2), outputs, encoded, "mean")
    assert (mean.score, mean.votes, mean.windows) == (2.5, [3.0, 2.0], 2) and alone.score == 5.5
    largest, alone = predictions(config, np.ones(2), outputs, encoded, "max")
    assert (largest.score, largest.votes) == (3.5, [5.0, 2.0]) and alone.votes == [3.0, 8.0]


def test_truncation_warns_and_says_how_much_is_lost(model):
    texts = ["w1", words(0, 20)]
    with pytest.warns(UserWarning, match="1 of 2 texts lost their end .* the first is text 1 with 6 tokens too many"):
        found = model.predict(texts, long="truncate")
    assert [one.cut for one in found] == [0, 6]
    with warnings.catch_warnings():  # truncate=True is as it was
        warnings.simplefilter("error")
        (silent,) = model.predict([words(0, 20)], truncate=True)
    assert silent.probabilities == found[1].probabilities == model.predict([words(0, 14)])[0].probabilities


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.predict([words(0, 20)]), r'text 0 has 22 tokens; .* at most 16: .*truncate.*long="windows"'),
        (lambda m: m.predict(["w1"], long="cut"), 'long is "cut"; accepted are error, truncate, windows'),
        (lambda m: m.predict(["w1"], long="windows", truncate=True), 'truncate and long="windows" exclude each other'),
        (lambda m: m.predict(["w1"], long="windows", pool="min"), 'pool is "min"; accepted are mean, max'),
        (lambda m: m.predict(["w1"], overlap=3), 'overlap is 3 with long="error"'),
        (
            lambda m: m.predict(["w1"], long="windows", overlap="x"),
            """overlap is 'x' with long="windows"; accepted are 0 """,
        ),
        (lambda m: m.predict(["w1"], long="windows", overlap=1.5), "overlap is 1.5 with"),
        (lambda m: m.predict([words(0, 20)], long="windows", overlap=8), "overlap is 8; windows hold 14 .* pass 7"),
        (
            lambda m: m.predict([(words(0, 10), words(0, 20))], long="windows"),
            "text 0 leaves too little room: 13 of 16",
        ),
        (lambda m: m.check_texts(LongTexts("windows", 9)), "overlap is 9; windows hold 14"),
        (lambda m: m.predict("w1 " * 400_000), "text 0 has 1,200,000 characters; at most 1,000,000 are accepted"),
        (lambda m: m.predict([("w1", "w1 " * 400_000)]), "the second text of text 0 has 1,200,000 characters"),
    ],
)
def test_refusals_are_one_sentence(model, call, said):
    with pytest.raises(InputError, match=said):
        call(model)


def test_limits_are_configurable(model):
    def limited(**limits):
        return Ensemble(model.artifact, backend="reference", limits=InputLimits(**limits))

    with pytest.raises(InputError, match="text 0 has 5 characters; at most 4 are accepted"):
        limited(characters=4).predict("w1 w2")
    with pytest.raises(InputError, match="text 0 has 7 tokens; this model accepts at most 6"):
        limited(tokens=6).predict(words(0, 5))
    assert limited(tokens=6).predict(words(0, 9), long="windows")[0].windows == 3
    assert limited(tokens=99).predict(words(0, 14))[0].windows == 1  # never more than the model has learned
    with pytest.raises(InputError, match=r"input_ids has 7 tokens a row; limits.tokens is 6"):
        limited(tokens=6).logits([[1] * 7])
    for count in (3, 10**9):  # an endless iterator is read no further than the limit
        with pytest.raises(InputError, match="one call has 3 sentences or more; at most 2 are accepted"):
            limited(rows=2).predict(f"w{number}" for number in range(count))
    with pytest.raises(InputError, match="one call has 3 sentences"):
        limited(rows=2).logits([[1]] * 3)
    with pytest.raises(InputError, match="the model has 2 members; at most 1 are accepted"):
        limited(members=1)
    with pytest.raises(InputError, match="the model has 2 layers; at most 1 are accepted"):
        limited(layers=1)
    for wrong in (0, -1, 1.5, True, None):
        with pytest.raises(InputError, match=f"the limit of characters is {wrong}; accepted are whole numbers from 1"):
            InputLimits(characters=wrong)


def test_a_model_beyond_the_limits_is_refused_before_its_tensors_are_read(tmp_path, model):
    from bebert_infer.artifact.folder import write_artifact

    write_artifact(tmp_path / "model", model.config, model.artifact.tensors, tokenizer_json(), "card")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="the model has 2 members; at most 1"):
        Ensemble.from_pretrained(tmp_path / "model", limits=InputLimits(members=1))


def test_a_length_without_room_for_a_word_is_refused():
    with pytest.raises(InputError, match="it has no room beside its special tokens in 2 tokens"):
        TextEncoder(tokenizer_json(), 2, 300).encode("w1 w2", LongTexts("truncate"), "it")
    with pytest.raises(InputError, match="leaves too little room"):
        TextEncoder(tokenizer_json(), 1, 300).encode("w1 w2", LongTexts("windows"), "it")


def test_threads_with_different_policies_do_not_disturb_each_other(encoder):
    """Truncation was once switched on and off in the tokenizer that all threads share."""
    from concurrent.futures import ThreadPoolExecutor

    def cut(_):
        return encoder.encode(words(0, 20), LongTexts("truncate"), "it").cut

    def refused(_):
        try:
            encoder.encode(words(0, 20), LongTexts(), "it")
        except InputError:
            return True

    with ThreadPoolExecutor(8) as pool:
        cuts, refusals = pool.map(cut, range(400)), pool.map(refused, range(400))
        assert set(cuts) == {6} and set(refusals) == {True}
