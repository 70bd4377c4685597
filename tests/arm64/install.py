"""Install what a board gets: an aarch64 wheel, or where there is none the packages with libraries compiled here.

    python tests/arm64/install.py FOLDER [WHEEL]

A WHEEL is installed as it is. Without one, a wheel in dist/ is taken if its Python files are those of this checkout,
for what is tested must be what stands here. Else the packages are copied, and libraries compiled for both boards, which
takes a minute and is done again only where kernels have changed.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from bebert_kernels.ahead.library import INDEX, sources_hash

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [ROOT / "bebert_infer", ROOT / "kernels" / "bebert_kernels", ROOT / "export" / "bebert_export"]
LIBRARIES = Path("bebert_kernels", "ahead", "libraries")


def sources() -> dict[str, bytes]:
    """Every Python file of the packages, by its place in a wheel."""
    return {
        file.relative_to(package.parent).as_posix(): file.read_bytes()
        for package in PACKAGES
        for file in package.rglob("*.py")
    }


def wheel_of_this_checkout() -> Path | None:
    """The wheel in dist/ that was built from these sources."""
    here = sources()
    for wheel in sorted((ROOT / "dist").glob("*aarch64.whl")):
        with zipfile.ZipFile(wheel) as archive:
            if {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")} == here:
                return wheel
        print(f"arm64: {wheel.name} in dist/ is of other sources and left alone", flush=True)
    return None


def install_wheel(wheel: Path, folder: Path) -> None:
    """As pip does on a board, which refuses a wheel that is not for it; what it requires is there already."""
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--only-binary=:all:"]
    options += ["--platform", "manylinux_2_17_aarch64", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)


def install_checkout(folder: Path, before: Path) -> None:
    """Copy the packages, and compile libraries unless those of `before` are of the same kernels."""
    for package in PACKAGES:
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__", "libraries"))
    index = before / LIBRARIES / INDEX
    if index.exists() and json.loads(index.read_text())["sources"] == sources_hash(folder / "bebert_kernels"):
        shutil.copytree(before / LIBRARIES, folder / LIBRARIES)
        return
    # From the copy: libraries go beside the code that compiles them.
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "bebert_kernels.compile.libraries", "aarch64"]
    subprocess.run(command, check=True, env=environment)


def main() -> None:
    """Install into FOLDER, all of it or nothing."""
    folder = Path(sys.argv[1]).absolute()
    wheel = Path(sys.argv[2]) if len(sys.argv) > 2 else wheel_of_this_checkout()
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    if wheel:
        install_wheel(wheel, new)
    else:
        install_checkout(new, folder)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    print(f"arm64: installed {wheel.name if wheel else 'the packages of this checkout'}")


if __name__ == "__main__":
    main()
