"""Load time, first answer and peak memory of one engine: figures of a process of its own.

The process imports what the engine needs, loads its files, answers once and prints JSON. Seconds count from the moment
before it is started, by a clock that all processes share.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bebert_infer.bench.engines import Engine
from bebert_infer.bench.turns import random_tokens
from bebert_kernels.child_python import child_environment, python_command

LIMIT = 600.0  # seconds
CODE = "from bebert_infer.bench.process import main; main()"


def process_figures(engine: Engine, threads: int, tokens: int, vocabulary: int) -> dict[str, Any] | str:
    """Run one engine in a process of its own on one random sentence.

    Returns load_s and first_answer_s, both from process start, and peak_rss_bytes; or why there are none, in words.
    """
    task = {
        "group": engine.group,
        "name": engine.name,
        "kind": engine.kind,
        "folder": str(engine.folder),
        "threads": threads,
        "tokens": tokens,
        "vocabulary": vocabulary,
    }
    try:
        command = python_command(CODE, json.dumps(task | {"started": time.monotonic()}))
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, env=child_environment()
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {LIMIT:.0f} s"
    except OSError as error:
        return f"no process of its own: {error}; run bebert with a Python"
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message; was it killed for its memory?"]
        return f"its process ended with {done.returncode}: {last[0]}"
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def main() -> None:
    """The process: its task is the first argument; the last line of what it prints is the answer."""
    task = json.loads(sys.argv[1])
    engine = Engine(task["group"], task["name"], task["kind"], Path(task["folder"]))
    call = engine.load(task["threads"])(random_tokens(task["vocabulary"], 1, task["tokens"]))
    loaded = time.monotonic() - task["started"]
    call()
    answered = time.monotonic() - task["started"]
    figures = {"load_s": round(loaded, 4), "first_answer_s": round(answered, 4), "peak_rss_bytes": peak_memory()}
    sys.stdout.write("\n" + json.dumps(figures) + "\n")
    sys.stdout.flush()
    os._exit(0)  # libraries that tear down their threads slowly are nobody's first answer


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes.

    VmHWM belongs to this program alone. `ru_maxrss` of a process that was started by a larger one is that one's: Linux
    keeps it across exec. It stands in where there is no /proc.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
