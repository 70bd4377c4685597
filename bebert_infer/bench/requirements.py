"""What pip would install for a list of requirements, and which files that is, as this environment has them.

Nothing is fetched: requirements are followed through the metadata of what is installed here, with their markers, and a
distribution's files are those that its RECORD lists. Of bebert-infer itself a checkout may be in use (an editable
install, PYTHONPATH): its files are those that a wheel of it would hold, its requirements those of its pyproject.toml,
which may have changed since it was installed.
"""

import csv
import posixpath
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from bebert_infer.errors import BebertError
from bebert_infer.optional import load_package

OURS = "bebert-infer"
OUR_PACKAGES = ("bebert_infer", "bebert_kernels", "bebert_export")


class NoEnvironmentError(BebertError):
    """An engine cannot have an environment of its own here; the text says why in one sentence."""


def needed(requirements: Iterable[str], find: Callable[[str], Distribution] = distribution) -> dict[str, Distribution]:
    """Distributions that the requirements and theirs name, by normalized name; extras only where they are asked for.

    Raises NoEnvironmentError where one is not installed, MissingExtraError without the package packaging.
    """
    parse = load_package("packaging.requirements", "bench").Requirement
    normalized = load_package("packaging.utils", "bench").canonicalize_name
    found: dict[str, Distribution] = {}
    waiting = [(parse(line), "the engine") for line in requirements]
    done: set[tuple[str, str]] = set()
    while waiting:
        requirement, by = waiting.pop()
        name = normalized(requirement.name)
        if name not in found:
            try:
                found[name] = find(requirement.name)
            except PackageNotFoundError:
                raise NoEnvironmentError(f"{by} needs {requirement.name}, which is not installed") from None
        # A distribution is seen once for itself and once for each of its extras, as often as it is named.
        for extra in {"", *requirement.extras} - {extra for other, extra in done if other == name}:
            done.add((name, extra))
            for line in _requires(name, found[name]):
                one = parse(line)
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    waiting.append((one, requirement.name))
    return dict(sorted(found.items()))


def _requires(name: str, found: Distribution) -> list[str]:
    """Requirements as metadata has them, those of extras with a marker that says so."""
    project = _folder("bebert_infer").parent / "pyproject.toml"
    if name != OURS or not project.is_file():
        return found.requires or []
    about = tomllib.loads(project.read_text("utf-8"))["project"]
    extras = about["optional-dependencies"].items()
    return about["dependencies"] + [f'{line} ; extra == "{extra}"' for extra, lines in extras for line in lines]


def installed_files(name: str, found: Distribution) -> dict[str, Path]:
    """Files of a distribution below site-packages: their place there -> where they are.

    Scripts and what else lies outside is left out. Raises NoEnvironmentError where nothing says which files there are.
    """
    record = found.read_text("RECORD")
    if record is None and name == OURS:  # a checkout in which a build has left its metadata
        metadata = Path(str(found.locate_file("bebert_infer.egg-info/PKG-INFO")))
        return {"bebert_infer.egg-info/PKG-INFO": metadata} | dict(_checkout())
    if record is None:
        raise NoEnvironmentError(f"{name} has no RECORD, which would say which files are its own")
    files = {}
    for row in csv.reader(record.splitlines()):
        place = posixpath.normpath(row[0]) if row else "."
        if place != "." and not place.startswith(("../", "/")):
            files[place] = Path(str(found.locate_file(place)))
    if name == OURS and not _runs(files):
        about = {place: path for place, path in files.items() if ".dist-info/" in place}
        return about | dict(_checkout())
    if any(place.startswith("__editable__") for place in files):
        raise NoEnvironmentError(f"{name} is installed as editable, so that its RECORD does not list its files")
    return files


def _runs(files: dict[str, Path]) -> bool:
    """Whether the bebert_infer that runs is the one that is installed."""
    here = files.get("bebert_infer/__init__.py")
    return here is not None and here.is_file() and here.samefile(_folder("bebert_infer") / "__init__.py")


def _checkout() -> Iterator[tuple[str, Path]]:
    """Our packages where they are imported from: all files but byte code and the pages that explain a room."""
    for package in OUR_PACKAGES:
        folder = _folder(package)
        for path in folder.rglob("*"):
            page = path.name == "README.md" and (path.parent / "__init__.py").is_file()
            if path.is_file() and "__pycache__" not in path.parts and not page:
                yield (Path(package) / path.relative_to(folder)).as_posix(), path


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NoEnvironmentError(f"the package {package} cannot be found")
    return Path(next(iter(spec.submodule_search_locations)))
