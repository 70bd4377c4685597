"""Names of a checkpoint's outputs: what `id2label` and `label2id` of its config say, checked against each other."""

from collections.abc import Mapping
from typing import Any

from bebert_infer.errors import CheckpointError

# Heads that have the names and shapes of one that classifies texts, and mean something else.
OTHER_HEADS = ("ForTokenClassification", "ForMultipleChoice")


def class_names(raw: Mapping[str, Any], outputs: int | None, source: object) -> list[str] | None:
    """Names in the order of the outputs; None where the config gives none, or only LABEL_0, LABEL_1 and so on.

    raw : the config;  outputs : how many the weights have, None to take as many as there are names
    source : whose config it is, for errors

    Raises CheckpointError for names that are not one for each output, and for a label2id that contradicts them.
    """
    for architecture in raw.get("architectures") or ():
        if str(architecture).endswith(OTHER_HEADS):
            raise CheckpointError(
                f"{source}: config.json has architectures {architecture!r:.80}, whose outputs do not classify texts; "
                "pass a model that was made for sequence classification"
            )
    found = raw.get("id2label")
    if found is None:
        return None
    named = {str(index): name for index, name in enumerate(found)} if isinstance(found, list) else found
    count = outputs or (len(named) if isinstance(named, dict) else 1)
    numbers = [str(index) for index in range(count)]
    if not isinstance(named, dict) or sorted(named) != sorted(numbers):
        raise _wrong(source, "id2label", found, f"one name for each output, 0 to {count - 1}")
    names = [named[number] for number in numbers]
    if not all(isinstance(name, str | int) and not isinstance(name, bool) for name in names):
        raise _wrong(source, "id2label", found, "names that are texts")
    names = [str(name) for name in names]
    if len(set(names)) < len(names):
        raise _wrong(source, "id2label", found, "names that differ")
    generic = [f"LABEL_{number}" for number in numbers]
    back = raw.get("label2id")
    wanted = {name: index for index, name in enumerate(names)}
    if back not in (None, wanted, {name: index for index, name in enumerate(generic)}):
        raise _wrong(source, "label2id", back, f"what id2label says, {wanted}")
    return None if names == generic else names


def _wrong(source: object, field: str, value: Any, accepted: str) -> CheckpointError:
    shown = f"{source}: config.json has {field} {value!r:.120}"
    return CheckpointError(f"{shown}; accepted is {accepted}: mend it, or pass --labels")
