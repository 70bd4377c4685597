"""What the parser of the command line is told beside the options: help texts, and texts that look like options."""

import ast
import inspect
from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand

HINT = 'a text that begins with "-" goes behind --, as in: bebert predict MODEL -- "-5 degrees"'


class TextCommand(TyperCommand):
    """A command that takes texts: one that begins with "-" is read as an option, and the error says what to do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base; the error about an unknown option gets the hint."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if hasattr(error, "possibilities") and hasattr(error, "message"):  # click's NoSuchOption
                error.message += f"; {HINT}"
            raise


def help_text(command: Callable[..., None]) -> str | None:
    """The docstring of a command; from its source where Python was told to drop docstrings (-OO)."""
    if command.__doc__ is not None:
        return inspect.getdoc(command)
    try:
        function = ast.parse(inspect.getsource(command)).body[0]
    except (OSError, SyntaxError):  # no source beside the compiled file
        return None
    return ast.get_docstring(function) if isinstance(function, ast.FunctionDef) else None
