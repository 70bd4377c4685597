"""Latency of packed members against PyTorch float32: same geometry, same threads, alternating in one run.

    python benchmarks/latency.py --threads 2 --tokens 128 --rounds 15

Random weights (speed does not depend on them). Batch 1. Tokenization and loading are not in the times; the first call,
which compiles or loads the kernels, is not either. Each round times every engine once, in turn, so that what else the
machine does falls on all alike. Medians are quoted, and ratios of medians. PyTorch runs `BertForSequenceClassification`
(its default SDPA attention) under `torch.inference_mode`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from record import write_record
from rich.console import Console
from rich.table import Table

from bebert_infer import Ensemble
from bebert_infer.synthetic import SIZES, random_model

# Name -> (size of synthetic.SIZES, scheme, members)
ENGINES = {
    "1-1-1, 1 member": ("base", "1-1-1", 1),
    "1-1-4 half width, 1 member": ("base-half", "1-1-4", 1),
    "1-1-4 half width, 2 members": ("base-half", "1-1-4", 2),
    "1-1-4 full width, 1 member": ("base", "1-1-4", 1),
}


def torch_float32(ids: np.ndarray, threads: int) -> Callable[[], None]:
    """Return a call of BERT-base in PyTorch float32 on these token ids."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.set_num_threads(threads)
    layers, hidden, _, heads, wide = SIZES["base"]
    config = BertConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=wide)
    model = BertForSequenceClassification(config).eval()
    inputs = torch.from_numpy(ids)

    def call() -> None:
        with torch.inference_mode():
            model(inputs)

    return call


def packed(ids: np.ndarray, threads: int, size: str, scheme: str, members: int) -> Callable[[], None]:
    """Return a call of a packed ensemble of random weights on these token ids."""
    model = Ensemble(random_model(size, scheme, members), threads=threads)  # type: ignore[arg-type]

    def call() -> None:
        model.logits(ids)

    return call


def measure(calls: dict[str, Callable[[], None]], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Time every call once a round, in turn; returns milliseconds per call."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds + warmup):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if index >= warmup:
                times[name].append(1e3 * (time.perf_counter() - started))
    return times


def main() -> None:
    """Measure, print a table, append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    ids = np.random.default_rng(0).integers(0, 30522, (1, options.tokens))
    calls = {"PyTorch float32": torch_float32(ids, options.threads)}
    for name, engine in ENGINES.items():
        calls[name] = packed(ids, options.threads, *engine)
    times = measure(calls, options.rounds)
    base = statistics.median(times["PyTorch float32"])
    table = Table("engine", "median ms", "min", "max", "times PyTorch float32")
    summary = {}
    for name, values in times.items():
        median = statistics.median(values)
        ratio = base / median
        summary[name] = {
            "median_ms": round(median, 2),
            "min_ms": round(min(values), 2),
            "max_ms": round(max(values), 2),
            "speedup": round(ratio, 2),
        }
        table.add_row(name, f"{median:.1f}", f"{min(values):.1f}", f"{max(values):.1f}", f"{ratio:.2f}×")
    Console().print(table)
    settings = {"tokens": options.tokens, "batch": 1, "threads": options.threads, "rounds": options.rounds}
    file = write_record("latency", {"settings": settings, "engines": summary})
    Console().print(f"record appended to {file.name}")


if __name__ == "__main__":
    main()
