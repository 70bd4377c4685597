"""What each product costs at every level of this CPU, for the table that comes along (`tuning/costs.json`).

    python benchmarks/product_costs.py              measure all levels here, as levels
    python benchmarks/product_costs.py --cpu        as this CPU's own entries too

Each level is measured by a process of its own, all in turn and several times; the least time of each call counts. The
machine must be quiet. Entries of boards that were not at hand were counted instead (`arm/costs.py`); what is measured
takes their place.
"""

import json
import os
import platform
import subprocess
import sys
from typing import Any

from bebert_kernels.cpu import isa
from bebert_kernels.tuning.costs import COUNTED, TABLE

ROUNDS = 3
CODE = """
import json
from bebert_kernels.tuning.autotune import measure
from bebert_kernels.tuning.costs import name_here
print(json.dumps([name_here(), measure()]))
"""


def measured(level: str) -> tuple[str, dict]:
    """Name of the entry and costs, of one process."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=os.environ | {"BEBERT_ISA": level}, capture_output=True, text=True, check=True
    )
    name, costs = json.loads(done.stdout)
    return name, costs


def least(one: object, other: object) -> object:
    """The lesser of every number of two equal structures."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: least(one[key], other[key]) for key in one}
    if isinstance(one, list) and isinstance(other, list):
        return [least(a, b) for a, b in zip(one, other, strict=True)]
    return min(one, other)  # type: ignore[type-var]


def read_table() -> dict[str, Any]:
    """Name of an entry -> costs, and COUNTED -> which of them were not measured."""
    return json.loads(TABLE.read_text("utf-8")) if TABLE.is_file() else {}


def write_table(table: dict[str, Any]) -> None:
    """Write it anew, an entry a line."""
    lines = [f" {json.dumps(name)}: {json.dumps(costs)}" for name, costs in sorted(table.items())]
    whole = TABLE.with_suffix(".part")
    whole.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    whole.replace(TABLE)


def main() -> None:
    """Measure, and write the table anew with what it had for others."""
    levels = isa.available_levels(platform.machine(), isa.host_features())[:-1]
    architecture = "arm" if platform.machine() in ("aarch64", "arm64") else "x86"
    table = read_table()
    found: dict[str, tuple[str, object]] = {}
    for _ in range(ROUNDS):
        for level in levels:
            name, costs = measured(level)
            found[level] = name, least(found[level][1], costs) if level in found else costs
            print(level, "measured")
    for level, (name, costs) in found.items():
        for entry in (f"{architecture} {level}", *([name] if "--cpu" in sys.argv[1:] else [])):
            table[entry] = costs
            table.get(COUNTED, {}).pop(entry, None)
    write_table(table)


if __name__ == "__main__":
    main()
