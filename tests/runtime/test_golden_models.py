"""Published checkpoints, converted by our converter and run on packed bits, give the published codes and logits.

Golden data: values from the public reference implementations (tolerances in the golden README). Codes must be equal:
the seeds keep every decision away from its threshold by several times the float32 rounding error. Hidden states and
logits may differ by float32 rounding in another order of summation: limits as the README recommends.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from filelock import FileLock

from bebert_export.convert import convert
from bebert_export.pack.write_model import write_ensemble
from bebert_infer import Ensemble

# case -> (hidden tolerance, logit tolerance); suffix of the stored values to meet ("_f64" where float32 is off)
CASES = {
    "binarybert_1_1_4_h64": (2e-5, 1e-5, ""),
    "binarybert_1_1_4_h32": (2e-5, 1e-5, ""),
    "bebert_binarybert_1_1_4": (2e-5, 1e-5, ""),
    "bebert_negative_step": (2e-5, 1e-5, ""),
    "bibert_1_1_1": (2e-5, 1e-5, ""),
    "bit_1_1_1": (2e-5, 1e-5, ""),
    "bit_1_1_2": (2e-5, 1e-5, ""),
    "bit_1_1_4": (2e-5, 1e-5, ""),
    "ternarybert_2_2_8": (2e-5, 1e-5, ""),
    "binarybert_1_1_8": (2e-5, 1e-5, ""),
    "binarybert_1_1_4_regression": (5e-5, 2e-5, ""),
    "binarybert_ternary_tws/parent": (2e-5, 1e-5, ""),
    # the published float32 scales of split weights are off by 1e-4, so the float64 evaluation is the one to meet
    "binarybert_ternary_tws/split": (2e-5, 1e-5, "_f64"),
}
# Nothing in these depends on the batch, so every backend meets the published values of every batch.
BATCH_FREE = ("bibert_1_1_1", "bit_1_1_1")
# Behind BiT's FFN shift our constant minimum is min(shift). The published minimum is higher in layer 1 of this batch,
# -0.49803 instead of -0.49972: the unit with the smallest shift is active in every token, its least output is 0.394.
HIGHER_MINIMUM = ("bit_1_1_4",)
# 8-bit scales come from the whole tensor: only the published batch-wide rule meets the main batch.
DYNAMIC = ("ternarybert_2_2_8", "binarybert_1_1_8")


@pytest.fixture(scope="module")
def converted(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the packed model of a case, converted once for all processes that test."""
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    @functools.cache
    def convert_once(case: str) -> Path:
        out = root / f"converted-{case.replace('/', '_')}"
        with FileLock(f"{out}.lock"):
            if not out.exists():
                convert([golden / case], out)
        return out

    return convert_once


@pytest.mark.parametrize("batch", ["batch", "batch_b1"])
@pytest.mark.parametrize("case", CASES)
def test_reference_backend_meets_the_published_values(golden, converted, case, batch):
    """With the published batch-wide rule: every code equal, hidden states and logits within rounding."""
    model = Ensemble.from_pretrained(converted(case), backend="reference", minimum="batch")
    _check(model, golden / case, batch, case)


@pytest.mark.parametrize("batch", ["batch", "batch_b1"])
@pytest.mark.parametrize("case", CASES)
def test_numba_backend_meets_the_published_values(golden, converted, case, batch):
    """Our constant minimum is the published one whenever a key is padded, and for any batch in batch-free families.

    Where the published value depends on the batch otherwise, the native engine must equal the reference,
    which meets the published values by the batch-wide rule, bit for bit under the zero rule.
    """
    model = Ensemble.from_pretrained(converted(case), backend="native", threads=2)
    if case in BATCH_FREE or (batch == "batch" and case not in DYNAMIC + HIGHER_MINIMUM):
        _check(model, golden / case, batch, case)
    inputs = _inputs(golden / case, batch)
    reference = Ensemble.from_pretrained(converted(case), backend="reference")
    np.testing.assert_array_equal(model.member_logits(*inputs), reference.member_logits(*inputs))


@pytest.mark.parametrize("case", DYNAMIC)
def test_dynamic_scales_of_one_sentence_are_the_published_ones(golden, converted, case):
    """A batch of one without padding: statistics of the sentence are statistics of the tensor, on both backends."""
    for backend in ("native", "reference"):
        model = Ensemble.from_pretrained(converted(case), backend=backend)
        _check(model, golden / case, "batch_b1", case)


def test_ensemble_meets_the_published_combinations(golden, tmp_path):
    """Member logits, both coefficient vectors, all three rules: scores and predictions."""
    case = golden / "bebert_ensemble"
    expected = np.load(case / "expected.npz")
    first = convert([case / f"member_{i}" for i in range(3)], tmp_path / "first")
    students = [checkpoint.student for checkpoint in first.checkpoints]
    labels = first.written.config.labels
    rules = {"vote": "hard_vote_scores", "logits": "sum_alpha_logits", "probabilities": "sum_alpha_softmax"}
    alphas = {"a": [0.83, 0.47, 0.61], "b": [0.9, -0.25, 0.52]}
    for rule, key in rules.items():
        for name, values in alphas.items():
            out = tmp_path / f"{rule}_{name}"
            write_ensemble(students, out, alphas=values, combination=rule, labels=labels)
            model = Ensemble.from_pretrained(out)
            inputs = _inputs(case, "batch")
            np.testing.assert_allclose(model.member_logits(*inputs), expected["member_logits"], atol=1e-5, rtol=0)
            scores = np.array([p.logits for p in model.predict_ids(*inputs)])
            # hard votes are sums of coefficients, soft ones inherit the members' rounding
            np.testing.assert_allclose(scores, expected[f"{key}_{name}"], atol=1e-12 if rule == "vote" else 2e-5)
            winners = [int(p.label.removeprefix("LABEL_")) for p in model.predict_ids(*inputs)]
            predictions = expected[f"{key.removesuffix('_scores')}_pred_{name}"]
            np.testing.assert_array_equal(winners, predictions)


def _inputs(case: Path, batch: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stored = np.load(case / f"{batch}.npz")
    return stored["input_ids"], stored["attention_mask"], stored["token_type_ids"]


def _check(model: Ensemble, case: Path, batch: str, name: str) -> None:
    """Compare logits, pooled output, hidden states and all stored codes, padded rows included where computed."""
    hidden_tolerance, logit_tolerance, suffix = CASES[name]
    expected = np.load(case / f"expected{batch.removeprefix('batch')}.npz")
    inputs = _inputs(case, batch)
    mask = inputs[1].astype(bool)
    kept = np.ones_like(mask) if model.minimum == "batch" else mask
    (trace,) = model.trace(*inputs)
    np.testing.assert_allclose(model.logits(*inputs), expected[f"logits{suffix}"], atol=logit_tolerance, rtol=0)
    np.testing.assert_allclose(trace["logits"], expected[f"logits{suffix}"], atol=logit_tolerance, rtol=0)
    np.testing.assert_allclose(trace["pooled"], expected["pooled"], atol=1e-3 if suffix else hidden_tolerance)
    codes = 0
    for key in expected.files:
        if key.startswith("hidden_") and not key.startswith("hidden_f64"):
            wanted = expected[key.replace("hidden_", f"hidden{suffix}_")]
            np.testing.assert_allclose(trace[key], wanted[kept], atol=hidden_tolerance, rtol=0, err_msg=key)
        elif key.startswith("codes."):
            codes += expected[key].size
            _check_codes(trace, key, expected[key], mask, kept)
    assert codes > 1000, "the golden case lost its codes"


def _check_codes(trace: dict, key: str, wanted: np.ndarray, mask: np.ndarray, kept: np.ndarray) -> None:
    if key.endswith(".probs"):
        for sentence, found in enumerate(trace[key]):
            rows = kept[sentence]
            np.testing.assert_array_equal(found, wanted[sentence][:, rows][:, :, rows], err_msg=key)
        return
    found = trace[key] if key in trace else trace[key.removesuffix(".in") + "_1.in"]
    if wanted.ndim == 4:  # Q, K, V: [B, H, T, D]
        wanted = wanted.transpose(0, 2, 1, 3).reshape(*mask.shape, -1)
    if wanted.ndim == 3:
        wanted = wanted[kept]
    np.testing.assert_array_equal(found, wanted, err_msg=key)
