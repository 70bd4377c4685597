"""Boosting rounds: train a member on weighted examples, see where it errs, weigh the examples anew.

Predictions for the update run over the whole training file in its own order, so that weight i always belongs
to example i. A member is what its training ended with; no round looks at the dev split to choose anything.

Guards: a member without error gets a large finite alpha and ends the boosting; a member that is no better
than guessing is trained once more, from uniform weights and with another seed; if that is no better either,
the boosting ends with the members so far (BEBERT Algorithm 1 leaves both open).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from bebert_export.boosting import Round, Rule, boost, boost_regression, uniform_weights
from bebert_export.data import Encoded
from bebert_export.lessons import Lessons, teach
from bebert_export.modeling import Student
from bebert_export.progress import stage_bar
from bebert_export.run_folder import RunFolder
from bebert_export.students import settle_zero_weights
from bebert_export.training import Schedule, TrainingSet, predict
from bebert_infer.errors import BebertError

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
class Boosting:
    """What stays the same over the rounds.

    method        : "weights": sample weights multiply the loss; "resample": examples are drawn with them; "bagging":
                    no boosting, each member sees a bootstrap sample and has alpha 1 (the baseline)
    from_previous : members start from the one before, not from the first student
    rule          : how errors become alphas and weights, see `boosting.boost`; regression has AdaBoost.R2 only
    """

    new_member: Callable[[], Student]
    method: str
    from_previous: bool
    rule: Rule
    train: TrainingSet
    dev: Encoded
    schedule: Schedule
    seed: int
    lessons: Lessons
    run: RunFolder
    console: Console

    def members(self, count: int) -> list[Member]:
        """Train up to `count` members, or read those that an earlier, interrupted run has finished."""
        weights = uniform_weights(len(self.train.encoded))
        members: list[Member] = []
        while len(members) < count:
            member, weights = self._round(len(members), weights, members[-1].student if members else None)
            if member is None:
                break
            members.append(member)
            if member.facts["status"] == "perfect" and self.method != "bagging":
                break
        return members

    def _round(
        self, index: int, weights: NDArray[np.float64], previous: Student | None
    ) -> tuple[Member | None, NDArray[np.float64]]:
        """One member (None if no useful one came out) and the weights of the next round."""
        stage = f"member_{index}"
        if self.run.has(stage):
            return self._stored(stage)
        for seed in (self.seed + index, self.seed + index + SECOND_TRY):
            student = self.new_member()
            if self.from_previous and previous is not None:
                student.load_state_dict(previous.state_dict())
            with stage_bar(f"member {index}", self.console, self.run) as bar:
                fitted = teach(
                    student,
                    self.train,
                    self.schedule,
                    seed=seed,
                    watcher=bar,
                    weights=weights if self.method == "weights" else None,
                    sample=self._sample(weights, seed),
                    lessons=self.lessons,
                    snapshots=self.run.snapshots(stage),
                )
            settled = settle_zero_weights(student)
            verdict = self._judge(student, weights)
            if verdict.status != "weak":
                break
            self.console.print(f"[yellow]member {index}: {verdict.advice}[/yellow]")
            self.run.log(stage=stage, seed=seed, error=verdict.error, advice=verdict.advice)
            weights = uniform_weights(len(weights))
        facts = {
            "alpha": verdict.alpha,
            "error": verdict.error,
            "status": verdict.status,
            "seed": seed,
            "steps": fitted.steps,
            "seconds": round(fitted.seconds, 1),
            "loss": fitted.loss,
            "weights_settled": settled,
        }
        if verdict.status == "weak" and index == 0:
            raise TrainingError(
                f"the first member has error {verdict.error:.3f} on its own training examples, with two "
                "seeds, no better than guessing; train longer or with another learning rate"
            )
        tensors = {f"model.{name}": tensor for name, tensor in student.state_dict().items()}
        tensors["weights"] = torch.from_numpy(verdict.weights)
        tensors["dev_logits"] = torch.from_numpy(predict(student, self.dev, self.train.classes))
        self.run.save(stage, tensors, facts)
        self.run.log(stage=stage, **facts)
        return self._stored(stage)

    def _judge(self, student: Student, weights: NDArray[np.float64]) -> Round:
        outputs = predict(student, self.train.encoded, self.train.classes)
        if self.method == "bagging":
            verdict = self._boosted(outputs, weights)
            return replace(verdict, alpha=1.0, weights=uniform_weights(len(weights)))
        return self._boosted(outputs, weights)

    def _boosted(self, outputs: NDArray[np.float32], weights: NDArray[np.float64]) -> Round:
        if self.train.classes == 1:
            return boost_regression(outputs[:, 0], self.train.targets, weights)
        return boost(outputs.argmax(axis=1), self.train.targets, weights, self.train.classes, self.rule)

    def _sample(self, weights: NDArray[np.float64], seed: int) -> NDArray[np.int64] | None:
        """As many examples as there are, drawn with replacement: by weight, or evenly for bagging."""
        if self.method == "weights":
            return None
        chances = weights / weights.sum() if self.method == "resample" else None
        return np.random.default_rng([seed, 1]).choice(len(weights), len(weights), p=chances)

    def _stored(self, stage: str) -> tuple[Member | None, NDArray[np.float64]]:
        tensors, facts = self.run.load(stage)
        weights = tensors.pop("weights").numpy()
        dev_logits = tensors.pop("dev_logits").numpy()
        if facts["status"] == "weak":
            return None, weights
        student = self.new_member()
        student.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors.items()})
        return Member(student.eval(), facts["alpha"], dev_logits, facts), weights
