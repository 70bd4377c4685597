"""The table of costs has a sound entry for every level, and says of each whether it was measured or counted.

A board that was only emulated must not pass for one that was measured, nor take the costs of another architecture.
"""

import json
import platform
from pathlib import Path

import pytest

from bebert_kernels.cpu import isa
from bebert_kernels.tuning import autotune, costs

BOARDS = Path(__file__).parents[1] / "arm64"  # what Linux says of their CPUs
TABLE = json.loads(costs.TABLE.read_text("utf-8"))
LEVELS = [(machine, level) for machine in ("x86_64", "aarch64") for level in isa.LADDERS[machine]]
TUNE = ": `bebert doctor --tune` measures this CPU"


@pytest.fixture
def on(monkeypatch, tmp_path):
    """Entry and words of where it is from, on a machine of this architecture, level and name."""
    monkeypatch.setenv("BEBERT_CACHE_DIR", str(tmp_path))  # nothing was measured here
    tmp_path.chmod(0o700)

    def entry(machine: str, level: str, cpu: str) -> tuple[dict[str, costs.Costs], str]:
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(isa, "cpu_name", lambda: cpu)
        monkeypatch.setattr(costs, "code_features", lambda: frozenset(isa.level_features(level, machine)))
        return costs.entry.__wrapped__()

    return entry


@pytest.mark.parametrize(("machine", "level"), LEVELS)
def test_every_level_has_an_entry_of_its_own_architecture(machine, level, on):
    """With a cost of every product that takes such codes; on ARM `generic` is `neon` by another name."""
    found, said = on(machine, level, "unknown")
    assert (
        said == "known for this level" if machine == "x86_64" else said.startswith("counted on an emulated Cortex-A7")
    )
    for bits, row in found.items():
        assert set(row) == set(autotune._products(int(bits)))
        for cost in row.values():
            assert min(cost.encode + cost.multiply) > 0 or machine == "x86_64"  # what is measured may drown in noise
            assert cost.multiply == sorted(cost.multiply) or machine == "x86_64"


@pytest.mark.parametrize(("board", "level"), [("Cortex-A72", "neon"), ("Cortex-A76", "dotprod")])
def test_a_raspberry_pi_takes_what_was_counted_for_its_cpu(board, level, on):
    name = isa.cpu_name(BOARDS / f"{board.lower()}.cpuinfo")
    assert f"{name}, {level}" in TABLE
    found, said = on("aarch64", level, name)
    assert said == f"counted on an emulated {board}{TUNE}"
    assert found == on("aarch64", level, "ARM 0x41 0xfff")[0]


def test_what_was_counted_is_named_and_exists():
    counted = TABLE[costs.COUNTED]
    assert set(counted) == {name for name in TABLE if name.startswith(("ARM", "arm"))}
    assert all(costs.costs_of(TABLE, name) for name in TABLE if name != costs.COUNTED)
    assert costs.costs_of(TABLE, costs.COUNTED) is None


def test_a_board_that_is_measured_believes_what_it_measured(on):
    found, _ = on("aarch64", "neon", "ARM 0x41 0xd08")
    assert costs.keep(found)
    assert on("aarch64", "neon", "ARM 0x41 0xd08") == (found, "measured here (`bebert doctor --tune`)")
    assert on("aarch64", "neon", "ARM 0x41 0xd03")[1].startswith("counted")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"counted": 3}', '{"x86 sse4": {"0": 1}}'])
def test_a_damaged_table_is_one_sentence(content, on, monkeypatch, tmp_path):
    file = tmp_path / "costs.json"
    file.write_text(content)
    monkeypatch.setattr(costs, "TABLE", file)
    with pytest.raises(ValueError, match=r"costs\.json is damaged; install the package again"):
        on("x86_64", "avx2", "unknown")


def test_calls_are_measured_net_of_what_a_call_costs():
    spent = {run: 100.0 for run in autotune.calls(4, 1024)}
    spent |= {("lookup", "multiply", 4): 300.0, ("popcount", "encode", 1): 150.0, ("popcount", "encode", 0): 120.0}
    found = autotune.net_costs(spent, 1024)
    assert set(found) == {"lookup", "popcount", "bitsliced"}
    assert found["lookup"].multiply == [0, 0, 100, 0, 0]  # of one of two panels
    assert found["popcount"].encode == [50, 0, 0, 0, 0]


def test_of_products_that_are_level_for_many_rows_the_better_one_for_few_is_taken(monkeypatch):
    """One product is kept for all blocks that popcount leaves: 1 % at 64 rows is not worth twice the time at 4."""

    def chosen(bitsliced: float) -> str:
        rows = {"popcount": [9.0, 9e3, 9e4, 9e5, 9e6], "bitsliced": [700.0, 700, 700, 700, bitsliced]}
        rows |= {"lookup": [10.0, 20, 40, 160, 640]}
        entry = {"4": {name: costs.GemmCosts([0.0] * 5, multiply) for name, multiply in rows.items()}}
        monkeypatch.setattr(autotune, "entry", lambda: (entry, ""))
        monkeypatch.setattr(autotune, "panels_of", lambda name, outputs: 1)
        autotune.forget()
        return autotune._cheapest(512, costs.DEPTH, 4).many

    try:
        assert chosen(634) == "lookup" and chosen(620) == "bitsliced" and chosen(650) == "lookup"
    finally:
        autotune.forget()
