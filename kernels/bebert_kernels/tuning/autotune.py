"""Which product for which layer: measured once on each machine, kept with the compiled kernels.

Two products compute the same integers from codes of up to 4 bits (signs and wider codes have only the first):

    sliced   majority tables on bit-sliced counters (`sliced_gemm.py`): time grows with the planes of the codes;
             outputs come in panels of PANEL_OUTPUTS, so that 768 outputs take two panels of 512
    look-up  byte look-up tables of the activations (`lut_gemm.py`): all codes up to 4 bits take the same time;
             panels are narrow; tables are built for every row

Five short runs give the seconds of a row and of a panel for each, and from these the time of any layer follows.
BEBERT_PRODUCT=sliced or lookup takes the choice away.
"""

import functools
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bebert_kernels.bitsliced.tile import PANEL_OUTPUTS
from bebert_kernels.bitsliced.triples import aligned, panel_lanes
from bebert_kernels.jit.kernel import cache_directory
from bebert_kernels.lookup import gemm as lut_gemm
from bebert_kernels.lookup.gemm import PANEL, lut_bytes, lut_panel, lut_tables
from bebert_kernels.tuning.single_layer import OneLayer

SLICED, LOOKUP = "sliced", "lookup"  # names of products
DEPTH = 768
FEW, MANY = 4, 64  # rows of the two measurements of the sliced product
REPEATS = 7
HALF_PANEL = 0.75  # what half a panel costs: the same look-ups for two rows at a time, and their loads
WIDEST = 4  # bits of codes that the look-up product takes


@dataclass(frozen=True)
class GemmCosts:
    """Seconds on one thread at depth 768, for codes of some bits.

    sliced_index : index planes of a row
    sliced_panel : tables of a panel of PANEL_OUTPUTS outputs         sliced_row : one row of a panel
    lookup_table : tables of a row, all its inputs            lookup_row : one row of PANEL_OUTPUTS outputs
    """

    sliced_index: float
    sliced_panel: float
    sliced_row: float
    lookup_table: float
    lookup_row: float

    def sliced(self, outputs: int, depth: int, rows: int) -> float:
        """Seconds of a layer."""
        panels = sum(1 if lanes == PANEL_OUTPUTS else HALF_PANEL for lanes in panel_lanes(outputs))
        return (rows * self.sliced_index + panels * (self.sliced_panel + rows * self.sliced_row)) * depth / DEPTH

    def lookup(self, outputs: int, depth: int, rows: int) -> float:
        """Seconds of a layer."""
        lanes = -(-outputs // PANEL) * PANEL / PANEL_OUTPUTS
        return rows * (self.lookup_table + lanes * self.lookup_row) * depth / DEPTH


def choose_gemm(outputs: int, depth: int, bits: int, rows: int) -> str:
    """Return the name of the product for a layer of codes of `bits` bits, 0 for signs.

    Raises ValueError for a wrong BEBERT_PRODUCT.
    """
    forced = os.environ.get("BEBERT_PRODUCT", "")
    if forced not in ("", SLICED, LOOKUP):
        raise ValueError(f'BEBERT_PRODUCT is "{forced}"; accepted are {SLICED} and {LOOKUP}, or nothing to measure')
    if not 1 <= bits <= WIDEST:
        return SLICED
    if forced:
        return forced
    rates = measured(bits)
    return LOOKUP if rates.lookup(outputs, depth, rows) < rates.sliced(outputs, depth, rows) else SLICED


@functools.cache
def measured(bits: int) -> GemmCosts:
    """Return the rates of this machine for codes of `bits` bits, from the file beside the kernels or by measuring."""
    directory = cache_directory()
    file = None if directory is None else directory / f"rates-{bits}.json"
    if file is not None:
        with suppress(OSError, ValueError, TypeError):
            found = GemmCosts(**json.loads(file.read_text()))
            if all(isinstance(value, float) and 0 < value < 1 for value in asdict(found).values()):
                return found
    rates = _measure(bits)
    if file is not None:
        with suppress(OSError):
            _write(file, json.dumps(asdict(rates)))
    return rates


def choices() -> list[dict[str, Any]]:
    """One row for each class of layers of BERT-base at 64 rows: what is chosen, and both rates in TMAC/s."""
    found = []
    for name, outputs, depth in (
        ("384 × 768", 384, 768),
        ("768 × 768", 768, 768),
        ("1536 × 768", 1536, 768),
        ("768 × 1536", 768, 1536),
        ("3072 × 768", 3072, 768),
        ("768 × 3072", 768, 3072),
    ):
        for bits in (2, 4):
            rates = measured(bits)
            macs = MANY * outputs * depth / 1e12
            found.append(
                {
                    "shape": name,
                    "bits": bits,
                    "chosen": choose_gemm(outputs, depth, bits, MANY),
                    SLICED: macs / rates.sliced(outputs, depth, MANY),
                    LOOKUP: macs / rates.lookup(outputs, depth, MANY),
                }
            )
    return found


def _write(file: Path, text: str) -> None:
    """Whole or not at all, and readable by us only."""
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _measure(bits: int) -> GemmCosts:
    """Time both products on random codes; each in turn, the best of some runs."""
    generator = np.random.default_rng(0)
    signs = generator.integers(0, 2**64, (PANEL_OUTPUTS, DEPTH // 64), dtype=np.uint64)
    codes = generator.integers(0, 1 << bits, (MANY, DEPTH), dtype=np.uint8)
    weights = lut_gemm.lut_weights(signs, DEPTH).reshape(-1)
    tables = aligned((lut_bytes(MANY, DEPTH),), np.uint8)
    sums = aligned((MANY, PANEL), np.int32)
    layer, no_zeros = OneLayer(signs, DEPTH, bits, MANY), np.zeros(MANY, np.uint8)
    runs: list[Callable[[], Any]] = [
        lambda: layer.multiply(0, FEW),
        lambda: layer.multiply(0, MANY),
        lambda: layer.encode(codes, no_zeros),
        lambda: lut_tables(codes, MANY, tables),
        lambda: [lut_panel(tables, weights, n, MANY, DEPTH, sums) for n in range(PANEL_OUTPUTS // PANEL)],
    ]
    best = [1.0] * len(runs)
    for index in range(REPEATS + 1):
        for which, call in enumerate(runs):
            started = time.perf_counter()
            call()
            if index:
                best[which] = min(best[which], time.perf_counter() - started)
    row = max(best[1] - best[0], 1e-9) / (MANY - FEW)
    return GemmCosts(best[2] / MANY, max(best[0] - FEW * row, 1e-9), row, best[3] / MANY, best[4] / MANY)
