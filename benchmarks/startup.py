"""From the start of a process to its first answer: kernels compiled for the first time, then taken from the cache.

python benchmarks/startup.py --runs 5

Runs `bebert predict` on the shipped model with a cache folder of its own; the whole process is timed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from record import ROOT, write_record

COMMAND = [sys.executable, "-c", "from bebert_infer.cli.main import main; main()", "predict"]


def main() -> None:
    """Measure, print, append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of the warm start")
    parser.add_argument("--no-record", action="store_true", help="append nothing to results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bebert-startup-") as folder:  # private, as the cache demands
        seconds = [_seconds(folder) for _ in range(options.runs + 1)]
    cold, *warm = (round(value, 3) for value in seconds)
    numbers = {"cold_s": cold, "warm_median_s": round(statistics.median(warm), 3), "warm_min_s": min(warm)}
    numbers |= {"runs": options.runs, "cores": os.cpu_count()}
    print(numbers)
    if not options.no_record:
        print(f"record appended to {write_record('startup', numbers).name}")


def _seconds(cache: str) -> float:
    started = time.perf_counter()
    command = [*COMMAND, str(ROOT / "bebert_infer" / "demo_model"), "a fine film"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"BEBERT_CACHE_DIR": cache})
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
