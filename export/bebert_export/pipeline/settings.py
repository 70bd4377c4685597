"""Which options are accepted, and the settings of each stage, made from them once.

Stages, loops and losses see no TrainOptions: each takes the few values that it depends on.
"""

from dataclasses import dataclass
from itertools import pairwise

from bebert_export.data.metrics import CLASS_RULES, VALUE_RULES
from bebert_export.distributed import PRECISIONS, chosen_precision
from bebert_export.pipeline.data import DataSettings
from bebert_export.pipeline.full_precision_stage import FullPrecisionSettings
from bebert_export.pipeline.member_stage import MemberSettings
from bebert_export.pipeline.options import TrainOptions
from bebert_export.pipeline.student_stage import StudentSettings
from bebert_export.student.families import FAMILIES
from bebert_export.student.schemes import find_scheme
from bebert_export.training.distillation import KINDS
from bebert_export.training.schedule import Schedule
from bebert_infer.errors import InputError

MOST_SEED = 2**32 - 1  # stages add to it; torch takes 64 bits
MEMBER_SEED = 100  # member i trains with seed + MEMBER_SEED + i


@dataclass(frozen=True)
class StageSettings:
    """The stages that train."""

    full_precision: FullPrecisionSettings
    students: StudentSettings
    members: MemberSettings


def data_settings(options: TrainOptions) -> DataSettings:
    """Which files, and what they mean."""
    task, labels = options.known_task, options.labels
    problem = options.regression, options.multi_label
    return DataSettings(options.train, options.dev, task, labels, *problem, options.hold_out, options.seed)


def stage_settings(options: TrainOptions) -> StageSettings:
    """What the stages depend on. Raises InputError for an unknown scheme."""
    scheme, precision = find_scheme(options.scheme, options.base), chosen_precision(options.precision)

    def schedule(epochs: float, rate: float) -> Schedule:
        return Schedule(epochs, options.batch_size, rate, precision=precision, patience=options.patience)

    full_precision = FullPrecisionSettings(
        init=options.init,
        vocabulary_size=options.vocabulary_size,
        max_length=options.max_length,
        dropout=options.dropout,
        width=options.width,
        seed=options.seed,
        schedule=schedule(options.teacher_epochs, options.teacher_learning_rate) if options.teacher_epochs else None,
        teaches={options.distill, options.start_kind} != {"none"} and options.teacher is None,
    )
    students = StudentSettings(
        scheme=scheme,
        steps=options.steps,
        learns=options.start_kind,
        members_learn=options.distill,
        width=options.width,
        dropout=options.dropout,
        seed=options.seed,
        schedule=schedule(options.start_epochs, options.learning_rate),
        shared_steps=options.shared_steps,
        continues=options.start_from is not None,
    )
    members = MemberSettings(
        scheme=scheme,
        count=options.members,
        method=options.boosting,
        warm_start=options.warm_start,
        rule="code" if options.compat else "samme",
        shrinkage=options.shrinkage,
        schedule=schedule(options.epochs, options.learning_rate) if options.epochs else None,
        seed=options.seed + MEMBER_SEED,
    )
    return StageSettings(full_precision, students, members)


def check(options: TrainOptions) -> None:
    """Raise InputError for the first value that is not accepted."""
    for name, least in (("members", 0), ("batch_size", 1), ("max_length", 3), ("seed", 0)):
        if getattr(options, name) < least:
            raise InputError(f"{name} is {getattr(options, name)}; accepted are whole numbers of at least {least}")
    if options.seed > MOST_SEED:
        raise InputError(f"seed is {options.seed}; accepted are whole numbers up to {MOST_SEED}")
    for name in ("epochs", "start_epochs", "teacher_epochs", "learning_rate", "teacher_learning_rate"):
        value = getattr(options, name)
        if not 0 < value < float("inf") and (name, value) not in (("teacher_epochs", 0), ("epochs", 0)):
            raise InputError(f"{name} is {value}; accepted are numbers above 0")
    rules = VALUE_RULES if options.regression else CLASS_RULES
    if options.rule not in rules:
        raise InputError(f'combine is "{options.combine}"; accepted are {", ".join(rules)}')
    for name, accepted in (
        ("boosting", ("weights", "resample", "bagging")),
        ("warm_start", ("first", "previous", "own")),
        ("compat", (None, "published")),
        ("precision", PRECISIONS),
    ):
        if getattr(options, name) not in accepted:
            known = ", ".join(value for value in accepted if value)
            raise InputError(f'{name} is "{getattr(options, name)}"; accepted: {known}')
    _check_problem(options)
    _check_numbers(options)
    _check_students(options)


def _check_problem(options: TrainOptions) -> None:
    if options.multi_label and (options.regression or options.task):
        other = "regression" if options.regression else f"task {options.task}"
        raise InputError(
            f"multi_label is for files whose rows have any number of labels, not for {other}; leave one out"
        )
    if options.compat and (options.regression or options.multi_label):
        raise InputError("compat published is for classes that exclude each other: the published code has no others")
    if options.compat and options.shrinkage != 1:
        raise InputError(f"compat published shrinks no alpha, shrinkage is {options.shrinkage}; pass shrinkage 1")
    if options.regression and len(options.labels or ("score",)) != 1:
        raise InputError(f"labels are {', '.join(options.labels or ())}; accepted for regression is one name")


def _check_numbers(options: TrainOptions) -> None:
    for name, fits, range_of in (
        ("hold_out", 0 <= options.hold_out < 1, "shares from 0 to below 1"),
        ("shrinkage", 0 < options.shrinkage <= 1, "numbers above 0 and up to 1"),
        ("budget_minutes", options.budget_minutes is None or 0 < options.budget_minutes, "numbers above 0"),
        ("snapshot_minutes", 0 <= options.snapshot_minutes < float("inf"), "numbers of at least 0"),
        ("dropout", 0 <= options.dropout < 1, "numbers from 0 to below 1"),
    ):
        if not fits:
            raise InputError(f"{name} is {getattr(options, name)}; accepted are {range_of}")
    if options.budget_minutes is not None and not options.members:
        raise InputError("budget_minutes is for whole runs, members is 0; pass teacher_epochs instead")
    if options.patience < 0 or (options.patience and not options.hold_out):
        raise InputError(
            f"patience is {options.patience} with hold_out {options.hold_out}; accepted are 0, or more with a hold_out "
            "above 0, for early stopping looks at held-out examples"
        )


def _check_students(options: TrainOptions) -> None:
    for name in ("distill", "start_distill"):
        value = getattr(options, name)
        if value not in KINDS and (value, name) != (None, "start_distill"):
            raise InputError(f'{name} is "{value}"; accepted are {", ".join(KINDS)}')
    scheme = find_scheme(options.scheme, options.base)
    if options.steps and scheme.splits:
        raise InputError("steps are not for base binarybert, whose one student in between is ternary; leave steps out")
    if options.teacher is not None and {options.distill, options.start_kind} == {"none"}:
        raise InputError("teacher is given, but no student learns from one; pass distill or start_distill")
    known = FAMILIES[scheme.family].bits
    if options.shared_steps and FAMILIES[scheme.family].inputs != "lsq":
        raise InputError(f"shared_steps is for base binarybert or bwn, base is {scheme.family}; leave shared_steps out")
    for name, given in (
        ("start_distill", options.start_distill is not None),
        ("warm_start", options.warm_start == "own"),
    ):
        if given and not (options.steps or scheme.splits):
            raise InputError(
                f"{name} is {getattr(options, name)}; base {scheme.family} has students before the members only with "
                "steps: add those, or leave it out"
            )
    if options.epochs == 0 and (options.warm_start != "own" or options.steps[-1:] != (scheme.activation_bits,)):
        raise InputError(
            "epochs is 0, so that members are the students that they start from; accepted is that with warm_start own "
            f"and steps that end in {scheme.activation_bits}, the members' own bits"
        )
    if options.epochs == 0 and options.budget_minutes is not None:
        raise InputError("epochs is 0 and budget_minutes scales epochs; leave budget_minutes out")
    order = (known[-1] + 1, *options.steps)
    if any(before <= after for before, after in pairwise(order)) or order[-1] < scheme.activation_bits:
        raise InputError(
            f"steps are {','.join(map(str, options.steps))}; accepted for {scheme.family} {options.scheme} are "
            f"activation bits from {known[-1]} down to {scheme.activation_bits}, each fewer than the one before"
        )
