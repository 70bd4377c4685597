"""Figures of measured kernels: rates, shares of the instruction bound, ratios to NumKong's u1 product; and their table.

The bound is that of the fast product, full adders (`tuning/roofline.py`), measured on this machine. It is given for
every kernel whose weights or keys are signs, by the planes of the activations, whether it is made of adders or not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kernel_bench.case import BITS, Case
from kernel_bench.products import NUMKONG_U1

from bebert_infer.measure.machine import instruction_sets, kernel_choices
from bebert_kernels.tuning.roofline import adders_per_second, bound


@dataclass(frozen=True)
class Measured:
    """Seconds of one call of a case, and what it does (`kernel_case.Work`); not its data, which take memory."""

    case: Case
    median: float
    least: float
    rounds: int
    macs: int
    planes: int
    elements: int
    octets: int


MEASURED = pytest.StashKey[list[Measured]]()


def numbers(measured: list[Measured]) -> dict[str, Any]:
    """What a record holds: settings, choices, bounds, and a row of figures for each kernel."""
    adders = adders_per_second(rounds=50)
    peers: dict[str, float] = {}
    for one in measured:
        if one.case.kernel == NUMKONG_U1:
            peers[one.case.shape] = min(one.median, peers.get(one.case.shape, one.median))
    choices = kernel_choices() or []
    return {
        "settings": {"threads": 1},
        "instruction_set": instruction_sets()["level"],
        "products": {f"{row['shape']}, {row['bits']} bits": row["chosen"] for row in choices},
        "bound_gmacs": {str(planes): round(bound(planes, adders) / 1e9, 1) for planes in (1, BITS)},
        "kernels": [_figures(one, adders, peers.get(one.case.shape)) for one in measured],
    }


def _figures(one: Measured, adders: float, peer: float | None) -> dict[str, Any]:
    case = one.case
    figures: dict[str, Any] = {"kernel": case.name, "shape": case.shape}
    figures |= {"median_us": round(1e6 * one.median, 2), "min_us": round(1e6 * one.least, 2), "rounds": one.rounds}
    if one.macs:
        figures["gmacs"] = round(one.macs / one.median / 1e9, 1)
    if one.planes:
        figures["of_bound"] = round(one.macs / one.median / bound(one.planes, adders), 3)
    if peer is not None and (one.planes or case.needs):  # products with signs, and the peers themselves
        figures["against_numkong_u1"] = round(peer / one.median, 2)
    if one.elements:
        figures["elements_per_ns"] = round(one.elements / one.median / 1e9, 2)
    if one.octets:
        figures["gb_per_s"] = round(one.octets / one.median / 1e9, 2)
    return figures


def table(found: dict[str, Any]) -> Iterator[str]:
    """Lines of the table; columns are as wide as they have to be."""
    rows = [("kernel", "shape", "median µs", "rate", "of the bound", "against NumKong u1")]
    for one in found["kernels"]:
        rate = f"{one['gmacs']:.1f} GMAC/s" if "gmacs" in one else ""
        if "elements_per_ns" in one:
            rate = f"{one['elements_per_ns']:.2f} values/ns"
        if "gb_per_s" in one:
            rate += f", {one['gb_per_s']:.1f} GB/s"
        share = f"{one['of_bound']:.0%}" if "of_bound" in one else ""
        ratio = f"{one['against_numkong_u1']:.2f}×" if "against_numkong_u1" in one else ""
        rows.append((one["kernel"], one["shape"], f"{one['median_us']:.1f}", rate, share, ratio))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    limits = found["bound_gmacs"]
    yield f"bound of this machine: {limits['1']:.0f} GMAC/s for signs, {limits[str(BITS)]:.0f} for {BITS}-bit codes"
    yield f"other processes kept {found['cores_of_others']} cores busy meanwhile"
