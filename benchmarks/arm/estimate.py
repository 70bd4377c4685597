"""An ESTIMATE of what an answer costs on a Raspberry Pi 4 and 5: `python benchmarks/arm/estimate.py`.

No board was at hand. Compiled kernels run on emulated ones (`tests/arm64/setup.sh PYTHON jit`), which count how often
each basic block runs (`counts.py`). A block's cycles are the tightest of the core's limits: instructions a
cycle, vector instructions a cycle (of which one unit only shifts and accumulates), loads a cycle, stores a cycle.

Left out: waiting for results, caches and memory, mispredicted branches, heat; Python around the kernels, tokenization.
So it is a lower bound, and one board measured would replace it. All cores: the same divided by their number. Limits are
those of LLVM's scheduling model of the Neoverse N1 (Cortex-A76) and of Arm's optimization guide of the Cortex-A72.
"""

import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts find their neighbours so
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from arm.counts import Block, executed
from record import write_record
from rich.console import Console
from rich.table import Table

from bebert_infer.artifact.folder import write_artifact
from bebert_infer.measure import sample_models as synthetic
from bebert_infer.measure.sample_models import demo_path

METHOD = "ESTIMATE, not measured: instructions counted under emulation, issue limits; compiled kernels, lower bound"
VECTOR = re.compile(r"\b[vqdsh]\d+\b")
REGISTERS = re.compile(r"\b[vq]\d+\b")
ONE_UNIT = {"usra", "ushr", "uadalp", "ssra", "sshr", "shl", "sadalp"}  # only one of the two vector units shifts


@dataclass(frozen=True)
class Board:
    """A computer: CPU as LLVM names it, clock in GHz, cores, and what a core can do in a cycle, by kind."""

    name: str
    cpu: str
    gigahertz: float
    cores: int
    width: int
    vectors: int
    loads: int
    stores: int

    def cycles(self, instructions: tuple[str, ...]) -> float:
        """Of one run of a block, lower bound. Loads and stores of several vectors take their unit once for each."""
        units: Counter[str] = Counter()
        for instruction in instructions:
            mnemonic, _, operands = instruction.partition(" ")
            if mnemonic.startswith(("ld", "st")):
                moved = len(REGISTERS.findall(operands.split("[")[0])) or 1
                units["loads" if mnemonic.startswith("ld") else "stores"] += moved
            elif VECTOR.search(operands):
                units["vectors"] += 1
                units["one unit"] += mnemonic in ONE_UNIT
        return max(
            len(instructions) / self.width,
            units["vectors"] / self.vectors,
            units["one unit"],
            units["loads"] / self.loads,
            units["stores"] / self.stores,
        )


BOARDS = [
    Board("Raspberry Pi 4", "cortex-a72", 1.8, 4, width=3, vectors=2, loads=1, stores=1),
    Board("Raspberry Pi 5", "cortex-a76", 2.4, 4, width=4, vectors=2, loads=2, stores=1),
]


@dataclass(frozen=True)
class ModelCase:
    """A model, tokens of the sentence, and how it multiplies, which a board finds out by measuring."""

    name: str
    folder: Path
    tokens: int
    product: str


def cases(folder: Path) -> list[ModelCase]:
    """BERT-base of both schemes, written into a folder, and the shipped model."""
    found = [ModelCase("demo model", Path(demo_path()), 16, "lookup")]
    for scheme, product in (("1-1-1", "bitsliced"), ("1-1-4", "lookup")):
        random = synthetic.random_model("base", scheme, 1, vocab_size=1000)
        write_artifact(folder / scheme, random.config, random.tensors, None, "random weights")
        found.append(ModelCase(f"BERT-base {scheme}", folder / scheme, 128, product))
    return found


def estimate(board: Board, blocks: Counter[Block]) -> dict:
    """Instructions, cycles and milliseconds of one answer, and the share of each stage in the cycles."""
    instructions = sum(len(block.instructions) * times for block, times in blocks.items())
    stages: Counter[str] = Counter()
    for block, times in blocks.items():
        stages[block.stage] += board.cycles(block.instructions) * times
    cycles = sum(stages.values())
    milliseconds = cycles / board.gigahertz / 1e6
    return {
        "instructions": instructions,
        "cycles": round(cycles),
        "one_core_ms": round(milliseconds, 2),
        "all_cores_ms": round(milliseconds / board.cores, 2),
        "share": {name: round(part / cycles, 3) for name, part in stages.most_common()},
    }


def main() -> None:
    """Print the estimate, and append a line to results/arm.jsonl for each board and model."""
    table = Table(
        "board", "model", "tokens", "product", "M instructions", "M cycles", "ms, 1 core", "ms, 4 cores", "most"
    )
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            for board in BOARDS:
                cost = estimate(board, executed(board.cpu, case.folder, case.tokens, case.product))
                facts = {"board": board.name, "model": case.name, "tokens": case.tokens, "product": case.product}
                numbers = facts | {"cpu": board.cpu, "gigahertz": board.gigahertz} | cost
                write_record("arm", {"estimate": True, "method": METHOD} | numbers)  # now: the next one takes minutes
                most = ", ".join(f"{name} {share:.0%}" for name, share in list(cost["share"].items())[:3])
                millions = [f"{cost[name] / 1e6:.1f}" for name in ("instructions", "cycles")]
                times = [f"{cost[name]:.2f}" for name in ("one_core_ms", "all_cores_ms")]
                table.add_row(*map(str, facts.values()), *millions, *times, most)
    Console().print(table, METHOD)


if __name__ == "__main__":
    main()
