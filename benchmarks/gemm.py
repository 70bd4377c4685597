"""Rates of the products at BERT's shapes on one thread, ours and other libraries', all in turn in one run.

    python benchmarks/gemm.py --rows 128 --rounds 15
    python benchmarks/gemm.py --shapes 768×768,768×3072 --no-record

`products.py` says what each one computes and what is included. The bound is that of the instructions on this machine,
measured (`bebert_kernels/bound.py`): the fast product cannot be faster than its full adders.
"""

import argparse
import statistics
from collections.abc import Callable
from importlib.util import find_spec

from products import SHAPES, Case, Data, check_all, numkong, ours, torch_int8
from record import OtherLoad, write_record
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bebert_infer.bench import measure
from bebert_kernels.bound import adders_per_second, bound

PEERS: dict[str, Callable[[Data], list[Case]]] = {"numkong": numkong, "torch": torch_int8}


def main() -> None:
    """Measure, print a table, append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=5, help="timed calls a turn")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="outputs×depth, separated by commas")
    parser.add_argument("--no-record", action="store_true", help="append nothing to results/")
    options = parser.parse_args()
    console = Console()
    installed = [name for name in PEERS if find_spec(name)]
    adders = adders_per_second()
    load = OtherLoad()
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    for shape in options.shapes.split(","):
        outputs, depth = SHAPES.get(shape) or (int(size) for size in shape.replace("x", "×").split("×"))
        data = Data.random(options.rows, outputs, depth)
        cases = ours(data) + [case for name in installed for case in PEERS[name](data)]
        check_all(cases, data)
        times = measure({case.name: case.call for case in cases}, options.rounds, calls_a_turn=options.calls, pause=0)
        macs = options.rows * outputs * depth
        numbers[shape] = {case.name: _figures(times[case.name], macs, case, adders) for case in cases}
        console.print(_table(numbers[shape], f"{shape} (outputs × depth), {options.rows} rows, 1 thread"))
    limits = {str(planes): round(bound(planes, adders) / 1e12, 3) for planes in (1, 4)}
    console.print(f"bound on this machine: {limits['1']} TMAC/s for signs, {limits['4']} for 4-bit codes, sliced")
    others = load.cores()
    console.print(f"other processes kept {others} cores busy meanwhile", highlight=False)
    for name in PEERS:
        if name not in installed:
            console.print(f"{name} is not installed", style="dim")
    if not options.no_record:
        settings = {"rows": options.rows, "threads": 1, "rounds": options.rounds, "calls_a_turn": options.calls}
        file = write_record(
            "gemm", {"settings": settings, "cores_of_others": others, "bound_tmacs": limits, "kernels": numbers}
        )
        console.print(f"record appended to {file.name}")


def _figures(times: list[float], macs: int, case: Case, adders: float) -> dict[str, float]:
    median = statistics.median(times)
    figures = {
        "median_us": round(1e3 * median, 1),
        "min_us": round(1e3 * min(times), 1),
        "tmacs": round(macs / median / 1e9, 4),
        "best_tmacs": round(macs / min(times) / 1e9, 4),
    }
    if case.planes:
        figures["of_bound"] = round(macs / median * 1e3 / bound(case.planes, adders), 3)
    return figures


def _table(figures: dict[str, dict[str, float]], title: str) -> Table:
    table = Table("product", "median µs", "min µs", "TMAC/s", "best", "of the bound", title=title)
    for name, found in figures.items():
        share = f"{found['of_bound']:.0%}" if "of_bound" in found else ""
        values = (f"{found['median_us']:.0f}", f"{found['min_us']:.0f}", f"{found['tmacs']:.3f}")
        table.add_row(escape(name), *values, f"{found['best_tmacs']:.3f}", share)
    return table


if __name__ == "__main__":
    main()
