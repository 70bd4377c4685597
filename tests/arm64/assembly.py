"""Assembly of the inner loops for an ARM board, compiled here as libraries are, and what stands in them."""

import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache

# Of the library that a Raspberry Pi 4 and 5 run: the level whose costs LLVM takes from this CPU.
BOARDS = {"cortex-a72": "neon", "cortex-a76": "dotprod"}
TRIPLES = 32  # of a row in the loops `one` and `four`

SCRIPT = """
import sys
from bebert_kernels.compile.object_file import ARM_OTHERS, CPUS, features_of, imitate
level = sys.argv[1]
imitate("aarch64", CPUS["aarch64"][level], features_of("aarch64", level, list(ARM_OTHERS)))
from numba import int64
from bebert_kernels.bitsliced import tile as count_tile
from bebert_kernels.popcount import stages as popcount
from bebert_kernels.lookup import stages as lut_product
from bebert_kernels.jit.kernel import kernel
look_up_1, look_up_4 = count_tile.make_lookup(1, False), count_tile.make_lookup(4, False)

@kernel
def one(table, index, state, carry, rows):
    for r in range(rows):
        look_up_1(table, index + 32 * r, index, state, state + 80 * r, carry + 16 * r)

@kernel
def four(table, index, state, carry, rows):
    for r in range(rows):
        look_up_4(table, index + 128 * r, index, state, state + 144 * r, carry + 16 * r)

for function in (one, four):
    function.compile((int64,) * 5)
lut_product.lookup_gemm.compiled.compile()
popcount.popcount_gemm.compiled.compile()
codes = {
    "popcount": popcount.popcount_gemm.compiled.assembly(),
    "one": "".join(one.inspect_asm().values()),
    "four": "".join(four.inspect_asm().values()),
    "table": lut_product.lookup_gemm.compiled.assembly(),
}
for name, code in codes.items():
    print(f"=== {name}\\n{code}")
"""


@cache
def assembly(board: str) -> dict[str, str]:
    """Name of a kernel -> its assembly. Raises RuntimeError with what the compiling process said."""
    # No cache: what comes from there has no assembly to read.
    environment = os.environ | {"BEBERT_CACHE_DIR": os.devnull, "BEBERT_QUIET": "1", "BEBERT_ISA": ""}
    environment |= {"NUMBA_DISABLE_JIT": "0", "BEBERT_KERNELS": "jit"}
    command = [sys.executable, "-c", SCRIPT, BOARDS[board]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)
    parts = done.stdout.split("=== ")[1:]
    return {name: code for name, _, code in (part.partition("\n") for part in parts)}


def loops(code: str) -> list[list[str]]:
    """Bodies of the innermost loops, of x86 too: lines from a label to the jump back to it, no other label between."""
    found, body, label = [], [], ""
    for line in (line.strip() for line in code.splitlines()):
        if match := re.fullmatch(r"(\.L\w+):.*", line):
            label, body = match[1], []
        elif line and line[0] not in ".#/":
            body.append(line.replace("\t", " "))
            if re.match(rf"(b\.\w+|cbn?z|tbn?z|j\w+) .*{re.escape(label)}$", body[-1]) and label:
                found.append(body)
                label, body = "", []
    return found


def mnemonics(body: list[str]) -> Counter[str]:
    """How often each instruction stands in a loop."""
    return Counter(line.split()[0] for line in body)


def largest(code: str, mnemonic: str) -> list[str]:
    """The innermost loop with the most of some instruction."""
    return max(loops(code), key=lambda body: mnemonics(body)[mnemonic])
