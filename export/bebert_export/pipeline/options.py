"""Every choice of a training run: name, type, default, and the sentence of `bebert train --help`.

This is the one place that states them. The command line, recipes, options.json and the README of a run follow from it.
Nothing here needs torch, so that `--help` answers at once; `settings.check` says which values are accepted.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from bebert_export.data.tasks import Task, find_task
from bebert_infer.errors import InputError

# Options that change where a run lies, how fast it goes and what its card says, not what it computes.
CARD = ("licence", "languages", "base_models", "datasets", "example")
FREE = ("train", "dev", "out", "start_from", "threads", "snapshot_minutes", "tensorboard", *CARD)


@dataclass(frozen=True)
class TrainOptions:
    """Everything that a run depends on; the same options and files give the same model on one machine."""

    init: Annotated[str, "Pretrained BERT encoder: a folder or a hub id."]
    out: Annotated[Path, "Run folder; called again, the run resumes."]
    train: Annotated[Path | None, ".tsv, .csv, .jsonl or .parquet with the columns sentence1[, sentence2], label."] = (
        None
    )
    dev: Annotated[Path | None, "The same, for the report; never used for choosing."] = None
    task: Annotated[
        str | None,
        "GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli or rte. Gives metrics, label names, regression, and the "
        "data too unless --train and --dev say where it is.",
    ] = None
    scheme: Annotated[str, "Bits of weights-embeddings-activations: 1-1-4 or 1-1-1."] = "1-1-4"
    members: Annotated[int, "Boosting rounds; a finished run called with more adds them. 0: full precision only."] = 2
    base: Annotated[str | None, "binarybert or bwn (1-1-4), bibert (1-1-1) or bit (both)."] = None
    labels: Annotated[tuple[str, ...] | None, "Names for the label values, in sorted order."] = None
    regression: Annotated[bool, "Labels are scores."] = False
    multi_label: Annotated[
        bool,
        "A text has any number of labels: a, b or a JSON list in the column label, or columns of 0 and 1 named by "
        "--labels.",
    ] = False
    # Default probabilities; for regression median, of fewer than three members mean: the weighted median of two is
    # always one of them.
    combine: Annotated[str | None, "Rule of the ensemble."] = None
    hold_out: Annotated[float, "Share of the training file kept for alphas and other choices, not trained on."] = 0.1
    boosting: Annotated[str, "weights (in the loss), resample, or bagging (the baseline)."] = "weights"
    shrinkage: Annotated[float, "Factor of alphas, up to 1; the smaller, the more evenly members count."] = 1.0
    warm_start: Annotated[
        str, "Members start from the first student: first; the member before: previous; one each: own."
    ] = "first"
    start_from: Annotated[
        Path | None,
        "Run folder of a larger task: students go on from its first student. Same base, scheme, steps and width; "
        "--init is its full_precision/.",
    ] = None
    compat: Annotated[str | None, "published: alphas and hard vote of BEBERT's own code."] = None
    # Down to the members' own bits: 2,1 gives them a distilled 1-1-1 student to start from, and the 2-bit one teaches.
    steps: Annotated[
        tuple[int, ...],
        "Activation bits of students to train in between, widest first, as in 2 (BiT) or 4,2,1; each starts and learns "
        "from the one before. Not for binarybert.",
    ] = ()
    distill: Annotated[
        str,
        "How members learn: none (labels only: BEBERT), or from full precision (with --steps from the last with more "
        "bits than theirs) by prediction, hidden (BiT), two-stage (BinaryBERT) or direction (BiBERT).",
    ] = "none"
    start_distill: Annotated[
        str | None,
        "How students before the members learn: ternary (default as --distill), of --steps (default hidden).",
    ] = None
    shared_steps: Annotated[
        bool,
        "Linears that read the same values quantize them alike, hence once: students train and run faster. For "
        "binarybert and bwn.",
    ] = False
    teacher: Annotated[
        Path | None,
        "Folder of another classifier of these labels, of any kind and with its own tokenizer: students learn from its "
        "logits instead of those of their own full precision.",
    ] = None
    width: Annotated[float, "Share of heads and neurons to keep; BinaryBERT: 0.5."] = 1.0
    vocabulary_size: Annotated[int | None, "Keep only so many word pieces, and --max-length positions."] = None
    max_length: Annotated[int, "Tokens a text may have."] = 128
    epochs: Annotated[
        float, "Epochs of each member; 0: members are the students that they start from (--warm-start own, --steps)."
    ] = 3.0
    start_epochs: Annotated[float, "Epochs of each student before the members: ternary, or of --steps."] = 3.0
    teacher_epochs: Annotated[float, "Of the full-precision model; 0: --init is fine-tuned already."] = 3.0
    batch_size: Annotated[int, "Examples a step."] = 32
    learning_rate: Annotated[float, "Of all students."] = 2e-4
    teacher_learning_rate: Annotated[float, "Of the full-precision model."] = 5e-5
    dropout: Annotated[float, "Dropout of every stage."] = 0.1
    seed: Annotated[int, "Same seed, same machine: same model."] = 42
    patience: Annotated[int, "Early stopping: evaluations of the held-out part without progress; 0: off."] = 0
    precision: Annotated[str, "Of training: float32, bfloat16, or auto (bfloat16 where it is faster)."] = "auto"
    # The result then depends on the machine: one factor scales all epochs, at speeds measured at the start.
    budget_minutes: Annotated[
        float | None, "Fewer epochs in all stages, by one factor, so that the run ends in time."
    ] = None
    snapshot_minutes: Annotated[
        float, "Between snapshots of the running stage, to resume from after a kill; 0: none."
    ] = 5.0
    tensorboard: Annotated[bool, "Write OUT/tensorboard too."] = False
    threads: Annotated[int | None, "Thread budget. Default: BEBERT_THREADS, else what the machine grants."] = None
    licence: Annotated[str | None, "For the model card: one of the hub's licences, like apache-2.0, or any text."] = (
        None
    )
    languages: Annotated[tuple[str, ...], "For the model card: en or en,de. Default: en with --task."] = ()
    base_models: Annotated[
        tuple[str, ...], "For the model card, names on the hub. Default: --init where it is one."
    ] = ()
    datasets: Annotated[
        tuple[str, ...], "For the model card, names on the hub of the training data. Default: that of --task."
    ] = ()
    example: Annotated[str | None, "For the model card, a text to try the model with."] = None

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
    def seen_inside(self) -> bool:
        """Whether a student learns from what goes on inside its teacher."""
        from bebert_export.training.distillation import INSIDE  # imports torch, which --help does without

        return bool({self.distill, self.start_kind} & set(INSIDE))

    @property
    def rule(self) -> str:
        """Combination rule of the model."""
        classes = "vote" if self.compat else "probabilities"
        values = "median" if self.members > 2 else "mean"
        return self.combine or (values if self.regression else classes)


def deciding(options: TrainOptions) -> dict[str, Any]:
    """Options that decide the result, as JSON values; data files count by their content, not their place."""
    values = {name: value for name, value in asdict(options).items() if name not in FREE}
    for name in ("multi_label", "shared_steps", "teacher"):  # runs that began before there was this option go on
        if not getattr(options, name):
            del values[name]
    if options.teacher is not None:
        values["teacher"] = str(options.teacher.resolve())
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def command_line(options: TrainOptions) -> str:
    """The `bebert train` command with every option that is not a default; files by their last two names."""
    words = ["bebert train"]
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name in ("out", "threads", "snapshot_minutes", "tensorboard", *CARD) or value == field.default:
            continue
        if field.name == "init":
            value = Path(value).name
        elif isinstance(value, Path):
            value = Path(*value.parts[-2:])
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        flag = "--" + field.name.replace("_", "-")
        words.append(flag if value is True else f"{flag} {value}")
    return " ".join([*words, "--out RUN"])
