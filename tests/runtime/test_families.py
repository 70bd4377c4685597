"""Every member that the format allows runs as a native program with the bits of the truth, odd mixtures too."""

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bebert_infer import Ensemble
from bebert_infer.artifact.config import CODES, LINEARS, Config, MemberConfig, Site, expected_tensors
from bebert_infer.artifact.folder import Artifact, bit_depths, finish_config
from bebert_infer.measure.sample_models import random_model
from bebert_infer.native.lower_unfused import can_fuse
from bebert_kernels.abi.stage import available

if not available():
    pytest.skip("native programs are compiled code", allow_module_level=True)

BITS = [1, 2, 3, 4, 5, 7, 8]
EDGES = [1, 2, 63, 64, 65, 127, 128, 129]


@st.composite
def sites(draw, unsigned=True, shift=True):
    """Any quantizer that `MemberConfig.faults` accepts."""
    kind = draw(
        st.sampled_from(
            ["sign", "shifted_sign", "bool", "codes", "dynamic"]
            if unsigned
            else ["sign", "shifted_sign", "codes", "dynamic"]
        )
    )
    moved = shift and kind not in ("sign", "dynamic") and draw(st.booleans())
    if kind in ("sign", "shifted_sign"):
        return Site(kind, 1, True, moved)
    if kind == "bool":
        return Site(kind, 1, False, moved)
    bits = draw(st.sampled_from(BITS[1:] if kind == "dynamic" else BITS))
    return Site(kind, bits, True if not unsigned else draw(st.booleans()), moved)


@st.composite
def members(draw):
    """A small member of any family, with any quantizer at any site."""
    heads = draw(st.integers(1, 3))
    attention = draw(st.sampled_from(["softmax", "boolean"]))
    quantizers = {site: draw(sites()) for site in LINEARS}
    if attention == "softmax":
        quantizers |= {site: draw(sites(unsigned=False, shift=False)) for site in CODES[:3]}
        quantizers |= {site: draw(sites(shift=False)) for site in CODES[3:]}
    return MemberConfig(
        family="mixed",
        scheme="1-1-1",
        branches=draw(st.integers(1, 2)),
        row_scales=draw(st.booleans()),
        hidden_size=draw(st.sampled_from([5, 64, 70])),
        attention_size=heads * draw(st.sampled_from([3, 16, 65])),
        num_attention_heads=heads,
        intermediate_size=draw(st.sampled_from([7, 64, 129])),
        num_hidden_layers=draw(st.integers(1, 2)),
        layer_norm_eps=1e-12,
        attention=attention,
        activation=draw(st.sampled_from(["relu", "gelu"])),
        sites=quantizers,
    )


def model_of(member: MemberConfig, seed: int) -> Artifact:
    """Random tensors; steps may be negative, minima are not zero."""
    base = random_model("tiny", "1-1-4", 1, vocab_size=30)
    config: Config = msgspec.structs.replace(base.config, members=[member], max_position_embeddings=130)
    assert not config.faults()
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, (kind, shape) in expected_tensors(config).items():
        if kind == "U64":
            tensors[name] = rng.integers(0, 2**64, shape, dtype=np.uint64)
        elif name.endswith(".step"):
            tensors[name] = (rng.choice([-1, 1, 1, 1], shape) * rng.uniform(0.02, 0.5, shape)).astype(np.float32)
        elif name.endswith(".clip"):
            tensors[name] = np.array([-rng.uniform(0.5, 3), rng.uniform(0.5, 3)], np.float32)
        elif name.endswith(".scale"):
            tensors[name] = rng.uniform(0.01, 0.3, shape).astype(np.float32)
        else:
            tensors[name] = rng.normal(0, 0.5, shape).astype(np.float64 if kind == "F64" else np.float32)
    tensors["alphas"][:] = 1
    for name, depth in bit_depths(config).items():
        tensors[name][:, -1] &= np.uint64(2**64 - 1 >> -depth % 64)
    config, _ = finish_config(config, tensors)
    return Artifact(Path("mixed"), config, tensors, None)


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
