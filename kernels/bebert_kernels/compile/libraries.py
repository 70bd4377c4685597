"""Libraries of all stages, for this machine or for every level of an architecture, and their index.

    python -m bebert_kernels.compile.libraries here                  what this CPU runs best, into the package
    python -m bebert_kernels.compile.libraries x86_64 aarch64        every level of both

Each level is compiled by a process of its own, for Numba knows one target, and linked by `zig cc` against the oldest C
library that manylinux_2_17 allows. The same sources and versions give the same bytes.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bebert_kernels.ahead.library import ARCHITECTURES, FOLDER, INDEX, PACKAGE, sources_hash
from bebert_kernels.compile.object_file import CPUS
from bebert_kernels.cpu import isa

HERE = "here"
GLIBC = "2.17"


def targets_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """(architecture, level) of names: `here`, an architecture for all of its levels, or architecture-level."""
    found = []
    for name in names:
        architecture, _, level = name.partition("-")
        if name == HERE:
            found.append(here())
        elif architecture in CPUS and (level or None) in (None, *CPUS[architecture]):
            found += [(architecture, one) for one in ([level] if level else CPUS[architecture])]
        else:
            raise ValueError(
                f'target is "{name}"; accepted are {HERE}, {", ".join(CPUS)}, or one level, as x86_64-avx2'
            )
    return list(dict.fromkeys(found))


def here() -> tuple[str, str]:
    """Architecture and highest level of this machine. Raises ValueError for a machine without levels."""
    machine = platform.machine()
    levels = isa.available_levels(machine, isa.host_features())
    architecture = ARCHITECTURES.get(machine, "")
    known = [level for level in levels if level in CPUS.get(architecture, {})]
    if architecture and not isa.host_features():
        named = ", ".join(f"{architecture}-{level}" for level in CPUS[architecture])
        raise ValueError(f"the operating system does not say what this CPU can do; name its level: {named}")
    if not known:
        raise ValueError(f"there are no levels for {machine}; accepted are {', '.join(CPUS)}")
    return architecture, known[-1]


def build(targets: Sequence[tuple[str, str]], folder: Path = FOLDER) -> None:
    """Compile and link the libraries of these targets into a folder, with their index. Raises RuntimeError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bebert-zig-") as cache, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = list(pool.map(lambda target: _library(target[0], target[1], folder, cache), targets))
    libraries: dict[str, dict[str, str]] = {}
    for (architecture, level), sha256 in zip(targets, made, strict=True):
        libraries.setdefault(architecture, {})[level] = sha256
    index = {"sources": sources_hash(), "libraries": libraries}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    for file in folder.glob("*.so"):  # of an earlier build
        if tuple(file.stem.split("-")) not in targets:
            file.unlink()


def _library(architecture: str, level: str, folder: Path, cache: str) -> str:
    """Make one library; returns its sha256.

    cache : folder where the linker keeps the C library that it makes, if ZIG_GLOBAL_CACHE_DIR names none; its own
            default is in the home folder, which need not exist
    """
    with tempfile.TemporaryDirectory(prefix="bebert-build-") as name:
        made = Path(name) / "stages.o"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, sys.path)])}
        environment |= {"PYTHONHASHSEED": "0"}
        _run([sys.executable, "-m", "bebert_kernels.compile.object_file", architecture, level, str(made)], environment)
        library = Path(name) / "library.so"
        link = ["-shared", "-target", f"{architecture}-linux-gnu.{GLIBC}", "-s", "-Wl,--gc-sections", "-Wl,-z,defs"]
        _run(
            [sys.executable, "-m", "ziglang", "cc", *link, "-o", str(library), str(made), "-lm"],
            {"ZIG_GLOBAL_CACHE_DIR": cache} | os.environ,
        )
        content = library.read_bytes()
    target = folder / f"{architecture}-{level}.so"
    whole = target.with_suffix(".part")
    whole.write_bytes(content)
    whole.replace(target)  # another file: a process may have the old one mapped
    return hashlib.sha256(content).hexdigest()


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[1:6])} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}"
        )


if __name__ == "__main__":
    try:
        build(targets_of(sys.argv[1:] or [HERE]))
    except (RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
