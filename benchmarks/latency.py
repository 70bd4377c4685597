"""Latency of packed members against the engines that people use: same geometry, same threads, in turn in one run.

    python benchmarks/latency.py --threads 2 --tokens 128 --rounds 15
    python benchmarks/latency.py --only "OpenVINO,half width" --no-record

BERT-base, random weights (speed does not depend on them), batch 1, no padding. Tokenization, loading and compiling are
not in the times; bebert_infer/bench.py says how turns are taken, export/bebert_export/peers.py how the peers are built.
Building them takes a minute or two; --peers-folder keeps them.
"""

import argparse
import os
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from record import OtherLoad, write_record
from rich.console import Console
from rich.markup import escape

from bebert_export.peers import BASELINE, PEERS, Workshop, build_peer
from bebert_infer.bench import Engine, Geometry, compare, measure, packed_engine
from bebert_infer.cli_bench import latency_table
from bebert_infer.synthetic import random_model

# Name -> (size of synthetic.SIZES, scheme, members, threads or None for all)
PACKED = {
    "1-1-1, 1 member": ("base", "1-1-1", 1, None),
    "1-1-4 half width, 1 member": ("base-half", "1-1-4", 1, None),
    "1-1-4 half width, 2 members": ("base-half", "1-1-4", 2, None),
    "1-1-4 full width, 1 member": ("base", "1-1-4", 1, None),
    "1-1-1, 1 member, 1 thread": ("base", "1-1-1", 1, 1),
    "1-1-4 half width, 1 member, 1 thread": ("base-half", "1-1-4", 1, 1),
}


def chosen(only: str | None) -> list[str]:
    """Names of engines that contain one of the parts in `only`, separated by commas; all without `only`."""
    names = [*PEERS, *PACKED]
    if only is None:
        return names
    parts = [part.strip().lower() for part in only.split(",")]
    unknown = [part for part in parts if not any(part in name.lower() for name in names)]
    if unknown:
        raise SystemExit(f'--only: no engine is called like "{unknown[0]}"; there are: {", ".join(names)}')
    return [name for name in names if any(part in name.lower() for part in parts)]


def build(names: list[str], workshop: Workshop, console: Console) -> tuple[list[Engine], dict[str, str]]:
    """Build the engines called so; returns them, and why others cannot run here."""
    engines, missing = [], {}
    for name in names:
        with console.status(f"building {name}"):
            if name in PEERS:
                built = build_peer(name, workshop)
            else:
                size, scheme, members, threads = PACKED[name]
                artifact = random_model(size, scheme, members)  # type: ignore[arg-type]
                built = packed_engine(name, artifact, workshop.ids, threads or workshop.threads)
        if isinstance(built, str):
            missing[name] = built
        else:
            engines.append(built)
    return engines, missing


def logit_differences(engines: list[Engine]) -> dict[str, float]:
    """How far the logits of each peer are from those of PyTorch fp32.

    Raises SystemExit if a full-precision engine computes another network.
    """
    logits: dict[str, NDArray] = {engine.name: engine.call() for engine in engines if engine.kind != "packed"}
    if BASELINE not in logits:
        return {}
    differences = {name: round(float(np.abs(values - logits[BASELINE]).max()), 6) for name, values in logits.items()}
    for engine in engines:
        if engine.kind == "fp32" and differences[engine.name] > 1e-3:
            raise SystemExit(f"{engine.name} computes another network: logits differ by {differences[engine.name]}")
    return differences


def main() -> None:
    """Build, measure, print a table, append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", help="parts of names, separated by commas")
    parser.add_argument("--peers-folder", type=Path, help="where to keep built peers (default: nowhere)")
    parser.add_argument("--no-record", action="store_true", help="append nothing to results/")
    options = parser.parse_args()
    console = Console()
    ids = np.random.default_rng(0).integers(0, Geometry.vocabulary, (1, options.tokens))
    with ExitStack() as stack:
        folder = options.peers_folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bebert-bench-")))
        workshop = Workshop(Geometry(), ids, options.threads, folder)
        engines, missing = build(chosen(options.only), workshop, console)
        differences = logit_differences(engines)
        with console.status(f"{options.rounds} rounds of {len(engines)} engines"):
            load = OtherLoad()
            times = measure({engine.name: engine.call for engine in engines}, options.rounds)
            others = load.cores()
    rows = compare(engines, times, BASELINE)
    console.print(latency_table(rows, f"one sentence of {options.tokens} tokens, {options.threads} threads"))
    for name, reason in missing.items():
        console.print(f"{name}: {escape(reason)}", style="dim", highlight=False)
    console.print(f"other processes kept {others} cores busy meanwhile", highlight=False)
    if options.no_record:
        return
    settings = {"tokens": options.tokens, "batch": 1, "threads": options.threads, "rounds": options.rounds}
    figures = {row.name: {key: value for key, value in asdict(row).items() if key != "name"} for row in rows}
    numbers = {
        "settings": settings,
        "cores_of_others": others,
        "engines": figures,
        "missing": missing,
        "logit_differences": differences,
    }
    console.print(f"record appended to {write_record('latency', numbers).name}")


if __name__ == "__main__":
    main()
