"""README as the first page of the site, and the page that classifies as `demo/`: `mkdocs.yml` calls this.

Links of README start at the root of the repository. Pages of `docs/` get their place in the site; files of the source
tree, which are not in the site, become plain text. `docs/demo/build.py` makes the folder of the demo.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)")


NO_DEMO = """<!doctype html><html lang="en"><meta charset="utf-8"><title>bebert in the browser</title>
<p>This site was built without the page that classifies: install npm (apt install npm), and run make docs again.
"""


def site_link(match: re.Match[str]) -> str:
    """One Markdown link of README as a link of the site."""
    text, target, anchor = match[1], match[2], match[3] or ""
    if target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')}{anchor})"
    return text


def on_files(files: Files, config: Any) -> Files:
    """Add `index.md`, made of README, and the demo's files where they were built."""
    text = LINK.sub(site_link, (ROOT / "README.md").read_text(encoding="utf-8"))
    files.append(File.generated(config, "index.md", content=text))
    demo = ROOT / config["extra"]["demo"]
    built: dict[str, str | bytes] = {"index.html": NO_DEMO}
    if demo.is_dir():
        built = {path.name: path.read_bytes() for path in sorted(demo.iterdir())}
    for name, content in built.items():
        # Said to be included, since mkdocs.yml leaves out docs/demo, which is what the folder is made of.
        place = f"demo/{name}"
        files.append(File.generated(config, place, content=content, inclusion=InclusionLevel.INCLUDED))
    return files
