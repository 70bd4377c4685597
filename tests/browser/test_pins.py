"""The demo's packages are pinned, with hashes, and no file names a host to fetch them from but npm's own registry."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serving import checkout

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "docs" / "demo"
REGISTRY = "https://registry.npmjs.org/"


def test_versions_are_exact_and_have_hashes():
    wanted = json.loads((DEMO / "package.json").read_text("utf-8"))["dependencies"]
    assert set(wanted) == {"onnxruntime-web", "@huggingface/tokenizers"}
    packages = json.loads((DEMO / "package-lock.json").read_text("utf-8"))["packages"]
    assert packages.pop("")["dependencies"] == wanted
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert packages[f"node_modules/{name}"]["version"] == version
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert package.get("resolved", REGISTRY).startswith(REGISTRY)


def test_no_file_names_a_strange_host():
    for file in (path for path in DEMO.iterdir() if path.is_file()):  # Python may have left __pycache__ there
        hosts = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+(?::\d+)?/?", file.read_text("utf-8")))
        assert hosts <= {REGISTRY}, file.name


def test_without_npm_the_build_is_one_sentence(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
    command = [sys.executable, str(DEMO / "build.py"), str(tmp_path / "demo")]
    variables = checkout("export") | {"PATH": str(tmp_path)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "npm is not installed" in done.stderr
    assert list(tmp_path.iterdir()) == []
