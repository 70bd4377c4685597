"""Model folders written by a released version load forever, and answer as the published implementations did.

`data/artifacts/v1` holds golden checkpoints as format version 1 packed them, with the published logits of their
batches; those that begin with `own_` hold what no golden checkpoint has, with the logits of PyTorch (ternary) or of
the reference when they were frozen. No torch and no checkpoint is needed, so this also proves the runtime
where those are absent.
"""

from pathlib import Path

import numpy as np
import pytest

from bebert_infer import Ensemble
from bebert_infer.artifact.folder import read_config

FROZEN = Path(__file__).parents[1] / "data" / "artifacts" / "v1"
ALL = sorted(path.stem for path in FROZEN.glob("*.npz"))
CASES = [case for case in ALL if not case.startswith("own_")]
OWN = [case for case in ALL if case.startswith("own_")]
# Published float32 logits are met to rounding (golden README): 1e-5, and 2e-5 for the larger weights of one case.
TOLERANCE = {"binarybert_1_1_4_regression": 2e-5}
# Published scales or minima that come from the whole batch are met by the batch-wide rule only (docs/numerics.md).
BATCH_WIDE = ("binarybert_1_1_8", "ternarybert_2_2_8")
BATCH_FREE = ("bibert_1_1_1", "bit_1_1_1")


def test_there_are_frozen_models_of_everything_that_the_format_can_say():
    """Families, quantizers with and without sign and shift, attention, rules of combination, texts, regression."""
    configs = [read_config(FROZEN / case) for case in ALL]
    members = [member for config in configs for member in config.members]
    sites = [site for member in members for site in member.sites.values()]
    assert {member.family for member in members} == {"binarybert", "bibert", "bit", "ternary", "ternarybert"}
    assert {(site.kind, site.signed, site.shift) for site in sites} == {
        ("sign", True, False),
        ("shifted_sign", True, False),
        ("shifted_sign", True, True),
        ("bool", False, False),
        ("bool", False, True),
        ("codes", True, False),
        ("codes", True, True),
        ("codes", False, False),
        ("codes", False, True),
        ("dynamic", True, False),
        ("dynamic", False, False),
    }
    assert {site.bits for site in sites} == {1, 2, 4, 8}
    assert {(member.branches, member.row_scales) for member in members} >= {(1, False), (1, True), (2, False)}
    assert {member.attention for member in members} == {"softmax", "boolean"}
    assert {member.activation for member in members} == {"relu", "gelu"}
    assert {config.problem_type for config in configs} == {"single_label_classification", "regression"}
    assert {config.combination for config in configs} == {"vote", "logits", "probabilities", "mean", "median"}
    assert {config.tokenizer is None for config in configs} == {True, False}
    assert {len(config.members) for config in configs} >= {1, 3}


@pytest.mark.parametrize("case", CASES)
def test_frozen_models_give_the_published_logits(case):
    stored = np.load(FROZEN / f"{case}.npz")
    for batch in ("", "_b1"):
        if f"logits{batch}" not in stored.files:
            continue
        inputs = [stored[name + batch] for name in ("input_ids", "attention_mask", "token_type_ids")]
        published = Ensemble.from_pretrained(FROZEN / case, backend="reference", minimum="batch")
        limit = TOLERANCE.get(case, 1e-5)
        np.testing.assert_allclose(published.member_logits(*inputs), stored[f"logits{batch}"], atol=limit, rtol=0)
        models = [Ensemble.from_pretrained(FROZEN / case, backend=name) for name in ("native", "reference")]
        found = [model.member_logits(*inputs) for model in models]
        np.testing.assert_array_equal(*found)
        if case in BATCH_FREE or (batch == "" and case not in BATCH_WIDE):
            np.testing.assert_allclose(found[0], stored[f"logits{batch}"], atol=limit, rtol=0)


@pytest.mark.parametrize("case", OWN)
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_our_own_frozen_models_give_their_logits_and_answers(case, backend):
    stored = np.load(FROZEN / f"{case}.npz")
    model = Ensemble.from_pretrained(FROZEN / case, backend=backend)
    names = ("input_ids", "attention_mask", "token_type_ids")
    found = model.member_logits(*(stored[name] for name in names))
    np.testing.assert_allclose(found, stored["logits"], atol=1e-5, rtol=0)
    if "texts" in stored.files:
        texts = stored["texts"].tolist()
        encoded = model.encode(texts)
        for name in names:
            np.testing.assert_array_equal(getattr(encoded, name), stored[name])
        answers = model.predict(texts)
        assert [answer.label for answer in answers] == stored["labels"].tolist()
        np.testing.assert_allclose([answer.logits for answer in answers], stored["scores"], atol=1e-5, rtol=0)


def test_a_frozen_ensemble_votes_as_the_published_one():
    stored = np.load(FROZEN / "bebert_ensemble.npz")
    inputs = [stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    model = Ensemble.from_pretrained(FROZEN / "bebert_ensemble")
    scores = np.array([prediction.logits for prediction in model.predict_ids(*inputs)])
    np.testing.assert_allclose(scores, stored["vote"], atol=1e-12)
