"""Code of docs/examples.md, cut out of the page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "examples.md").read_text("utf-8")


def example(name: str) -> str:
    """The code block of the page whose first line is the name of its file."""
    (code,) = re.findall(rf"```\w+\n((?:#|//) {re.escape(name)}\b.*?)```", PAGE, re.DOTALL)
    return str(code)


def node(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example in a folder; skips the test where there is no node."""
    if shutil.which("node") is None:
        pytest.skip("there is no node on this machine")
    (folder / name).write_text(example(name), "utf-8")
    return subprocess.run(["node", name, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
