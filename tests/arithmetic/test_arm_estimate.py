"""The estimate for boards: blocks are counted from an emulator's log, and cost what the core's tightest limit says."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))  # scripts find their neighbours so

from arm.counts import MARK, Block, Layout, parse
from arm.estimate import BOARDS, Board, estimate

LAYOUT = Layout([(0x1000, 0x2000), (0x3000, 0x4000)], {"norm": 0x1010})
LOG = """----------------
IN:
0x00001010:  4e201c00  and      v0.16b, v0.16b, v0.16b
0x00001014:  d65f03c0  ret

Trace 0: 0x7ffff15d6700 [0000000000001001/0000000000001010/00000001/00080200]
Trace 0: 0x7ffff15d6700 [0000000000001001/0000000000001010/00000001/00080200]
----------------
IN:
0x00003000:  94000ff0  bl       #0x1010

Trace 0: 0x7ffff15d6880 [0000000000001001/0000000000003000/00000001/00080200]
----------------
IN:
0x00001010:  d65f03c0  ret

Trace 0: 0x7ffff15d6990 [0000000000001001/0000000000001010/00000001/00080200]
"""
PI4 = BOARDS[0]


def test_the_log_of_an_emulator_becomes_counted_blocks():
    """A block that is translated again, shorter, counts as what it is then."""
    assert parse(LOG.splitlines(keepends=True), LAYOUT) == [
        {
            Block("norm", ("and      v0.16b, v0.16b, v0.16b", "ret")): 2,
            Block("program", ("bl       #0x1010",)): 1,
            Block("norm", ("ret",)): 1,
        }
    ]


def test_calls_are_told_apart_by_a_mark_between_them():
    """The mark itself is not counted, nor known before it runs; what is known of a block stays known."""
    mark, again = 0x5000, "Trace 0: 0x7ff [0000000000001001/0000000000003000/00000001/00080200]\n"
    marked = f"Trace 0: 0x7ff [0000000000001001/{mark:016x}/00000001/00080200]\n"
    layout = Layout([*LAYOUT.code, (mark, mark + 4)], LAYOUT.operations | {MARK: mark})
    parts = parse([*LOG.splitlines(keepends=True), marked, again, again, marked, marked], layout)
    assert [part.total() for part in parts] == [4, 2, 0, 0]
    assert parts[1] == {Block("program", ("bl       #0x1010",)): 2}


@pytest.mark.parametrize(
    ("instructions", "cycles"),
    [
        (["add x0, x0, x1"] * 3, 1.0),  # three instructions a cycle
        (["and v0.16b, v0.16b, v1.16b"] * 3, 1.5),  # two vector units
        (["ushr v0.4s, v0.4s, #1"] * 3, 3.0),  # one of them shifts
        (["ldr q0, [x0]", "ldp q0, q1, [x0]", "ldp x0, x1, [x2]"], 4.0),  # one vector a load
        (["ld1 {v0.16b, v1.16b, v2.16b}, [x0]"], 3.0),
        (["stp q0, q1, [x0]", "add x0, x0, x1"], 2.0),
        (["fmul s0, s1, s2", "ret"], 2 / 3),
    ],
)
def test_a_block_costs_what_the_tightest_limit_says(instructions, cycles):
    assert PI4.cycles(tuple(instructions)) == pytest.approx(cycles)


def test_an_answer_is_the_sum_of_its_blocks():
    board = Board("board", "cpu", 1.0, 4, width=1, vectors=1, loads=1, stores=1)
    found = estimate(board, parse(LOG.splitlines(keepends=True), LAYOUT)[0])
    assert (found["instructions"], found["cycles"]) == (6, 6)
    assert found["share"] == {"norm": 0.833, "program": 0.167}
