"""Rates of the packed products at BERT's shapes, one thread, all kernels in turn in one run.

    python benchmarks/gemm.py --rows 128 --rounds 40

`xnor` is signs × signs, `planes` 4-bit codes × signs by four popcount planes, `chosen` the kernel that `code_gemm`
takes on this CPU. Packing of activations is included for `planes` and `chosen`, where it is part of the product,
not for `xnor`. The results of both code products are compared before anything is timed.
"""

import argparse
import statistics

import numpy as np
from latency import measure
from record import write_record
from rich.console import Console
from rich.table import Table

from bebert_kernels import compiled, packing

SHAPES = {"768×768": (768, 768), "3072×768": (3072, 768), "768×3072": (768, 3072), "384×768": (384, 768)}


def main() -> None:
    """Measure, print a table, append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    table = Table("outputs × depth", "kernel", "median µs", "min µs", "TMAC/s at the median")
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    for name, (outputs, depth) in SHAPES.items():
        x = generator.standard_normal((options.rows, depth)).astype(np.float32)
        codes = generator.integers(-8, 8, (options.rows, depth), dtype=np.int8)
        weights = packing.pack_bits(generator.random((outputs, depth)) < 0.5)
        signs, _, _ = compiled.pack_signs(x, None)
        prepared = compiled.code_weights(weights, depth)

        def planes(codes=codes, weights=weights):  # noqa: ANN001, ANN202
            return compiled.and_gemm(*compiled.pack_codes(codes, 4), weights, True)

        def chosen(codes=codes, prepared=prepared):  # noqa: ANN001, ANN202
            return compiled.code_gemm(codes, prepared, 4)

        assert np.array_equal(planes(), chosen())
        calls = {
            "xnor": lambda s=signs, w=weights, d=depth: compiled.xnor_gemm(s, None, w, d),
            "planes": planes,
            "chosen: planes" if prepared.panels is None else "chosen: bytes": chosen,
        }
        macs = options.rows * outputs * depth
        numbers[name] = {}
        for kernel, times in measure(calls, options.rounds).items():
            median = statistics.median(times)
            rate = macs / median / 1e9
            numbers[name][kernel] = {
                "median_us": round(1e3 * median, 1),
                "min_us": round(1e3 * min(times), 1),
                "tmacs": round(rate, 3),
            }
            table.add_row(name, kernel, f"{1e3 * median:.0f}", f"{1e3 * min(times):.0f}", f"{rate:.3f}")
    Console().print(table)
    file = write_record("gemm", {"settings": {"rows": options.rows, "threads": 1}, "kernels": numbers})
    Console().print(f"record appended to {file.name}")


if __name__ == "__main__":
    main()
