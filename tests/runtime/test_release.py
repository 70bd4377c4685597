"""Weights that the engine has in a form of its own are kept once; the truth reads them again when it is asked."""

import shutil

import numpy as np
import pytest
from micro import write_micro

from bebert_infer import Ensemble, InputError
from bebert_infer.artifact.folder import read_artifact
from bebert_infer.measure.sample_models import demo_path
from bebert_infer.model.loading import build_members
from bebert_infer.native.release import give_back
from bebert_kernels.abi.stage import available

IDS = np.arange(100, 130)[None]

if not available():
    pytest.skip("programs are compiled code", allow_module_level=True)


@pytest.fixture
def model(monkeypatch) -> Ensemble:
    monkeypatch.delenv("BEBERT_BACKEND", raising=False)
    return Ensemble.from_pretrained(demo_path())


@pytest.mark.parametrize("product", ["", "popcount", "bitsliced", "lookup"])
def test_answers_are_the_same_whatever_is_given_back(monkeypatch, product):
    monkeypatch.setenv("BEBERT_PRODUCT", product)
    monkeypatch.delenv("BEBERT_BACKEND", raising=False)
    released = Ensemble.from_pretrained(demo_path())
    kept = Ensemble(read_artifact(demo_path()))
    for _ in range(2):
        np.testing.assert_array_equal(released.member_logits(IDS), kept.member_logits(IDS))
    before, after = kept.memory(1, 8), released.memory(1, 8)
    signs = sum(a.nbytes for name, a in kept.artifact.tensors.items() if name.endswith("signs") and "word" not in name)
    read_in_place = product == "popcount"
    assert before.model - after.model >= (0 if read_in_place else 0.9 * signs)


def test_the_truth_is_read_again_where_it_is_asked_for(model):
    expected = Ensemble.from_pretrained(demo_path(), backend="reference").member_logits(IDS)
    np.testing.assert_array_equal(model.member_logits(IDS), expected)
    traces = model.trace(IDS)
    assert len(traces) == len(model.members) == len(model.alphas)
    assert model.artifact.tensors.keys() == read_artifact(demo_path()).tensors.keys()
    np.testing.assert_array_equal(model.member_logits(IDS), expected)


def test_a_folder_that_holds_another_model_now_is_not_taken_for_the_old_one(tmp_path, monkeypatch):
    monkeypatch.delenv("BEBERT_BACKEND", raising=False)
    folder = write_micro(tmp_path / "model", seed=1)
    model = Ensemble.from_pretrained(folder)
    expected = model.predict("good film")[0].logits
    shutil.rmtree(folder)
    write_micro(folder, seed=2)
    with pytest.raises(InputError, match="holds another model now than when it was loaded; load it again"):
        model.trace([[2, 4, 3]])
    np.testing.assert_array_equal(model.predict("good film")[0].logits, expected)


def test_a_branch_whose_signs_are_gone_computes_nothing():
    """It must not answer from zeros."""
    artifact = read_artifact(demo_path())
    branch = build_members(artifact.config, artifact.tensors)[0].blocks[0].query.branches[0]
    branch.forget()
    with pytest.raises((ValueError, IndexError)):
        branch.product(np.zeros((1, branch.depth), np.float32), [slice(0, 1)], np.zeros(1, np.float32), False, "zero")


def test_what_is_given_back_lies_within_the_array():
    memory = np.full(10 * 4096, 7, np.uint8)
    give_back(memory[100:-100])
    assert (memory[:100] == 7).all() and (memory[-100:] == 7).all()
