"""Options that would do nothing are refused."""

from collections.abc import Collection

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
