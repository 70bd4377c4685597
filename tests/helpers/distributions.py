"""Wheels and source distributions, built from copies of the sources: a build leaves folders behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"bebert_infer": ROOT, "bebert_kernels": ROOT / "kernels", "bebert_export": ROOT / "export"}
READ = ("pyproject.toml", "setup.py", "MANIFEST.in", "constraints.txt", "CHANGELOG.md", "README.md", "LICENSE")
# setuptools' own hooks, called as pip calls them, but without pip, which would look for setuptools on the network.
BUILD = "import setuptools.build_meta as hook, sys; print(getattr(hook, 'build_' + sys.argv[1])(sys.argv[2]))"


def copy_sources(target: Path) -> Path:
    """What a build reads, without what earlier builds and runs left in the checkout."""
    target.mkdir(parents=True, exist_ok=True)
    for name in READ:
        shutil.copyfile(ROOT / name, target / name)
    left = shutil.ignore_patterns("libraries", "__pycache__", "*.egg-info")
    for package, folder in PACKAGES.items():
        shutil.copytree(folder / package, target / folder.relative_to(ROOT) / package, ignore=left)
    return target


def build(kind: str, source: Path, target: Path, targets: str, umask: int = 0o022) -> Path:
    """Build a `wheel` or `sdist` of a copy of the sources with BEBERT_TARGETS; returns the file."""
    pytest.importorskip("setuptools", minversion="77")
    needed = ("numba", "ziglang") if targets != "none" else ()
    for package in needed:
        pytest.importorskip(package, reason=f"{package} is not installed (extra dev)")
    target.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SOURCE_DATE_EPOCH")}
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(target)],
        cwd=source,
        env=inherited | {"BEBERT_TARGETS": targets},
        capture_output=True,
        text=True,
        timeout=900,
        umask=umask,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target / done.stdout.split()[-1]
