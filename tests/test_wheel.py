"""The wheel holds every room, every recipe and the shipped model: an editable install would not miss them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Package -> the folder that it lies in, and how many rooms it has at least.
PACKAGES = {"bebert_infer": (ROOT, 8), "bebert_kernels": (ROOT / "kernels", 10), "bebert_export": (ROOT / "export", 10)}
# setuptools' own hook, called as pip calls it, but without pip, which would look for setuptools on the network.
BUILD = "import setuptools.build_meta as hook, sys; print(hook.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files of a wheel, built from a copy of the sources: a build leaves folders behind."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    for package, (folder, _) in PACKAGES.items():
        inside = source / folder.relative_to(ROOT) / package
        inside.parent.mkdir(exist_ok=True)
        inside.symlink_to(folder / package)
    command = [sys.executable, "-c", BUILD, str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_in_the_wheel(names, package):
    folder, rooms = PACKAGES[package]
    files = [path.relative_to(folder).as_posix() for path in (folder / package).rglob("*.py")]
    assert len({file.rpartition("/")[0] for file in files}) > rooms
    assert not set(files) - names, "a room without an __init__.py is left out"
    assert f"{package}/py.typed" in names


def test_files_that_are_no_code_are_in_the_wheel(names):
    for folder, pattern in (
        ("export/bebert_export/recipes", "*.toml"),
        ("bebert_infer/demo_model", "*"),
        ("bebert_infer/bench/report", "*.html"),
    ):
        found = [path.relative_to(ROOT).as_posix().removeprefix("export/") for path in (ROOT / folder).glob(pattern)]
        assert found and not set(found) - names


def test_nothing_else_is_in_the_wheel(names):
    """Tests, benchmarks, and plain folders that answer to `import kernels`."""
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
