"""The first run compiles on two cores: a helper process compiles the same stages from the other end of the list.

Numba compiles one thing at a time in a process, however many threads ask. What the helper has compiled is found in the
cache like anything else there, so it can fail, be missing or be late: then we compile more ourselves.
"""

import importlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bebert_kernels.abi.stage import Stage
from bebert_kernels.child_python import child_environment, python_command
from bebert_kernels.jit.kernel import cache_directory

WORTH = 3  # stages that are missing before a helper, which takes half a second to start, is worth it
_HELPER = "from bebert_kernels.abi.precompile import compile_all; compile_all(sys.argv[1])"


def precompile(stages: Sequence[Stage]) -> None:
    """Compile stages that no cache holds, with a helper where there are two cores and a cache to share."""
    missing = [stage for stage in stages if not stage.compiled.load()]
    if not missing:
        return
    with _helper(missing):
        for stage in missing:
            stage.compiled.compile()  # or take it from the cache, if the helper was there before us


@contextmanager
def _helper(missing: list[Stage]) -> Iterator[None]:
    directory = cache_directory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    process = None
    writable = directory is not None and os.access(directory, os.W_OK)
    if len(missing) >= WORTH and cores > 1 and writable:
        names = ",".join(stage.path for stage in reversed(missing))
        try:
            process = subprocess.Popen(
                python_command(_HELPER, names),
                env=child_environment(BEBERT_QUIET="1"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except (OSError, ValueError):
            process = None  # no Python to start, or a sandbox without processes
    try:
        yield
    finally:
        if process is not None:
            process.kill()  # it may be compiling what we have just compiled; files appear whole or not at all
            process.wait()


def compile_all(paths: str) -> None:
    """Compile stages named module:name, separated by commas; what the helper does."""
    for path in paths.split(","):
        module, name = path.split(":")
        stage: Stage = getattr(importlib.import_module(module), name)
        stage.compiled.compile()
