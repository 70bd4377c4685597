"""README as the first page of the site: `mkdocs.yml` calls this.

Links of README start at the root of the repository. Pages of `docs/` get their place in the site; files of the source
tree, which are not in the site, become plain text.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)")


def site_link(match: re.Match[str]) -> str:
    """One Markdown link of README as a link of the site."""
    text, target, anchor = match[1], match[2], match[3] or ""
    if target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')}{anchor})"
    return text


def on_files(files: Files, config: Any) -> Files:
    """Add `index.md`, made of README."""
    text = LINK.sub(site_link, (ROOT / "README.md").read_text(encoding="utf-8"))
    files.append(File.generated(config, "index.md", content=text))
    return files
