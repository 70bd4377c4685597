"""The GLUE tasks by name: their columns, label names and metrics (Wang et al., ICLR 2019; without WNLI, as BEBERT)."""

from dataclasses import dataclass, replace

from bebert_infer.errors import InputError


@dataclass(frozen=True)
class Task:
    """What a task name stands for.

    name     : as on the command line
    texts    : the one or two text columns of the hub's files
    labels   : class names in the order of the hub's label ids; () is regression
    metrics  : the main metric, the one for choosing and for tables, then the task's other official ones. For MRPC and
               QQP the main one is accuracy, as in the papers; for STS-B the mean of both correlations
    numbered : GLUE's own files hold the number of a class, not its name; so do ours
    config   : the hub's name of the task;  dev : its split for the report
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    numbered: bool
    config: str
    dev: str = "validation"

    @property
    def regression(self) -> bool:
        """Labels are scores."""
        return not self.labels


_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")
_MNLI = Task(
    "mnli",
    ("premise", "hypothesis"),
    ("entailment", "neutral", "contradiction"),
    ("accuracy",),
    numbered=False,
    config="mnli",
    dev="validation_matched",
)
_ALL = (
    Task("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",), numbered=True, config="cola"),
    Task("sst2", ("sentence",), ("negative", "positive"), ("accuracy",), numbered=True, config="sst2"),
    Task("mrpc", _PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1"), numbered=True, config="mrpc"),
    Task("stsb", _PAIR, (), ("pearson_spearman", "pearson", "spearman"), numbered=True, config="stsb"),
    Task(
        "qqp",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        ("accuracy", "f1"),
        numbered=True,
        config="qqp",
    ),
    _MNLI,
    replace(_MNLI, name="mnli-mismatched", dev="validation_mismatched"),
    Task("qnli", ("question", "sentence"), _ENTAILMENT, ("accuracy",), numbered=False, config="qnli"),
    Task("rte", _PAIR, _ENTAILMENT, ("accuracy",), numbered=False, config="rte"),
)
TASKS = {task.name: task for task in _ALL}


def find_task(name: str) -> Task:
    """The task of a name. Raises InputError for any other name."""
    if name not in TASKS:
        raise InputError(f'task is "{name}"; accepted are {", ".join(TASKS)}')
    return TASKS[name]
