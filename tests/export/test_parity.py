"""The export check proves what answers: a native stage that is broken, any one, is refused, and nothing is written."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_checkpoints import FAMILIES, MODEL, make_checkpoint

from bebert_export.checkpoints.published import read_checkpoint
from bebert_export.convert import convert
from bebert_export.pack import parity
from bebert_export.pack.exchange import ROUNDING, Exchange
from bebert_export.pack.parity import engine_faults, random_sentences, truth_logits
from bebert_export.pack.write_model import pack_ensemble, write_ensemble
from bebert_export.quantizers import Lsq, Sign
from bebert_export.student.bert import Student, StudentConfig
from bebert_infer import Ensemble
from bebert_infer.artifact.folder import Artifact, finish_config, read_config
from bebert_infer.errors import ParityError
from bebert_infer.native import engine, lower_unfused
from bebert_kernels.abi.stage import available, stage

if not available():
    pytest.skip("native programs are compiled code", allow_module_level=True)

LONG = pytest.mark.long
BROKEN = ["bibert", "binarybert 1-1-4", "ternarybert"]


@stage
def nothing(arguments: int, slots: int, frame: int, domain: int, first: int, rows: int) -> None:
    """A stage that does nothing."""


def instructions_of(member) -> list[tuple[int, str]]:
    """One instruction of each kind of a program, and its name."""
    found = {}
    for number, info in enumerate(member.instruction_info):
        found.setdefault((int(member.instructions[number, 0]), info.name), number)
    return [(number, name) for (_, name), number in found.items()]


@pytest.fixture
def broken(monkeypatch):
    """Call with a function that breaks a program: every program is broken by it from then on."""

    def use(change):
        def lowered(member, releases=False):
            program = lower_unfused.lowered(member, releases)
            change(program)
            return program

        monkeypatch.setattr(engine, "lowered", lowered)

    return use


@pytest.mark.parametrize("family", BROKEN)
def test_every_stage_that_does_nothing_is_refused(family, broken, tmp_path):
    source = make_checkpoint(tmp_path / "source", FAMILIES[family])
    programs = []
    broken(programs.append)
    convert([source], tmp_path / "good")
    stages = instructions_of(programs[0])
    assert len(stages) >= 8
    for number, name in stages:
        if name in ("encode", "quantize"):
            continue  # codes that nobody made may be no codes, and look-ups would leave their tables
        # Statistics that nobody takes may still stand in memory from the run before: those of one column, then.
        change = ((number, 2), 1) if name == "statistics" else ((number, 0), nothing.address)
        broken(lambda program, change=change: program.instructions.__setitem__(*change))
        with pytest.raises(ParityError, match="engine's logits differ from the truth's"):
            convert([source], tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("family", "product"),
    [
        pytest.param(family, product, marks=() if (family, product) == ("binarybert 1-1-4", "lookup") else LONG)
        for family in BROKEN
        for product in ("lookup", "bitsliced", "popcount")
    ],
)
def test_a_wrong_number_is_refused_wherever_it_can_be_seen(family, product, broken, monkeypatch, tmp_path):
    """Every array that a program reads, one after the other: scales, offsets, tables, packed weights.

    Some are not read (floats where thresholds decide signs), or matter to rounding alone. Then no answer may differ
    from the truth by more.
    """
    monkeypatch.setenv("BEBERT_PRODUCT", product)
    source = make_checkpoint(tmp_path / "source", replace(FAMILIES[family], num_layers=2))
    student = read_checkpoint(source / MODEL, source).student
    config, tensors, _ = pack_ensemble([student], [1.0], "logits", list("abcde"))
    config = finish_config(config, tensors)[0]

    def ensemble(backend):
        copies = {name: tensor.copy() for name, tensor in tensors.items()}
        return Ensemble(Artifact(tmp_path, config, copies, None), backend=backend)

    truth, programs = ensemble("reference"), []
    first, second = (random_sentences(truth, parity.ENGINE_LENGTHS, seed) for seed in (0, 1))
    expected, others = truth_logits(truth, first), truth_logits(truth, second)
    broken(programs.append)
    assert not engine_faults(ensemble("native"), first, expected)
    arrays = [i for i, array in enumerate(programs[0].pinned.values()) if array.dtype != np.int64]  # int64: addresses
    assert len(arrays) > 20
    refused = 0
    for index in arrays:

        def change(program, index=index):
            array = list(program.pinned.values())[index]
            array.flags.writeable = True
            if array.dtype == np.float32:
                array *= np.float32(-1.25)
                array += np.float32(0.1)
            else:
                np.invert(array, out=array)

        broken(change)
        wrong = ensemble("native")
        if engine_faults(wrong, first, expected):
            refused += 1
        else:
            assert np.abs(wrong.member_logits(*second)[0] - others[0]).max() < 1e-6, index
    assert refused > len(arrays) // 3


def test_flips_are_counted_against_the_values_near_a_threshold(tmp_path):
    """Not against all codes: a large network has thousands of values within rounding of a threshold."""
    source = make_checkpoint(tmp_path / "source", FAMILIES["binarybert 1-1-4"])
    convert([source], tmp_path / "model")
    parity = read_config(tmp_path / "model").evidence["parity"]
    assert 0 <= parity["flips"] <= parity["near_threshold"] < parity["codes"]


def exchanged(x: list[float], truth: list[int], quantizer) -> Exchange:
    """What the check sees at one quantizer whose input is x, where the truth's codes are these."""
    exchange = Exchange("site", {"site": np.array(truth, np.int8)})
    exchange(quantizer, (torch.tensor(x),), torch.empty(0))
    return exchange


def four_bits(step: float = 0.5) -> Lsq:
    """Thresholds at 0.25, 0.75, ... for that step; codes -8 to 7."""
    return Lsq(torch.nn.Parameter(torch.tensor(step)), 4, True)


NEAR = 0.25 + 3 * ROUNDING  # the largest value below is 4, so rounding explains 4 * ROUNDING


def test_a_flip_within_rounding_of_its_threshold_is_none_of_ours():
    found = exchanged([NEAR, 4.0, 1.1], [0, 7, 2], four_bits())
    assert (found.codes, found.near_threshold, found.flips, found.fault) == (3, 1, 1, "")


def test_as_many_flips_as_there_are_values_near_a_threshold_are_accepted():
    found = exchanged([NEAR] * 5000 + [4.0], [0] * 5000 + [7], four_bits())
    assert (found.near_threshold, found.flips, found.fault) == (5000, 5000, "")


def test_a_flip_just_outside_is_a_fault():
    found = exchanged([NEAR + 2 * ROUNDING, 4.0], [0, 7], four_bits())
    assert found.near_threshold == 0 and found.fault.startswith("1 of 2 codes differ, by up to 1, as far as 0.0001")


def test_a_flip_by_two_steps_is_a_fault():
    assert "by up to 2" in exchanged([NEAR, 4.0], [-1, 7], four_bits()).fault


def test_small_steps_make_flips_likelier_in_steps_and_no_likelier_in_values():
    """Rounding is that of the values; a model with small steps is no worse for it."""
    step = 0.001
    found = exchanged([0.0005 + ROUNDING / 2, 1.0], [0, 7], four_bits(step))
    assert found.flips == 1 and not found.fault


def test_no_threshold_lies_outside_the_range_of_codes():
    """A value that saturates is far from all thresholds, also where it is a multiple of half a step."""
    found = exchanged([7.25, -9.75, 4.0], [7, -8, 7], four_bits())
    assert (found.near_threshold, found.flips) == (0, 0)
    assert exchanged([7.25], [6], four_bits()).fault


@pytest.mark.parametrize(("value", "fault"), [(0.9 * ROUNDING, False), (1.1 * ROUNDING, True)])
def test_signs_flip_only_near_zero(value, fault):
    found = exchanged([value, 1.0], [-1, 1], Sign())
    assert found.flips == 1 and bool(found.fault) == fault


@pytest.mark.long
def test_a_bert_base_of_the_published_layout_is_accepted(tmp_path):
    """Thousands of its nine million codes flip, each within rounding of its threshold."""
    config = StudentConfig(
        "binarybert",
        4,
        vocab_size=30522,
        hidden_size=768,
        attention_size=384,
        num_heads=6,
        intermediate_size=1536,
        num_layers=12,
        max_positions=512,
    )
    torch.manual_seed(0)
    student = Student(config).eval()
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.005, 0.04)
            elif parameter.dim() == 0:
                parameter.fill_(0.07 if name.endswith("clip_attn") else 0.3)
    written = write_ensemble([student], tmp_path / "model", alphas=[1.0], combination="vote", labels=["no", "yes"])
    parity = written.parity
    assert parity.codes > 8_000_000
    assert parity.near_threshold >= parity.flips > 0
