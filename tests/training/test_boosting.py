"""Proves the boosting arithmetic against published traces, by hand, and where the formulas have no answer."""

import math

import numpy as np
import pytest

from bebert_export.pipeline.boosting import (
    boost,
    boost_regression,
    uniform_weights,
    weighted_error,
)
from bebert_infer.combine import combine

EXACT = 1e-12  # both float64, sums of 64 terms


def hard_vote(predictions, alphas, classes):
    """What the runtime votes, and the winners, where each member is sure of its class: int[members, n]."""
    scores = combine("vote", np.eye(classes, dtype=np.float32)[np.asarray(predictions)], np.asarray(alphas, float))
    return scores, scores.argmax(1)


def combined_values(rule, predictions, alphas):
    """What the runtime answers for float[members, n] regression outputs."""
    return combine(rule, np.asarray(predictions, np.float32)[:, :, None], np.asarray(alphas, float))[:, 0]


@pytest.mark.parametrize("rule", ["code", "samme"])
@pytest.mark.parametrize("trace", ["trace_k2", "trace_k3", "trace_k2_weak_member"])
def test_rounds_match_the_published_traces(golden, trace, rule):
    with np.load(golden / "boosting" / f"{trace}.npz") as file:
        expected = {key.removeprefix(f"{rule}."): file[key] for key in file.files}
    classes, labels = int(expected["K"]), expected["labels"]
    weights, alphas = uniform_weights(len(labels)), []
    for i, predictions in enumerate(expected["predictions"]):
        result = boost(predictions, labels, weights, classes, rule)
        alphas.append(result.alpha)
        assert result.error == pytest.approx(expected["err"][i], rel=EXACT)
        assert result.alpha == pytest.approx(expected["alpha"][i], rel=EXACT)
        np.testing.assert_allclose(result.weights, expected["weights"][i + 1], rtol=EXACT)
        after = weighted_error(predictions != labels, result.weights)
        assert after == pytest.approx(expected["err_after"][i], rel=EXACT)
        normalised = boost(predictions, labels, weights, classes, rule, normalise=True).weights
        np.testing.assert_allclose(normalised, expected["weights_normalised"][i + 1], rtol=EXACT)
        weights = result.weights
    scores, predicted = hard_vote(expected["predictions"], alphas, classes)
    np.testing.assert_allclose(scores, expected["vote_scores"], rtol=0, atol=EXACT)
    np.testing.assert_array_equal(predicted, expected["vote_pred"])


def test_hard_votes_match_the_published_ensemble(golden):
    with np.load(golden / "bebert_ensemble" / "expected.npz") as file:
        for name in "ab":  # b has a negative coefficient
            scores, predicted = hard_vote(file["member_pred"], file[f"alphas_{name}"], 3)
            np.testing.assert_allclose(scores, file[f"hard_vote_scores_{name}"], rtol=0, atol=EXACT)
            np.testing.assert_array_equal(predicted, file[f"hard_vote_pred_{name}"])


def test_one_round_by_hand():
    # one of four wrong: e = 1/4, ln 3; wrong weight 1/4 * 3 of 3/4 + 3/4
    result = boost([1, 1, 0, 0], [1, 1, 0, 1], uniform_weights(4), 2)
    assert result.alpha == pytest.approx(math.log(3))
    assert result.weights == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    code = boost([1, 1, 0, 0], [1, 1, 0, 1], uniform_weights(4), 2, "code")
    assert code.alpha == pytest.approx(math.log(3) / 2)
    assert code.weights == pytest.approx([3**-0.5 / 4] * 3 + [3**0.5 / 4])
    assert (result.status, result.advice) == ("useful", "")


@pytest.mark.parametrize("rule", ["samme", "code"])
def test_a_perfect_member_is_a_result_with_a_finite_alpha(rule):
    labels = np.array([0, 1, 2])
    result = boost(labels, labels, [1.0, 2.0, 1.0], 3, rule, normalise=True)
    assert (result.error, result.status) == (0.0, "perfect")
    assert 0 < result.alpha < math.inf
    assert result.weights == pytest.approx([0.25, 0.5, 0.25])
    assert "no error" in result.advice


@pytest.mark.parametrize("rule", ["samme", "code"])
def test_a_member_that_is_always_wrong_is_weak_with_a_finite_alpha(rule):
    result = boost([1, 0], [0, 1], uniform_weights(2), 2, rule)
    assert (result.error, result.status) == (1.0, "weak")
    assert -math.inf < result.alpha < 0
    assert np.isfinite(result.weights).all()


def test_three_classes_are_weak_from_two_thirds_by_samme_and_from_one_half_by_code():
    labels, predictions = np.zeros(10, int), np.array([1] * 6 + [0] * 4)  # e = 0.6
    samme = boost(predictions, labels, uniform_weights(10), 3)
    code = boost(predictions, labels, uniform_weights(10), 3, "code")
    assert (samme.status, samme.alpha > 0) == ("useful", True)
    assert (code.status, code.alpha < 0) == ("weak", True)
    assert "0.6 is not below 0.5" in code.advice


def test_half_of_the_weight_is_a_guess_whatever_rounding_makes_of_it():
    """Found by trial: six of twelve wrong answers added up to 0.49999999999999994, below a half."""
    round_ = boost([0] * 12, [0] * 6 + [1] * 6, uniform_weights(12), 2)
    assert round_.status == "weak" and abs(round_.error - 0.5) < 1e-12


def test_an_example_of_weight_zero_does_not_count():
    assert boost([1, 0], [0, 0], [0.0, 3.0], 2).status == "perfect"


def test_regression_by_hand():
    # deviations 0, 1, 2: losses 0, 1/4, 1; e = 5/12, beta = 5/7
    result = boost_regression([1.0, 2.0, 5.0], [1.0, 3.0, 3.0], uniform_weights(3))
    beta = 5 / 7
    raw = np.array([beta, beta**0.75, 1.0])
    assert result.error == pytest.approx(5 / 12)
    assert result.alpha == pytest.approx(math.log(7 / 5))
    assert result.weights == pytest.approx(raw / raw.sum())
    assert result.status == "useful"


def test_regression_says_perfect_and_weak():
    perfect = boost_regression([1.0, 2.0], [1.0, 2.0], [1.0, 3.0])
    assert perfect.status == "perfect" and 0 < perfect.alpha < math.inf
    assert perfect.weights == pytest.approx([0.25, 0.75])
    weak = boost_regression([1.0, 0.0], [0.0, 1.0], uniform_weights(2))
    assert weak.status == "weak" and -math.inf < weak.alpha < 0


@pytest.mark.parametrize("rule", ["samme", "code"])
def test_shrinkage_scales_alphas_and_spares_the_weights(rule):
    labels, answers = np.array([0, 1, 2, 0, 1, 2, 0, 1]), np.array([0, 1, 2, 0, 1, 2, 1, 0])
    full = boost(answers, labels, uniform_weights(8), 3, rule)
    half = boost(answers, labels, uniform_weights(8), 3, rule, shrinkage=0.5)
    assert half.alpha == pytest.approx(full.alpha / 2) and half.error == full.error
    ratios = [round.weights[6] / round.weights[0] for round in (full, half)]
    assert ratios[1] == pytest.approx(np.sqrt(ratios[0]))
    values = answers + np.arange(8) / 10
    full, half = (boost_regression(values, labels, uniform_weights(8), factor) for factor in (1.0, 0.5))
    assert half.alpha == pytest.approx(full.alpha / 2)
    assert half.weights[6] / half.weights[0] == pytest.approx(np.sqrt(full.weights[6] / full.weights[0]))


def test_a_tied_vote_goes_to_the_first_class():
    scores, predicted = hard_vote([[2, 0], [1, 0]], [0.5, 0.5], 3)
    assert scores.tolist() == [[0, 0.5, 0.5], [1, 0, 0]]
    assert predicted.tolist() == [1, 0]


def test_weighted_median_and_mean():
    predictions = [[1.0, 5.0], [2.0, 3.0], [9.0, 4.0]]
    assert combined_values("median", predictions, [1.0, 1.0, 1.0]).tolist() == [2, 4]
    assert combined_values("median", predictions, [0.1, 0.1, 5.0]).tolist() == [9, 4]
    assert combined_values("mean", predictions, [1.0, 1.0, 2.0]).tolist() == [5.25, 4]
    with pytest.raises(ValueError, match="none below 0"):
        combined_values("median", predictions, [1.0, -1.0, 1.0])
    with pytest.raises(ValueError, match="must not be 0"):
        combined_values("mean", predictions, [1.0, -1.0, 0.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [0, 1], [0.5, 0.5], 2), "accepted are three equal lengths"),
        (([0, 1], [0, 1], [0.0, 0.0], 2), "not all zero"),
        (([0, 1], [0, 1], [1.0, -1.0], 2), "not negative"),
        (([0, 1], [0, 1], [0.5, 0.5], 1), "classes is 1"),
        (([0, 1], [0, 1], [0.5, 0.5], 2, "real"), "rule is 'real'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        boost(*arguments)
    with pytest.raises(ValueError, match="at least 1"):
        uniform_weights(0)
