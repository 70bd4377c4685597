"""Fold, pack, check and write an ensemble; nothing appears on disk unless the packed engine passes the parity check."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bebert_export.pack.card_metadata import CardFacts
from bebert_export.pack.model_card import model_card
from bebert_export.pack.pack_student import pack_student
from bebert_export.pack.parity import Parity, check_parity
from bebert_export.student.bert import Student
from bebert_export.student.schemes import settle_zero_weights
from bebert_infer.artifact.config import FORMAT, FORMAT_VERSION, Config, TokenizerConfig, check_alphas, usual_problem
from bebert_infer.artifact.folder import Artifact, finish_config, write_artifact
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import InputError


@dataclass(frozen=True)
class Written:
    """What was written: the config, the parity seen, and how many weights were exactly 0 and became +1."""

    config: Config
    parity: Parity
    zeros: int


def write_ensemble(
    students: list[Student],
    out: str | os.PathLike[str],
    *,
    alphas: list[float],
    combination: str,
    labels: list[str],
    problem: str | None = None,
    tokenizer_json: str | None = None,
    max_length: int | None = None,
    evidence: dict[str, Any] | None = None,
    card: str | None = None,
    facts: CardFacts | None = None,
) -> Written:
    """Write the members as one model folder.

    alphas      : one weight a member; combination : a rule of `bebert_infer.combine`
    labels      : names in the order of the logits
    problem     : what they mean, `problem_type` of a config; None for regression if there is one, else for classes that
                  exclude each other
    max_length  : token limit of the tokenizer, 1 to all positions, which is the default
    evidence    : facts for the config and the card, beside the parity that is measured here
    card        : what the model card should say first;  facts : what it should say to the hub

    Weights that are exactly 0 (or equal to their centre) become +1, in the students as well, and are counted.

    Raises InputError for members that do not belong together and for options that do not fit them, ParityError if the
    packed engine disagrees with PyTorch, ModelFormatError if `out` is taken or the model could not be read again.
    Existing models are replaced only after everything has passed.
    """
    if max_length is not None:
        _check_length(max_length, tokenizer_json, students)
    config, tensors, zeros = pack_ensemble(students, alphas, combination, labels, problem)
    if zeros and sum(settle_zero_weights(student) for student in students):
        # The graph computes with sgn0(0) = 0, the bits say +1: let both see a weight just above its threshold.
        config, tensors, _ = pack_ensemble(students, alphas, combination, labels, problem)
    if tokenizer_json is not None:
        length = TokenizerConfig(max_length or config.max_position_embeddings)
        config = msgspec.structs.replace(config, tokenizer=length)
    config, _ = finish_config(config, tensors)
    parity = check_parity(students, Ensemble(Artifact(Path(out), config, tensors, tokenizer_json), backend="native"))
    recorded = (evidence or {}) | {"parity": parity.summary(), "weights_exactly_zero": zeros}
    config = msgspec.structs.replace(config, evidence=recorded)
    config = write_artifact(out, config, tensors, tokenizer_json, model_card(config, tensors, card, facts))
    return Written(config, parity, zeros)


def pack_ensemble(
    students: list[Student], alphas: list[float], combination: str, labels: list[str], problem: str | None = None
) -> tuple[Config, dict[str, NDArray], int]:
    """Return config, tensors and the count of zero weights of an ensemble, not yet checked for parity."""
    if len(alphas) != len(students):
        raise InputError(f"{len(alphas)} alphas for {len(students)} members; pass one each")
    check_alphas(combination, np.array(alphas))
    shared = _shared(students)
    if len(labels) != shared["num_labels"]:
        raise InputError(f"{len(labels)} labels for {shared['num_labels']} outputs; pass one each")
    if len(set(labels)) < len(labels):
        raise InputError(f"the labels are {', '.join(labels)}; names must differ: pass others")
    tensors: dict[str, NDArray] = {"alphas": np.array(alphas, np.float64)}
    members, zeros = [], 0
    for index, student in enumerate(students):
        packed = pack_student(student.cpu())
        members.append(packed.config)
        tensors |= {f"members.{index}.{name}": tensor for name, tensor in packed.tensors.items()}
        zeros += packed.zeros
    config = Config(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        vocab_size=shared["vocab_size"],
        max_position_embeddings=shared["max_position_embeddings"],
        type_vocab_size=shared["type_vocab_size"],
        num_labels=shared["num_labels"],
        id2label={str(index): label for index, label in enumerate(labels)},
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=problem or usual_problem(len(labels)),  # type: ignore[arg-type]
        combination=combination,  # type: ignore[arg-type]
        members=members,
        tensors_sha256="",
        tensors_bytes=0,
    )
    return config, tensors, zeros


def _check_length(max_length: int, tokenizer_json: str | None, students: list[Student]) -> None:
    if tokenizer_json is None:
        raise InputError(f"max_length is {max_length}, but there is no tokenizer: pass one, or leave max_length out")
    positions = min(student.config.max_positions for student in students)
    if not 1 <= max_length <= positions:
        raise InputError(f"max_length is {max_length}; accepted are 1 to {positions}, the positions of the model")


def _shared(students: list[Student]) -> dict[str, int]:
    """Dimensions that all members must have in common, because they see the same tokens and answer the same labels."""
    names = {
        "vocab_size": "vocab_size",
        "max_position_embeddings": "max_positions",
        "type_vocab_size": "type_vocab_size",
        "num_labels": "num_labels",
    }
    shared = {}
    for name, attribute in names.items():
        values = [getattr(student.config, attribute) for student in students]
        if len(set(values)) > 1:
            raise InputError(f"the members have {name} {values}; members of one ensemble need the same")
        shared[name] = values[0]
    return shared
