"""Model folders written by a released version load forever, and answer as the published implementations did.

`data/artifacts/v1` holds golden checkpoints as format version 1 packed them, with the published logits of their
batches. No torch and no checkpoint is needed, so this also proves the runtime where those are absent.
"""

from pathlib import Path

import numpy as np
import pytest

from bebert_infer import Ensemble

FROZEN = Path(__file__).parent / "data" / "artifacts" / "v1"
CASES = sorted(path.stem for path in FROZEN.glob("*.npz"))
# Published float32 logits are met to rounding (golden README): 1e-5, and 2e-5 for the larger weights of one case.
TOLERANCE = {"binarybert_1_1_4_regression": 2e-5}
# Published scales or minima that come from the whole batch are met by the batch-wide rule only (docs/numerics.md).
BATCH_WIDE = ("binarybert_1_1_8", "ternarybert_2_2_8")
BATCH_FREE = ("bibert_1_1_1", "bit_1_1_1")


def test_there_are_frozen_models_of_every_family():
    families = {Ensemble.from_pretrained(FROZEN / case, backend="reference").config.members[0].family for case in CASES}
    assert families == {"binarybert", "bibert", "bit", "ternarybert"}


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
        models = [Ensemble.from_pretrained(FROZEN / case, backend=name) for name in ("numba", "reference")]
        found = [model.member_logits(*inputs) for model in models]
        np.testing.assert_array_equal(*found)
        if case in BATCH_FREE or (batch == "" and case not in BATCH_WIDE):
            np.testing.assert_allclose(found[0], stored[f"logits{batch}"], atol=limit, rtol=0)


def test_a_frozen_ensemble_votes_as_the_published_one():
    stored = np.load(FROZEN / "bebert_ensemble.npz")
    inputs = [stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    model = Ensemble.from_pretrained(FROZEN / "bebert_ensemble")
    scores = np.array([prediction.logits for prediction in model.predict_ids(*inputs)])
    np.testing.assert_allclose(scores, stored["vote"], atol=1e-12)
