"""Whole processes, from their start to their end, in turn with the import of numpy alone.

python benchmarks/startup.py --runs 11

    numpy      python -c "import numpy": what no user of it can be quicker than
    answer     the shipped model, loaded and asked one text, as a library
    predict    the same by the command line
    help       bebert --help
    jit        the answer with BEBERT_KERNELS=jit and a warm cache, if Numba is installed
    onnx-int8  ONNX Runtime, the same geometry in int8, and tokenizers: loaded and asked the same text
    onnx-ids   the same without a tokenizer, asked ready token ids

Each runs in an environment with only what it needs (`bench/environment.py`). Time is that of the whole process, memory
its largest resident size, or that of this script where it is larger. Each row is a median; ratios are to numpy. The
first run of each, which fills caches of files, byte code and Numba, does not count.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import ROOT, write_record

from bebert_infer.bench.environment import make_environment

MODEL = ROOT / "bebert_infer" / "demo_model"
TEXT = "a gripping, funny film"
ANSWER = f"""
from bebert_infer import Ensemble
print(Ensemble.from_pretrained({str(MODEL)!r})({TEXT!r}))
"""
MAIN = "from bebert_infer.cli.main import main; main()"
ONNX = """
import sys
import numpy as np
import onnxruntime
from tokenizers import Tokenizer
session = onnxruntime.InferenceSession(sys.argv[1])
ids = np.array([Tokenizer.from_file(sys.argv[2]).encode(sys.argv[3]).ids], np.int64)
feed = zip(("input_ids", "attention_mask", "token_type_ids"), (ids, np.ones_like(ids), np.zeros_like(ids)))
print(session.run(None, dict(feed))[0])
"""
ONNX_IDS = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
ids = np.ones((1, 8), np.int64)
print(session.run(None, {given.name: ids for given in session.get_inputs()})[0])
"""
# Byte code is cached, as it is for users.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
PEER = f"""
import sys
from pathlib import Path
from bebert_export.peers.engines import PEERS
from bebert_export.peers.files import Workshop
from bebert_infer.artifact.folder import read_config
from bebert_infer.bench.turns import parent_geometry
geometry = parent_geometry(read_config({str(MODEL)!r}))
print(Workshop(geometry, Path(sys.argv[1])).files(PEERS["ONNX Runtime int8 dynamic"]))
"""


def main() -> None:
    """Measure, print, append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11, help="of each process")
    parser.add_argument("--no-record", action="store_true", help="append nothing to results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bebert-startup-") as folder:  # private, as the cache demands
        commands = _commands(Path(folder))
        spent: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
        for run in range(options.runs + 1):
            for name, (command, environment) in commands.items():
                found = _process(command, environment | {"BEBERT_CACHE_DIR": folder, "BEBERT_QUIET": "1"})
                spent[name] += [found] if run else []  # the first run fills caches: of files, and of Numba
    base = statistics.median(seconds for seconds, _ in spent["numpy"])
    numbers: dict[str, dict[str, float] | int | None] = {}
    for name, runs in spent.items():
        seconds = statistics.median(seconds for seconds, _ in runs)
        memory = statistics.median(kibibytes for _, kibibytes in runs) / 1024
        numbers[name] = {
            "median_s": round(seconds, 3),
            "times_numpy": round(seconds / base, 2),
            "mib": round(memory, 1),
        }
        print(f"{name:<10} {seconds * 1000:7.0f} ms  {seconds / base:5.2f} x numpy  {memory:6.1f} MiB")
    numbers |= {"runs": options.runs, "cores": os.cpu_count()}
    if not options.no_record:
        print(f"record appended to {write_record('startup', numbers).name}")


def _commands(folder: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Name -> command and what its environment has besides."""

    def python(name: str, *needs: str) -> list[str]:
        return [str(make_environment(needs, folder / name).python), "-I", "-c"]

    ours = python("ours", "bebert-infer")
    commands: dict[str, tuple[list[str], dict[str, str]]] = {
        "numpy": ([*python("numpy", "numpy"), "import numpy"], {}),
        "answer": ([*ours, ANSWER], {}),
        "predict": ([*ours, MAIN, "predict", str(MODEL), TEXT], {}),
        "help": ([*ours, MAIN, "--help"], {}),
    }
    if importlib.util.find_spec("numba"):
        commands["jit"] = ([*python("jit", "bebert-infer[jit]"), ANSWER], {"BEBERT_KERNELS": "jit"})
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("torch"):
        # In a process of its own: the largest size of this one would count for all of its children.
        made = subprocess.run([sys.executable, "-c", PEER, str(folder)], check=True, capture_output=True, text=True)
        graph = str(Path(made.stdout.strip().splitlines()[-1]) / "model.onnx")
        onnx = python("onnx", "onnxruntime", "tokenizers", "numpy")
        commands["onnx-int8"] = ([*onnx, ONNX, graph, str(MODEL / "tokenizer.json"), TEXT], {})
        commands["onnx-ids"] = ([*onnx, ONNX_IDS, graph], {})
    return commands


def _process(command: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Seconds of a whole process, and its largest resident size in KiB."""
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT | environment)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    assert child.stderr is not None
    if status:
        raise SystemExit(child.stderr.read().decode())
    child.stderr.close()
    child.returncode = 0
    return seconds, usage.ru_maxrss


if __name__ == "__main__":
    main()
