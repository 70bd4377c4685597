"""Sizes and operations: the published figures come out of the papers' formulas, ours out of real bytes."""

import pytest
from msgspec.structs import replace

from bebert_infer.artifact.config import MemberConfig
from bebert_infer.measure.cost import bytes_by_kind, full_precision_bytes, operations
from bebert_infer.measure.paper_cost import honest_bytes, paper_bytes, paper_figures
from bebert_infer.measure.sample_models import random_model

MIB = 2**20


@pytest.fixture(scope="module")
def base():
    """BERT-base as BiBERT has it."""
    return random_model("base", "1-1-1", 1)


@pytest.fixture
def bibert(base) -> MemberConfig:
    return base.config.members[0]


@pytest.fixture
def binarybert(bibert) -> MemberConfig:
    """Half width, two branches."""
    return replace(bibert, branches=2, attention_size=384, num_attention_heads=6, intermediate_size=1536)


def test_bert_base_full_precision_is_418_mebibytes_and_22_point_4_gflops(base, bibert):
    assert full_precision_bytes(bibert, base.config) / MIB == pytest.approx(417.65, abs=0.005)
    assert operations(bibert, 128).full_precision_flops / 1e9 == pytest.approx(22.424, abs=0.001)


@pytest.mark.parametrize(("bits", "published"), [(1, 0.421), (2, 0.775), (4, 1.511), (8, 3.097)])
def test_binarybert_paper_flops(binarybert, bits, published):
    """Numerics §6.3: one formula gives 0.4, 0.8, 1.5 and 3.1 G, if attention is counted at half width."""
    assert operations(binarybert, 128).paper_flops(1, bits) / 1e9 == pytest.approx(published, abs=0.001)


def test_bibert_paper_flops(bibert):
    assert operations(bibert, 128).paper_flops(1, 1) / 1e9 == pytest.approx(0.426, abs=0.001)


def test_ternarybert_paper_flops(bibert):
    assert operations(bibert, 128).paper_flops(2, 8) / 1e9 == pytest.approx(6.117, abs=0.001)


@pytest.fixture
def mib(base):
    """Size of a member in MiB: the papers' way, and with nothing left out."""

    def both(member: MemberConfig, bits: int = 1) -> tuple[float, float]:
        return paper_bytes(member, base.config, bits) / MIB, honest_bytes(member, base.config, bits) / MIB

    return both


def test_published_sizes_come_out_of_the_papers_formulas(mib, bibert, binarybert):
    """Numerics §6.4: 28.0 TernaryBERT, 13.4 BiBERT, 16.5 BinaryBERT; 33 is two of the last."""
    assert mib(bibert, 2)[0] == pytest.approx(27.96, abs=0.005)
    assert mib(bibert)[0] == pytest.approx(13.39, abs=0.005)
    assert mib(binarybert)[0] == pytest.approx(16.50, abs=0.006)
    assert round(2 * mib(binarybert)[0]) == 33


def test_sizes_with_nothing_left_out(mib, bibert, binarybert):
    """Numerics §6.4; the full-width pair is the 28 MB that a user of BEBERT's code saw."""
    assert mib(bibert)[1] == pytest.approx(14.97, abs=0.005)
    assert mib(binarybert)[1] == pytest.approx(17.91, abs=0.005)
    assert mib(replace(bibert, branches=2))[1] == pytest.approx(28.28, abs=0.005)


def test_an_ensemble_is_divided_by_its_members_in_the_paper_only(base, binarybert):
    pair = replace(base.config, members=[replace(binarybert, scheme="1-1-4")] * 2)
    size, work = paper_figures(pair, 128)
    assert (size.paper, size.honest) == (pytest.approx(33.0, abs=0.02), pytest.approx(35.8, abs=0.05))
    assert (work.paper, work.honest) == (pytest.approx(1.511, abs=0.001), pytest.approx(3.022, abs=0.002))


def test_every_byte_is_counted_once(base):
    assert sum(bytes_by_kind(base.tensors).values()) == sum(t.nbytes for t in base.tensors.values())


def test_a_packed_bert_base_has_the_size_that_its_bits_say(base):
    """Numerics §6.4: word, encoder and pooler at 1 bit, the rest float32 with row scales: about 15.1 MiB."""
    bits = sum(count for kind, count in bytes_by_kind(base.tensors).items() if "1 bit" in kind)
    assert bits == (23_440_896 + 84_934_656 + 589_824) // 8
    total = sum(bytes_by_kind(base.tensors).values()) / MIB
    # 15.08 with row scales of the words; the scales of 82,944 + 768 matrix rows add 0.32
    assert total == pytest.approx(15.08 + 4 * (82_944 + 768) / MIB, abs=0.02)
