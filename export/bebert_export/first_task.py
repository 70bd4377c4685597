"""Students that have learned a larger task before: they go on from another run's first student.

    bebert train --init E                        --task mnli --members 1 --out runs/mnli
    bebert train --init runs/mnli/full_precision --task rte --start-from runs/mnli --out runs/rte

What a full-precision encoder brings along from a larger task is lost in part when its weights become binary, and a few
thousand examples do not bring it back (docs/log.md, "Pairs of texts"): the student has to learn that task too. So its
encoder takes the place of full-precision weights; its head stays that of this run's own full-precision model.
"""

import hashlib
import json

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from bebert_export.data import load_tokenizer
from bebert_export.modeling import Student
from bebert_export.pretrained import local_folder
from bebert_export.students import recipe, stored_state
from bebert_export.train_options import TrainOptions
from bebert_infer.errors import InputError

HEAD = "classifier."


def first_stage(options: TrainOptions) -> str:
    """Stage of the first student of a run: what its members split, the first of its steps, or a member itself."""
    if recipe(options.scheme, options.base).splits:
        return "ternary"
    return f"student_{options.steps[0]}bit" if options.steps else "member_0"


def check_start(options: TrainOptions) -> str:
    """sha256 of the student to start from. Raises InputError if the other run has none that fits this one.

    Words are compared by the tokenizer of `init`, so this can be called before anything is trained.
    """
    assert options.start_from is not None
    folder, stage = options.start_from, first_stage(options)
    file = folder / "stages" / f"{stage}.safetensors"
    if not file.is_file():
        raise InputError(
            f'start_from is "{folder}", which has no stages/{stage}.safetensors; pass the folder of a `bebert train` '
            "run with the same base that has come so far"
        )
    try:
        stored = json.loads((folder / "options.json").read_text("utf-8"))
        with safe_open(file, framework="pt"):  # the whole file is there
            pass
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder} is no whole run ({error}); repeat its command to mend it") from None
    plans = [
        {
            "base": recipe(values["scheme"], values["base"]).family,
            "scheme": values["scheme"],
            "steps": list(values["steps"]),
            "width": values["width"],
        }
        for values in (stored, vars(options))
    ]
    for name, other in plans[0].items():
        if other != plans[1][name]:
            raise InputError(f"{folder} has the {name} {other}, this run {plans[1][name]}; they must be equal")
    if options.vocabulary_size is not None:
        raise InputError(
            f"vocabulary_size is {options.vocabulary_size}; the words of the student in {folder} must stay: leave it "
            "out, and trim in that run"
        )
    words = [load_tokenizer(place).get_vocab() for place in (folder / "full_precision", local_folder(options.init))]
    if words[0] != words[1]:
        raise InputError(
            f"the words of {folder} and of {options.init} differ; pass {folder / 'full_precision'} as init"
        )
    return hashlib.sha256(file.read_bytes()).hexdigest()


def take_over(student: Student, options: TrainOptions) -> None:
    """Put all weights of the other run's first student into this one, but for the head; after `check_start`.

    Raises InputError if it has other shapes.
    """
    assert options.start_from is not None
    file = options.start_from / "stages" / f"{first_stage(options)}.safetensors"
    new = stored_state(load_file(file))
    for name, own in student.state_dict().items():
        if name.startswith(HEAD):
            new[name] = own
        elif name not in new or new[name].shape != own.shape:
            found = tuple(new[name].shape) if name in new else "no shape"
            raise InputError(
                f"{file} has {name} of {found}, this run of {tuple(own.shape)}; pass a run of this encoder"
            )
    student.load_state_dict(new)
