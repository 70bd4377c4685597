"""Where the time per multiply-add goes up: odd layers, short and long sentences, batches.

    python benchmarks/shapes.py --rounds 9

Each shape is held against a good neighbour, in turn in one run; a ratio of 1.5 means 1.5 times the time a multiply-add.
Layers: 4-bit codes and signs, from byte codes to floats. Models: BERT-base geometry, random weights, one thread.
"""

import argparse
import statistics

import numpy as np
from kernel_bench.products import Data, of_engine
from record import OtherLoad, write_record
from rich.console import Console
from rich.table import Table

from bebert_infer import Ensemble
from bebert_infer.bench.turns import measure
from bebert_infer.measure.sample_models import random_model
from bebert_kernels.bitsliced.product import BITSLICED

LAYERS = {  # neighbour -> rows, outputs, depths near it
    (128, 768, 768): [(128, 768, 767), (128, 768, 769), (128, 768, 700), (128, 767, 768), (128, 769, 768)]
    + [(127, 768, 768), (129, 768, 768), (127, 767, 767), (129, 769, 769)],
    (128, 512, 768): [(128, 511, 768), (128, 513, 768), (128, 640, 768), (128, 384, 768), (128, 256, 768)],
    (8, 768, 768): [(7, 768, 768), (9, 768, 768), (4, 768, 768)],
    (2, 768, 768): [(1, 768, 768), (3, 768, 768)],
}
SENTENCES = {128: [1, 2, 8, 32, 64, 127, 129, 256, 512]}  # tokens of one sentence
BATCHES = [1, 2, 8, 32, 64]  # sentences of 32 tokens
MODELS = {"1-1-1": ("base", "1-1-1", 1), "1-1-4 half width": ("base-half", "1-1-4", 1)}


def layers(rounds: int, console: Console) -> dict[str, dict[str, float]]:
    """Time per multiply-add of layers against their neighbours."""
    found: dict[str, dict[str, float]] = {}
    for kind in ("signs", "4-bit codes"):
        table = Table("rows × outputs × depth", "neighbour", "median µs", "time a multiply-add, ratio", title=kind)
        for good, others in LAYERS.items():
            shapes = [good, *others]
            calls = {str(shape): of_engine(Data.random(*shape), BITSLICED, kind) for shape in shapes}
            times = measure(calls, rounds, calls_a_turn=5, pause=0)
            base = statistics.median(times[str(good)]) / np.prod(good)
            for shape in others:
                median = statistics.median(times[str(shape)])
                ratio = round(float(median / np.prod(shape) / base), 2)
                found[f"{kind} {shape} against {good}"] = {"median_us": round(1e3 * median, 1), "ratio": ratio}
                table.add_row(*("×".join(map(str, s)) for s in (shape, good)), f"{1e3 * median:.0f}", f"{ratio:.2f}")
        console.print(table)
    return found


def texts(name: str, rounds: int, console: Console) -> dict[str, dict[str, float]]:
    """Time per token of sentences of many lengths, of batches, and of a batch of mixed lengths."""
    model = Ensemble(random_model(*MODELS[name]), threads=1)  # type: ignore[arg-type]
    generator = np.random.default_rng(0)
    inputs = {}
    for tokens in sorted({128, *SENTENCES[128]}):
        inputs[f"1 × {tokens}"] = generator.integers(0, 30_000, (1, tokens)), None
    for count in BATCHES:
        inputs[f"{count} × 32"] = generator.integers(0, 30_000, (count, 32)), None
    lengths = generator.integers(8, 129, 32)
    mask = np.arange(128) < lengths[:, None]
    inputs["32 × 8 to 128"] = generator.integers(0, 30_000, (32, 128)), mask
    calls = {key: lambda ids=ids, mask=mask: model.logits(ids, mask) for key, (ids, mask) in inputs.items()}
    times = measure(calls, rounds, calls_a_turn=2, pause=0)
    found = {}
    table = Table("sentences × tokens", "median ms", "µs a token", "against 1 × 128", title=f"{name}, one thread")
    tokens_of = {key: int(ids.size if mask is None else mask.sum()) for key, (ids, mask) in inputs.items()}
    base = statistics.median(times["1 × 128"]) / 128
    for key, values in times.items():
        median = statistics.median(values)
        each = median / tokens_of[key]
        found[key] = {"median_ms": round(median, 3), "us_a_token": round(1e3 * each, 2), "ratio": round(each / base, 2)}
        table.add_row(key, f"{median:.2f}", f"{1e3 * each:.1f}", f"{each / base:.2f}")
    console.print(table)
    return found


def main() -> None:
    """Measure, print tables, append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-record", action="store_true", help="append nothing to results/")
    options = parser.parse_args()
    console = Console()
    load = OtherLoad()
    numbers = {
        "settings": {"threads": 1, "rounds": options.rounds},
        "layers": layers(options.rounds, console),
        "models": {name: texts(name, options.rounds, console) for name in MODELS},
        "cores_of_others": load.cores(),
    }
    if not options.no_record:
        console.print(f"record appended to {write_record('shapes', numbers).name}")


if __name__ == "__main__":
    main()
