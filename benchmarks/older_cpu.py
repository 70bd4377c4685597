"""`bebert bench` as on an x86 CPU without AVX-512, VNNI and AMX: a small board's instructions on a newer machine.

    python benchmarks/older_cpu.py --data dev.tsv          # options of bebert bench
    python benchmarks/older_cpu.py --no-record bebert_infer/demo_model --tokens 16,32,64

All engines are told that the CPU has AVX2 and nothing newer (`older_cpu.c`), and take the code that they have for that.
Clock, caches and the number of ports stay those of this machine: ratios between engines are near those of an older CPU,
milliseconds are not. The record says what was hidden. Needs Linux, a C compiler, and a CPU whose CPUID can fault (Intel
since Ivy Bridge, AMD since Zen 4; under KVM all).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from record import RESULTS

HIDDEN = "AVX-512, VNNI and AMX hidden"
ASK = "from numpy._core._multiarray_umath import __cpu_features__ as f; print(f['AVX2'], f['AVX512F'])"


def main(options: list[str]) -> None:
    """Run `bebert bench` with these options, and append its record."""
    keeps = "--no-record" not in options
    options = [option for option in options if option != "--no-record"]
    with tempfile.TemporaryDirectory(prefix="bebert-older-") as folder:
        library, record = Path(folder) / "older_cpu.so", Path(folder) / "record.jsonl"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, source], check=True)
        environment = os.environ | {"LD_PRELOAD": str(library), "BEBERT_ISA": "avx2"}
        told = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False)
        if told.stdout.split() != ["True", "False"]:
            raise SystemExit(f"AVX-512 cannot be hidden here: {(told.stderr or told.stdout).strip()}")
        command = [sys.executable, "-m", "bebert_infer", "bench", *options, "--record", str(record)]
        subprocess.run(command, env=environment, check=True)
        run = json.loads(record.read_text("utf-8").splitlines()[-1])
    run["machine"]["cpu"] += f", {HIDDEN}"
    if keeps:
        with (RESULTS / "bench.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(run, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
