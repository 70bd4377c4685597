"""The code that a Raspberry Pi runs: compiled here for its CPU, it uses the instructions that the kernels count on.

`arm64/cross.py` makes Numba compile for the board in a process of its own; nothing of it is run. What a loop costs is
counted in its instructions, so that a change which makes LLVM spill registers or take vectors apart fails here.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import pytest

TESTS = Path(__file__).parent
BOARDS = ["cortex-a72", "cortex-a76"]  # Raspberry Pi 4 and 5

SCRIPT = """
import sys
import cross
cross.target(sys.argv[1], cross.FEATURES[sys.argv[1]])
from numba import boolean, int32, int64, types, uint64
from bebert_kernels import count_tile, xnor_gemm, lut_product
from bebert_kernels.jit import kernel
look_up_1, look_up_4 = count_tile.make_lookup(1, False), count_tile.make_lookup(4, False)

@kernel
def one(table, index, state, carry, rows):
    for r in range(rows):
        look_up_1(table, index + 32 * r, index, state, state + 80 * r, carry + 16 * r)

@kernel
def four(table, index, state, carry, rows):
    for r in range(rows):
        look_up_4(table, index + 128 * r, index, state, state + 144 * r, carry + 16 * r)

words = uint64[:, ::1]
xnor_gemm.xnor_gemm.compile((words, words, words, int64, int32[:, ::1]))
for function in (one, four):
    function.compile((int64,) * 5)
lut_product.look_up.compile()
codes = {
    "xnor": "".join(xnor_gemm.xnor_gemm.inspect_asm().values()),
    "one": "".join(one.inspect_asm().values()),
    "four": "".join(four.inspect_asm().values()),
    "table": lut_product.look_up._compiled._library.get_asm_str(),
}
for name, code in codes.items():
    print(f"=== {name}\\n{code}")
"""


@cache
def assembly(board: str) -> dict[str, str]:
    """Kernel -> its assembly."""
    try:
        llvm.initialize_all_targets()
        llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError as error:
        pytest.skip(f"this llvmlite cannot generate code for aarch64: {error}")
    paths = [str(TESTS / "arm64"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "BEBERT_QUIET": "1", "BEBERT_ISA": ""}
    # No cache: what comes from there has no assembly to read.
    environment |= {"BEBERT_CACHE_DIR": os.devnull, "NUMBA_DISABLE_JIT": "0"}
    command = [sys.executable, "-c", SCRIPT, board]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    parts = done.stdout.split("=== ")[1:]
    return {name: code for name, _, code in (part.partition("\n") for part in parts)}


def loops(code: str) -> list[list[str]]:
    """Bodies of the innermost loops: lines from a label to the jump back to it, with no other label between."""
    found, body, label = [], [], ""
    for line in (line.strip() for line in code.splitlines()):
        if match := re.fullmatch(r"(\.L\w+):.*", line):
            label, body = match[1], []
        elif line and line[0] not in ".#/":
            body.append(line.replace("\t", " "))
            if re.match(rf"(b\.\w+|cbn?z|tbn?z) .*{re.escape(label)}$", body[-1]) and label:
                found.append(body)
                label, body = "", []
    return found


def mnemonics(body: list[str]) -> Counter[str]:
    return Counter(line.split()[0] for line in body)


def largest(code: str, mnemonic: str) -> list[str]:
    """The innermost loop with the most of some instruction."""
    return max(loops(code), key=lambda body: mnemonics(body)[mnemonic])


@pytest.mark.parametrize("board", BOARDS)
def test_popcounts_are_vectors_of_bytes(board):
    code = assembly(board)["xnor"]
    counts = [line for line in code.splitlines() if re.match(r"\s+cnt\s", line)]
    assert counts and all(".16b" in line for line in counts), "popcounts of single words"
    assert "__popcount" not in code
    loop = mnemonics(largest(code, "cnt"))
    assert loop["cnt"] >= 8 and loop["fmov"] == loop["umov"] == loop["ins"] == 0
    # The dot product of the Raspberry Pi 5 adds up bytes, four at a time; its elder needs pairwise additions.
    assert (loop["udot"] > 0) == (board == "cortex-a76") and loop["uadalp"] + loop["uaddlp"] > 0


@pytest.mark.parametrize("board", BOARDS)
def test_a_look_up_of_sixteen_outputs_is_one_tbl(board):
    loop = largest(assembly(board)["table"], "tbl")
    found = mnemonics(loop)
    assert found["tbl"] == 16 and all("{" in line and line.count("{") == 1 for line in loop if line.startswith("tbl"))
    assert found["usra"] == 4
    assert found["mov"] + found["str"] + found["stp"] == 0, "registers do not suffice"
    # 16 codes of 4 rows times 16 outputs: 1024 multiply-adds.
    assert len(loop) <= 66


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize(("kernel", "planes"), [("one", 1), ("four", 4)])
def test_a_full_adder_is_three_instructions(board, kernel, planes):
    loop = largest(assembly(board)[kernel], "eor")
    found = mnemonics(loop)
    selects = found["bit"] + found["bif"] + found["bsl"]
    look_ups = 32 * planes
    assert look_ups * 0.9 <= selects <= look_ups * 1.1
    assert found["eor"] <= 2.2 * look_ups and found["and"] + found["orr"] + found["bic"] <= 0.2 * look_ups + 8
    spilled = sum("[sp" in line and line.split()[0] in ("ldr", "str", "ldp", "stp") for line in loop)
    assert spilled <= 0.15 * look_ups
    # Two inputs times 128 outputs a look-up: 256 multiply-adds.
    assert len(loop) <= 7.5 * look_ups
