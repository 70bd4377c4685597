"""What every machine must compute: kernels against NumPy on word edges, a golden model of each family, the demo model.

Not collected by name: `run.sh` gives it to pytest on an emulated Raspberry Pi, where the whole suite takes too long.
"""

import platform
from pathlib import Path

import kernel_cases
import numpy as np
import pytest
from demo_answers import check_stored_answers

from bebert_infer import Ensemble
from bebert_infer.model.batch import ragged_batch
from bebert_kernels import packing
from bebert_kernels.bitsliced.triples import aligned
from bebert_kernels.jit import isa
from bebert_kernels.lookup.gemm import lut_panel, lut_tables
from bebert_kernels.lookup.layout import PANEL, lut_bytes, lut_weights
from bebert_kernels.tuning.single_layer import OneLayer

TESTS = Path(__file__).parents[1]
FROZEN = TESTS / "data" / "artifacts" / "v1"
EDGES = [1, 63, 64, 65, 127, 128, 129, 192]
# case -> whether the published values do not depend on what else is in the batch, see test_frozen_artifacts.py
FAMILIES = {"binarybert_1_1_4_h64": True, "bibert_1_1_1": True, "bit_1_1_1": True, "ternarybert_2_2_8": False}


def test_this_is_the_board():
    assert platform.machine() in ("aarch64", "arm64")
    name = isa.target()[0]
    assert name.startswith("cortex-a7")
    assert ("dotprod" in isa.available_levels(platform.machine(), isa.host_features())) == (name == "cortex-a76")


@pytest.mark.parametrize("size", [64, 65])
def test_kernel_functions_equal_their_numpy_twins(size):
    kernel_cases.check_all(seed=size, rows=9, outputs=7, depth=size, size=size - 1, keys=size)


@pytest.mark.parametrize("depth", EDGES)
def test_products_of_bits_equal_plain_arithmetic(depth):
    rng = np.random.default_rng(depth)
    for outputs in (1, 127, 129, 257):
        weights = rng.choice(np.array([-1, 1]), (outputs, depth))
        words = packing.pack_weight_signs(weights.astype(np.int8))
        for zeros in (0.0, 0.2):
            signs = rng.choice(np.array([-1, 1]), (9, depth)) * (rng.random((9, depth)) >= zeros)
            no_zeros = (signs != 0).all(axis=1).astype(np.uint8)
            codes = np.choose(signs + 1, [3, 2, 0]).astype(np.uint8)
            assert np.array_equal(OneLayer(words, depth, 0, 9)(codes, no_zeros), signs @ weights.T)
        for bits in (1, 2, 4, 8):
            codes = rng.integers(0, 1 << bits, (9, depth), dtype=np.uint8)
            found = OneLayer(words, depth, bits, 9)(codes, np.zeros(9, np.uint8))
            assert np.array_equal(found, codes.astype(np.int64) @ weights.T)


@pytest.mark.parametrize("depth", EDGES)
def test_products_by_look_up_equal_plain_arithmetic(depth):
    rng = np.random.default_rng(depth)
    weights = rng.choice(np.array([-1, 1]), (100, depth))
    panels = lut_weights(packing.pack_weight_signs(weights.astype(np.int8)), depth)
    codes = rng.integers(0, 16, (9, depth), dtype=np.uint8)
    tables, width = aligned((lut_bytes(9, depth),), np.uint8), PANEL
    lut_tables(codes, 9, tables)
    negatives = codes.astype(np.int64) @ (weights.T < 0)
    for panel in range(len(panels)):
        sums = aligned((9, width), np.int32)
        lut_panel(tables, panels.reshape(-1), panel, 9, depth, sums)
        wanted = negatives[:, panel * width : (panel + 1) * width]
        assert np.array_equal(sums[:, : wanted.shape[1]], wanted)


@pytest.mark.parametrize("product", ["popcount", "bitsliced", "lookup"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_golden_model_of_each_family_gives_the_published_logits(family, product, monkeypatch):
    monkeypatch.setenv("BEBERT_PRODUCT", product)
    stored = np.load(FROZEN / f"{family}.npz")
    inputs = [stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    model = Ensemble.from_pretrained(FROZEN / family, threads=2)
    found = model.member_logits(*inputs)
    if FAMILIES[family]:
        np.testing.assert_allclose(found, stored["logits"], atol=1e-5, rtol=0)
    wanted = Ensemble.from_pretrained(FROZEN / family, backend="reference").member_logits(*inputs)
    np.testing.assert_array_equal(found, wanted)
    ids, mask, types = inputs
    alone = ragged_batch(ids[1:2].astype(np.int64), mask[1:2].astype(bool), types[1:2].astype(np.int64))
    np.testing.assert_array_equal(model.engine.members[0].forward(alone), found[0, 1:2])


@pytest.mark.parametrize("product", ["popcount", "bitsliced", "lookup"])
def test_the_demo_model_gives_its_stored_answers(product, monkeypatch):
    monkeypatch.setenv("BEBERT_PRODUCT", product)
    check_stored_answers()
