"""What an emulated board executes: every basic block of compiled kernels, and how often.

QEMU writes a line for each block that begins (`exec`, with `nochain` so that none is skipped) and the instructions of a
block when it first meets it (`in_asm`). Of all the code of a process only kernels are wanted. Here Numba compiles them,
on the board and for the level of its library, because each stage then has executable memory of its own, which belongs
to no file. A first run says where, the next ones log these addresses only. Without
address randomisation (`setarch -R`) they are the same in every run, which each run proves by saying them again.

An answer is counted as what a run with it executes, less what a run without it does, so that loading is left out. A
program that makes many calls (`costs.py`) has a stage called MARK, which runs between them and is not counted itself.
"""

import json
import os
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".arm64"  # of tests/arm64/setup.sh, with Numba in jit
LEVELS = {"cortex-a72": "neon", "cortex-a76": "dotprod"}

MARK = "mark"
ANSWER = """
import sys
import numpy as np
from bebert_infer import Ensemble

model = Ensemble.from_pretrained(sys.argv[1], threads=1)
ids = np.arange(int(sys.argv[2]))[None] % model.config.vocab_size
model.logits(ids[:, :1])  # loads all kernels
for _ in range(int(sys.argv[3])):
    model.logits(ids)
"""
# At the end of every program, which may have put more into `facts`.
PLACES = """
import json
from bebert_kernels.abi.stage import STAGES

facts = globals().get("facts", {})
places = {stage.name: stage.address for stage in STAGES.values() if stage._address is not None}
code = []
with open("/proc/self/maps") as maps:
    for line in maps:
        words = line.split()
        if "x" in words[1] and len(words) < 6:
            code.append([int(end, 16) for end in words[0].split("-")])
print(json.dumps(facts | {"operations": places | facts.get("operations", {}), "code": code}))
"""


@dataclass(frozen=True)
class Layout:
    """Where kernels lie: (first, end) addresses of executable memory, and the stages of a program in it."""

    code: list[tuple[int, int]]
    operations: dict[str, int]

    def stage(self, address: int) -> str:
        """The stage whose machine code holds this address; "program" for what calls the stages."""
        part = next((first, end) for first, end in self.code if first <= address < end)
        inside = {place: name for name, place in self.operations.items() if part[0] <= place < part[1]}
        return inside[min(inside)] if inside else "program"


@dataclass(frozen=True)
class Block:
    """Instructions that run one after the other, as QEMU disassembles them, and the stage that they belong to."""

    stage: str
    instructions: tuple[str, ...]


def executed(board: str, model: Path, tokens: int, product: str) -> Counter[Block]:
    """Block -> how often one answer to a sentence of so many tokens runs it, on one thread.

    board   : "cortex-a72" or "cortex-a76"
    product : how codes of several bits are multiplied, "bitsliced", "lookup" or "popcount"; "" for what is chosen there
    """
    sentence = [str(model.resolve()), str(tokens)]
    without, once = counted(board, ANSWER, [[*sentence, "0"], [*sentence, "1"]], {"BEBERT_PRODUCT": product})
    return once[1][0] - without[1][0]


def counted(
    board: str, program: str, runs: list[list[str]], settings: dict[str, str] | None = None
) -> list[tuple[dict[str, Any], list[Counter[Block]]]]:
    """For the arguments of each run: facts that the program left, and its blocks, before, between and after MARKs.

    Raises RuntimeError where .arm64 is not set up, or addresses do not stay.
    """
    if not (HOME / "jit").exists():
        raise RuntimeError("there is no emulated board with Numba yet; sh tests/arm64/setup.sh PYTHON jit sets one up")
    layout = _layout(_run(board, program, runs[-1], settings or {}, None)[0])
    for _ in range(3):  # what a run has to compile, or what it is without a log, may lie elsewhere in the next one
        found = [_run(board, program, arguments, settings or {}, layout) for arguments in runs]
        if all(_layout(facts) == layout for facts, _ in found):
            return found
        layout = _layout(found[-1][0])
    raise RuntimeError(f"kernels move between runs on {board}: their blocks cannot be told apart")


def parse(lines: Iterable[str], layout: Layout) -> list[Counter[Block]]:
    """Count the blocks of QEMU's log, anew after each MARK."""
    bodies: list[tuple[str, tuple[str, ...]]] = []  # address and instructions
    known: dict[str, int] = {}  # address -> number of what lies there now
    mark = f"{layout.operations[MARK]:x}" if MARK in layout.operations else None
    parts: list[Counter[int]] = [Counter()]
    body: list[str] | None = None
    for line in lines:
        if line.startswith("Trace "):  # Trace 0: 0x7fff… [cs_base/pc/flags/cflags]
            place = line.split("/", 2)[1].lstrip("0")
            if place == mark:
                parts.append(Counter())
            else:
                parts[-1][known[place]] += 1
        elif line.startswith("IN:"):
            body = []
        elif line.startswith("0x") and body is not None:  # 0x5511a08000:  d65f03c0  ret
            if not body:
                first = line[2:].partition(":")[0].lstrip("0")
            body.append(line.split(None, 2)[2].strip())
        elif body:
            known[first] = len(bodies)
            bodies.append((first, tuple(body)))
            body = None
    blocks = [Block(layout.stage(int(place, 16)), instructions) for place, instructions in bodies]
    found: list[Counter[Block]] = [Counter() for _ in parts]
    for counts, part in zip(found, parts, strict=True):
        for number, count in part.items():
            counts[blocks[number]] += count
    return found


def _layout(facts: dict[str, Any]) -> Layout:
    return Layout([(first, end) for first, end in facts["code"]], facts["operations"])


def _run(
    board: str, program: str, arguments: list[str], settings: dict[str, str], layout: Layout | None
) -> tuple[dict[str, Any], list[Counter[Block]]]:
    """Facts, where kernels lie among them, and what ran: nothing if no layout is given, for then nothing is logged."""
    paths = [ROOT, ROOT / "kernels", HOME / "jit", HOME / "wheels"]
    environment = {
        "PATH": os.environ["PATH"],
        "BOARD": board,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONHASHSEED": "0",
        "BEBERT_CACHE_DIR": str(HOME / "cache"),
        "BEBERT_KERNELS": "jit",
        "BEBERT_ISA": LEVELS[board],
        "BEBERT_QUIET": "1",
        "OPENBLAS_NUM_THREADS": "1",
    } | settings
    command = ["setarch", "-R", str(HOME / "python"), "-c", program + PLACES, *arguments]
    parts: list[Counter[Block]] = []
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "log"
        reader = None
        if layout is not None:
            os.mkfifo(pipe)
            ranges = ",".join(f"{first:#x}..{end - 1:#x}" for first, end in layout.code)
            environment |= {"QEMU_LOG": "in_asm,exec,nochain", "QEMU_DFILTER": ranges, "QEMU_LOG_FILENAME": str(pipe)}

            def read() -> None:
                with pipe.open() as lines:
                    parts.extend(parse(lines, layout))

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the emulated process ended with {done.returncode}: {done.stderr[-2000:]}")
        if reader:
            reader.join()
    return json.loads(done.stdout), parts
