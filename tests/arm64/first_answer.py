"""How long a new process takes to its first answer, in units of `import numpy`, on an emulated board.

    python tests/arm64/first_answer.py cortex-a72 PYTHONPATH

Emulation makes everything some ten times as slow, but not all of it equally, so only the ratio says something of a
board. Contestants take turns, so that what else the machine does falls on all of them; the medians are compared.
"""

import os
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


def main() -> None:
    """Print seconds and ratios."""
    board, paths = sys.argv[1:]
    environment = os.environ | {"BOARD": board, "PYTHONPATH": paths}
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(ROUNDS + 1):
        for name, words in CONTESTANTS.items():
            started = time.perf_counter()
            subprocess.run([str(HOME / "python"), *words], env=environment, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    # The first round writes what Python compiles of its files, and measures products.
    medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    for name, median in medians.items():
        ratio = median / medians["import numpy"]
        print(f"arm64: {board}: {name}: {median:.2f} s emulated, {ratio:.2f} times import numpy (wanted: {AT_MOST})")


if __name__ == "__main__":
    main()
