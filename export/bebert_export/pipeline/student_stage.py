"""From full precision to the student that members start from: every student trained on the way.

    binarybert     one ternary student, which the members split                   stage "ternary"
    in steps       binary students with fewer and fewer activation bits (BiT)     stages "student_4bit", ...
    otherwise      nothing is trained; members start from full-precision weights

Each student starts from the weights of the one before, the first one, if so asked, from those of another run
(transfer.py). In steps it also learns from the one before (multi-step distillation: Liu et al., "BiT", 2022), and so
do the members, if they are distilled at all, from the last one with more bits than theirs; the ternary student and the
members split from it learn from the full-precision model. Sample weights are for members: here all examples count as 1.

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

from bebert_export.checkpoints.weights import load_weights
from bebert_export.data.metrics import evaluate
from bebert_export.pipeline.full_precision_stage import FullPrecision
from bebert_export.pipeline.progress import stage_bar
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.pipeline.transfer import copy_encoder
from bebert_export.student.bert import Student
from bebert_export.student.schemes import TEACHER, Scheme, stored_state, student_from_full_precision, with_bits
from bebert_export.training.distillation import INSIDE, Distillation, train_student
from bebert_export.training.loop import predict
from bebert_export.training.schedule import Schedule
from bebert_export.training.width_pruning import prune_width

STUDENT_SEED = 1  # student i before the members trains with seed + STUDENT_SEED + i,
OWN_SEED = 10_000  # and that of one member m alone with OWN_SEED * m more: far from all other seeds of a run


@dataclass(frozen=True)
class StudentSettings:
    """The way from full precision to what members start from.

    steps     : activation bits of students in between, widest first
    learns    : what these students learn from, a kind of `distillation.KINDS`; members_learn : what members do
    width     : share of heads and feed-forward neurons that the students keep (BinaryBERT: 0.5)
    schedule  : of each student
    shared_steps : `StudentConfig.shared_steps`
    continues : the first one starts from the student of another run, of which the run folder has a copy
    """

    scheme: Scheme
    steps: tuple[int, ...]
    learns: str
    members_learn: str
    width: float
    dropout: float
    seed: int
    schedule: Schedule
    shared_steps: bool
    continues: bool


@dataclass(frozen=True)
class StartingStudent:
    """What the members need, and what came before them.

    student      : which `schemes.new_member` copies or splits
    distillation : what members learn from
    facts        : of each student trained on the way, by stage: steps, seconds, loss, seed, "dev", its metrics in torch
    """

    student: Student
    distillation: Distillation
    facts: dict[str, dict[str, Any]]


def train_starting_student(
    settings: StudentSettings, full: FullPrecision, run: RunFolder, console: Console, member: int = 0
) -> StartingStudent:
    """Train the students before the members, or read those that an earlier, interrupted run has finished.

    member : whose they are alone; those of member 0 are also the ones that all members share
    """
    scheme, steps = settings.scheme, settings.steps
    bits = {"ternary": scheme.activation_bits} if scheme.splits else {f"student_{b}bit": b for b in steps}
    if member:
        bits = {f"{stage}_of_member_{member}": b for stage, b in bits.items()}
    first = next(iter(bits.values()), scheme.activation_bits)
    student, teacher = _from_full_precision(settings, replace(scheme, activation_bits=first), full)
    if settings.continues:
        copy_encoder(student, run)
    logits, facts = full.train_logits, {}
    for index, (stage, activation_bits) in enumerate(bits.items()):
        student = with_bits(student, activation_bits)
        # One with the members' own bits is only where they start: they learn from its teacher, who knows more.
        teaches = bool(steps) and activation_bits != scheme.activation_bits
        if not run.has(stage):
            seed = settings.seed + STUDENT_SEED + index + OWN_SEED * member
            rest: dict[str, Any] = {"seed": seed, "held": full.held, "snapshots": run.snapshots(stage)}
            rest["distillation"] = _distillation(settings.learns, logits, teacher)
            with stage_bar(stage.replace("_", " "), console, run) as bar:
                fitted = train_student(student, full.train, settings.schedule, watcher=bar, **rest)
            tensors: dict[str, Tensor] = {f"model.{name}": tensor for name, tensor in student.state_dict().items()}
            tensors["dev_logits"] = torch.from_numpy(predict(student, full.dev.encoded, full.train.classes))
            learner = settings.learns if index + 1 < len(steps) else settings.members_learn
            if teaches and learner != "none":
                tensors["train_logits"] = torch.from_numpy(predict(student, full.train.encoded, full.train.classes))
            new = {**asdict(fitted), "distill": settings.learns, "seed": seed}
            run.save(stage, tensors, new)
            run.log(stage=stage, **new)
        tensors, stored = run.load(stage)
        run.load_into(student, stage, stored_state(tensors))
        facts[stage] = stored | {"dev": evaluate(full.dev.targets, tensors["dev_logits"].numpy())}
        if teaches:
            teacher = student.eval()
            logits = tensors["train_logits"].numpy() if "train_logits" in tensors else None
    return StartingStudent(student, _distillation(settings.members_learn, logits, teacher), facts)


def _from_full_precision(
    settings: StudentSettings, first: Scheme, full: FullPrecision
) -> tuple[Student, Student | None]:
    """Student with full-precision weights, and the full-precision model as a teacher, if anyone looks inside it.

    A half-width student learns from the full-precision model narrowed to the same heads, as BinaryBERT's does.
    """
    config = BertConfig.from_pretrained(full.folder)
    state, heads = load_file(full.folder / "model.safetensors"), config.num_attention_heads
    if settings.width != 1:
        model, _ = load_weights(BertForSequenceClassification, full.folder, "a classifier")
        state, heads = prune_width(model, full.train, heads, settings.width, settings.seed)
    schemes = [first, TEACHER] if {settings.members_learn, settings.learns} & set(INSIDE) else [first]
    students = [
        student_from_full_precision(
            state,
            heads,
            which,
            layer_norm_eps=config.layer_norm_eps,
            dropout=settings.dropout,
            shared_steps=settings.shared_steps,
        )
        for which in schemes
    ]
    return students[0], students[1].eval() if len(students) > 1 else None


def _distillation(kind: str, logits: NDArray[np.float32] | None, teacher: Student | None) -> Distillation:
    return Distillation(kind, None if kind == "none" else logits, teacher if kind in INSIDE else None)
