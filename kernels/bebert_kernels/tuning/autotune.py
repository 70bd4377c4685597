"""Which product for which layer and how many rows, by what each costs on this CPU (`costs.py`).

Three products compute the same integers:

    popcount   ones of words (`popcount/`): no tables and no weights of its own, so it is the one for few rows;
               time grows with the planes of the codes
    bitsliced  majority tables on bit-sliced counters (`bitsliced/`): tables of a panel are filled once for all rows of
               a block; time grows with the planes; panels have PANEL_OUTPUTS outputs, so that 768 take two of 512
    lookup     byte look-up tables of the activations (`lookup/`): all codes of 1 to 4 bits take the same time, signs
               and wider codes are not taken; panels are narrow; tables are built for every row

Costs of one layer for a few numbers of rows are known; those of other layers and rows follow by proportion. A layer
keeps one product for many rows, the best one at MANY rows (of those that are level there, the best one for fewer),
and popcount for as few rows as it is the faster one.
BEBERT_PRODUCT=popcount, bitsliced or lookup takes the choice away.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.product import Product
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.bitsliced.product import BITSLICED
from bebert_kernels.bitsliced.triples import panel_lanes
from bebert_kernels.lookup.layout import SHAPE
from bebert_kernels.lookup.product import LOOKUP
from bebert_kernels.popcount.product import POPCOUNT
from bebert_kernels.tuning.costs import DEPTH, LONGEST, MANY, ROWS, Costs, GemmCosts, entry
from bebert_kernels.tuning.single_layer import OneLayer

PRODUCTS = (LOOKUP, POPCOUNT, BITSLICED)
NAMES = {product.name: product.name for product in PRODUCTS} | {"sliced": BITSLICED.name}
OUTPUTS = 16 * PANEL_OUTPUTS  # of the layer that is measured: more weights than the second cache holds
REPEATS = 9
SHARED_CORE = 1.1  # bitsliced loses this against look-up where two threads share a core (`docs/log.md`)
LEVEL = 1.02  # products this close at MANY rows are level; costs are not known better
HALF_PANEL = 0.75  # what half a panel costs: the same look-ups for two rows at a time, and their loads


class Choice(NamedTuple):
    """Names of products: `few` for blocks of at most `limit` rows, `many` for others."""

    few: str
    limit: int
    many: str


def panels_of(name: str, outputs: int) -> float:
    """What the outputs of a layer cost a product, in panels of PANEL_OUTPUTS."""
    if name == BITSLICED.name:
        return SHARED_CORE * sum(1 if lanes == PANEL_OUTPUTS else HALF_PANEL for lanes in panel_lanes(outputs))
    return (-(-outputs // SHAPE.lanes) * SHAPE.lanes if name == LOOKUP.name else outputs) / PANEL_OUTPUTS


def choose_gemm(outputs: int, depth: int, bits: int) -> Choice:
    """Return the products for a layer of codes of `bits` bits, 0 for signs.

    Raises ValueError for a wrong BEBERT_PRODUCT.
    """
    takes = [product.name for product in _products(bits).values() if depth <= product.deepest]
    forced = os.environ.get("BEBERT_PRODUCT", "")
    if forced:
        if forced not in NAMES:
            names = ", ".join(dict.fromkeys(NAMES.values()))
            raise ValueError(f'BEBERT_PRODUCT is "{forced}"; accepted are {names}, or nothing to measure')
        name = NAMES[forced] if NAMES[forced] in takes else takes[-1]
        return Choice(name, 0, name)
    return _cheapest(outputs, depth, bits)


@functools.cache
def _cheapest(outputs: int, depth: int, bits: int) -> Choice:
    costs, rows = entry()[0][str(bits)], np.arange(1, BLOCK + 1)
    takes = [name for name, product in _products(bits).items() if depth <= product.deepest]
    spent = {name: costs[name].of(panels_of(name, outputs), depth, rows) for name in takes}
    best = min(spent[name][MANY - 1] for name in takes)
    level = [name for name in takes if spent[name][MANY - 1] <= LEVEL * best]
    many = min(level, key=lambda name: float(spent[name].sum()))  # what is level for MANY may differ for a few
    dearer = np.flatnonzero(spent[POPCOUNT.name] >= spent[many])  # all rows, if popcount is the best for many
    limit = int(dearer[0]) if len(dearer) else BLOCK
    return Choice(POPCOUNT.name if limit else many, limit, many)


def forget() -> None:
    """Choose anew: other costs are known now."""
    _cheapest.cache_clear()


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
            choice = choose_gemm(outputs, depth, bits)
            row: dict[str, Any] = {"shape": name, "bits": bits, "few_rows": choice.limit, "chosen": choice.many}
            row |= dict.fromkeys(product.name for product in PRODUCTS)
            for product, costs in entry()[0][str(bits)].items():
                cost = costs.of(panels_of(product, outputs), depth, np.array([MANY]))
                row[product] = MANY * outputs * depth / 1e3 / float(cost[0])
            found.append(row)
    return found


def _products(bits: int) -> dict[str, Product]:
    """The products that take codes of so many bits."""
    return {product.name: product for product in PRODUCTS if bits in product.bits}


def measure() -> dict[str, Costs]:
    """Costs of all products on this machine, by the bits of the codes; takes a few seconds."""
    return {str(bits): _measure(bits) for bits in range(9)}


def calls(bits: int, outputs: int = OUTPUTS) -> dict[tuple[str, str, int], Callable[[], Any]]:
    """What is measured: (product, "encode" or "multiply", rows) -> a call, on random codes of so many bits.

    They are made in this order, for rows are multiplied as they were encoded last. Those of no rows tell what a call
    costs by itself.
    """
    generator = np.random.default_rng(0)
    signs = generator.integers(0, 2**64, (outputs, DEPTH // 64), dtype=np.uint64)
    codes = generator.integers(0, 1 << bits, (MANY, DEPTH), dtype=np.uint8)  # signs: all +
    no_zeros = np.full(MANY, bits == 0, np.uint8)
    layers = {name: OneLayer(signs, DEPTH, bits, MANY, product=product) for name, product in _products(bits).items()}
    found: dict[tuple[str, str, int], Callable[[], Any]] = {}
    for rows in (0, *ROWS):
        for name, layer in layers.items():
            found[name, "encode", rows] = functools.partial(layer.encode, codes[:rows], no_zeros[:rows])
            found[name, "multiply", rows] = functools.partial(layer.multiply, 0, rows)
    return found


def net_costs(spent: dict[tuple[str, str, int], float], outputs: int = OUTPUTS) -> Costs:
    """Costs of all products by the nanoseconds of each of the `calls`, without those of the fastest call of no rows."""
    names = dict.fromkeys(name for name, _, _ in spent)

    def net(name: str, kind: str, share: int) -> list[float]:
        nothing = min(spent[other, kind, 0] for other in names)
        return [round(max(spent[name, kind, rows] - nothing, 0) / share, 1) for rows in ROWS]

    return {name: GemmCosts(net(name, "encode", 1), net(name, "multiply", outputs // PANEL_OUTPUTS)) for name in names}


def _measure(bits: int) -> Costs:
    """Time the products in turn, so that what else the machine does falls on all of them.

    Of each call the best of some runs counts. A run is a second call: the first one brings into the caches what would
    be there in a model.
    """
    runs = calls(bits)
    best = dict.fromkeys(runs, float(LONGEST))  # nanoseconds
    for _ in range(REPEATS):
        for run, call in runs.items():
            call()
            started = time.perf_counter_ns()
            call()
            best[run] = min(best[run], time.perf_counter_ns() - started)
    return net_costs(best)
