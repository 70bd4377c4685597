"""An ESTIMATE of what the products of a sentence cost on a Raspberry Pi 4 and 5: `python benchmarks/arm_estimate.py`.

No board was at hand. The inner loops are compiled for each board's CPU (`tests/arm64/cross.py`), their instructions
counted by the unit that executes them, and turned into cycles by the tightest of the core's limits: instructions a
cycle, vector instructions a cycle (of which one unit only shifts and accumulates), loads a cycle. Trip counts come from
the multiply-adds of the model's layers.

Left out: waiting for memory and caches, heat, all stages but the products (embeddings, codes, LayerNorm, attention,
classifier), the tables of the products, tokenization. So it is a lower bound, and one board measured would replace it.
Limits are those of LLVM's scheduling model of the Neoverse N1 (Cortex-A76) and of Arm's optimization guide of the
Cortex-A72.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from arm64.assembly import TRIPLES, assembly, largest, mnemonics
from record import write_record

from bebert_infer import Ensemble, synthetic
from bebert_infer.demo import demo_path
from bebert_infer.native_member import LINEARS

TOKENS = 128
LOADS = {"ldr": 1, "ldrb": 1, "ldur": 1, "ldurb": 1, "ld1r": 1, "ldp": 2}  # ldp of vectors takes a load unit twice
SCALAR = {"lsl", "add", "sub", "subs", "cmp", "prfm", "b.ne", "b.lt", "cbz", "cbnz", "b", "str", "stp", "stur"}
ONE_UNIT = {"usra", "ushr", "uadalp"}  # only one of the two vector units shifts


@dataclass(frozen=True)
class Board:
    """A computer: CPU as LLVM names it, clock in GHz, cores, and instructions, vector instructions, loads a cycle."""

    name: str
    cpu: str
    gigahertz: float
    cores: int
    width: int
    vectors: int
    loads: int


BOARDS = [
    Board("Raspberry Pi 4", "cortex-a72", 1.8, 4, 3, 2, 1),
    Board("Raspberry Pi 5", "cortex-a76", 2.4, 4, 4, 2, 2),
]
# Name of a loop -> the instruction that marks it, multiply-adds that one pass does.
LOOPS = {
    "one": ("eor", TRIPLES * 2 * 128),  # signs: 32 triples of 2 new inputs each, 128 outputs
    "four": ("eor", TRIPLES * 2 * 128),  # codes of 4 bits by counters
    "table": ("tbl", 4 * 16 * 16),  # codes of up to 4 bits by look-ups: 4 rows, 16 outputs, 16 codes
}


def loop_cost(board: Board, name: str) -> dict[str, float]:
    """Instructions, cycles and multiply-adds a cycle of one loop on one core."""
    mark, macs = LOOPS[name]
    body = largest(assembly(board.cpu)[name], mark)
    loads = sum(LOADS.get(mnemonic, 0) * count for mnemonic, count in mnemonics(body).items())
    vector = [
        line.split()[0]
        for line in body
        if line.split()[0] not in LOADS and (line.split()[0] not in SCALAR or " v" in line)
    ]
    shifts = sum(mnemonic in ONE_UNIT for mnemonic in vector)
    limits = {
        "instructions": len(body) / board.width,
        "vector": max(len(vector) / board.vectors, shifts),
        "loads": loads / board.loads,
    }
    cycles = max(limits.values())
    return {
        "instructions": len(body),
        "macs_per_instruction": round(macs / len(body), 2),
        "cycles": round(cycles, 1),
        "limited_by": max(limits, key=lambda key: limits[key]),
        "macs_per_cycle": round(macs / cycles, 1),
    }


def sentence(model: Ensemble, tokens: int, rates: dict[str, float]) -> float:
    """Cycles of the products of one sentence on one core, all members."""
    total = 0.0
    for member in model.members:
        layers = [(member.pooler, 1)]
        for block in member.blocks:
            # Behind the last attention only the first token of a sentence is wanted.
            first_only = () if block is not member.blocks[-1] else tuple(set(LINEARS) - {"key", "value"})
            layers += [(getattr(block, name), 1 if name in first_only else tokens) for name in LINEARS]
        for layer, rows in layers:
            for branch in layer.branches:
                rate = rates["one"] if branch.quantizer.is_sign else max(rates["table"], rates["four"])
                total += rows * len(layer.bias) * branch.depth / rate
    return total


def main() -> None:
    """Print the estimate and append it to results/arm.jsonl."""
    models = {
        "BERT-base 1-1-1": (Ensemble(synthetic.random_model("base", "1-1-1", 1), backend="reference"), TOKENS),
        "BERT-base 1-1-4": (Ensemble(synthetic.random_model("base", "1-1-4", 1), backend="reference"), TOKENS),
        "demo model": (Ensemble.from_pretrained(demo_path(), backend="reference"), 16),
    }
    found = {}
    for board in BOARDS:
        loops = {name: loop_cost(board, name) for name in LOOPS}
        rates = {name: cost["macs_per_cycle"] for name, cost in loops.items()}
        products = {}
        for name, (model, tokens) in models.items():
            milliseconds = sentence(model, tokens, rates) / board.gigahertz / 1e6
            products[name] = {
                "tokens": tokens,
                "one_core_ms": round(milliseconds, 2),
                "all_cores_ms": round(milliseconds / board.cores, 2),
            }
        found[board.name] = {"cpu": board.cpu, "gigahertz": board.gigahertz, "loops": loops, "products": products}
    method = (
        "ESTIMATE, not measured: static instruction counts of inner loops, issue limits; products only, lower bound"
    )
    write_record("arm", {"estimate": True, "method": method, "boards": found})
    print(json.dumps({"method": method, "boards": found}, indent=2))


if __name__ == "__main__":
    main()
