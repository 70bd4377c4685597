"""Students that have learned a larger task before: they go on from another run's first student.

    bebert train --init E                        --task mnli --members 1 --out runs/mnli
    bebert train --init runs/mnli/full_precision --task rte --start-from runs/mnli --out runs/rte

What a full-precision encoder brings along from a larger task is lost in part when its weights become binary, and a few
thousand examples do not bring it back (docs/log.md, "Pairs of texts"): the student has to learn that task too. So its
encoder takes the place of full-precision weights; its head stays that of this run's own full-precision model.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bebert_export.checkpoints.pretrained import local_folder, read_config
from bebert_export.data.batches import load_tokenizer, read_tokenizer
from bebert_export.pipeline.run_folder import EARLIER, RunFolder
from bebert_export.student.bert import Student
from bebert_export.student.schemes import find_scheme, full_name, stored_state
from bebert_infer.errors import InputError

HEAD = "classifier."
# What the shapes and the arithmetic of an encoder depend on, beside its words.
SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
)


@dataclass(frozen=True)
class StudentForm:
    """What decides the shape of a student and of the stages before it."""

    base: str
    scheme: str
    steps: list[int]
    width: float

    @staticmethod
    def of(values: Mapping[str, Any]) -> "StudentForm":
        """Of a run with these options."""
        scheme, base = full_name(values["scheme"], values["base"])
        return StudentForm(base, scheme, list(values["steps"]), values["width"])

    @property
    def first_stage(self) -> str:
        """Stage of the first student of a run: what its members split, the first of its steps, or a member itself."""
        if find_scheme(self.scheme, self.base).splits:
            return "ternary"
        return f"student_{self.steps[0]}bit" if self.steps else "member_0"


def earlier_student(
    start_from: Path, init: str, vocabulary_size: int | None, form: StudentForm, run: RunFolder
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights of the student of the run `start_from`, without its head, and their sha256 as a fact.

    init, vocabulary_size, form : of the new run, whose first student they are for
    A run keeps a copy of what is returned, so one that has full precision goes on where the other run is gone.
    Raises InputError, before anything is trained, if the other run has no student that fits this one.
    """
    file = start_from / "stages" / f"{form.first_stage}.safetensors"
    if not (run.has("full_precision") and run.has(EARLIER)):
        _check(start_from, file, init, vocabulary_size, form)
    elif not file.is_file():
        return run.load(EARLIER)
    try:
        state = stored_state(load_file(file))
    except (OSError, SafetensorError) as error:
        raise _damaged(start_from, error) from None
    state = {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}
    return state, {"sha256": hashlib.sha256(save(state)).hexdigest()}


def _damaged(folder: Path, error: object) -> InputError:
    return InputError(f"{folder} is no whole run ({error}); repeat its command to mend it")


def _check(folder: Path, file: Path, init: str, vocabulary_size: int | None, form: StudentForm) -> None:
    """Raise InputError unless the other run has the student, and form, words and sizes are those of this run."""
    own_encoder, encoder = local_folder(init), folder / "full_precision"
    if not file.is_file():
        raise InputError(
            f'start_from is "{folder}", which has no stages/{file.name}; pass the folder of a `bebert train` run with '
            "the same base that has come so far"
        )
    try:
        other = StudentForm.of(json.loads((folder / "options.json").read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"options.json: {error!r}") from None
    for name, wanted in asdict(form).items():
        if getattr(other, name) != wanted:
            raise InputError(f"{folder} has the {name} {getattr(other, name)}, this run {wanted}; they must be equal")
    if vocabulary_size is not None:
        raise InputError(
            f"vocabulary_size is {vocabulary_size}; the words of the student in {folder} must stay: leave it "
            "out, and trim in that run"
        )
    if read_tokenizer(encoder).get_vocab() != load_tokenizer(own_encoder).get_vocab():
        raise InputError(f"the words of {folder} and of {init} differ; pass {encoder} as init")
    configs = read_config(encoder), read_config(own_encoder)
    for name in SIZES:
        found, wanted = (getattr(config, name) for config in configs)
        if found != wanted:
            raise InputError(f"{folder} has the {name} {found}, {init} {wanted}; pass {encoder} as init")


def copy_encoder(student: Student, run: RunFolder) -> None:
    """Put the weights that the run has kept into its first student, whose head stays.

    Raises InputError if they have other shapes.
    """
    new, _ = run.load(EARLIER)
    own = {name: tensor for name, tensor in student.state_dict().items() if not name.startswith(HEAD)}
    for name in sorted(own.keys() | new.keys()):
        found, wanted = (tuple(state[name].shape) if name in state else "no shape" for state in (new, own))
        if found != wanted:
            raise InputError(f"start_from has {name} of {found}, this run of {wanted}; pass a run of this encoder")
    student.load_state_dict(new, strict=False)
