"""Weights of a folder in the Hugging Face layout: what is asked for is what is loaded, or one sentence says why not.

transformers draws what is missing at random and leaves out what it does not know; a model made of that answers, but
it answers nothing that anybody trained.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from bebert_export.checkpoints.untrusted_pickle import check_finite, without_pickles
from bebert_export.quiet_transformers import quiet_transformers
from bebert_infer.errors import BebertWarning, DataError, first_line

# Of DataParallel, of torch.compile, of a trainer's own module. No family in the Hugging Face layout that is read here
# has a `model.` of its own before every name.
WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.|model\.)+")
ADAPTER = "adapter_config.json"
# Of other tasks, or none: what may lack in an encoder, and what may be too much in any model.
HEADS = ("classifier.", "bert.pooler.", "pooler.", "cls.", "qa_outputs.", "lm_head.", "vocab_")


def load_weights(
    kind: Any, folder: Path, what: str, *, lacking: tuple[str, ...] = (), redrawn: str | None = None, config: Any = None
) -> tuple[Any, dict[str, Any]]:
    """A transformers model of a folder, in float32 and evaluation mode, and the library's report on its names.

    kind    : the class whose `from_pretrained` loads it;  what : to call it in errors
    lacking : beginnings of names that may be missing: the library draws them at random
    redrawn : beginning of names that may have another shape: they mean something else
    config  : instead of that of the folder

    A wrapper around all names (`module.`, `_orig_mod.`, `model.`) is taken off, with a BebertWarning. Raises DataError
    for weights that are missing, unknown, of another shape, not finite or not readable.
    """
    refuse_adapter(folder)
    try:
        with quiet_transformers(), without_pickles(folder) as safe:
            wrapped = wrapper_of(_names(safe))
            loaded: Any = kind.from_pretrained(
                safe,
                **({} if config is None else {"config": config}),
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # told below, in one sentence
                key_mapping={f"^{re.escape(wrapped)}": ""} if wrapped else None,
            )
    except DataError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"{folder} has no readable weights ({first_line(error)}); put those of {what} there, as model.safetensors"
        ) from None
    model, report = loaded
    model.config.return_dict = True  # whatever the folder says: outputs are asked for by name
    if wrapped:
        say_wrapper(str(folder), wrapped)
    _check_names(folder, report, what, lacking)
    for name, found, wanted in sorted(report["mismatched_keys"]):
        if redrawn is None or not name.startswith(redrawn):
            raise DataError(
                f"{folder} has {name} of the shape {tuple(found)}, its config.json makes it {tuple(wanted)}; "
                "put files there that belong together"
            )
    check_finite(model, folder)
    return model.eval(), report


def refuse_adapter(folder: Path) -> None:
    """Raise DataError for a folder with weights that only count together with others (PEFT), which nobody would add."""
    if (folder / ADAPTER).is_file():
        raise DataError(
            f"{folder} holds an adapter ({ADAPTER}), whose base is elsewhere; merge both with merge_and_unload() and "
            "pass the folder of the whole model"
        )


def wrapper_of(names: list[str]) -> str:
    """What was put before all of these names; empty if not all of them have the same."""
    found = {match.group() if (match := WRAPPERS.match(name)) else "" for name in names}
    return found.pop() if len(found) == 1 else ""


def say_wrapper(source: str, wrapped: str) -> None:
    """Warn that the names are not those of the file."""
    warnings.warn(f"{source}: names of weights begin with {wrapped}, which was taken off", BebertWarning, stacklevel=3)


def check_shapes(source: Path, found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """Raise DataError unless the weights of a stage of a run have the names and shapes of its student."""
    again = "delete it, and the same command makes that stage again"
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found or name not in wanted:
            said = "lacks" if name in wanted else "has unknown"
            raise DataError(f"{source} {said} weights: {name}; {again}")
        shapes = tuple(found[name].shape), tuple(wanted[name].shape)
        if shapes[0] != shapes[1]:
            raise DataError(f"{source} has {name} of the shape {shapes[0]}, expected is {shapes[1]}; {again}")


def _names(folder: Path) -> list[str]:
    names: list[str] = []
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            names += tensors.keys()
    return names


def _check_names(folder: Path, report: dict[str, Any], what: str, lacking: tuple[str, ...]) -> None:
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(lacking))
    unknown = sorted(
        name for name in report["unexpected_keys"] if not name.startswith(HEADS) and not name.endswith(".position_ids")
    )
    for names, said in ((missing, "lacks"), (unknown, "has unknown")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            other = f"; it has {', '.join(unknown[:2])}" if said == "lacks" and unknown else ""
            raise DataError(
                f"{folder} {said} weights: {', '.join(names[:3])}{more}{other}; put the weights there that its "
                f"config.json describes, under the names that transformers gives those of {what}"
            )
