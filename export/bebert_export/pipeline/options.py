"""Every choice of a training run, with its default and what is accepted."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from bebert_export.data.metrics import CLASS_RULES, VALUE_RULES
from bebert_export.data.tasks import Task, find_task
from bebert_export.distributed import PRECISIONS, chosen_precision
from bebert_export.student.families import FAMILIES
from bebert_export.student.schemes import recipe
from bebert_export.training.distillation import KINDS
from bebert_export.training.schedule import Schedule
from bebert_infer.errors import InputError

MOST_SEED = 2**32 - 1  # stages add to it; torch takes 64 bits


@dataclass(frozen=True)
class TrainOptions:
    """Everything that a run depends on; the same options and files give the same model on one machine.

    init              : folder or hub id of a BERT encoder, Hugging Face layout; head and pooler may lack
    out               : folder of the run; started again, it resumes
    train, dev        : labelled files (examples.read_examples); dev is for the report only. None: those of the task
    task              : name of a GLUE task (tasks.py), which gives metrics, label names, regression, and data; files of
                        your own then hold those names, or the numbers that the hub gives them
    scheme, base      : "1-1-4" (binarybert, bit) or "1-1-1" (bibert, bit); the first base is the default
    members           : boosting rounds; 0: no more than the full-precision model (train_full_precision)
    labels            : names for the label values of the training file, in their sorted order; with a task, in its own
    regression        : labels are scores, boosting is AdaBoost.R2; a task sets it
    combine           : rule of the model; default probabilities; for regression median, of fewer than three members
                        mean: the weighted median of two is always one of them
    hold_out          : share of the training file that is not trained on but used for choosing: errors and alphas of
                        members come from it. 0: they come from the training examples themselves
    boosting          : "weights", "resample" or "bagging" (rounds.Boosting)
    shrinkage         : factor of alphas, 0 to 1; the smaller, the more evenly members count (boosting.py); bagging has
                        none
    warm_start        : members start from the first student ("first"), from the member before ("previous"), or each
                        from a student of its own ("own"; it takes longer by those)
    start_from        : folder of another run, from whose first student this run's goes on (transfer.py)
    compat            : "published": alphas by the rule of BEBERT's code, and a hard vote unless `combine` says else
    steps             : activation bits of students in between, widest first (BiT: 2); not for base binarybert.
                        Down to the members' own bits: (2, 1) gives them a distilled 1-1-1 student to start from
    distill           : what members learn from (training/distillation.py): "none", "prediction", "hidden", "two-stage",
                        "direction"
    start_distill     : what students before the members learn from; default "hidden" in steps, else as `distill`
    width             : share of heads and feed-forward neurons that the students keep (BinaryBERT: 0.5)
    vocabulary_size   : keep only so many word pieces (vocabulary.py), and max_length positions
    epochs            : of each member; may be a fraction, like all epochs
    start_epochs      : of each student before the members: the ternary one, or those in between
    teacher_epochs    : of the full-precision model; 0: `init` is a classifier for this task already, taken as it is
    learning_rate     : of all students; teacher_learning_rate: of the full-precision model
    licence           : what the model card says of it
    patience          : evaluations of the held-out part, one an epoch, without a lower loss after which a stage ends
                        and goes back to its best weights; 0 trains every stage to its end
    precision         : of matrix products in training: "float32", "bfloat16", or "auto": bfloat16 where it is faster
    budget_minutes    : epochs of all stages are scaled down by one factor, at speeds measured at the start, so that the
                        run ends within this time. The result then depends on the machine; None for no limit
    snapshot_minutes  : between snapshots of the running stage, from which a killed run resumes; 0 keeps none
    tensorboard       : the figures of log.jsonl also as event files in <out>/tensorboard
    threads           : default BEBERT_THREADS, else CPU affinity and cgroup quota
    """

    init: str
    out: Path
    train: Path | None = None
    dev: Path | None = None
    task: str | None = None
    scheme: str = "1-1-4"
    members: int = 2
    base: str | None = None
    labels: tuple[str, ...] | None = None
    regression: bool = False
    combine: str | None = None
    hold_out: float = 0.1
    boosting: Literal["weights", "resample", "bagging"] = "weights"
    shrinkage: float = 1.0
    warm_start: Literal["first", "previous", "own"] = "first"
    start_from: Path | None = None
    compat: Literal["published"] | None = None
    steps: tuple[int, ...] = ()
    distill: Literal["none", "prediction", "hidden", "two-stage", "direction"] = "none"
    start_distill: Literal["none", "prediction", "hidden", "two-stage", "direction"] | None = None
    width: float = 1.0
    vocabulary_size: int | None = None
    max_length: int = 128
    epochs: float = 3.0
    start_epochs: float = 3.0
    teacher_epochs: float = 3.0
    batch_size: int = 32
    learning_rate: float = 2e-4
    teacher_learning_rate: float = 5e-5
    dropout: float = 0.1
    seed: int = 42
    patience: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    budget_minutes: float | None = None
    snapshot_minutes: float = 5.0
    tensorboard: bool = False
    threads: int | None = None
    licence: str | None = None

    def __post_init__(self) -> None:
        task = self.known_task
        if task and self.regression and not task.regression:
            raise InputError(f"task {self.task} has classes; leave out regression, or leave out the task")
        if task:
            object.__setattr__(self, "regression", task.regression)

    @property
    def known_task(self) -> Task | None:
        """The task, if there is one. Raises InputError for an unknown name."""
        return None if self.task is None else find_task(self.task)

    @property
    def start_kind(self) -> str:
        """What students before the members learn from."""
        return self.start_distill or ("hidden" if self.steps else self.distill)

    @property
    def distills(self) -> bool:
        """Whether any student learns from another model."""
        return {self.distill, self.start_kind} != {"none"}

    @property
    def rules(self) -> tuple[str, ...]:
        """Combination rules that fit the task."""
        return VALUE_RULES if self.regression else CLASS_RULES

    @property
    def rule(self) -> str:
        """Combination rule of the model."""
        classes = "vote" if self.compat else "probabilities"
        values = "median" if self.members > 2 else "mean"
        return self.combine or (values if self.regression else classes)

    def schedule(self, epochs: float, learning_rate: float) -> Schedule:
        """Schedule of one stage."""
        precision = chosen_precision(self.precision)
        return Schedule(epochs, self.batch_size, learning_rate, precision=precision, patience=self.patience)

    def check(self) -> None:
        """Raise InputError for the first value that is not accepted."""
        for name, least in (("members", 0), ("batch_size", 1), ("max_length", 3), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; accepted are whole numbers of at least {least}")
        if self.seed > MOST_SEED:
            raise InputError(f"seed is {self.seed}; accepted are whole numbers up to {MOST_SEED}")
        for name in ("epochs", "start_epochs", "teacher_epochs", "learning_rate", "teacher_learning_rate"):
            value = getattr(self, name)
            if not 0 < value < float("inf") and (name, value) != ("teacher_epochs", 0):
                raise InputError(f"{name} is {value}; accepted are numbers above 0")
        if self.rule not in self.rules:
            raise InputError(f'combine is "{self.combine}"; accepted are {", ".join(self.rules)}')
        for name, accepted in (
            ("boosting", ("weights", "resample", "bagging")),
            ("warm_start", ("first", "previous", "own")),
            ("compat", (None, "published")),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in accepted:
                known = ", ".join(value for value in accepted if value)
                raise InputError(f'{name} is "{getattr(self, name)}"; accepted: {known}')
        if self.compat and self.regression:
            raise InputError("compat published is for classes: the published code boosts regression like classes")
        if self.compat and self.shrinkage != 1:
            raise InputError(f"compat published shrinks no alpha, shrinkage is {self.shrinkage}; pass shrinkage 1")
        if self.regression and len(self.labels or ("score",)) != 1:
            raise InputError(f"labels are {', '.join(self.labels or ())}; accepted for regression is one name")
        self._check_numbers()
        self._check_students()

    def _check_numbers(self) -> None:
        for name, fits, range_of in (
            ("hold_out", 0 <= self.hold_out < 1, "shares from 0 to below 1"),
            ("shrinkage", 0 < self.shrinkage <= 1, "numbers above 0 and up to 1"),
            ("budget_minutes", self.budget_minutes is None or 0 < self.budget_minutes, "numbers above 0"),
            ("snapshot_minutes", 0 <= self.snapshot_minutes < float("inf"), "numbers of at least 0"),
            ("dropout", 0 <= self.dropout < 1, "numbers from 0 to below 1"),
        ):
            if not fits:
                raise InputError(f"{name} is {getattr(self, name)}; accepted are {range_of}")
        if self.budget_minutes is not None and not self.members:
            raise InputError("budget_minutes is for whole runs, members is 0; pass teacher_epochs instead")
        if self.patience < 0 or (self.patience and not self.hold_out):
            raise InputError(
                f"patience is {self.patience} with hold_out {self.hold_out}; accepted are 0, or more with a hold_out "
                "above 0, for early stopping looks at held-out examples"
            )

    def _check_students(self) -> None:
        for name in ("distill", "start_distill"):
            value = getattr(self, name)
            if value not in KINDS and (value, name) != (None, "start_distill"):
                raise InputError(f'{name} is "{value}"; accepted are {", ".join(KINDS)}')
        plan = recipe(self.scheme, self.base)
        if self.steps and plan.splits:
            raise InputError(
                "steps are not for base binarybert, whose one student in between is ternary; leave steps out"
            )
        known = FAMILIES[plan.family].bits
        for name, given in (
            ("start_distill", self.start_distill is not None),
            ("warm_start", self.warm_start == "own"),
        ):
            if given and not (self.steps or plan.splits):
                raise InputError(
                    f"{name} is {getattr(self, name)}; base {plan.family} has students before the members only with "
                    "steps: add those, or leave it out"
                )
        order = (known[-1] + 1, *self.steps)
        if any(before <= after for before, after in pairwise(order)) or order[-1] < plan.activation_bits:
            raise InputError(
                f"steps are {','.join(map(str, self.steps))}; accepted for {plan.family} {self.scheme} are activation "
                f"bits from {known[-1]} down to {plan.activation_bits}, each fewer than the one before"
            )
