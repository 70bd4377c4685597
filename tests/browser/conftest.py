"""A browser, and the site as `make docs` builds it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM, OPTIONS
from serving import checkout

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def chromium():
    """Chromium without a window. Of a module, not longer: its event loop would be in the way of other tests."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra browser)")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt install chromium, or name one in BEBERT_CHROMIUM")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def demo_folder(chromium, tmp_path_factory):
    """What docs/demo/build.py makes; `make test-browser` has made it already and names it."""
    if built := os.environ.get("DEMO_FOLDER"):
        return Path(built).resolve()
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra onnx)")
    if shutil.which("npm") is None:
        pytest.skip("there is no npm, which fetches ONNX Runtime for browsers")
    folder = tmp_path_factory.mktemp("demo") / "demo"
    run(sys.executable, ROOT / "docs" / "demo" / "build.py", folder)
    return folder


@pytest.fixture(scope="module")
def site(demo_folder, tmp_path_factory):
    """The site of documentation with the demo in it."""
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed (extra dev)")
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    run(*command, DEMO_FOLDER=str(demo_folder))
    return folder


def run(*command: object, **environment: str) -> None:
    """Run a command in the root of the repository; it must succeed."""
    variables = checkout("export") | environment
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
