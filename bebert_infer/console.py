"""Printing for people: texts, names and paths of others as they stand, and tables that are not cut.

Rich is imported by whoever prints with it: help and JSON do without.
"""

from typing import TYPE_CHECKING

from bebert_infer.errors import safe

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120  # where the output is no terminal
JOINERS = "\u200c\u200d"  # no letters, but part of Persian words and of emoji


def one_line(text: str) -> str:
    """Text of others on one line, without what would steer a terminal."""
    return "".join(map(_shown, safe(text)))


def plain(text: str) -> str:
    """The same for Rich, which would read brackets as markup."""
    from rich.markup import escape

    return escape(one_line(text))


def _shown(letter: str) -> str:
    return letter if letter.isprintable() or letter in JOINERS else " " if letter.isspace() else "?"


def stdout_console() -> "Console":
    """For answers: standard output."""
    from rich.console import Console

    return Console()


def stderr_console() -> "Console":
    """For what is said beside them: standard error."""
    from rich.console import Console

    return Console(stderr=True)


def wide_console() -> "Console":
    """As wide as the terminal, or wide enough for every table where there is none."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(WIDTH, console.width))
