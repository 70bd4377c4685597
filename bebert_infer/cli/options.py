"""Options that several commands have, options made of a dataclass, and the refusal of those that would do nothing."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click

from bebert_infer.cli.usage import argument, option
from bebert_infer.errors import InputError


def path(text: str) -> Path:
    """A path of the command line, or of a recipe, which can hold what no argument can: a zero byte."""
    if "\0" in text:
        raise ValueError("a path has no zero byte")
    return Path(text)


Command = Callable[..., Any]

MODEL = "Folder of a packed model, or its name on the hub: owner/name or owner/name@revision."
model = argument("model", help=MODEL)
threads = option("--threads", type=int, help="Thread budget. Default: BEBERT_THREADS, else what the machine grants.")
as_json = option("--json", "as_json", is_flag=True, help="Print JSON for machines instead of a table.")


def options_of(definition: type, **flags: str) -> Callable[[Command], Command]:
    """Give a command, which takes `**values`, the fields of a dataclass as options beside its own parameters.

    A field is Annotated[type, help]. Lists are written with commas, see `listed`; flags : the one name of an option
    that has no opposite.
    """
    hints = get_type_hints(definition, include_extras=True)

    def decorate(command: Command) -> Command:
        for field in reversed(fields(definition)):
            kind, text = get_args(hints[field.name])
            name, settings = "--" + field.name.replace("_", "-"), _settings(kind)
            if kind is bool:
                name = flags.get(field.name, f"{name}/--no-{name[2:]}")
            if field.default is MISSING:
                settings["required"] = True
            elif _item_type(kind) is None:
                settings["default"] = field.default
            command = option(field.name, name, help=text, **settings)(command)
        return command

    return decorate


def _settings(kind: Any) -> dict[str, Any]:
    """What an option is told about a type, or a type or None."""
    if kind is bool:
        return {"is_flag": True}
    if _item_type(kind) is not None:
        return {"type": str}
    (known,) = {kind, *get_args(kind)} & {str, int, float, Path}
    return {"type": path if known is Path else known}


def listed(definition: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of options as the dataclass has them: what was written with commas as a tuple. Raises InputError."""
    hints = get_type_hints(definition)
    return {
        name: value if (item := _item_type(hints[name])) is None or value is None else _items(name, value, item)
        for name, value in values.items()
        if value is not None or type(None) in get_args(hints[name])
    }


def _item_type(kind: Any) -> type | None:
    """What a tuple, or a tuple or None, holds; None for other types."""
    for part in (kind, *get_args(kind)):
        if get_origin(part) is tuple:
            item: type = get_args(part)[0]
            return item
    return None


def _items(name: str, text: str, item: type) -> tuple[Any, ...]:
    try:
        return tuple(item(word.strip()) for word in text.split(",") if item is str or word.strip())
    except ValueError:
        raise InputError(f'{name} is "{text}"; accepted are whole numbers with commas, as in 2 or 4,2') from None


def word_list(text: str | None) -> tuple[str, ...]:
    """Words that were written with commas."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def refuse_unused(context: click.Context, what: str, names: Collection[str]) -> None:
    """Raise InputError if the user passed any of these parameters, of which `what` would take no notice."""
    given = [
        parameter.opts[0] if parameter.param_type_name == "option" else f"the argument {parameter.name}"
        for parameter in context.command.params
        if parameter.name is not None and parameter.name in names and _passed(context, parameter.name)
    ]
    if given:
        raise InputError(f"{what} has no use for {', '.join(given)}; leave {'them' if len(given) > 1 else 'it'} out")


def _passed(context: click.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
