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
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from bebert_export.data.batches import Encoded
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
from bebert_export.pipeline.progress import stage_bar
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.pipeline.student_stage import Start
from bebert_export.student.bert import Student
from bebert_export.student.schemes import Recipe, new_member, settle_zero_weights, stored_state
from bebert_export.training.distillation import teach
from bebert_export.training.loop import Schedule, TrainingSet, predict
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
    """Boosting weights of the training examples float64[M] and of the held-out ones float64[m], None without those."""

    train: Floats
    held: Floats | None

    @staticmethod
    def uniform(train: TrainingSet, held: TrainingSet | None) -> "Weights":
        """Those of the first round."""
        return Weights(
            uniform_weights(len(train.encoded)), None if held is None else uniform_weights(len(held.encoded))
        )


def outputs_of(student: Student, encoded: Encoded, classes: int) -> NDArray[np.float32]:
    """Logits float32[M, K] in the order of the file: of the packed bits on one CPU process, else of PyTorch."""
    if device().type != "cpu" or processes().num_processes > 1:
        return predict(student, encoded, classes)
    names = [str(label) for label in range(classes)]
    return packed_logits([student], [1.0], names, encoded, torch.get_num_threads())[0]


@dataclass(frozen=True)
class Boosting:
    """What stays the same over the rounds.

    plan          : how a member is made of the student that it starts from
    start         : that student, and what the member learns from, by the member's number
    method        : "weights": sample weights multiply the loss; "resample": examples are drawn with them, anew in every
                    epoch; "bagging": no boosting, each member sees a bootstrap sample and has alpha 1 (the baseline)
    from_previous : members start from the one before, the first from its student
    shrinkage     : factor of every alpha, see `boosting`
    rule          : how errors become alphas and weights, see `boosting.boost`; regression has AdaBoost.R2 only
    """

    plan: Recipe
    start: Callable[[int], Start]
    method: str
    from_previous: bool
    rule: Rule
    shrinkage: float
    train: TrainingSet
    held: TrainingSet | None
    dev: Encoded
    schedule: Schedule
    seed: int
    run: RunFolder
    console: Console

    def members(self, count: int) -> list[Member]:
        """Train up to `count` members, or read those that an earlier, interrupted run has finished."""
        weights = Weights.uniform(self.train, self.held)
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
        for seed in (self.seed + index, self.seed + index + SECOND_TRY):
            student = new_member(start.student, self.plan)
            if self.from_previous and previous is not None:
                student.load_state_dict(previous.state_dict())
            with stage_bar(f"member {index}", self.console, self.run) as bar:
                fitted = teach(
                    student,
                    self.train,
                    self.schedule,
                    seed=seed,
                    watcher=bar,
                    weights=weights.train if self.method == "weights" else None,
                    sample=self._bootstrap(seed) if self.method == "bagging" else None,
                    chances=weights.train / weights.train.sum() if self.method == "resample" else None,
                    lessons=start.lessons,
                    held=self.held,
                    snapshots=self.run.snapshots(stage),
                )
            settled = settle_zero_weights(student)
            verdict, train_error, new_weights = self._judge(student, weights)
            if verdict.status != "weak":
                break
            self.console.print(f"[yellow]member {index}: {verdict.advice}[/yellow]")
            self.run.log(stage=stage, seed=seed, error=verdict.error, advice=verdict.advice)
            weights = Weights.uniform(self.train, self.held)
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
            held = self.held and len(self.held.encoded)
            where, few = ("its own training examples", "") if held is None else (f"{held} held-out examples", FEW)
            raise TrainingError(
                f"the first member has error {verdict.error:.3f} on {where}, with two seeds, no better than guessing; "
                f"train longer or with another learning rate{few if held and held < 50 else ''}"
            )
        tensors = {f"model.{name}": tensor for name, tensor in student.state_dict().items()}
        tensors["weights"] = torch.from_numpy(new_weights.train)
        if new_weights.held is not None:
            tensors["held_weights"] = torch.from_numpy(new_weights.held)
        tensors["dev_logits"] = torch.from_numpy(predict(student, self.dev, self.train.classes))
        self.run.save(stage, tensors, facts)
        self.run.log(stage=stage, **facts)
        return self._stored(stage, start)

    def _judge(self, student: Student, weights: Weights) -> tuple[Round, float, Weights]:
        """What a member is worth, its weighted error on the training examples, and the weights of the next round."""
        outputs = outputs_of(student, self.train.encoded, self.train.classes)
        own = self._boosted(outputs, self.train.targets, weights.train)
        verdict, new = own, Weights(own.weights, None)
        if self.held is not None and weights.held is not None:
            unseen = outputs_of(student, self.held.encoded, self.train.classes)
            verdict = self._boosted(unseen, self.held.targets, weights.held)
            if verdict.status == "perfect" and own.status != "perfect":  # its mistakes still teach the next one
                verdict = replace(verdict, status="useful", advice="")
            mistakes = self._mistakes(outputs, weights, verdict.alpha)
            new = Weights(mistakes / mistakes.sum(), verdict.weights)
        if self.method == "bagging":
            same = replace(verdict, alpha=1.0, status="useful", advice="")
            return same, own.error, Weights.uniform(self.train, self.held)
        return verdict, own.error, new

    def _boosted(self, outputs: NDArray[np.float32], targets: NDArray, weights: Floats) -> Round:
        if self.train.classes == 1:
            return boost_regression(outputs[:, 0], targets, weights, self.shrinkage)
        answers, classes = outputs.argmax(axis=1), self.train.classes
        return boost(answers, targets, weights, classes, self.rule, shrinkage=self.shrinkage)

    def _mistakes(self, outputs: NDArray[np.float32], weights: Weights, alpha: float) -> Floats:
        if self.train.classes == 1:
            return reweigh_regression(outputs[:, 0], self.train.targets, weights.train, alpha)
        return reweigh(outputs.argmax(axis=1), self.train.targets, weights.train, alpha, self.rule)

    def _bootstrap(self, seed: int) -> NDArray[np.int64]:
        """As many examples as there are, drawn evenly with replacement."""
        count = len(self.train.encoded)
        return np.random.default_rng([seed, 1]).integers(count, size=count)

    def _stored(self, stage: str, start: Start) -> tuple[Member | None, Weights]:
        tensors, facts = self.run.load(stage)
        held = tensors.pop("held_weights", None)
        weights = Weights(tensors.pop("weights").numpy(), None if held is None else held.numpy())
        dev_logits = tensors.pop("dev_logits").numpy()
        if facts["status"] == "weak":
            return None, weights
        student = new_member(start.student, self.plan)
        student.load_state_dict(stored_state(tensors))
        return Member(student.eval(), facts["alpha"], dev_logits, facts), weights
