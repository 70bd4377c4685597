"""How long a new process takes to its first answer, in units of `import numpy`, on an emulated board.

    python tests/arm64/first_answer.py cortex-a72 PYTHONPATH

Emulation makes everything some ten times as slow, but not all of it equally, so only the ratio says something of a
board. Contestants take turns, so that what else the machine does falls on all of them; medians are compared, of the
clock and of the time on a core, which a busy machine lengthens less.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".arm64"
MODEL = HOME / "site" / "bebert_infer" / "demo_model"
TEXT = "a gripping, funny film"
ROUNDS = 7
AT_MOST = 4  # times `import numpy`: what the project wants
PYTHON = f"from bebert_infer import Ensemble; Ensemble.from_pretrained({str(MODEL)!r})({TEXT!r})"
CONTESTANTS = {
    "import numpy": ["-c", "import numpy"],
    "first answer, Python": ["-c", PYTHON],
    "first answer, bebert predict": ["-m", "bebert_infer", "predict", str(MODEL), TEXT],
}


def seconds(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """By the clock, and on a core, of one process."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(HOME / "python"), *words], env=environment, check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print seconds and ratios; fails where more time on a core is taken than is wanted."""
    board, paths = sys.argv[1:]
    environment = os.environ | {"BOARD": board, "PYTHONPATH": paths}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(ROUNDS + 1):
        for name, words in CONTESTANTS.items():
            taken[name].append(seconds(words, environment))
    # In the first round Python compiles files and keeps them.
    medians = {
        name: [statistics.median(kind) for kind in zip(*found[1:], strict=True)] for name, found in taken.items()
    }
    slow: list[str] = []
    for name, (clock, core) in medians.items():
        ratios = [own / unit for own, unit in zip((clock, core), medians["import numpy"], strict=True)]
        print(
            f"arm64: {board}: {name}: {clock:.2f} s emulated, {core:.2f} s on a core; "
            f"{ratios[0]:.2f} and {ratios[1]:.2f} times import numpy (wanted: at most {AT_MOST})"
        )
        slow += [name] if ratios[1] > AT_MOST else []
    if slow:
        sys.exit(f"arm64: {board}: {', '.join(slow)}: more than {AT_MOST} times import numpy")


if __name__ == "__main__":
    main()
