"""An environment that holds only what the user of one engine installs, made without a network and without a copy.

It is a virtual environment whose site-packages has links to the files of what is installed here. Whatever is not in it
cannot be imported, so that a start is that of its user, and the bytes of its files are what installing it costs.

Byte code that pip wrote is linked as well, and a start writes what is missing into the environment: from the second one
on all engines find theirs. It counts for nobody's size, because not every installer writes it.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bebert_infer.bench.requirements import NoEnvironmentError, installed_files, needed
from bebert_kernels.child_python import runs_python


@dataclass(frozen=True)
class Environment:
    """What an engine is started in.

    python   : its Python;  packages : what is in it, as in "numpy 2.4.6"
    bytes    : of the files of all packages as they are installed, each once, without byte code and scripts
    """

    python: Path
    packages: tuple[str, ...]
    bytes: int


def make_environment(requirements: Iterable[str], folder: Path) -> Environment:
    """Make an environment for these requirements in `folder`, which does not exist. Raises NoEnvironmentError."""
    try:
        found = needed(requirements)
        files: dict[str, Path] = {}
        for name, one in found.items():
            files |= installed_files(name, one)
        python, packages = _virtual_environment(folder)
        size = _link(files, packages)
    except (OSError, ValueError) as error:  # ValueError: metadata or folders that packaging and venv cannot read
        raise NoEnvironmentError(f"no environment of its own: {' '.join(str(error).split())}") from None
    return Environment(python, tuple(f"{name} {one.version}" for name, one in found.items()), size)


def _virtual_environment(folder: Path) -> tuple[Path, Path]:
    """An empty one: its Python and its site-packages.

    An application that embeds Python is not asked for one: what it would start is itself.
    """
    for executable in (sys.executable, getattr(sys, "_base_executable", sys.executable)):
        if not runs_python(executable) or not Path(executable).is_file():
            raise NoEnvironmentError(
                f"no environment of its own: sys.executable is {executable!r:.200}, no Python that could be started; "
                "run bebert with a Python"
            )
    try:
        import venv  # some systems have it in a package of its own
    except ImportError:
        raise NoEnvironmentError("no environment of its own: this Python has no module venv; install it") from None

    builder = venv.EnvBuilder(with_pip=False, symlinks=True)
    builder.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    return folder / "bin" / "python", packages


def _link(files: dict[str, Path], packages: Path) -> int:
    """Link files to their places below `packages`; returns their bytes. What is listed and not there costs nothing."""
    size, made = 0, set()
    for place, path in files.items():
        try:
            of_file = path.stat().st_size
        except FileNotFoundError:
            continue
        target = packages / place
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        target.symlink_to(path.absolute())
        size += 0 if target.suffix == ".pyc" else of_file
    return size
