"""The code that a Raspberry Pi runs: compiled here for its CPU, it uses the instructions that the kernels count on.

Nothing of it is run. What a loop costs is counted in its instructions, so that a change which makes LLVM spill
registers or take vectors apart fails here.
"""

import llvmlite.binding as llvm
import pytest
from assembly import BOARDS, assembly, largest, mnemonics

llvm.initialize_all_targets()
try:
    llvm.Target.from_triple("aarch64-unknown-linux-gnu")
except RuntimeError as error:
    pytest.skip(f"this llvmlite cannot generate code for aarch64: {error}", allow_module_level=True)


@pytest.mark.parametrize("board", BOARDS)
def test_popcounts_are_vectors_of_bytes(board):
    code = assembly(board)["popcount"]
    assert "popcountdi" not in code
    body = largest(code, "cnt")  # of two rows and four outputs, three vectors of words at a time
    loop = mnemonics(body)
    assert loop["cnt"] >= 24 and loop["eor"] >= 24 and loop["fmov"] + loop["umov"] + loop["addv"] == 0
    assert all(".16b" in line for line in body if line.startswith("cnt")), "popcounts of single words"
    # The Raspberry Pi 5 adds up bytes by dot products, four at a time; its elder only in pairs.
    every = mnemonics([line.strip() for line in code.splitlines() if line.strip()])
    assert (every["udot"] > 0) == (board == "cortex-a76") and every["uadalp"] > 0


@pytest.mark.parametrize("board", BOARDS)
def test_a_look_up_of_sixteen_outputs_is_one_tbl(board):
    loop = largest(assembly(board)["table"], "tbl")  # of a row and eight vectors of outputs, a table at a time
    found, tbls = mnemonics(loop), [line for line in loop if line.startswith("tbl")]
    assert len(tbls) == 8 and all(
        line.count("{") == 1 and "," not in line[line.index("{") : line.index("}")] for line in tbls
    )
    assert sum(line.startswith("add v") for line in loop) == 8
    # A table, eight vectors of indices in pairs, the place of both.
    assert (found["ldr"], found["ldp"], found["ldrh"]) == (1, 4, 1)
    assert found["mov"] + found["str"] + found["stp"] == 0 and "[sp" not in "".join(loop), "registers do not suffice"
    # Four codes times 128 outputs: 512 multiply-adds.
    assert len(loop) <= 26


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize(("kernel", "planes"), [("one", 1), ("four", 4)])
def test_a_full_adder_is_three_instructions(board, kernel, planes):
    loop = largest(assembly(board)[kernel], "eor")
    found = mnemonics(loop)
    selects = found["bit"] + found["bif"] + found["bsl"]
    look_ups = 32 * planes
    assert look_ups * 0.9 <= selects <= look_ups * 1.1, "carries are not bit selects"
    assert found["eor"] <= 2.2 * look_ups and found["and"] + found["orr"] + found["bic"] <= 0.2 * look_ups + 8
    spilled = sum("[sp" in line and line.split()[0] in ("ldr", "str", "ldp", "stp") for line in loop)
    assert spilled <= 0.3 * look_ups
    # Two inputs times 128 outputs a look-up: 256 multiply-adds.
    assert len(loop) <= 7.5 * look_ups
