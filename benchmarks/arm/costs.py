"""What each product costs on boards, COUNTED on emulated ones, for the table that comes along (`tuning/costs.json`).

    sh tests/arm64/setup.sh .venv/bin/python jit      once
    python benchmarks/arm/costs.py                    some minutes

No board was at hand, so nothing here was measured. The calls that `autotune.py` times on a machine run once on an
emulated board, which counts their basic blocks (`counts.py`). Their cycles by the limits of the core (`estimate.py`)
are nanoseconds at the clock of the board. They become entries for the CPU of the board, and for its level, which other
ARM CPUs take. The table says of each that it was counted; `bebert doctor --tune` on a board replaces it there.

What the numbers do not see, and which way it leans:

* memory: one row reads every weight once, whatever the product. As counted, popcount reads 7 GB a second on the
  Cortex-A72 and 10 on the Cortex-A76. Where memory gives less, products of one row lie closer together than here;
* waiting for results: least for bitsliced, whose adders have many vectors in flight, more for one row of the others,
  which add to few sums;
* the second-level cache, where states of bitsliced and the tables that look-up has of many rows come from;
* wrong branch predictions, copying codes, calls.
"""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts find their neighbours so
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from arm.counts import LEVELS, MARK, Block, counted
from arm.estimate import BOARDS, Board
from product_costs import read_table, write_table
from rich.console import Console

from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.tuning.autotune import net_costs
from bebert_kernels.tuning.costs import COUNTED, Costs

OUTPUTS = 2 * PANEL_OUTPUTS  # a few: cycles that are counted do not depend on what the caches hold
# An empty function, on a page of its own, marks where a call begins and where it has ended.
PROGRAM = f"""
import ctypes, mmap
from bebert_kernels.tuning.autotune import calls
from bebert_kernels.tuning.costs import name_here

kind, rights = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
page = mmap.mmap(-1, mmap.PAGESIZE, kind, rights)
page.write(bytes.fromhex("c0035fd6"))  # ret
place = ctypes.addressof(ctypes.c_char.from_buffer(page))
mark, made = ctypes.CFUNCTYPE(None)(place), []
for bits in range(9):
    for run, call in calls(bits, {OUTPUTS}).items():
        mark()
        call()
        mark()
        made.append([bits, *run])
facts = {{"name": name_here(), "runs": made, "operations": {{"{MARK}": place}}}}
"""


def count(board: Board) -> tuple[str, dict[str, Costs]]:
    """Name of the entry of a board, and its costs."""
    ((facts, parts),) = counted(board.cpu, PROGRAM, [[]])
    spent: dict[int, dict[tuple[str, str, int], float]] = {}
    for (bits, product, kind, rows), part in zip(facts["runs"], parts[1::2], strict=True):
        spent.setdefault(bits, {})[product, kind, rows] = nanoseconds(board, part)
    return facts["name"], {str(bits): net_costs(those, OUTPUTS) for bits, those in spent.items()}


def nanoseconds(board: Board, blocks: Counter[Block]) -> float:
    """Of all these blocks at the clock of a board, lower bound."""
    return sum(board.cycles(block.instructions) * times for block, times in blocks.items()) / board.gigahertz


def main() -> None:
    """Count, and write the entries of the boards and of their levels; entries that were measured stay."""
    table = read_table()
    known = table.setdefault(COUNTED, {})
    for board in BOARDS:
        name, found = count(board)
        for entry in (name, f"arm {LEVELS[board.cpu]}"):
            if entry in table and entry not in known:
                Console().print(f"{entry} was measured and stays")
                continue
            table[entry] = found
            known[entry] = board.cpu.title()
            Console().print(f"{entry}: counted on {board.cpu}")
    write_table(table)


if __name__ == "__main__":
    main()
