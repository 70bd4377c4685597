"""Help of a command: options under headings, examples as they stand; and texts that look like options."""

import ast
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import click

HINT = 'a text that begins with "-" goes behind --, as in: bebert predict MODEL -- "-5 degrees"'


class Option(click.Option):
    """An option that help shows under the heading `group`, with its environment variable."""

    def __init__(self, *names: Any, group: str = "Options", **settings: Any) -> None:
        super().__init__(*names, **{"show_envvar": "envvar" in settings} | settings)
        self.group = group


class Argument(click.Argument):
    """An argument with a help of its own, which click has only from 8.5 on."""

    def __init__(self, *names: Any, help: str = "", **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.help, self.group = help, "Arguments"

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """As of an option: what is written, and what it means."""
        return self.make_metavar(ctx), f"{self.help}  [required]" if self.required else self.help or ""


class Command(click.Command):
    """A command whose help comes from the docstring of its function."""

    def __init__(self, *names: Any, **settings: Any) -> None:
        super().__init__(*names, **settings | {"help": help_text(settings["callback"])})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As the base; every error knows its command, which click forgets where an option lacks its value."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Nothing: arguments are a section like the others."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Sections in the order of the parameters; in each, what must be given comes first."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in sorted(self.get_params(ctx), key=lambda parameter: not parameter.required):
            if record := parameter.get_help_record(ctx):
                sections.setdefault(getattr(parameter, "group", "Options"), []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class TextCommand(Command):
    """A command that takes texts: one that begins with "-" is read as an option, and the error says what to do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As the base; the error about an unknown option gets the hint."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            message = f"{error.message.rstrip('.')}; {HINT}"
            raise click.NoSuchOption(error.option_name, message, error.possibilities, ctx) from None


command = partial(click.command, cls=Command)
option = partial(click.option, cls=Option)
argument = partial(click.argument, cls=Argument)


def help_text(function: Callable[..., Any]) -> str | None:
    r"""The docstring of a command; from its source where Python was told to drop docstrings (-OO).

    A line of \b tells click to leave the paragraph below it as it is.
    """
    text = function.__doc__
    if text is None:
        try:
            tree = ast.parse(inspect.getsource(function)).body[0]
        except (OSError, SyntaxError):  # no source beside the compiled file
            return None
        text = ast.get_docstring(tree) if isinstance(tree, ast.FunctionDef) else None
    return None if text is None else inspect.cleandoc(text).replace("\n\\b\n", "\n\b\n")
