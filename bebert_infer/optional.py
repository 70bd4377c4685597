"""Commands that need torch or matplotlib load them only when called, and say what to install where they are missing."""

import importlib
import sys
from types import ModuleType

from bebert_infer.errors import InputError, MissingExtraError

# These import transformers, which cannot be imported without docstrings: it makes code of them.
NEED_DOCSTRINGS = ("train", "augment", "peers")


def load_export(module: str, extra: str = "export") -> ModuleType:
    """Import `bebert_export.<module>`.

    Raises MissingExtraError with the pip command if its extra is missing, InputError where Python has no docstrings.
    """
    if sys.flags.optimize > 1 and module.split(".")[0] in NEED_DOCSTRINGS:
        raise InputError(
            "Python was told to drop docstrings (-OO or PYTHONOPTIMIZE=2), without which the package transformers "
            "cannot be imported; run this command without it, or with -O"
        )
    try:
        return importlib.import_module(f"bebert_export.{module}")
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0].startswith("bebert"):
            raise  # our own code is broken; no pip command would help
        raise MissingExtraError(
            f'this command needs the package "{error.name}": pip install "bebert-infer[{extra}]"'
        ) from None


def load_package(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package; raises MissingExtraError with the pip command if it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).split(".")[0]
        raise MissingExtraError(f'this needs the package "{package}": pip install "bebert-infer[{extra}]"') from None
