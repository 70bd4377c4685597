"""A wheel holds every room, every recipe, the shipped model and the kernels of its targets; two builds are one."""

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from distributions import PACKAGES, READ, ROOT, build, copy_sources
from libraries import present_level

from bebert_infer.bench.requirements import OURS, installed_files

ROOMS = {"bebert_infer": 8, "bebert_kernels": 10, "bebert_export": 10}  # at least so many


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without compiled kernels, which take their time."""
    source = copy_sources(tmp_path_factory.mktemp("source"))
    return build("wheel", source, tmp_path_factory.mktemp("wheel"), "none")


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_in_the_wheel(names, package):
    folder = PACKAGES[package]
    files = [path.relative_to(folder).as_posix() for path in (folder / package).rglob("*.py")]
    assert len({file.rpartition("/")[0] for file in files}) > ROOMS[package]
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
    """Tests, benchmarks, what runs leave behind, and plain folders that answer to `import kernels`."""
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert not [name for name in names if name.endswith((".pyc", ".so")) or "/libraries/" in name]


def test_what_bebert_bench_counts_as_installed_of_a_checkout_is_what_the_wheel_holds(names):
    counted = {name for name in installed_files(OURS, distribution(OURS)) if not name.endswith(".pyc")}
    kernels = {name for name in counted if "/libraries/" in name}
    assert counted - kernels - {name for name in counted if ".dist-info/" in name} == {
        name for name in names if ".dist-info/" not in name
    }


def test_a_wheel_without_kernels_is_for_every_machine(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")


def test_two_builds_are_the_same_bytes(wheel, tmp_path):
    """From another folder, of files of another date, by somebody with another umask; the sources, too."""
    first, second = (copy_sources(tmp_path / name) for name in ("one", "the_other"))
    for path in second.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
    again = build("wheel", second, tmp_path / "dist", "none", umask=0o077)
    assert again.name == wheel.name and again.read_bytes() == wheel.read_bytes()
    packed = [
        build("sdist", first, tmp_path / "a", "none"),
        build("sdist", second, tmp_path / "b", "none", umask=0o077),
    ]
    assert packed[0].read_bytes() == packed[1].read_bytes()


def test_a_source_distribution_has_all_that_a_build_reads(tmp_path):
    """And builds the same wheel; a library that lies in the sources stays there."""
    source = copy_sources(tmp_path / "source")
    libraries = source / "kernels" / "bebert_kernels" / "ahead" / "libraries"
    libraries.mkdir()
    (libraries / "x86_64-avx2.so").write_bytes(b"of this machine")
    (libraries / "index.json").write_text("{}")
    packed = build("sdist", source, tmp_path / "dist", "none")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (inside,) = (tmp_path / "unpacked").iterdir()
    files = {path.relative_to(inside).as_posix() for path in inside.rglob("*") if path.is_file()}
    assert set(READ) <= files
    assert not [name for name in files if "/libraries/" in name or name.startswith(("tests/", "benchmarks/"))]
    again = [build("wheel", folder, tmp_path / name, "none") for folder, name in ((inside, "a"), (source, "b"))]
    assert again[0].read_bytes() == again[1].read_bytes()


def check_kernels(wheel: Path, architecture: str, levels: set[str]) -> None:
    """The index of a wheel is of the files that are in it."""
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist() if name.startswith("bebert_kernels/")}
    folder = "bebert_kernels/ahead/libraries"
    index = json.loads(content[f"{folder}/index.json"])
    assert set(index["libraries"]) == {architecture} and set(index["libraries"][architecture]) == levels
    for level, sha256 in index["libraries"][architecture].items():
        assert hashlib.sha256(content.pop(f"{folder}/{architecture}-{level}.so")).hexdigest() == sha256
    assert not [name for name in content if name.endswith(".so")]
    sources = hashlib.sha256()
    for name in sorted(Path(name) for name in content if name.endswith(".py")):
        inside = name.relative_to("bebert_kernels").as_posix()
        sources.update(inside.encode() + b"\0" + content[name.as_posix()] + b"\0")
    assert index["sources"] == sources.hexdigest()


@pytest.mark.long
def test_a_wheel_for_an_architecture_fits_what_its_name_says(tmp_path):
    """A Raspberry Pi's, built here, twice with the same bytes; auditwheel reads it."""
    pytest.importorskip("auditwheel", reason="auditwheel is not installed (extra dev)")
    made = []
    for name in ("one", "the_other"):
        made.append(build("wheel", copy_sources(tmp_path / name), tmp_path / name / "dist", "aarch64"))
    assert made[0].name.endswith("-py3-none-manylinux_2_17_aarch64.whl")
    assert made[0].read_bytes() == made[1].read_bytes()
    check_kernels(made[0], "aarch64", {"neon", "dotprod"})
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(made[0])], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and '"manylinux_2_17_aarch64"' in done.stdout.replace("\n", " "), (
        done.stdout + done.stderr
    )


@pytest.mark.long
def test_a_wheel_for_this_machine_is_for_it_alone(tmp_path):
    """Its name keeps it from being published."""
    made = build("wheel", copy_sources(tmp_path / "source"), tmp_path / "dist", "here")
    architecture, level = present_level()
    assert made.name.endswith(f"-py3-none-linux_{architecture}.whl")
    check_kernels(made, architecture, {level})


@pytest.mark.parametrize("wanted", ["avx2", "here none", "x86_64-avx1024"])
def test_targets_that_there_are_not_end_the_build(tmp_path, wanted):
    """With what is accepted, and without a wheel that has no kernels."""
    with pytest.raises(AssertionError, match=r"accepted are here, x86_64, aarch64.*|BEBERT_TARGETS=none installs"):
        build("wheel", copy_sources(tmp_path / "source"), tmp_path / "dist", wanted)
    assert not list((tmp_path / "dist").iterdir())


def test_builds_use_the_versions_that_tests_use():
    """setup.py reads them from constraints.txt; a build elsewhere would make other bytes."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert {line.partition("==")[0] for line in lines} >= {"llvmlite", "numba", "numpy", "ziglang", "setuptools"}
