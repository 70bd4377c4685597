"""Options that would do nothing, or fail at the end, are refused at once: before minutes of work, not after."""

import tempfile
from collections.abc import Collection
from pathlib import Path

import typer

from bebert_infer.errors import InputError


def refuse_unused(context: typer.Context, what: str, names: Collection[str]) -> None:
    """Raise InputError if the user passed any of these parameters, of which `what` would take no notice."""
    given = [
        parameter.opts[0] if parameter.param_type_name == "option" else f"the argument {parameter.name}"
        for parameter in context.command.params
        if parameter.name in names and _passed(context, parameter.name)
    ]
    if given:
        raise InputError(f"{what} has no use for {', '.join(given)}; leave {'them' if len(given) > 1 else 'it'} out")


def _passed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_target(folder: Path, option: str, value: Path) -> None:
    """Raise InputError if files cannot be made in a folder or, where it is not there yet, in the one to hold it.

    A file is made and goes again: the permission bits do not tell for root, nor for /proc or a read-only disk.
    option, value : what the user passed, for the message
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(
            f'{option} is "{value}", where nothing can be written: {error.strerror}; choose another place'
        ) from None
