"""A native program computes exactly what the general path computes, for every family, shape, batch and thread count."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bebert_infer import Ensemble
from bebert_infer.measure import sample_models as synthetic
from bebert_infer.measure.profiling import PRODUCTS, profile
from bebert_infer.model.batch import ragged_batch
from bebert_infer.native import engine as native_module
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS

FROZEN = Path(__file__).parents[1] / "data" / "artifacts" / "v1"
FAMILIES = sorted(path.name for path in FROZEN.iterdir() if path.is_dir())
# Codes that depend on the sentence, or GELU before codes, stay on the general path.
SHAPES = {
    # layers, hidden, attention, heads, FFN: head sizes 5 to 65, widths around words and panels
    "odd": (2, 70, 33, 3, 129),
    "two heads of 65": (1, 130, 130, 2, 513),
    "heads of 32": (1, 64, 128, 4, 200),
    "one": (1, 1, 1, 1, 1),
    "no block": (0, 64, 64, 1, 64),
}


def _batch(rng, vocabulary, lengths, types=2):
    ids = rng.integers(0, vocabulary, (len(lengths), max(lengths)))
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return ragged_batch(ids, mask, rng.integers(0, types, ids.shape))


def _truth(model, batch, member=0):
    return model.members[member].forward(batch)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_published_family_runs_natively_with_the_same_bits(family):
    model = Ensemble.from_pretrained(FROZEN / family, threads=2)
    rng = np.random.default_rng(0)
    lengths = [min(length, model.limits.positions) for length in (9, 1, 17, 30)]
    batch = _batch(rng, model.limits.vocabulary, lengths, model.limits.types)
    for index, native in enumerate(model.engine.members):
        np.testing.assert_array_equal(native.forward(batch), _truth(model, batch, index))


@pytest.mark.parametrize("scheme", ["1-1-1", "1-1-4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape(shape, scheme, monkeypatch):
    monkeypatch.setitem(synthetic.SIZES, shape, SHAPES[shape])
    artifact = synthetic.random_model(shape, scheme, 1, vocab_size=50)
    model = Ensemble(artifact, threads=3)
    rng = np.random.default_rng(1)
    for lengths in ((1,), (65,), (3, 130, 64, 1, 7)):
        batch = _batch(rng, 50, lengths)
        expected = _truth(model, batch)
        np.testing.assert_array_equal(model.engine.members[0].forward(batch), expected)
        shared = model.engine.members[0].forward(batch, model.engine.team, threads=3)
        np.testing.assert_array_equal(shared, expected)


def test_zeros_behind_gelu_do_not_reach_the_other_panels_of_their_own_layer(monkeypatch):
    """A layer hands on the flags of its outputs panel by panel and still needs those of its inputs for the next one."""
    monkeypatch.setitem(synthetic.SIZES, "wide", (2, 128, 128, 2, 3 * PANEL_OUTPUTS))
    artifact = synthetic.random_model("wide", "1-1-1", 1, vocab_size=50)
    bias = artifact.tensors["members.0.layers.0.intermediate.bias"]
    bias[3] = -1000  # GELU gives exactly 0 in the first panel
    model = Ensemble(artifact, threads=1)
    batch = _batch(np.random.default_rng(3), 50, (40, 9, 1))
    for _ in range(2):
        np.testing.assert_array_equal(model.engine.members[0].forward(batch), _truth(model, batch))


def test_a_larger_batch_after_a_smaller_one_and_back():
    """Workspaces grow and are used again; nothing of an earlier call shows."""
    model = Ensemble(synthetic.random_model("tiny", "1-1-4", 1, vocab_size=50))
    rng = np.random.default_rng(2)
    batches = [_batch(rng, 50, lengths) for lengths in ((3,), (200, 100), (5, 5), (300,), (1,) * 70, (3,))]
    alone = [_truth(model, batch) for batch in batches]
    for batch, expected in zip(batches, alone, strict=True):
        np.testing.assert_array_equal(model.engine.members[0].forward(batch), expected)


def test_memory_does_not_grow_over_calls():
    """Not over 10,000 calls (`make soak`), and not over 300 here."""
    code = """
import resource
import numpy as np
from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import random_model
model = Ensemble(random_model("tiny", "1-1-1", 2, vocab_size=50), threads=2)
rng = np.random.default_rng(0)
def calls(count):
    for _ in range(count):
        model.logits(rng.integers(0, 50, (3, 40)))
calls(50)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
calls(300)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) <= 512, "kilobytes grown"


def test_without_a_jit_the_truth_answers():
    code = """
import numpy as np
from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import random_model
model = Ensemble(random_model("tiny", "1-1-1", 1, vocab_size=50), backend="native")
print(model.backend, type(model.engine).__name__)
"""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True, env=environment
    )
    assert done.stdout.split() == ["reference", "ReferenceEngine"]


@pytest.mark.parametrize("product", ["popcount", "bitsliced", "lookup"])
def test_a_profile_accounts_for_the_products(product, monkeypatch):
    monkeypatch.setenv("BEBERT_PRODUCT", product)
    model = Ensemble(synthetic.random_model("tiny", "1-1-4", 1, vocab_size=50))
    found = {row.operation: row for row in profile(model, tokens=20, rounds=3)}
    assert set(PRODUCTS) <= set(found)
    assert sum(row.share for row in found.values()) == pytest.approx(1)
    # Two branches: 128 x 128 queries of the first token only in the last block, keys and values of all 20.
    assert found["query, key, value"].macs == 2 * 128 * 128 * (3 * 20 + 2 * 20 + 1)
    assert found["intermediate"].macs == 2 * 128 * 512 * (20 + 1)
    if product != "bitsliced":  # a byte look-up is no full adder: a bound of adders was shown, and exceeded, on AVX2
        assert all(row.bound is None for row in found.values())
    else:
        assert all(found[name].tmacs <= found[name].bound for name in PRODUCTS)


def test_what_a_program_holds_lives_as_long_as_the_member():
    """The program knows only addresses: every array behind them must stay."""
    model = Ensemble(synthetic.random_model("tiny", "1-1-1", 1, vocab_size=50))
    batch = _batch(np.random.default_rng(3), 50, (12,))
    member = model.members[0]
    native = native_module.NativeMember(member)
    expected = native.forward(batch)
    del model, member
    np.empty(10_000_000).fill(7)
    np.testing.assert_array_equal(native.forward(batch), expected)
