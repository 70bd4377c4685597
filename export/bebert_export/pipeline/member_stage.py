"""Boosting rounds: train a member on weighted examples, see where it errs, weigh the examples anew.

Predictions for the update run over all training examples in their own order, so that weight i always belongs
to example i. On a CPU the packed engine makes them: errors and alphas are those of the bits that will answer, several
times sooner than PyTorch would have them. No round looks at the dev split to choose anything.

A member that knows its training examples by heart errs on few of them, and its alpha would outvote all others. With
a held-out part of the training file (`hold_out`) error and alpha are those of examples that it has not seen, which
have boosting weights of their own; its mistakes on the training examples still decide what the next one learns.

Guards: a member without error gets a large finite alpha, and ends the boosting if it makes none on its training
examples either; a member that is no better than guessing is trained once more, from uniform weights and with another
seed; if that is no better either, the boosting ends with the members so far (BEBERT Algorithm 1 leaves both open).
Bagging has no such rules: all its members count the same.

Of labels that do not exclude each other every decision, example by label, has a weight of its own and counts as one of
two classes (AdaBoost.MH: Schapire and Singer, "Improved boosting algorithms using confidence-rated predictions", 1999).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from bebert_export.data.batches import EncodedExamples, TrainingSet
from bebert_export.distributed import device, processes
from bebert_export.evaluation.split_scores import packed_logits
from bebert_export.pipeline.boosting import (
    Floats,
    Round,
    Rule,
    boost,
    boost_regression,
    reweigh,
    reweigh_regression,
    uniform_weights,
)
from bebert_export.pipeline.full_precision_stage import FullPrecision
from bebert_export.pipeline.progress import stage_bar
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.pipeline.student_stage import StartingStudent
from bebert_export.student.bert import Student
from bebert_export.student.schemes import Scheme, new_member, settle_zero_weights, stored_state
from bebert_export.training.distillation import Distillation, train_student
from bebert_export.training.loop import Fit, predict
from bebert_export.training.loss import Weighting
from bebert_export.training.schedule import Schedule
from bebert_infer.errors import BebertError

FEW = ", or, with so few of them, hold out more or 0"
SECOND_TRY = 1000  # added to the seed of a member that is trained once more


class TrainingError(BebertError):
    """Training ran, but what came out is of no use."""


@dataclass(frozen=True)
class Member:
    """A trained member, its coefficient, its logits float32[M, K] on dev (for the report), facts."""

    student: Student
    alpha: float
    dev_logits: NDArray[np.float32]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Weights:
    """Boosting weights of the training examples float64[M] and of the held-out ones float64[m], None without those.

    Of labels float64[M, K]: of every decision.
    """

    train: Floats
    held: Floats | None

    @staticmethod
    def uniform(train: TrainingSet, held: TrainingSet | None) -> "Weights":
        """Those of the first round."""
        parts = (None if part is None else part.targets for part in (train, held))
        first, second = (None if t is None else uniform_weights(t.size).reshape(t.shape) for t in parts)
        assert first is not None
        return Weights(first, second)


def outputs_of(student: Student, encoded: EncodedExamples, classes: int) -> NDArray[np.float32]:
    """Logits float32[M, K] in the order of the file: of the packed bits on one CPU process, else of PyTorch."""
    if device().type != "cpu" or processes().num_processes > 1:
        return predict(student, encoded, classes)
    names = [str(label) for label in range(classes)]
    return packed_logits([student], [1.0], names, encoded, torch.get_num_threads())[0]


@dataclass(frozen=True)
class MemberSettings:
    """How members are made and boosted.

    scheme        : how a member is made of the student that it starts from
    method        : "weights": sample weights multiply the loss; "resample": examples are drawn with them, anew in every
                    epoch; "bagging": no boosting, each member sees a bootstrap sample and has alpha 1 (the baseline)
    warm_start    : members start from the first student ("first"), from the member before ("previous"), the first from
                    its student, or each from a student of its own ("own")
    rule          : how errors become alphas and weights, see `boosting.boost`; regression has AdaBoost.R2 only
    shrinkage     : factor of every alpha, see `boosting`
    schedule      : of each member; None: members are the students that they start from, and are only weighed
    """

    scheme: Scheme
    count: int
    method: str
    warm_start: str
    rule: Rule
    shrinkage: float
    schedule: Schedule | None
    seed: int


@dataclass(frozen=True)
class MemberStage:
    """The rounds of a run; start : what a member starts and learns from, by its number."""

    settings: MemberSettings
    start: Callable[[int], StartingStudent]
    full: FullPrecision
    run: RunFolder
    console: Console

    def members(self) -> list[Member]:
        """Train up to `count` members, or read those that an earlier, interrupted run has finished."""
        self.run.check_numbered("member")
        weights, count = Weights.uniform(self.full.train, self.full.held), self.settings.count
        members: list[Member] = []
        while len(members) < count:
            member, weights = self._round(len(members), weights, members[-1].student if members else None)
            if member is not None:
                members.append(member)
            if member is None or member.facts["status"] == "perfect":
                why = "the next one only guesses" if member is None else "the last one makes no error to learn from"
                self.console.print(f"[yellow]boosting ends with {len(members)} members of {count}: {why}[/yellow]")
                break
        return members

    def _round(self, index: int, weights: Weights, previous: Student | None) -> tuple[Member | None, Weights]:
        """One member (None if no useful one came out) and the weights of the next round."""
        stage, start = f"member_{index}", self.start(index)
        if self.run.has(stage):
            return self._stored(stage, start)
        for seed in (self.settings.seed + index, self.settings.seed + index + SECOND_TRY):
            student = new_member(start.student, self.settings.scheme)
            if self.settings.warm_start == "previous" and previous is not None:
                student.load_state_dict(previous.state_dict())
            fitted = self._trained(student, index, start.distillation, weights, seed)
            settled = settle_zero_weights(student)
            verdict, train_error, new_weights = self._judge(student, weights)
            if verdict.status != "weak":
                break
            self.console.print(f"[yellow]member {index}: {verdict.advice}[/yellow]")
            self.run.log(stage=stage, seed=seed, error=verdict.error, advice=verdict.advice)
            weights = Weights.uniform(self.full.train, self.full.held)
        facts = {
            "alpha": verdict.alpha,
            "error": verdict.error,
            "train_error": train_error,
            "status": verdict.status,
            "seed": seed,
            "steps": fitted.steps,
            "seconds": round(fitted.seconds, 1),
            "loss": fitted.loss,
            "best_step": fitted.best_step,
            "weights_settled": settled,
        }
        if verdict.status == "weak" and index == 0:
            held = self.full.held and len(self.full.held.encoded)
            where, few = ("its own training examples", "") if held is None else (f"{held} held-out examples", FEW)
            raise TrainingError(
                f"the first member has error {verdict.error:.3f} on {where}, with two seeds, no better than guessing; "
                f"train longer or with another learning rate{few if held and held < 50 else ''}"
            )
        tensors = {f"model.{name}": tensor for name, tensor in student.state_dict().items()}
        tensors["weights"] = torch.from_numpy(new_weights.train)
        if new_weights.held is not None:
            tensors["held_weights"] = torch.from_numpy(new_weights.held)
        tensors["dev_logits"] = torch.from_numpy(predict(student, self.full.dev.encoded, self.full.train.classes))
        self.run.save(stage, tensors, facts)
        self.run.log(stage=stage, **facts)
        return self._stored(stage, start)

    def _trained(self, student: Student, index: int, distillation: Distillation, weights: Weights, seed: int) -> Fit:
        """Train member `index` in place, if members are trained."""
        if self.settings.schedule is None:
            return Fit(steps=0, seconds=0.0, loss=None)
        with stage_bar(f"member {index}", self.console, self.run) as bar:
            return train_student(
                student,
                self.full.train,
                self.settings.schedule,
                distillation=distillation,
                weighting=self._weighting(weights.train, seed),
                held=self.full.held,
                seed=seed,
                watcher=bar,
                snapshots=self.run.snapshots(f"member_{index}"),
            )

    def _judge(self, student: Student, weights: Weights) -> tuple[Round, float, Weights]:
        """What a member is worth, its weighted error on the training examples, and the weights of the next round."""
        outputs = outputs_of(student, self.full.train.encoded, self.full.train.classes)
        own = self._boosted(outputs, self.full.train.targets, weights.train)
        verdict, new = own, Weights(own.weights, None)
        if self.full.held is not None and weights.held is not None:
            unseen = outputs_of(student, self.full.held.encoded, self.full.train.classes)
            verdict = self._boosted(unseen, self.full.held.targets, weights.held)
            if verdict.status == "perfect" and own.status != "perfect":  # its mistakes still teach the next one
                verdict = replace(verdict, status="useful", advice="")
            mistakes = self._mistakes(outputs, weights, verdict.alpha)
            new = Weights(mistakes / mistakes.sum(), verdict.weights)
        if self.settings.method == "bagging":
            same = replace(verdict, alpha=1.0, status="useful", advice="")
            return same, own.error, Weights.uniform(self.full.train, self.full.held)
        return verdict, own.error, new

    def _boosted(self, outputs: NDArray[np.float32], targets: NDArray, weights: Floats) -> Round:
        rule, shrinkage = self.settings.rule, self.settings.shrinkage
        if self.full.train.regression:
            return boost_regression(outputs[:, 0], targets, weights, shrinkage)
        if self.full.train.multi_label:
            decided = boost((outputs > 0).ravel(), targets.ravel() > 0.5, weights.ravel(), 2, rule, shrinkage=shrinkage)
            return replace(decided, weights=decided.weights.reshape(weights.shape))
        answers, classes = outputs.argmax(axis=1), self.full.train.classes
        return boost(answers, targets, weights, classes, rule, shrinkage=shrinkage)

    def _mistakes(self, outputs: NDArray[np.float32], weights: Weights, alpha: float) -> Floats:
        if self.full.train.regression:
            return reweigh_regression(outputs[:, 0], self.full.train.targets, weights.train, alpha)
        if self.full.train.multi_label:
            return reweigh(outputs > 0, self.full.train.targets > 0.5, weights.train, alpha, self.settings.rule)
        return reweigh(outputs.argmax(axis=1), self.full.train.targets, weights.train, alpha, self.settings.rule)

    def _weighting(self, weights: Floats, seed: int) -> Weighting:
        """How much each training example counts for one member."""
        if self.settings.method == "weights":
            return Weighting(weights=weights)
        if self.settings.method == "resample":
            of_examples = weights.reshape(len(weights), -1).sum(axis=1)
            return Weighting(chances=of_examples / of_examples.sum())
        count = len(weights)  # a bootstrap sample: as many examples as there are, drawn evenly with replacement
        return Weighting(sample=np.random.default_rng([seed, 1]).integers(count, size=count))

    def _stored(self, stage: str, start: StartingStudent) -> tuple[Member | None, Weights]:
        tensors, facts = self.run.load(stage)
        held = tensors.pop("held_weights", None)
        weights = Weights(tensors.pop("weights").numpy(), None if held is None else held.numpy())
        dev_logits = tensors.pop("dev_logits").numpy()
        if facts["status"] == "weak":
            return None, weights
        student = new_member(start.student, self.settings.scheme)
        self.run.load_into(student, stage, stored_state(tensors))
        return Member(student.eval(), facts["alpha"], dev_logits, facts), weights
