"""One question, one answer: the same bits whatever the threads, batch, order, padding, member schedule and process.

Across instruction sets integers are exact as well, and floats stay within a bound; what differs is counted and printed.
"""

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invariance import LONGEST, NAMES, load, write_requests

from bebert_infer import token_model
from bebert_infer.native.team import ThreadTeam
from bebert_kernels.cpu import isa

HELPERS = Path(__file__).parents[1] / "helpers"
HERE = isa.available_levels(platform.machine(), isa.host_features())
LEVELS = [level for level in ("generic", "avx2", "avx512", "neon", "dotprod") if level in HERE]
ULP = 2.0**-23


@cache
def model_of(name):
    return load(name, 1)


@cache
def team_of(threads):
    return ThreadTeam(threads)


def padded(rows, mask_rows, types, width):
    out = np.zeros((3, len(rows), width), np.int64)
    for index, parts in enumerate(zip(rows, mask_rows, types, strict=True)):
        for plane, part in zip(out, parts, strict=True):
            plane[index, : len(part)] = part
    return out


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_logits_are_the_same_bits_however_they_are_asked_for(data):
    """Random sentences, each asked alone on one thread; then in a random order, cut, padding, threads, members."""
    model = model_of(data.draw(st.sampled_from(NAMES), label="model"))
    longest = min(LONGEST, model.limits.positions)
    lengths = data.draw(st.lists(st.integers(1, longest), min_size=1, max_size=9), label="lengths")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    rows = [rng.integers(0, model.limits.vocabulary, length) for length in lengths]
    types = [rng.integers(0, model.limits.types, length) for length in lengths]
    masks = [np.append(1, rng.random(length - 1) < data.draw(st.sampled_from([1.0, 0.9]))) for length in lengths]
    masks = [mask.astype(np.int64) for mask in masks]
    engine = model.engine
    engine.threads, engine.team = 1, team_of(1)
    alone = [
        model.member_logits(row[None], mask[None], kind[None])[:, 0]
        for row, mask, kind in zip(rows, masks, types, strict=True)
    ]
    expected = np.stack(alone, axis=1)

    order = np.array(data.draw(st.permutations(range(len(rows))), label="order"))
    members = np.array(data.draw(st.permutations(range(len(model.members))), label="members"))
    threads = data.draw(st.integers(1, 8), label="threads")
    width = data.draw(st.integers(max(lengths), longest), label="width")
    cut = data.draw(st.sampled_from([1, 7, 64, 129, 4096]), label="rows at a time")
    asked = padded(*([parts[index] for index in order] for parts in (rows, masks, types)), width)
    before = engine.members, token_model.MAX_ROWS
    try:
        engine.threads, engine.team, token_model.MAX_ROWS = threads, team_of(threads), cut
        engine.members = [engine.members[index] for index in members]
        found = model.member_logits(*asked)
    finally:
        engine.members, token_model.MAX_ROWS = before
    assert np.array_equal(found.view(np.uint32), expected[members][:, order].view(np.uint32))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    file = tmp_path_factory.mktemp("invariance") / "requests.npz"
    write_requests(file, 0)
    return file


def answers(asked, name, threads, **environment):
    """What another process says."""
    file = asked.with_name(f"{name}.npz")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HELPERS / "invariance.py"), str(asked), str(file), str(threads)],
        env=os.environ | {"NUMBA_DISABLE_JIT": "0", "BEBERT_QUIET": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    with np.load(file) as found:
        return dict(found)


@pytest.fixture(scope="module")
def native(asked):
    return answers(asked, "native", 1, PYTHONHASHSEED="0")


def test_another_process_with_other_hashes_and_threads_gives_the_same_bytes(asked, native):
    again = answers(asked, "again", 3, PYTHONHASHSEED="12345", BEBERT_PRODUCT="sliced")
    assert again.keys() == native.keys()
    for name, values in native.items():
        assert values.tobytes() == again[name].tobytes(), name


# Kernels are compiled anew for each: the one that most CPUs have is enough between two commits.
@pytest.mark.parametrize(
    "level", [pytest.param(level, marks=() if level in ("avx2", "neon") else pytest.mark.long) for level in LEVELS]
)
def test_other_instruction_sets_give_the_same_integers_and_floats_within_a_bound(asked, native, level, capsys):
    """Bound of a logit: 16 units in the last place of the largest sum of magnitudes that can make it.

    All arithmetic of kernels is in a fixed order on every instruction set, without contraction. What may differ is the
    C library's tanh of the pooler, which picks a variant by CPU and is right to about one unit. A logit is the sum of
    width products tanh * weight, |tanh| <= 1: one unit of every tanh and a few roundings of the sum stay below that.
    """
    found = answers(asked, level, 2, BEBERT_ISA=level)
    assert found.keys() == native.keys()
    codes = codes_off = floats = floats_off = labels = labels_off = 0
    for name, expected in native.items():
        values = found[name]
        assert (values.shape, values.dtype) == (expected.shape, expected.dtype), name
        if not name.endswith("logits"):
            off = int((values != expected).sum())
            if values.dtype.kind in "iub":
                codes, codes_off = codes + values.size, codes_off + off
            else:
                floats, floats_off = floats + values.size, floats_off + off
            continue
        if "member" in name:
            continue
        model = model_of(name.rsplit(" ", 2)[0])
        for member, ours, theirs in zip(model.members, values, expected, strict=True):
            most = (np.abs(member.classifier_weight).sum(axis=1) + np.abs(member.classifier_bias)).max()
            assert np.abs(ours - theirs).max() <= 16 * ULP * most, name
            labels, labels_off = labels + len(ours), labels_off + int((ours.argmax(1) != theirs.argmax(1)).sum())
    with capsys.disabled():
        print(
            f"\n{level} against native: {codes_off} of {codes:,} codes, {floats_off} of {floats:,} floats of layers, "
            f"{labels_off} of {labels:,} labels differ"
        )
    assert codes_off == 0
    assert labels_off == 0
