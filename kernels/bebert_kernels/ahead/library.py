"""The library of compiled stages that came with the package: found, checked, loaded.

    libraries/<architecture>-<level>.so      one for each level of `cpu/isa.py` that the package was built for
    libraries/index.json                     hash of the kernel sources, and of each library

A library is code that runs, so it comes from the package's own folder and from nowhere else, and only if its bytes are
those of the index and the sources beside it those that it was made of. Nothing is repaired: whatever does not fit ends
in one sentence.
"""

import ctypes
import functools
import hashlib
import json
import platform
from pathlib import Path
from typing import Any, NamedTuple

from bebert_kernels.cpu import isa

PACKAGE = Path(__file__).parents[1]
FOLDER = PACKAGE / "ahead" / "libraries"
INDEX = "index.json"
PREFIX = "bebert_"  # of the name of a stage in a library
NEXT = "install the package again, or pip install 'bebert-infer[jit]' and set BEBERT_KERNELS=jit to compile here"
ARCHITECTURES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class LibraryError(ValueError):
    """There is no library for this machine, or it is not what was built.

    unexpected : whether there are libraries, so that one was to be expected
    """

    def __init__(self, message: str, unexpected: bool = True):
        super().__init__(message)
        self.unexpected = unexpected


class Library(NamedTuple):
    """A loaded library.

    level, features : what it was compiled for; levels : what BEBERT_ISA may ask for, smallest first
    file, sha256    : of itself; sources : hash of the kernel sources
    why             : this level and no other, in words
    """

    level: str
    features: frozenset[str]
    levels: tuple[str, ...]
    file: Path
    sha256: str
    sources: str
    why: str
    handle: ctypes.CDLL

    def address(self, stage: str) -> int:
        """Address of the function of a stage. Raises LibraryError for a name that it lacks."""
        try:
            function = getattr(self.handle, PREFIX + stage)
        except AttributeError:
            raise LibraryError(f"{self.file} has no stage {stage}; {NEXT}") from None
        return ctypes.cast(function, ctypes.c_void_p).value or 0


@functools.cache
def open_library(folder: Path = FOLDER) -> Library:
    """Load the library for this CPU and BEBERT_ISA. Raises LibraryError, and isa.IsaError for a wrong level."""
    machine = platform.machine()
    index = _index(folder)
    architecture = ARCHITECTURES.get(machine)
    built = index["libraries"].get(architecture, {})
    if not built:
        others = ", ".join(index["libraries"]) or "none"
        raise LibraryError(f"the kernels of this package are for {others}, this machine is {machine}; {NEXT}", False)
    level, why = _level(machine, built)
    file = folder / f"{architecture}-{level}.so"
    sources = sources_hash()
    if index["sources"] != sources:
        raise LibraryError(
            f"the compiled kernels are of other sources ({index['sources'][:12]}, here are {sources[:12]}); {NEXT}"
        )
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise LibraryError(f"{file} cannot be read ({error.strerror}); {NEXT}") from None
    if found != built[level]:
        raise LibraryError(f"{file} has the sha256 {found[:12]}, it was built as {built[level][:12]}; {NEXT}")
    try:
        handle = ctypes.CDLL(str(file))
    except OSError as error:
        raise LibraryError(f"{file} cannot be loaded ({error}); {NEXT}") from None
    features = frozenset(isa.level_features(level, machine))
    return Library(level, features, _levels(machine, built), file, found, sources, why, handle)


def sources_hash(package: Path = PACKAGE) -> str:
    """Hash over the Python files of the kernels; what makes libraries of them counts as well."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _index(folder: Path) -> Any:
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
    except FileNotFoundError:
        raise LibraryError(f"this package came without compiled kernels; {NEXT}", False) from None
    except (OSError, ValueError, RecursionError) as error:
        raise LibraryError(f"{folder / INDEX} cannot be read ({error}); {NEXT}") from None
    if not (isinstance(index, dict) and isinstance(index.get("sources"), str) and _named(index.get("libraries"))):
        raise LibraryError(f"{folder / INDEX} is damaged; {NEXT}")
    return index


def _named(libraries: Any) -> bool:
    """Whether it says a SHA-256 for every level of every architecture."""
    return isinstance(libraries, dict) and all(
        isinstance(levels, dict) and all(isinstance(sha256, str) for sha256 in levels.values())
        for levels in libraries.values()
    )


def _levels(machine: str, built: dict[str, str]) -> tuple[str, ...]:
    """Levels that this CPU runs and the package has, smallest first, and `native`; all where nothing is known of it."""
    host = isa.host_features()
    runs = isa.available_levels(machine, host)
    return tuple(level for level in runs if level in built or level == isa.NATIVE) if host else tuple(built)


def _level(machine: str, built: dict[str, str]) -> tuple[str, str]:
    """The level to load and why: that of BEBERT_ISA, else the highest that this CPU runs and the package has."""
    host = isa.host_features()
    wanted = isa.chosen_level()
    if wanted != isa.NATIVE:
        if host:  # where nothing is known of the CPU, the user knows
            isa.features_of(wanted, machine, host, built)  # raises for what this CPU cannot run
        if wanted not in built:
            have = ", ".join(built)
            raise LibraryError(f'BEBERT_ISA is "{wanted}"; this package has kernels for {have}: choose one of them')
        return wanted, "BEBERT_ISA"
    if not host:
        raise LibraryError(
            f"the operating system does not say what this CPU can do; set BEBERT_ISA to one of {', '.join(built)}"
        )
    runs = _levels(machine, built)[:-1]
    if not runs:
        raise LibraryError(
            f"this CPU has {', '.join(isa.vector_features(host)) or 'no vectors'}, the compiled kernels need more: "
            f"they are for {', '.join(built)}; {NEXT}"
        )
    return runs[-1], f"the highest of {', '.join(built)} that this CPU runs"
