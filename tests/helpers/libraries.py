"""Compiled libraries for tests, and copies of the kernels' package to damage: the real one is left alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from bebert_kernels.ahead.library import FOLDER, INDEX, PACKAGE, LibraryError, open_library
from bebert_kernels.compile.libraries import build, here

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("BEBERT_", "NUMBA_")  # what decides which code runs


def libraries_of(levels: Sequence[tuple[str, str]], folder: Path) -> Path:
    """A folder with the libraries of these (architecture, level): the package's own if it has them, else built."""
    try:
        open_library.__wrapped__(FOLDER)
        index = json.loads((FOLDER / INDEX).read_text("utf-8"))["libraries"]
        if all(level in index.get(architecture, {}) for architecture, level in levels):
            return FOLDER
    except (LibraryError, OSError):
        pass
    for package in ("numba", "ziglang"):
        if find_spec(package) is None:
            pytest.skip(f"there is no fresh library, and {package} is not installed to make one (extra dev)")
    build(levels, folder)
    return folder


def copy_package(target: Path, libraries: Path = FOLDER, levels: Sequence[tuple[str, str]] = ()) -> Path:
    """A copy of the kernels' package and the libraries of these levels only; returns the folder to import from."""
    package = target / "bebert_kernels"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("libraries", "__pycache__"))
    if not levels:
        return target
    inside = package / "ahead" / "libraries"
    inside.mkdir()
    index = json.loads((libraries / INDEX).read_text("utf-8"))
    kept: dict[str, dict[str, str]] = {}
    for architecture, level in levels:
        shutil.copy(libraries / f"{architecture}-{level}.so", inside)
        kept.setdefault(architecture, {})[level] = index["libraries"][architecture][level]
    (inside / INDEX).write_text(json.dumps({"sources": index["sources"], "libraries": kept}), encoding="utf-8")
    return target


def run(code: str, kernels: Path, *, numba: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has `bebert_kernels` from this folder, and with `numba=False` no compiler."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (kernels, ROOT))), "PYTHONDONTWRITEBYTECODE": "1"}
    if "BEBERT_CACHE_DIR" in os.environ:
        paths["BEBERT_CACHE_DIR"] = os.environ["BEBERT_CACHE_DIR"]
    bare = "" if numba else "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None\n"
    return subprocess.run(
        [sys.executable, "-c", bare + code],
        env=inherited | paths | environment,
        capture_output=True,
        text=True,
        timeout=900,
        cwd=kernels,
    )


def present_level() -> tuple[str, str]:
    """Architecture and highest level of this machine; skips the test where there is none."""
    try:
        return here()
    except ValueError as error:
        pytest.skip(str(error))
