"""The export check proves what answers: a native stage that is broken, any one, is refused, and nothing is written."""

import pytest

pytest.importorskip("torch")

from toy_checkpoints import FAMILIES, make_checkpoint

from bebert_export.convert import convert
from bebert_infer.artifact.folder import read_config
from bebert_infer.errors import ParityError
from bebert_infer.native import engine, lower_unfused
from bebert_kernels.abi.stage import available, stage

if not available():
    pytest.skip("native programs are compiled code", allow_module_level=True)

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
        def lowered(member):
            program = lower_unfused.lowered(member)
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


def test_flips_are_counted_against_the_values_near_a_threshold(tmp_path):
    """Not against all codes: a large network has thousands of values within rounding of a threshold."""
    source = make_checkpoint(tmp_path / "source", FAMILIES["binarybert 1-1-4"])
    convert([source], tmp_path / "model")
    parity = read_config(tmp_path / "model").evidence["parity"]
    assert 0 <= parity["flips"] <= parity["near_threshold"] < parity["codes"]
