"""Every file and module that a comment, a docstring, a script or a page names exists; in code only one can be meant."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from posixpath import normpath

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("bebert_infer", "kernels", "export", "benchmarks", "tests", "docs")
PACKAGES = {"bebert_infer": ROOT, "bebert_kernels": ROOT / "kernels", "bebert_export": ROOT / "export"}
HISTORY = {"docs/log.md", "CHANGELOG.md"}  # they name files as they were called then
FILE = re.compile(r"(?<![\w./*}$-])(?!/)[\w./*-]*[\w*]\.(?:py|sh|toml|md|cpuinfo)\b")
MODULE = re.compile(r"\bbebert_(?:infer|kernels|export)(?:\.\w+)+")
# What users, other projects and model folders have: no file of ours.
OTHERS = {
    "README.md",
    "__init__.py",
    "setup.py",
    "kernels/__init__.py",
    "modeling.py",
    "torch.py",
    "task.toml",
    "index.md",
}


@cache
def files() -> list[str]:
    """Paths of all files of the repository, from its root."""
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix not in (".pyc", "")]
    paths = [*inside, *(path for path in ROOT.iterdir() if path.is_file())]
    return sorted(path.relative_to(ROOT).as_posix() for path in paths if path.is_file())


def prose(path: str) -> Iterator[str]:
    """Comments and docstrings of Python code; all of a page or a script."""
    text = (ROOT / path).read_text("utf-8")
    if not path.endswith(".py"):
        yield text
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def meant(name: str, place: str) -> list[str]:
    """Files that `name` in the file `place` may mean: by its neighbours, by the whole path, by the end of a path."""
    folder = place.rpartition("/")[0]
    beside = normpath(f"{folder}/{name}".lstrip("/"))
    for wanted in (beside, name):
        if found := [path for path in files() if fnmatch(path, wanted)]:
            return found
    return [path for path in files() if fnmatch(path, f"*/{name}")]


SPEAKING = [path for path in files() if path.endswith((".py", ".md", ".sh", ".toml", "Makefile"))]
SPEAKING = [path for path in SPEAKING if path not in HISTORY]


def test_there_is_much_to_look_at():
    assert len(SPEAKING) > 300 and "Makefile" in SPEAKING


@pytest.mark.parametrize("path", SPEAKING)
def test_files_that_are_named_exist(path):
    for name in {name for text in prose(path) for name in FILE.findall(text)} - OTHERS:
        found = meant(name, path)
        assert found, f"{path} names {name}, which is nowhere"
        if path.endswith(".md") or "*" in name:  # a page may speak of a file that every room has
            continue
        assert len(found) == 1, f"{path} names {name}: {', '.join(found)}? Write its room, too"


@pytest.mark.parametrize("path", SPEAKING)
def test_modules_that_are_named_exist(path):
    for name in {name for text in prose(path) for name in MODULE.findall(text)}:
        parts = name.split(".")
        place = PACKAGES[parts[0]] / parts[0]
        while (place / "__init__.py").exists() and len(parts) > 1:
            parts = parts[1:]
            place /= parts[0]
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if not file.exists() and len(parts) == 1:  # a name in the room's own __init__
            file = place.parent / "__init__.py"
            parts = ["", *parts]
        assert file.exists(), f"{path} names {name}, which is nowhere"
        if len(parts) > 1:
            assert re.search(rf"\b{parts[1]}\b", file.read_text("utf-8")), f"{path} names {name}, which is nowhere"
