"""Printing for people: texts, names and paths of others as they stand, and tables that are not cut."""

from rich.console import Console
from rich.markup import escape

from bebert_infer.errors import safe

WIDTH = 120  # where the output is no terminal
JOINERS = "\u200c\u200d"  # no letters, but part of Persian words and of emoji


def plain(text: str) -> str:
    """Text of a file, or a path, on one line, without markup and without what would steer a terminal."""
    return escape("".join(map(_shown, safe(text))))


def _shown(letter: str) -> str:
    return letter if letter.isprintable() or letter in JOINERS else " " if letter.isspace() else "?"


def wide_console() -> Console:
    """As wide as the terminal, or wide enough for every table where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=max(WIDTH, console.width))
