"""What the config of a checkpoint says its outputs mean, and whether the members of an ensemble mean the same."""

from pathlib import Path

import torch

from bebert_export.checkpoints.class_names import class_names
from bebert_export.checkpoints.published import Checkpoint
from bebert_export.data.batches import load_tokenizer
from bebert_infer.artifact.config import usual_problem
from bebert_infer.errors import CheckpointError


def problem_of(checkpoint: Checkpoint) -> str:
    """What the outputs are, by the config: one value, classes that exclude each other, or labels that do not.

    Raises CheckpointError for a problem that does not fit the number of outputs, or that is none of these.
    """
    outputs, problem = checkpoint.student.config.num_labels, checkpoint.raw_config.get("problem_type")
    usual = usual_problem(outputs)
    if problem not in (None, usual, "multi_label_classification"):
        raise CheckpointError(
            f"{checkpoint.source}: config.json has problem_type {problem!r:.80} and {outputs} "
            f"output{'s' if outputs > 1 else ''}; accepted are {usual} and multi_label_classification, other problems "
            "cannot be packed"
        )
    return problem or usual


def agree(checkpoints: list[Checkpoint], labels: list[str] | None) -> list[str]:
    """Names of the outputs of all members; those of a member that has them in another order are put in the first one's.

    labels : names for all members, whatever their configs say

    Raises CheckpointError, which names two members, for other names or another tokenizer.
    """
    first = checkpoints[0]
    for checkpoint in checkpoints:
        if problem_of(checkpoint) != problem_of(first) and _outputs(checkpoint) == _outputs(first):
            raise CheckpointError(
                f"{first.source} is a model of {problem_of(first)}, {checkpoint.source} of {problem_of(checkpoint)}; "
                "members of one ensemble answer the same question: mend problem_type, or convert them apart"
            )
    _check_tokenizers(checkpoints)
    if labels:
        return labels
    names = _names(first)
    for other in checkpoints[1:]:
        own = _names(other)
        if own == names or _outputs(other) != _outputs(first):
            continue  # another number of outputs is refused later, with all its numbers
        if own is None or names is None or sorted(own) != sorted(names):
            raise CheckpointError(
                f"{first.source} has the classes {_shown(names)}, {other.source} has {_shown(own)}; members of one "
                "ensemble need the same: mend id2label, or pass --labels if their order is the same"
            )
        order = torch.tensor([own.index(name) for name in names])
        with torch.no_grad():
            for parameter in (other.student.classifier.weight, other.student.classifier.bias):
                parameter.copy_(parameter[order].clone())
    return names or [f"LABEL_{index}" for index in range(first.student.config.num_labels)]


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds files of a tokenizer."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))


def _names(checkpoint: Checkpoint) -> list[str] | None:
    return class_names(checkpoint.raw_config, _outputs(checkpoint), checkpoint.source)


def _outputs(checkpoint: Checkpoint) -> int:
    return checkpoint.student.config.num_labels


def _check_tokenizers(checkpoints: list[Checkpoint]) -> None:
    folders = list(filter(has_tokenizer, dict.fromkeys(checkpoint.source.parent for checkpoint in checkpoints)))
    if len(folders) < 2:
        return
    texts = [load_tokenizer(folder).to_str() for folder in folders]
    for folder, text in zip(folders, texts, strict=True):
        if text != texts[0]:
            raise CheckpointError(
                f"the tokenizers of {folders[0]} and {folder} differ; members of one ensemble read the same token ids: "
                "convert members of one vocabulary and casing"
            )


def _shown(names: list[str] | None) -> str:
    return "no names" if names is None else ", ".join(names)
