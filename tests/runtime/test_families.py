"""Every member that the format allows runs as a native program with the bits of the truth, odd mixtures too."""

import os

import numpy as np
import pytest
from any_member import members, model_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bebert_infer import Ensemble
from bebert_infer.artifact.folder import Artifact
from bebert_infer.measure.sample_models import random_model
from bebert_infer.native.lower_unfused import can_fuse
from bebert_kernels.abi.stage import available

if not available():
    pytest.skip("native programs are compiled code", allow_module_level=True)

EDGES = [1, 2, 63, 64, 65, 127, 128, 129]


def check(artifact: Artifact, lengths: list[int], threads: int, seed: int) -> None:
    engine, truth = Ensemble(artifact, threads=threads), Ensemble(artifact, backend="reference")
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 30, (len(lengths), max(lengths)))
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    types = rng.integers(0, 2, ids.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        found, expected = engine.member_logits(ids, mask, types), truth.member_logits(ids, mask, types)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@settings(max_examples=int(os.environ.get("BEBERT_EXAMPLES", "25")), deadline=None)
@given(members(), st.lists(st.sampled_from(EDGES), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 99))
def test_any_legal_member_gives_the_bits_of_the_truth(member, lengths, threads, seed):
    check(model_of(member, seed), lengths, threads, seed)


@pytest.mark.parametrize("scheme", ["1-1-8", "2-2-8"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_codes_scaled_by_their_own_sentence_do_not_depend_on_threads_or_neighbours(scheme, threads):
    artifact = random_model("tiny", scheme, 1, vocab_size=30)
    check(artifact, [1, 129, 3, 64], threads, 1)
    model = Ensemble(artifact, threads=threads)
    ids = np.random.default_rng(2).integers(0, 30, (3, 65))
    alone = [model.member_logits(ids[i : i + 1])[:, 0] for i in range(3)]
    np.testing.assert_array_equal(model.member_logits(ids), np.stack(alone, axis=1))


def test_published_families_with_stored_numbers_are_fused():
    """What is fast stays fast: only members with statistics keep floats between their quantizers."""
    for scheme, fused in (("1-1-1", True), ("1-1-4", True), ("1-1-8", False), ("2-2-8", False)):
        (member,) = Ensemble(random_model("tiny", scheme, 1, vocab_size=9), backend="reference").members
        assert can_fuse(member) == fused


def test_a_member_of_stored_numbers_gives_the_same_bits_unfused(monkeypatch):
    """Both ways of lowering are the same model."""
    for scheme in ("1-1-1", "1-1-4"):
        artifact = random_model("tiny", scheme, 1, vocab_size=30)
        with monkeypatch.context() as patched:
            patched.setattr("bebert_infer.native.lower_unfused.can_fuse", lambda member: False)
            patched.setattr("bebert_infer.native.engine.can_fuse", lambda member: False)
            check(artifact, [1, 65, 9], 2, 3)


def test_branches_that_share_a_step_share_the_codes_behind_relu_too(monkeypatch):
    """`--shared-steps`: what both branches of the second feed-forward layer read is encoded once, not twice."""
    artifact = random_model("tiny", "1-1-4", 1, vocab_size=30)
    made: list[int] = []
    monkeypatch.setattr(
        "bebert_infer.native.lower_linear.add_product",
        lambda program, layer, name: made.append(len(layer.inputs)) if name == "output" else None,
    )
    for shared, inputs in ((False, 2), (True, 1)):
        made.clear()
        if shared:
            for index in range(2):
                steps = [f"members.0.layers.{index}.output.{branch}.step" for branch in range(2)]
                artifact.tensors[steps[1]] = artifact.tensors[steps[0]]
        Ensemble(artifact)
        assert made == [inputs] * 2
    monkeypatch.undo()
    check(artifact, [1, 65, 9], 2, 3)
