"""Pages tell the truth about the tree: every link and every file that they name exists; the site builds strictly."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = ("bebert_infer", "kernels", "export", "benchmarks", "tests")
PAGES += [path for room in ROOMS for path in sorted((ROOT / room).rglob("README.md")) if "demo_model" not in path.parts]
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(page.read_text("utf-8")):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(place), f"{page.name} links to {link}; {place.name} has {sorted(anchors(place))}"


def test_the_readme_is_read_in_minutes():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 120


def test_every_page_of_the_site_is_in_its_contents():
    folder = ROOT / "docs"
    pages = {page.relative_to(folder).as_posix() for page in folder.rglob("*.md")} | {"index.md"}
    assert set(re.findall(r": ([a-z_/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)) == pages


def test_the_site_builds_without_a_warning(tmp_path):
    if find_spec("mkdocstrings") is None:
        pytest.skip("mkdocstrings is not installed (extra dev)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ensemble.from_pretrained" in (tmp_path / "site" / "api.html").read_text("utf-8")
    assert "one sentence" in (tmp_path / "site" / "architecture.html").read_text("utf-8").lower()
