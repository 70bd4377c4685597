"""From full precision to the student that members start from: every student trained on the way.

    binarybert     one ternary student, which the members split                   stage "ternary"
    in steps       binary students with fewer and fewer activation bits (BiT)     stages "student_4bit", ...
    otherwise      nothing is trained; members start from full-precision weights

Each student starts from the weights of the one before, the first one, if so asked, from those of another run
(transfer.py). In steps it also learns from the one before (multi-step distillation: Liu et al., "BiT", 2022), and so
do the members, if they are distilled at all; the ternary student and the members split from it learn from the
full-precision model. Sample weights are for members: here all examples count as 1.

All members start from the same student, or each from one of its own (`warm_start` "own": stages "ternary",
"ternary_of_member_1", ...), trained from other seeds. Members that share it err alike (docs/log.md).
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from bebert_export.data.metrics import evaluate
from bebert_export.pipeline.full_precision_stage import FullPrecision
from bebert_export.pipeline.options import TrainOptions
from bebert_export.pipeline.progress import stage_bar
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.pipeline.transfer import take_over
from bebert_export.quiet import quiet_transformers
from bebert_export.student.bert import Student
from bebert_export.student.schemes import TEACHER, Recipe, stored_state, student_from_full_precision, with_bits
from bebert_export.training.distillation import INSIDE, Lessons, teach
from bebert_export.training.loop import predict
from bebert_export.training.width_pruning import narrow

STUDENT_SEED = 1  # student i before the members trains with seed + STUDENT_SEED + i,
OWN_SEED = 10_000  # and that of one member m alone with OWN_SEED * m more: far from all other seeds of a run


@dataclass(frozen=True)
class Start:
    """What the members need, and what came before them.

    student : which `students.new_member` copies or splits
    lessons : what members learn from
    facts   : of each student trained on the way, by stage: steps, seconds, loss, seed, and "dev", its metrics in torch
    """

    student: Student
    lessons: Lessons
    facts: dict[str, dict[str, Any]]


def first_student(
    options: TrainOptions, plan: Recipe, full: FullPrecision, run: RunFolder, console: Console, member: int = 0
) -> Start:
    """Train the students before the members, or read those that an earlier, interrupted run has finished.

    member : whose they are alone; those of member 0 are also the ones that all members share
    """
    bits = {"ternary": plan.activation_bits} if plan.splits else {f"student_{b}bit": b for b in options.steps}
    if member:
        bits = {f"{stage}_of_member_{member}": b for stage, b in bits.items()}
    first = next(iter(bits.values()), plan.activation_bits)
    kind = options.start_kind
    student, teacher = _from_full_precision(options, replace(plan, activation_bits=first), full)
    if options.start_from is not None:
        take_over(student, run)
    logits, facts = full.train_logits, {}
    for index, (stage, activation_bits) in enumerate(bits.items()):
        student = with_bits(student, activation_bits)
        if not run.has(stage):
            seed = options.seed + STUDENT_SEED + index + OWN_SEED * member
            _train(stage, student, _lessons(kind, logits, teacher), index, seed, options, full, run, console)
        tensors, stored = run.load(stage)
        student.load_state_dict(stored_state(tensors))
        facts[stage] = stored | {"dev": evaluate(full.dev.targets, tensors["dev_logits"].numpy())}
        if not plan.splits:
            teacher = student.eval()
            logits = tensors["train_logits"].numpy() if "train_logits" in tensors else None
    return Start(student, _lessons(options.distill, logits, teacher), facts)


def _from_full_precision(options: TrainOptions, plan: Recipe, full: FullPrecision) -> tuple[Student, Student | None]:
    """Student with full-precision weights, and the full-precision model as a teacher, if anyone looks inside it.

    A half-width student learns from the full-precision model narrowed to the same heads, as BinaryBERT's does.
    """
    config = BertConfig.from_pretrained(full.folder)
    state, heads = load_file(full.folder / "model.safetensors"), config.num_attention_heads
    if options.width != 1:
        with quiet_transformers():
            model = BertForSequenceClassification.from_pretrained(full.folder)
        state, heads = narrow(model, full.train, heads, options.width, options.seed)
    plans = [plan, TEACHER] if {options.distill, options.start_kind} & set(INSIDE) else [plan]
    students = [
        student_from_full_precision(state, heads, which, layer_norm_eps=config.layer_norm_eps, dropout=options.dropout)
        for which in plans
    ]
    return students[0], students[1].eval() if len(students) > 1 else None


def _lessons(kind: str, logits: NDArray[np.float32] | None, teacher: Student | None) -> Lessons:
    return Lessons(kind, None if kind == "none" else logits, teacher if kind in INSIDE else None)


def _train(
    stage: str,
    student: Student,
    lessons: Lessons,
    index: int,
    seed: int,
    options: TrainOptions,
    full: FullPrecision,
    run: RunFolder,
    console: Console,
) -> None:
    """Train one student in place and finish its stage: model, logits on dev, and on train for whom it teaches."""
    with stage_bar(stage.replace("_", " "), console, run) as bar:
        fitted = teach(
            student,
            full.train,
            options.schedule(options.start_epochs, options.learning_rate),
            seed=seed,
            watcher=bar,
            lessons=lessons,
            held=full.held,
            snapshots=run.snapshots(stage),
        )
    tensors: dict[str, Tensor] = {f"model.{name}": tensor for name, tensor in student.state_dict().items()}
    tensors["dev_logits"] = torch.from_numpy(predict(student, full.dev.encoded, full.train.classes))
    learner = options.distill if index + 1 >= len(options.steps) else options.start_kind
    if options.steps and learner != "none":
        tensors["train_logits"] = torch.from_numpy(predict(student, full.train.encoded, full.train.classes))
    facts = {**asdict(fitted), "distill": lessons.kind, "seed": seed}
    run.save(stage, tensors, facts)
    run.log(stage=stage, **facts)
