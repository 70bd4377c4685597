"""A wheel alone is a whole runtime: no compiler, few megabytes, an answer from a folder that nobody may write to."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import ROOT, build, copy_sources
from libraries import present_level

pytestmark = pytest.mark.long
DIRECT = {"click", "msgspec", "numpy", "rich", "safetensors", "tokenizers"}
# Of the packages' own files. pip adds Python's caches of them (not with --no-compile): printed, and bounded.
MEGABYTES = 145
CACHES = 60
OTHERS = [f"python3.{minor}" for minor in range(11, 16) if minor != sys.version_info[1]]

# Every place is read only: what would write fails as the system call would. The answer is for machines.
ANSWER = """
import errno, os, sys

def read_only(event, arguments):
    if event == "open" and (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
                            or arguments[2] and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        if arguments[0] not in (1, 2, os.devnull):
            raise OSError(errno.EROFS, "Read-only file system", str(arguments[0]))
    if event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate", "os.chmod"):
        raise OSError(errno.EROFS, "Read-only file system", str(arguments[0]))

sys.addaudithook(read_only)
try:
    open("/tmp/anything", "w")
    sys.exit("the file system can be written")
except OSError:
    pass
from bebert_infer.cli.main import main
from bebert_infer.measure.sample_models import demo_path
sys.argv = ["bebert", "predict", str(demo_path()), "a gripping, funny film", "--json"]
try:
    main()
finally:
    assert not {"numba", "llvmlite", "pyarrow", "torch"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    present_level()
    folder = tmp_path_factory.mktemp("wheel")
    return build("wheel", copy_sources(folder / "source"), folder / "dist", "here")


def install(python: str, target: Path, *what: str, **environment: str) -> Path:
    """A new virtual environment with packages by pip, in the versions of constraints.txt; returns its Python."""
    subprocess.run([python, "-m", "venv", str(target)], check=True, capture_output=True, timeout=300)
    own = target / "bin" / "python"
    command = [str(own), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), *what]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # A path without compilers: whatever is not a wheel would end the installation.
    done = subprocess.run(
        command,
        env=inherited | {"PATH": str(own.parent)} | environment,
        capture_output=True,
        text=True,
        timeout=900,
        cwd=target,
    )
    assert done.returncode == 0, done.stderr
    return own


def answer(python: Path, folder: Path) -> None:
    """The shipped model answers with no HOME, no environment, and nothing that can be written."""
    done = subprocess.run(
        [str(python), "-B", "-c", ANSWER], env={"PATH": ""}, capture_output=True, text=True, timeout=300, cwd=folder
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert json.loads(done.stdout)[0]["label"] == "positive"


def sizes(python: Path) -> tuple[dict[str, int], int]:
    """Bytes of what lies in site-packages, but for pip and what comes with it; bytes of compiled caches."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    found: dict[str, int] = {}
    caches = 0
    for path in site.rglob("*"):
        name = path.relative_to(site).parts[0]
        if not path.is_file() or re.match(
            r"(pip|setuptools|pkg_resources|_distutils_hack|distutils-precedence)\b", name
        ):
            continue
        if "__pycache__" in path.parts:
            caches += path.stat().st_size
        else:
            found[name] = found.get(name, 0) + path.stat().st_size
    return found, caches


def test_the_wheel_alone_is_a_small_runtime(wheel, tmp_path):
    """What it is, how large, and that it needs no more than it says."""
    python = install(sys.executable, tmp_path / "venv", str(wheel))
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True, timeout=60
    )
    packages = {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)}
    found, caches = sizes(python)
    total = sum(found.values())
    print(*(f"{name} {version}" for name, version in sorted(packages.items())), sep="\n")
    print(
        *(f"{size / 1e6:7.2f} MB {name}" for name, size in sorted(found.items(), key=lambda item: -item[1])[:15]),
        sep="\n",
    )
    print(f"{total / 1e6:.1f} MB of packages, {caches / 1e6:.1f} MB of caches")
    assert packages.keys() >= DIRECT
    assert not packages.keys() & {"numba", "llvmlite", "pyarrow", "torch", "ziglang", "scipy", "pandas"}
    assert not packages.keys() & {"typer", "pydantic"}  # what read the command line before click did
    assert total <= MEGABYTES * 10**6 and caches <= CACHES * 10**6
    answer(python, tmp_path)
    doctor = subprocess.run(
        [str(python.parent / "bebert"), "doctor", "--json"],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    facts = json.loads(doctor.stdout)
    assert facts["self_test"]["passed"] and facts["code"]["from"] == "library", doctor.stderr


@pytest.mark.parametrize("name", OTHERS)
def test_one_wheel_serves_every_python(wheel, tmp_path, name):
    """Nothing in a library is of a Python."""
    if not shutil.which(name) or subprocess.run([name, "-c", "import venv, ensurepip"], capture_output=True).returncode:
        pytest.skip(f"there is no {name} here")
    answer(install(name, tmp_path / "venv", str(wheel)), tmp_path)


def test_a_source_distribution_is_compiled_when_it_is_installed(tmp_path):
    """By pip alone, which fetches what compiles, and leaves none of it behind."""
    packed = build("sdist", copy_sources(tmp_path / "source"), tmp_path / "dist", "none")
    python = install(sys.executable, tmp_path / "venv", str(packed))
    answer(python, tmp_path)
    assert "numba" not in sizes(python)[0] and "ziglang" not in sizes(python)[0]


def test_the_image_is_small_and_reads_only(wheel, tmp_path):
    """Dockerfile: built where docker runs. Elsewhere its installation is made in a folder, and this is said."""
    recipe = (ROOT / "Dockerfile").read_text("utf-8")
    assert "USER " in recipe and "--no-compile" in recipe
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "info"], capture_output=True, timeout=60).returncode == 0:
        source = copy_sources(tmp_path / "context")
        shutil.copyfile(ROOT / "Dockerfile", source / "Dockerfile")
        built = subprocess.run([docker, "build", "-q", str(source)], capture_output=True, text=True, timeout=1800)
        assert built.returncode == 0, built.stderr
        image = built.stdout.strip()
        run = [docker, "run", "--rm", "--read-only", "--network", "none", image]
        done = subprocess.run([*run, "demo"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        base = re.findall(r"^FROM (\S+)", recipe, re.MULTILINE)[-1]
        bytes_of = [
            int(subprocess.check_output([docker, "image", "inspect", "--format", "{{.Size}}", name]))
            for name in (image, base)
        ]
        print(f"docker: the image adds {(bytes_of[0] - bytes_of[1]) / 1e6:.1f} MB to {base}")
        assert bytes_of[0] - bytes_of[1] < 120 * 10**6
        return
    folder = tmp_path / "venv"
    python = install(sys.executable, folder, "--no-compile", str(wheel))
    found, caches = sizes(python)
    added = sum(found.values())
    print(f"no docker here: the steps of the recipe in a fresh folder add {added / 1e6:.1f} MB")
    assert caches == 0 and added < 120 * 10**6
    answer(python, tmp_path)
