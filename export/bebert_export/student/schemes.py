"""From full-precision weights to students: the stages of each scheme, and the weights that each starts from.

    1-1-4 binarybert   full precision -> ternary student -> ternary weight splitting -> two-branch members
    1-1-4 bwn, bit     full precision -> binary members with 4-bit activations
    1-1-1 bibert, bit  full precision -> binary members
    in steps           full precision -> binary students with fewer and fewer activation bits -> members (BiT: 1-1-2)

The first number is the bits of weights, the second of the word embedding, the third of activations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bebert_export.quantizers.weights import WeightQuantizer
from bebert_export.student.bert import Student
from bebert_export.student.families import student_config
from bebert_export.student.weight_splitting import split_student
from bebert_infer.errors import InputError

NUDGE = 1e-4  # of the mean magnitude: far above float32 rounding, far below anything that matters


@dataclass(frozen=True)
class Scheme:
    """Family and activation bits of the first student; whether ternary weight splitting makes the members."""

    family: str
    activation_bits: int
    splits: bool


SCHEMES = {
    ("1-1-4", "binarybert"): Scheme("ternary", 4, splits=True),
    ("1-1-4", "bwn"): Scheme("bwn", 4, splits=False),
    ("1-1-4", "bit"): Scheme("bit", 4, splits=False),
    ("1-1-1", "bibert"): Scheme("bibert", 1, splits=False),
    ("1-1-1", "bit"): Scheme("bit", 1, splits=False),
}


TEACHER = Scheme("float", 32, splits=False)  # the full-precision model in the form that shows what goes on inside


def find_scheme(scheme: str, base: str | None) -> Scheme:
    """The scheme of that name; without a base the first of SCHEMES. Raises InputError for an unknown pair."""
    return SCHEMES[full_name(scheme, base)]


def full_name(scheme: str, base: str | None) -> tuple[str, str]:
    """Scheme and base of SCHEMES, as `find_scheme` finds them."""
    for known_scheme, known_base in SCHEMES:
        if scheme == known_scheme and base in (None, known_base):
            return known_scheme, known_base
    accepted = ", ".join(f"{scheme} {base}" for scheme, base in SCHEMES)
    raise InputError(f'scheme "{scheme}" with base "{base or "any"}" is unknown; accepted are {accepted}')


def student_from_full_precision(
    state: Mapping[str, Tensor],
    heads: int,
    scheme: Scheme,
    *,
    layer_norm_eps: float,
    dropout: float,
    shared_steps: bool = False,
) -> Student:
    """First student of a scheme, with all weights of a full-precision classifier.

    Its quantizer steps still have their built-in value 1.0: the first training batch sets them.
    """
    config = student_config(
        scheme.family,
        state,
        heads,
        scheme.activation_bits,
        layer_norm_eps=layer_norm_eps,
        dropout=dropout,
        shared_steps=shared_steps and scheme is not TEACHER,
    )
    student = Student(config)
    missing, unexpected = student.load_state_dict(dict(state), strict=False)
    lost = [name for name in missing if "clip_" not in name and "move." not in name]
    if lost or unexpected:
        raise ValueError(f"full-precision weights do not fit: missing {lost}, unexpected {unexpected}")
    return student


def stored_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of the student in the tensors of a stage, which names its weights model.…, other tensors otherwise."""
    return {name.removeprefix("model."): x for name, x in tensors.items() if name.startswith("model.")}


def new_member(start: Student, scheme: Scheme) -> Student:
    """A member before its own training: the first student split, or a copy of it with the bits of the scheme."""
    if scheme.splits:
        with torch.no_grad():
            return split_student(start)
    return with_bits(start, scheme.activation_bits)


def with_bits(student: Student, bits: int) -> Student:
    """A copy with `bits` bits of activations: all weights, shifts and norms, and the quantizer steps if the bits stay.

    With other bits a step means something else, so it goes back to its built-in value 1.0 and the first training batch
    sets it. (The published code of BiT keeps the 2-bit step for the 1-bit student, since it is not 1.0 any more.)
    """
    copy = Student(replace(student.config, activation_bits=bits))
    same = bits == student.config.activation_bits
    state = {name: tensor for name, tensor in student.state_dict().items() if same or "clip_" not in name}
    missing, _ = copy.load_state_dict(state, strict=False)
    if lost := [name for name in missing if "clip_" not in name]:
        raise AssertionError(f"weights that the copy does not get: {lost}")
    return copy


def with_positions(student: Student, count: int) -> Student:
    """A copy without the rows of the position table beyond `count`, of which no longer text has need."""
    copy = Student(replace(student.config, max_positions=min(count, student.config.max_positions)))
    table = "bert.embeddings.position_embeddings.weight"
    copy.load_state_dict({n: x[:count] if n == table else x for n, x in student.state_dict().items()})
    return copy


@torch.no_grad()
def settle_zero_weights(student: Student) -> int:
    """Move weights that lie exactly on the threshold of their sign a little above it; returns how many.

    A packed sign is +1 or -1, but sgn0(0) = 0: the packed model would compute something else. It happens by
    chance (a weight equals its row mean in float32), and must be settled before a member is judged. Rows whose
    scale is 0 stay: they are 0 either way. Ternary weights have a zero of their own and are left alone.
    """
    settled = 0
    for module in student.modules():
        quantizer = getattr(module, "weight_quantizer", None)
        weight = getattr(module, "weight", None)
        if isinstance(quantizer, WeightQuantizer) and weight is not None:
            branches = quantizer.decompose(weight)
            if any(branch.zeros for branch in branches):
                scale = branches[0].scale.to(weight.dtype).reshape(-1, 1)  # [1, 1] or [N, 1]
                zero = (quantizer(weight) == 0) & (scale > 0)
                weight.add_(zero * scale, alpha=NUDGE)
                settled += int(zero.sum())
    return settled
