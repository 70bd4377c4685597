"""What each product costs on this CPU: kept from a measurement here, else from a table that comes along.

`costs.json` has one entry for each level of `cpu/isa.py`, and entries for single CPUs where theirs differ, by the name
that `cpu.isa.cpu_name` gives, so a first answer measures nothing. Those of x86 were measured
(`benchmarks/product_costs.py`). No ARM board was at hand: those named under "counted" are cycles of instructions that
an emulated CPU executed (`benchmarks/arm/costs.py`), and whoever asks is told so. `bebert doctor --tune` measures here
and keeps the result in the user's private folder.
"""

import functools
import json
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.cpu import isa
from bebert_kernels.machine_code import code_features
from bebert_kernels.private_folder import private_folder

TABLE = Path(__file__).with_name("costs.json")
COUNTED = "counted"  # in the table: name of an entry -> the emulated CPU on which it was counted
FOLDER = "tuning"
DEPTH = 768  # of the layer that costs are of
ROWS = (1, 2, 4, 16, 64)  # for which there are costs
MANY = ROWS[-1]
LONGEST = 1_000_000_000  # nanoseconds, of any call


class GemmCosts(NamedTuple):
    """Nanoseconds of one product on one thread, for codes of some bits at depth 768 and each number of rows in ROWS.

    encode   : tables or planes of the rows
    multiply : the rows with as many outputs as a panel of the bitsliced product has
    """

    encode: list[float]
    multiply: list[float]

    def of(self, panels: float, depth: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Nanoseconds of a layer of so many panels for each of some numbers of rows."""
        whole = [encode + panels * multiply for encode, multiply in zip(self.encode, self.multiply, strict=True)]
        return np.interp(rows, ROWS, whole) * depth / DEPTH


Costs = dict[str, GemmCosts]  # by the name of the product


def level() -> str:
    """The highest level of which the code that runs has all features."""
    machine, features = platform.machine(), code_features()
    levels = isa.LADDERS.get(machine) or isa.LADDERS["x86_64"]
    fit = [name for name in levels if set(isa.level_features(name, _ladder(machine))) <= features]
    return fit[-1] if fit else "generic"


def _ladder(machine: str) -> str:
    return machine if machine in isa.LADDERS else "x86_64"


def name_here() -> str:
    """How an entry for this CPU and level is called."""
    return f"{isa.cpu_name()}, {level()}"


@functools.cache
def entry() -> tuple[dict[str, Costs], str]:
    """Costs by the bits of the codes ("0" for signs), and in words where they are from."""
    name = name_here()
    kept = costs_of(_read(_kept_file(name)), name)
    if kept:
        return kept, "measured here (`bebert doctor --tune`)"
    architecture, table = "arm" if platform.machine() in ("aarch64", "arm64") else "x86", _read(TABLE)
    for known, said in (
        (name, "known for this CPU"),
        (f"{architecture} {level()}", "known for this level"),
        ("x86 sse4", "of another CPU: `bebert doctor --tune` measures this one"),
    ):
        found = costs_of(table, known)
        if found:
            cpu = table.get(COUNTED, {}).get(known)
            return found, f"counted on an emulated {cpu}: `bebert doctor --tune` measures this CPU" if cpu else said
    raise ValueError(f"{TABLE} is damaged; install the package again")


def keep(costs: dict[str, Costs]) -> Path | None:
    """Keep what was measured here; the file, or None where there is no private folder."""
    folder = private_folder(FOLDER)[0]
    if folder is None:
        return None
    name = name_here()
    file = _kept_file(name, folder)
    assert file is not None
    part = file.with_suffix(".part")
    part.write_text(json.dumps({name: costs}), encoding="utf-8")
    part.replace(file)
    entry.cache_clear()
    return file


def _kept_file(name: str, folder: Path | None = None) -> Path | None:
    folder = folder or private_folder(FOLDER, create=False)[0]
    return None if folder is None else folder / f"{''.join(c if c.isalnum() else '-' for c in name)}.json"


def _read(file: Path | None) -> dict[str, Any]:
    """A table of entries by their names, empty where there is none or it is damaged."""
    with suppress(OSError, ValueError):
        table = json.loads(file.read_text("utf-8")) if file else {}
        return table if isinstance(table, dict) else {}
    return {}


def costs_of(table: dict[str, Any], name: str) -> dict[str, Costs] | None:
    """An entry of a table, None where there is none or it is damaged."""
    with suppress(ValueError, TypeError, AttributeError):
        found: Any = table.get(name)
        costs = {bits: {product: GemmCosts(*parts) for product, parts in row.items()} for bits, row in found.items()}
        parts = [part for row in costs.values() for one in row.values() for part in one]
        if set(costs) == {str(bits) for bits in range(9)} and all(_is_sound(part) for part in parts):
            return costs
    return None


def _is_sound(part: Any) -> bool:
    return len(part) == len(ROWS) and all(isinstance(value, int | float) and 0 <= value <= LONGEST for value in part)
