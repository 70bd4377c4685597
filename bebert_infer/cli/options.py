"""Options that several commands have, options made of a dataclass, and the refusal of those that would do nothing."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from bebert_infer.errors import InputError

Model = Annotated[Path, typer.Argument(help="Folder of a packed model.", show_default=False)]
Threads = Annotated[
    int | None,
    typer.Option(help="Thread budget. Default: BEBERT_THREADS, else what the machine grants.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")]

Command = Callable[..., None]


def options_of(definition: type, **flags: str) -> Callable[[Command], Command]:
    """Give a command, which takes `**values`, the fields of a dataclass as options beside its own parameters.

    A field is Annotated[type, help]. Lists are written with commas, see `listed`; flags : the one name of an option
    that has no opposite.
    """
    hints = get_type_hints(definition, include_extras=True)

    def parameter(name: str, default: Any) -> inspect.Parameter:
        kind, text = get_args(hints[name])
        if _item_type(kind) is not None:
            kind, default = str | None, None
        names = [flags[name]] if name in flags else []
        option = typer.Option(*names, help=text, show_default=default not in (None, inspect.Parameter.empty))
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )

    def decorate(command: Command) -> Command:
        own = inspect.signature(command)
        plain = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        needed = [parameter(f.name, inspect.Parameter.empty) for f in fields(definition) if f.default is MISSING]
        others = [parameter(f.name, f.default) for f in fields(definition) if f.default is not MISSING]
        ordered = [*needed, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in plain), *others]
        command.__signature__ = own.replace(parameters=ordered)  # type: ignore[attr-defined]
        return command

    return decorate


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
    for option in (kind, *get_args(kind)):
        if get_origin(option) is tuple:
            item: type = get_args(option)[0]
            return item
    return None


def _items(name: str, text: str, item: type) -> tuple[Any, ...]:
    try:
        return tuple(item(word.strip()) for word in text.split(",") if item is str or word.strip())
    except ValueError:
        raise InputError(f'{name} is "{text}"; accepted are whole numbers with commas, as in 2 or 4,2') from None


def refuse_unused(context: typer.Context, what: str, names: Collection[str]) -> None:
    """Raise InputError if the user passed any of these parameters, of which `what` would take no notice."""
    given = [
        parameter.opts[0] if parameter.param_type_name == "option" else f"the argument {parameter.name}"
        for parameter in context.command.params
        if parameter.name is not None and parameter.name in names and _passed(context, parameter.name)
    ]
    if given:
        raise InputError(f"{what} has no use for {', '.join(given)}; leave {'them' if len(given) > 1 else 'it'} out")


def _passed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
