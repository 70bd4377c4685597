"""Which product for which layer and how many rows: measured once on each machine, kept with the compiled kernels.

Three products compute the same integers:

    popcount   ones of words (`popcount/`): no tables and no weights of its own, so it is the one for few rows;
               time grows with the planes of the codes
    bitsliced  majority tables on bit-sliced counters (`bitsliced/`): tables of a panel are filled once for all rows of
               a block; time grows with the planes; panels have PANEL_OUTPUTS outputs, so that 768 take two of 512
    lookup     byte look-up tables of the activations (`lookup/`): all codes of 1 to 4 bits take the same time, signs
               and wider codes are not taken; panels are narrow; tables are built for every row

Short runs of one layer give the seconds of each for a few numbers of rows; those of other layers and rows follow by
proportion. A layer keeps one product for many rows, the best one at MANY rows, and popcount for as few rows as it is
the faster one. BEBERT_PRODUCT=popcount, bitsliced or lookup takes the choice away.
"""

import functools
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.abi.product import Product
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.bitsliced.product import BITSLICED
from bebert_kernels.bitsliced.triples import panel_lanes
from bebert_kernels.lookup.layout import PANEL
from bebert_kernels.lookup.product import LOOKUP
from bebert_kernels.popcount.product import POPCOUNT
from bebert_kernels.private_folder import private_folder
from bebert_kernels.tuning.single_layer import OneLayer

PRODUCTS = (LOOKUP, POPCOUNT, BITSLICED)
NAMES = {product.name: product.name for product in PRODUCTS} | {"sliced": BITSLICED.name}
OUTPUTS, DEPTH = 16 * PANEL_OUTPUTS, 768  # of the layer that is measured: more weights than the second cache holds
ROWS = (1, 2, 4, 16, 64)  # that are measured
MANY = ROWS[-1]
REPEATS = 9
SHARED_CORE = 1.1  # bitsliced loses this against look-up where two threads share a core (`docs/log.md`)
HALF_PANEL = 0.75  # what half a panel costs: the same look-ups for two rows at a time, and their loads
LONGEST = 1.0  # seconds, of any call


class Choice(NamedTuple):
    """Names of products: `few` for blocks of at most `limit` rows, `many` for others."""

    few: str
    limit: int
    many: str


class GemmCosts(NamedTuple):
    """Seconds of one product on one thread, for codes of some bits at depth 768 and each number of rows in ROWS.

    encode   : tables or planes of the rows
    multiply : the rows with PANEL_OUTPUTS outputs
    """

    encode: list[float]
    multiply: list[float]

    def seconds(self, panels: float, depth: int, rows: int) -> float:
        """Seconds of a layer of so many panels of PANEL_OUTPUTS outputs."""
        whole = [encode + panels * multiply for encode, multiply in zip(self.encode, self.multiply, strict=True)]
        return float(np.interp(rows, ROWS, whole)) * depth / DEPTH


def panels_of(name: str, outputs: int) -> float:
    """What the outputs of a layer cost a product, in panels of PANEL_OUTPUTS."""
    if name == BITSLICED.name:
        return SHARED_CORE * sum(1 if lanes == PANEL_OUTPUTS else HALF_PANEL for lanes in panel_lanes(outputs))
    return (-(-outputs // PANEL) * PANEL if name == LOOKUP.name else outputs) / PANEL_OUTPUTS


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

    def seconds(name: str, rows: int) -> float:
        return costs[name].seconds(panels_of(name, outputs), depth, rows)

    many = min(takes, key=lambda name: seconds(name, MANY))
    limit = 0
    while limit < BLOCK and seconds(POPCOUNT.name, limit + 1) < seconds(many, limit + 1):
        limit += 1
    return Choice(POPCOUNT.name if limit else many, limit, many)


@functools.cache
def measured(bits: int) -> dict[str, GemmCosts]:
    """Return the costs on this machine of the products that take codes of `bits` bits, by name.

    They come from the file beside the kernels, or are measured.
    """
    directory = private_folder("rates")[0]
    file = None if directory is None else directory / f"rates-{bits}.json"
    if file is not None:
        with suppress(OSError, ValueError, TypeError):
            found = {name: GemmCosts(*parts) for name, parts in json.loads(file.read_text()).items()}
            values = [value for costs in found.values() for part in costs for value in part]
            whole = len(values) == 2 * len(ROWS) * len(_products(bits)) and found.keys() == _products(bits).keys()
            if whole and all(isinstance(value, float) and 0 <= value <= LONGEST for value in values):
                return found
    costs = _measure(bits)
    if file is not None:
        with suppress(OSError):
            file.write_text(json.dumps(costs))  # cut short it is no JSON, and measured again
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
            choice = choose_gemm(outputs, depth, bits)
            row: dict[str, Any] = {"shape": name, "bits": bits, "few_rows": choice.limit, "chosen": choice.many}
            row |= dict.fromkeys(product.name for product in PRODUCTS)
            for product, costs in measured(bits).items():
                seconds = costs.seconds(panels_of(product, outputs), depth, MANY)
                row[product] = MANY * outputs * depth / 1e12 / seconds
            found.append(row)
    return found


def _products(bits: int) -> dict[str, Product]:
    """The products that take codes of so many bits."""
    return {product.name: product for product in PRODUCTS if bits in product.bits}


def _measure(bits: int) -> dict[str, GemmCosts]:
    """Time the products on random codes, in turn, so that what else the machine does falls on all of them.

    Of each the best of some runs counts, without what the fastest call of no rows takes. A run is a second call: the
    first one brings into the caches what would be there in a model.
    """
    generator = np.random.default_rng(0)
    signs = generator.integers(0, 2**64, (OUTPUTS, DEPTH // 64), dtype=np.uint64)
    codes = generator.integers(0, 1 << bits, (MANY, DEPTH), dtype=np.uint8)  # signs: all +
    no_zeros = np.full(MANY, bits == 0, np.uint8)
    layers = {name: OneLayer(signs, DEPTH, bits, MANY, product=product) for name, product in _products(bits).items()}
    runs: dict[tuple[str, str, int], Callable[[], Any]] = {}
    for rows in (0, *ROWS):
        for name, layer in layers.items():
            runs[name, "encode", rows] = functools.partial(layer.encode, codes[:rows], no_zeros[:rows])
            runs[name, "multiply", rows] = functools.partial(layer.multiply, 0, rows)
    best = dict.fromkeys(runs, LONGEST)
    for _ in range(REPEATS):
        for run, call in runs.items():
            call()
            started = time.perf_counter()
            call()
            best[run] = min(best[run], time.perf_counter() - started)

    def net(name: str, kind: str, share: int) -> list[float]:
        nothing = min(best[other, kind, 0] for other in layers)
        return [max(best[name, kind, rows] - nothing, 0.0) / share for rows in ROWS]

    return {name: GemmCosts(net(name, "encode", 1), net(name, "multiply", OUTPUTS // PANEL_OUTPUTS)) for name in layers}
