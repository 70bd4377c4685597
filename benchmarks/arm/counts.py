"""What an emulated board executes in one answer: every basic block of compiled kernels, and how often.

QEMU writes a line for each block that begins (`exec`, with `nochain` so that none is skipped) and the instructions of a
block when it first meets it (`in_asm`). Of all the code of a process only kernels are wanted. Here Numba compiles them,
on the board and for the level of its library, because each stage then has executable memory of its own, which belongs
to no file. A first run says where, the next ones log these addresses only. Without
address randomisation (`setarch -R`) they are the same in every run, which each run proves by saying them again.

Counted is one call: what a run with it executes, less what a run without it does, so that loading is left out.
"""

import json
import os
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".arm64"  # of tests/arm64/setup.sh, with Numba in jit
LEVELS = {"cortex-a72": "neon", "cortex-a76": "dotprod"}

PROGRAM = """
import json, sys
import numpy as np
from bebert_infer import Ensemble
from bebert_kernels.abi.stage import STAGES

model = Ensemble.from_pretrained(sys.argv[1], threads=1)
ids = np.arange(int(sys.argv[2]))[None] % model.config.vocab_size
model.logits(ids[:, :1])  # loads all kernels
for _ in range(int(sys.argv[3])):
    model.logits(ids)
used = [stage for stage in STAGES.values() if stage._address is not None]
places = {stage.name: stage.address for stage in used}
code = []
with open("/proc/self/maps") as maps:
    for line in maps:
        words = line.split()
        if "x" in words[1] and len(words) < 6:
            code.append([int(end, 16) for end in words[0].split("-")])
print(json.dumps({"operations": places, "code": code}))
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
    product : "bitsliced" or "lookup", how codes of several bits are multiplied

    Raises RuntimeError where .arm64 is not set up, or addresses do not stay.
    """
    if not (HOME / "jit").exists():
        raise RuntimeError("there is no emulated board with Numba yet; sh tests/arm64/setup.sh PYTHON jit sets one up")
    run = partial(_run, board, model, tokens, product)
    for _ in range(3):  # what the first run has to compile lies elsewhere once it comes from the cache
        layout, _ = run(1)
        runs = [run(calls, layout) for calls in (0, 1)]
        if all(again == layout for again, _ in runs):
            return runs[1][1] - runs[0][1]
    raise RuntimeError(f"kernels move between runs on {board}: their blocks cannot be told apart")


def parse(lines: Iterable[str], layout: Layout) -> Counter[Block]:
    """Count the blocks of QEMU's log."""
    known: dict[str, tuple[str, ...]] = {}
    counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
    body: list[str] | None = None
    for line in lines:
        if line.startswith("Trace "):  # Trace 0: 0x7fff… [cs_base/pc/flags/cflags]
            place = line.split("/", 2)[1].lstrip("0")
            counts[place, known[place]] += 1
        elif line.startswith("IN:"):
            body = []
        elif line.startswith("0x") and body is not None:  # 0x5511a08000:  d65f03c0  ret
            if not body:
                first = line[2:].partition(":")[0]
            body.append(line.split(None, 2)[2].strip())
        elif body:
            known[first.lstrip("0")] = tuple(body)
            body = None
    blocks: Counter[Block] = Counter()
    for (place, instructions), count in counts.items():
        blocks[Block(layout.stage(int(place, 16)), instructions)] += count
    return blocks


def _run(
    board: str, model: Path, tokens: int, product: str, calls: int, layout: Layout | None = None
) -> tuple[Layout, Counter[Block]]:
    """Where kernels lie, and what ran: nothing if no layout is given, for then nothing is logged."""
    paths = [ROOT, ROOT / "kernels", HOME / "jit", HOME / "wheels"]
    environment = {
        "PATH": os.environ["PATH"],
        "BOARD": board,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONHASHSEED": "0",
        "BEBERT_CACHE_DIR": str(HOME / "cache"),
        "BEBERT_KERNELS": "jit",
        "BEBERT_ISA": LEVELS[board],
        "BEBERT_PRODUCT": product,
        "BEBERT_QUIET": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = ["setarch", "-R", str(HOME / "python"), "-c", PROGRAM, str(model.resolve()), str(tokens), str(calls)]
    blocks: Counter[Block] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "log"
        reader = None
        if layout is not None:
            os.mkfifo(pipe)
            ranges = ",".join(f"{first:#x}..{end - 1:#x}" for first, end in layout.code)
            environment |= {"QEMU_LOG": "in_asm,exec,nochain", "QEMU_DFILTER": ranges, "QEMU_LOG_FILENAME": str(pipe)}

            def read() -> None:
                with pipe.open() as lines:
                    blocks.update(parse(lines, layout))

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the emulated process ended with {done.returncode}: {done.stderr[-2000:]}")
        if reader:
            reader.join()
    found = json.loads(done.stdout)
    return Layout([(first, end) for first, end in found["code"]], found["operations"]), blocks
