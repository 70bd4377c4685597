"""Many calls of mixed lengths on a small model: does the process grow? `make soak` makes 100,000.

Prints the resident size over time, as JSON with --json; exit code 1 if it grew after the first tenth of the calls.
"""

import argparse
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np

from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import random_model

MARGIN = 500_000  # bytes; a leak of 6 bytes a call is more, pages that are touched late are less
LONGEST, MOST = 128, 8  # tokens of a sentence, sentences of a call


def fill_numpys_cache() -> None:
    """NumPy keeps up to 7 freed blocks of each size below 1,024 bytes, 3.7 MB in all, whatever the arrays were for.

    As calls of ever new lengths meet ever new sizes, this looks like a leak. Filled first, it does not.
    """
    for size in range(1, 1024):
        held = [np.empty(size, np.uint8) for _ in range(7)]
        del held


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> int:
    """Run, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--scheme", default="1-1-1", choices=["1-1-1", "1-1-4"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--leak", type=int, default=0, help="bytes to leak a call: shows that growth is noticed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = Ensemble(random_model("tiny", arguments.scheme, 2, vocab_size=500), threads=arguments.threads)
    rng, leaked = np.random.default_rng(0), []
    fill_numpys_cache()
    model.logits(np.zeros((MOST, LONGEST), np.int64))  # the largest: workspaces grow with the sizes that they meet
    started, sizes, warm = time.perf_counter(), [], 0
    for call in range(arguments.calls):
        lengths = rng.integers(1, LONGEST if call % 10 == 0 else 20, rng.integers(1, MOST if call % 10 == 0 else 3))
        mask = np.arange(lengths.max()) < lengths[:, None]
        model.predict_ids(rng.integers(0, 500, mask.shape), mask)
        if arguments.leak:
            leaked.append(b"\1" * arguments.leak)
        if (call + 1) % max(1, arguments.calls // 20) == 0:
            sizes.append(resident())
            warm = max(warm, sizes[-1]) if call < arguments.calls // 10 else warm
            if not arguments.json:
                seconds = time.perf_counter() - started
                print(f"{call + 1:>8,} calls {seconds:8.1f} s {sizes[-1] / 1e6:9.3f} MB", flush=True)
    growth = max(sizes) - warm
    if arguments.json:
        threads = threading.active_count()
        print(json.dumps({"calls": arguments.calls, "resident": sizes, "growth": growth, "threads": threads}))
    else:
        print(f"grew by {growth:,} bytes after the first tenth; at most {MARGIN:,} are accepted")
    return int(growth > MARGIN)


if __name__ == "__main__":
    sys.exit(main())
