"""One start of one engine, as its user would write it and timed from outside: ready, first answer, largest memory.

A program prints the line "loaded" when it could be asked, and "answer …" with what it was asked for; then it waits, so
that its memory can be read, and is killed: libraries that tear down their threads slowly are nobody's first answer.
"""

import json
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bebert_infer.bench.engines import PACKED, Engine
from bebert_infer.bench.environment import Environment
from bebert_infer.bench.turns import random_tokens
from bebert_infer.errors import BebertError
from bebert_infer.optional import load_export
from bebert_kernels.child_python import child_environment

LIMIT = 600.0  # seconds
LOADED, ANSWER = b"loaded", b"answer"
TEXT = "a gripping, funny film"
# -I: nothing but the environment is imported from, whatever variables and the current folder say.
NUMPY = """
import sys, numpy
print("loaded", flush=True)
print("answer", flush=True)
sys.stdin.read()
"""
OURS = """
import sys
from bebert_infer import Ensemble
ensemble = Ensemble.from_pretrained(sys.argv[1], threads=int(sys.argv[2]))
print("loaded", flush=True)
print("answer", ensemble(sys.argv[3]), flush=True)
sys.stdin.read()
"""
OURS_ON_TOKENS = OURS.replace("import sys", "import json, sys").replace(
    "ensemble(sys.argv[3])", "ensemble.logits([json.loads(sys.argv[3])])"
)


class NoStartError(BebertError):
    """An engine that was started gave no answer; the text says why in one sentence."""


@dataclass(frozen=True)
class Question:
    """What all engines of a group answer first: a text, or ready token ids where there is no tokenizer.

    tokenizer : file that peers read the text with; ours has it in its folder
    given     : the text, or token ids as JSON;  words : what tables call it
    """

    tokenizer: Path | None
    given: str
    words: str


def question(tokenizer: Path | None, vocabulary: int, tokens: int) -> Question:
    """TEXT, or `tokens` random token ids."""
    if tokenizer is not None:
        return Question(tokenizer, TEXT, f'the text "{TEXT}"')
    ids = random_tokens(vocabulary, 1, tokens)[0].tolist()
    return Question(None, json.dumps(ids), f"{tokens} ready token ids (it has no tokenizer)")


def engine_command(engine: Engine, environment: Environment, asked: Question, threads: int) -> list[str]:
    """The program of an engine's user."""
    python = [str(environment.python), "-I"]
    if engine.kind == PACKED:
        program = OURS_ON_TOKENS if asked.tokenizer is None else OURS
        return [*python, "-c", program, str(engine.folder), str(threads), asked.given]
    loaders = Path(str(load_export("peers.loaders").__file__))
    tokenizer = "" if asked.tokenizer is None else str(asked.tokenizer)
    return [*python, str(loaders), engine.name, str(engine.folder), str(threads), tokenizer, asked.given]


def numpy_command(environment: Environment) -> list[str]:
    """The floor of all starts: what no user of NumPy can be quicker than."""
    return [str(environment.python), "-I", "-c", NUMPY]


def start(command: list[str]) -> dict[str, Any]:
    """Start a program once. Raises NoStartError where it ends, or takes too long, before it has answered.

    Returns load_s and first_answer_s, from before its process was made until its lines were read, and peak_rss_bytes,
    None where the system does not tell.
    """
    seconds: dict[bytes, float] = {}
    memory, late = None, threading.Event()
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=child_environment()
            )
        except OSError as error:
            raise NoStartError(f"its process cannot be started: {error}") from None

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(LIMIT, end)
        timer.start()
        try:
            for line in process.stdout or ():
                word = line.partition(b" ")[0].strip()
                if word in (LOADED, ANSWER):
                    seconds[word] = round(time.perf_counter() - started, 4)
                if word == ANSWER:
                    memory = peak_memory(process.pid)
                    break
            else:
                process.wait()  # what it ended with is to be told
        finally:
            timer.cancel()
            process.kill()
            with process:  # closes its pipes, and waits for it alone: whom it started may still hold them
                pass
        if set(seconds) == {LOADED, ANSWER}:
            return {"load_s": seconds[LOADED], "first_answer_s": seconds[ANSWER], "peak_rss_bytes": memory}
        if late.is_set():
            raise NoStartError(f"no answer in {LIMIT:.0f} s")
        errors.seek(0)
        last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
    why = last[0] if last else "no message; was it killed for its memory?"
    raise NoStartError(f"its process ended with {process.returncode}: {why:.300}")


def peak_memory(process: int | str) -> int | None:
    """The largest resident memory of a running process so far, in bytes; None where there is no /proc.

    VmHWM belongs to that program alone. `ru_maxrss` of a process that was started by a larger one is that one's: Linux
    keeps it across exec.
    """
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None
