"""Pieces of HTML for `page.py`; whatever is put into them is escaped."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from bebert_infer.bench.records import EngineFacts
from bebert_infer.bench.report.drawing import NONE
from bebert_infer.bench.report.plots import Picture


def paragraph(text: str, kind: str = "") -> str:
    """Text, of a CSS class."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(items: Iterable[str]) -> str:
    """A list of texts."""
    return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in items) + "\n</ul>"


def figure(picture: Picture) -> str:
    """A picture, inside the page, in a container that scrolls where it would become too small to read."""
    data, text = base64.b64encode(picture.file.read_bytes()).decode(), escape(picture.text)
    image = f'<img src="data:image/png;base64,{data}" alt="{text}">'
    return f'<figure><div class="scroll" tabindex="0">{image}</div><figcaption>{text}</figcaption></figure>'


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in a container of its own that scrolls; the first cell of a row names it."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    lines = (
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    name = escape(caption)  # above the container, since it would scroll away with the table
    return (
        f'<p class="caption">{name}</p>\n<div class="scroll" tabindex="0"><table aria-label="{name}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table></div>"
    )


def facts(rows: Iterable[tuple[str, Any]]) -> str:
    """Names and their values in words, which may take several lines."""
    lines = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(_words(value))}</td></tr>' for name, value in rows)
    return '<div class="scroll"><table class="facts">\n<tbody>\n' + "\n".join(lines) + "\n</tbody>\n</table></div>"


def _words(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def shown(engine: EngineFacts) -> str:
    """How tables call an engine."""
    return engine.name + (" (random weights)" if engine.random_weights else "")


def threads_in_words(count: int) -> str:
    """A number of threads."""
    return f"{count} thread" + "s" * (count > 1)
