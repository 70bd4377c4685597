"""Which product for which layer and how many rows: measured once on each machine, kept with the compiled kernels.

Three products compute the same integers:

    popcount   ones of words (`popcount/`): no tables and no weights of its own, so it is the one for few rows;
               time grows with the planes of the codes
    bitsliced  majority tables on bit-sliced counters (`bitsliced/`): tables of a panel are filled once for all rows of
               a block; time grows with the planes; panels have PANEL_OUTPUTS outputs, so that 768 take two of 512
    lookup     byte look-up tables of the activations (`lookup/`): all codes of 1 to 4 bits take the same time, signs
               and wider codes are not taken; panels are narrow; tables are built for every row

A few short runs give the seconds of a row and of a panel for each, and from these the time of any layer follows. A
layer keeps one product for many rows, the best one at MANY rows, and popcount for as few rows as it is the faster one.
BEBERT_PRODUCT=popcount, bitsliced or lookup takes the choice away.
"""

import functools
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.bitsliced.product import BITSLICED
from bebert_kernels.bitsliced.tile import PANEL_OUTPUTS
from bebert_kernels.bitsliced.triples import panel_lanes
from bebert_kernels.jit.kernel import cache_directory
from bebert_kernels.lookup.gemm import PANEL, SHAPE
from bebert_kernels.lookup.product import LOOKUP
from bebert_kernels.popcount.product import POPCOUNT
from bebert_kernels.tuning.single_layer import OneLayer

PRODUCTS = (LOOKUP, POPCOUNT, BITSLICED)
NAMES = {product.name: product.name for product in PRODUCTS} | {"sliced": BITSLICED.name}
OUTPUTS, DEPTH = 16 * PANEL_OUTPUTS, 768  # of the layer that is measured: more weights than the second cache holds
FEW, MANY = 4, 64  # rows of the measurements
REPEATS = 5
HALF_PANEL = 0.75  # what half a panel costs: the same look-ups for two rows at a time, and their loads
NEVER = 1.0  # seconds, of what a product cannot do


class Choice(NamedTuple):
    """Names of products: `few` for blocks of at most `limit` rows, `many` for others."""

    few: str
    limit: int
    many: str


@dataclass(frozen=True)
class GemmCosts:
    """Seconds on one thread at depth 768, for codes of some bits.

    popcount_planes : planes of a row      popcount_one, popcount_two : one row, or two, of PANEL_OUTPUTS outputs
    bitsliced_index : index planes of a row
    bitsliced_panel : tables of a panel of PANEL_OUTPUTS outputs          bitsliced_row : one row of a panel
    lookup_table    : tables of a row
    lookup_row      : a row of PANEL_OUTPUTS outputs in a whole block     lookup_one    : a row that is alone
    """

    popcount_planes: float
    popcount_one: float
    popcount_two: float
    bitsliced_index: float
    bitsliced_panel: float
    bitsliced_row: float
    lookup_table: float = NEVER
    lookup_row: float = NEVER
    lookup_one: float = NEVER

    def popcount(self, outputs: int, depth: int, rows: int) -> float:
        """Seconds of a layer."""
        panel = rows // 2 * self.popcount_two + rows % 2 * self.popcount_one
        return (rows * self.popcount_planes + outputs / PANEL_OUTPUTS * panel) * depth / DEPTH

    def bitsliced(self, outputs: int, depth: int, rows: int) -> float:
        """Seconds of a layer."""
        panels = sum(1 if lanes == PANEL_OUTPUTS else HALF_PANEL for lanes in panel_lanes(outputs))
        return (
            (rows * self.bitsliced_index + panels * (self.bitsliced_panel + rows * self.bitsliced_row)) * depth / DEPTH
        )

    def lookup(self, outputs: int, depth: int, rows: int) -> float:
        """Seconds of a layer."""
        lanes, alone = -(-outputs // PANEL) * PANEL / PANEL_OUTPUTS, rows % SHAPE.rows
        panel = (rows - alone) * self.lookup_row + alone * self.lookup_one
        return (rows * self.lookup_table + lanes * panel) * depth / DEPTH


def choose_gemm(outputs: int, depth: int, bits: int) -> Choice:
    """Return the products for a layer of codes of `bits` bits, 0 for signs.

    Raises ValueError for a wrong BEBERT_PRODUCT.
    """
    takes = [product.name for product in PRODUCTS if bits in product.bits and depth <= product.deepest]
    forced = os.environ.get("BEBERT_PRODUCT", "")
    if forced:
        if forced not in NAMES:
            names = ", ".join(dict.fromkeys(NAMES.values()))
            raise ValueError(f'BEBERT_PRODUCT is "{forced}"; accepted are {names}, or nothing to measure')
        name = NAMES[forced] if NAMES[forced] in takes else takes[-1]
        return Choice(name, 0, name)
    costs = measured(bits)
    many = min(takes, key=lambda name: getattr(costs, name)(outputs, depth, MANY))
    seconds, fewest = getattr(costs, many), 1
    while fewest <= BLOCK and costs.popcount(outputs, depth, fewest) < seconds(outputs, depth, fewest):
        fewest += 1
    return Choice(POPCOUNT.name, fewest - 1, many) if 1 < fewest else Choice(many, 0, many)


@functools.cache
def measured(bits: int) -> GemmCosts:
    """Return the costs on this machine for codes of `bits` bits, from the file beside the kernels or by measuring."""
    directory = cache_directory()
    file = None if directory is None else directory / f"rates-{bits}.json"
    if file is not None:
        with suppress(OSError, ValueError, TypeError):
            found = GemmCosts(**json.loads(file.read_text()))
            if all(isinstance(value, float) and 0 < value <= NEVER for value in asdict(found).values()):
                return found
    costs = _measure(bits)
    if file is not None:
        with suppress(OSError):
            file.write_text(json.dumps(asdict(costs)))  # cut short it is no JSON, and measured again
    return costs


def choices() -> list[dict[str, Any]]:
    """One row for each class of layers of BERT-base: what is chosen, and the rates at MANY rows in TMAC/s.

    few_rows : up to so many rows of a block popcount is taken      chosen : the product for more
    """
    found = []
    for name, outputs, depth in (
        ("384 × 768", 384, 768),
        ("768 × 768", 768, 768),
        ("1536 × 768", 1536, 768),
        ("768 × 1536", 768, 1536),
        ("3072 × 768", 3072, 768),
        ("768 × 3072", 768, 3072),
    ):
        for bits in (0, 2, 4):
            costs, choice = measured(bits), choose_gemm(outputs, depth, bits)
            row: dict[str, Any] = {"shape": name, "bits": bits, "few_rows": choice.limit, "chosen": choice.many}
            for product in PRODUCTS:
                seconds = getattr(costs, product.name)(outputs, depth, MANY)
                row[product.name] = MANY * outputs * depth / 1e12 / seconds if bits in product.bits else None
            found.append(row)
    return found


def _measure(bits: int) -> GemmCosts:
    """Time the products on random codes; each in turn, the best of some runs."""
    generator = np.random.default_rng(0)
    signs = generator.integers(0, 2**64, (OUTPUTS, DEPTH // 64), dtype=np.uint64)
    codes = generator.integers(0, 1 << bits, (MANY, DEPTH), dtype=np.uint8)  # signs: all +
    no_zeros = np.full(MANY, bits == 0, np.uint8)
    runs: list[Callable[[], Any]] = []
    for product in (POPCOUNT, BITSLICED, LOOKUP)[: 3 if bits in LOOKUP.bits else 2]:
        layer = OneLayer(signs, DEPTH, bits, MANY, product=product)
        counts = {POPCOUNT.name: (0, 1, 2), BITSLICED.name: (FEW, MANY), LOOKUP.name: (1, MANY)}[product.name]
        runs.append(functools.partial(layer.encode, codes, no_zeros))
        runs += [functools.partial(layer.multiply, 0, rows) for rows in counts]
    best = [NEVER] * len(runs)
    for index in range(REPEATS + 1):
        for which, call in enumerate(runs):
            started = time.perf_counter()
            call()
            if index:
                best[which] = min(best[which], time.perf_counter() - started)
    planes, empty, one, two, index_planes, few, many, *lookup = best  # empty: what a call from Python takes
    row = (many - few) / (MANY - FEW)
    found = [planes / MANY, one - empty, two - empty, index_planes / MANY, few - empty - FEW * row, row]
    if lookup:
        table, one, many = lookup
        found += [table / MANY, (many - empty) / MANY, one - empty]
    panels = OUTPUTS // PANEL_OUTPUTS
    of_rows = (0, 3, 6)  # the others are of all panels
    return GemmCosts(*(max(seconds if i in of_rows else seconds / panels, 1e-9) for i, seconds in enumerate(found)))
