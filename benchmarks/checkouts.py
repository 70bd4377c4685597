"""Two checkouts of this repository against each other, in turn, on the same models: milliseconds and ratios.

    python benchmarks/checkouts.py OLD NEW [--rounds 7] [--only "1-1-4"] [--no-record]
    python benchmarks/checkouts.py . . --kernels jit,ahead

OLD and NEW are folders, for example of `git worktree add OLD COMMIT`; --kernels is BEBERT_KERNELS of the old and of the
new, so that one checkout can be timed with kernels compiled just in time against the library. Each runs in a process of
its own that stays; a case is timed in one and then in the other, round by round, so that what else the machine does
falls on both. The ratio is the median of the rounds' ratios, old by new: above 1, NEW is faster. Logits of both must be
the same bits.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from record import RESULTS, ROOT, OtherLoad, write_record

from bebert_infer.artifact.folder import write_artifact
from bebert_infer.measure.sample_models import random_model

CHILD = """
import json, sys, time
import numpy as np
from bebert_infer import Ensemble
models = {}
for line in sys.stdin:
    path, tokens, threads, calls = json.loads(line)
    if (path, threads) not in models:
        models[path, threads] = Ensemble.from_pretrained(path, threads=threads)
    model = models[path, threads]
    ids = np.random.default_rng(3).integers(5, model.config.vocab_size, (1, tokens))
    times = []
    for _ in range(calls + 2):
        started = time.perf_counter()
        logits = model.member_logits(ids)
        times.append(1e3 * (time.perf_counter() - started))
    print(json.dumps([times[2:], logits.tobytes().hex()]), flush=True)
"""
VOCABULARY = 2000


class Case(NamedTuple):
    """One sentence of so many tokens; `model` is "shipped", or size and scheme of random weights."""

    model: str
    tokens: int
    threads: int
    calls: int


CASES = [
    *(Case("shipped", tokens, 2, 20) for tokens in (1, 4, 8, 16, 64)),
    *(Case("base 1-1-1", tokens, 2, 12) for tokens in (1, 2, 8, 16, 128)),
    Case("base 1-1-1", 1, 1, 20),
    *(Case("base 1-1-4", tokens, 2, 6) for tokens in (1, 8, 128)),
    *(Case(model, 64, 2, 10) for model in ("tiny 2-2-8", "tiny 1-1-8")),
    *(Case(model, 128, 2, 3) for model in ("base 2-2-8", "base 1-1-8")),
]


def start(checkout: Path, child: str, options: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
    """A process that runs the code `child` on one checkout and answers line by line."""
    paths = [checkout, checkout / "kernels", checkout / "export"]
    everything = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))} | environment
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", child, *options], text=True, cwd=checkout, env=everything, **pipes)


def answer(process: subprocess.Popen[str], question: str) -> str:
    """The line that a process answers to a line. Raises RuntimeError if it has ended."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(question + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a process has ended before it answered; its error stands above")
    return line


def head(checkout: Path) -> str:
    """Commit of a checkout."""
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=checkout, text=True).strip()


def ask(process: subprocess.Popen[str], path: Path, case: Case) -> tuple[float, str]:
    """Median milliseconds of a case, and the bits of its logits."""
    times, bits = json.loads(answer(process, json.dumps([str(path), case.tokens, case.threads, case.calls])))
    return statistics.median(times), bits


def compare(olds: subprocess.Popen[str], news: subprocess.Popen[str], path: Path, case: Case, rounds: int) -> dict:
    """Both in turn: medians, and the median, least and largest ratio. Raises SystemExit if logits differ."""
    pairs = []
    for _ in range(rounds):
        (old, old_bits), (new, new_bits) = ask(olds, path, case), ask(news, path, case)
        if old_bits != new_bits:
            raise SystemExit(f"{case.model}, {case.tokens} tokens: logits differ between the checkouts")
        pairs.append((old, new))
    ratios = sorted(old / new for old, new in pairs)
    return case._asdict() | {
        "old_ms": round(statistics.median(old for old, _ in pairs), 4),
        "new_ms": round(statistics.median(new for _, new in pairs), 4),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratios[0], 3), round(ratios[-1], 3)],
    }


def main() -> None:
    """Run the cases, print a line each, append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose model has this in its name")
    parser.add_argument("--kernels", default=",", help="BEBERT_KERNELS of both, as in jit,ahead")
    parser.add_argument("--no-record", action="store_true")
    arguments = parser.parse_args()
    load, found = OtherLoad(), []
    folders = arguments.old.resolve(), arguments.new.resolve()
    kernels = arguments.kernels.split(",")
    processes = [
        start(checkout, CHILD, **({"BEBERT_KERNELS": name} if name else {}))
        for checkout, name in zip(folders, kernels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        for case in (case for case in CASES if arguments.only in case.model):
            path = ROOT / "bebert_infer" / "demo_model"
            if case.model != "shipped":
                path = Path(temporary) / case.model.replace(" ", "-")
                if not path.exists():
                    size, scheme = case.model.split()
                    model: Any = random_model(size, scheme, 1, vocab_size=VOCABULARY)  # type: ignore[arg-type]
                    write_artifact(path, model.config, model.tensors, None, "random weights")
            row = compare(processes[0], processes[1], path, case, arguments.rounds)
            found.append(row)
            sys.stdout.write(
                f"{case.model:12} {case.tokens:4} tokens, {case.threads} threads: {row['old_ms']:9.3f} ms "
                f"{row['new_ms']:9.3f} ms, old by new {row['ratio']:.3f} ({row['ratios'][0]} to {row['ratios'][1]})\n"
            )
    for process in processes:
        process.kill()
        process.wait()  # so that its time does not count as that of others
    if not arguments.no_record:
        numbers = {"old": head(folders[0]), "new": head(folders[1]), "rounds": arguments.rounds}
        numbers |= {"kernels": kernels} if any(kernels) else {}
        write_record("checkouts", numbers | {"cores_of_others": load.cores(), "cases": found}, RESULTS)


if __name__ == "__main__":
    main()
