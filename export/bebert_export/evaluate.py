"""What `bebert eval` reports on one labelled file: full precision, members, ensembles of the first 1..N, noise.

Every figure of members and ensembles comes from the packed engine. Nothing here needs torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_export.data.examples import Examples, named_class_ids, numbers_of, read_examples, scores
from bebert_export.data.metrics import CLASS_RULES, VALUE_RULES, evaluate, main_first, main_metric
from bebert_export.data.tasks import TASKS, Task, find_task
from bebert_export.evaluation.early_exits import early_exit_curve
from bebert_export.evaluation.reliability import LEVEL, agreement, calibration, intervals
from bebert_infer.artifact.config import Config, check_alphas
from bebert_infer.combine import class_probabilities, combine, sigmoid, softmax
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import InputError
from bebert_infer.model.noise import Noise
from bebert_infer.text.tokenizer import EncodedBatch, Text

Targets = NDArray[np.int64] | NDArray[np.float32]
BATCH = 64  # examples of one call


@dataclass(frozen=True)
class Bootstrap:
    """How many resamples, and their seed."""

    resamples: int
    seed: int


def examples_of(file: Path, config: Config, task: Task | None) -> Examples:
    """A labelled file as a model reads it, its labels checked: wrong ones are told before anything slow."""
    examples = read_examples(file, task, multi_label=config.multi_label, names=list(config.labels))
    targets_of(examples, config)
    return examples


def texts_of(examples: Examples) -> list[Text]:
    """Texts or pairs of a labelled file, as an ensemble takes them."""
    if examples.pairs is None:
        return list(examples.texts)
    return list(zip(examples.texts, examples.pairs, strict=True))


def targets_of(examples: Examples, config: Config) -> Targets:
    """Class ids int64[M], for regression values float32[M], for labels that do not exclude each other float32[M, K].

    A file names its classes as the model does, or as its training file did, if its record says how that was, else by
    their numbers 0 to K - 1; files of a task have either its names or numbers. Raises DataError for other labels.
    """
    if config.problem_type == "regression":
        return scores(examples)
    names = list(config.labels)
    values = [_recorded(config.evidence, "labels", name) for name in names]
    known = not examples.marked and all(isinstance(value, str) for value in values) and len(set(values)) == len(names)
    task = _recorded_task(config)
    others = [values] if known else []
    if task is not None and values == list(task.labels):
        others.append(numbers_of(names))
    return named_class_ids(examples, names, others)


def _recorded_task(config: Config) -> Task | None:
    """The task that a model was trained for, if its record says so."""
    return TASKS.get(str(_recorded(config.evidence, "options", "task")))


def task_of(name: str | None, config: Config) -> Task | None:
    """The task that a user names, else the one that the model was trained for, if its record says so.

    Raises InputError for an unknown name, and for a task whose classes are not the model's.
    """
    task = _recorded_task(config) if name is None else find_task(name)
    fits = task is None or max(1, len(task.labels)) == len(config.labels)
    if not fits and name is not None:
        raise InputError(f'task is "{name}"; the model has other classes: {", ".join(config.labels)}')
    return task if fits else None


def split_kind(evidence: dict[str, Any], sha256: str) -> str:
    """What the figures are: on the model's own training or dev file, by sha256, or on a file it says nothing about."""
    for name, meaning in (
        (
            "train",
            "the file this model was TRAINED on: these figures say how well it fits, not how well it generalises",
        ),
        ("dev", "the dev split of this model's training run, not a test set"),
    ):
        if _recorded(evidence, "data", name, "sha256") == sha256:
            selection = _recorded(evidence, "dev", "selection") if name == "dev" else None
            return f"{meaning}; used for selection: {selection}" if selection else meaning
    return "a file that the model's record does not name: whether training or selection saw it is not known here"


def _recorded(evidence: Any, *names: str) -> Any:
    """A value of the model's record, which is free JSON that anyone may have written; None where it is not there."""
    for name in names:
        evidence = evidence.get(name) if isinstance(evidence, dict) else None
    return evidence


def split_logits(ensemble: Ensemble, encoded: EncodedBatch, sigma: float | None = None, seed: int = 0) -> NDArray:
    """Logits float32[members, M, labels] of M encoded examples, in order, with noise unless `sigma` is None."""
    count = len(encoded.input_ids)
    logits = np.empty((len(ensemble.alphas), count, ensemble.config.num_labels), np.float32)
    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        some = slice(start, stop)
        noise = None if sigma is None else Noise(sigma, seed, np.arange(start, stop))
        logits[:, some] = ensemble.member_logits(
            encoded.input_ids[some], encoded.attention_mask[some], encoded.token_type_ids[some], noise=noise
        )
    return logits


def report(
    ensemble: Ensemble,
    examples: Examples,
    encoded: EncodedBatch,
    full_precision: NDArray[np.float32] | None,
    bootstrap: Bootstrap | None,
    task: Task | None = None,
) -> dict[str, Any]:
    """Every figure but noise, as JSON values; the task's main metric is named, and comes first everywhere.

    encoded : token ids of the examples;  full_precision : its logits float32[M, K], or None;
    bootstrap : None gives no intervals

    Raises DataError for labels that the model does not have.
    """
    config = ensemble.config
    targets = targets_of(examples, config)
    members = split_logits(ensemble, encoded)
    figures: dict[str, Any] = {
        "model": str(ensemble.path),
        "combination": config.combination,
        "alphas": ensemble.alphas.tolist(),
        "labels": list(config.labels),
        "data": {
            "file": examples.path.name,
            "rows": len(examples),
            "sha256": examples.sha256,
            "split": split_kind(config.evidence, examples.sha256),
        },
    }
    if bootstrap is not None:
        figures["bootstrap"] = {"resamples": bootstrap.resamples, "seed": bootstrap.seed, "level": LEVEL}
    if full_precision is not None:
        figures["full_precision"] = _single(targets, full_precision, bootstrap)
    figures["members"] = [_single(targets, logits, bootstrap) for logits in members]
    figures["ensembles"] = {
        rule: [
            _ensemble(targets, rule, members[:count], ensemble.alphas[:count], bootstrap)
            for count in range(1, len(members) + 1)
        ]
        for rule in _rules(config)
    }
    if config.problem_type != "regression":
        answers = members.argmax(axis=2) if targets.ndim == 1 else (members > 0).reshape(len(members), -1)
        figures["agreement"] = agreement(answers).tolist()
        if len(members) > 1 and not _undefined(config.combination, ensemble.alphas):
            figures["early_exit"] = early_exit_curve(config.combination, members, ensemble.alphas, targets)
    _put_main_first(figures, task)
    return figures


def noise_report(
    ensemble: Ensemble, examples: Examples, encoded: EncodedBatch, sigma: float, seeds: int
) -> dict[str, dict[str, Any] | list | float]:
    """Metrics under embedding noise of one sigma: mean, sample standard deviation and values over seeds 0..seeds-1.

    "members" holds one entry a member; "ensembles" one list a rule, of the first 1..N members, or why a prefix has no
    answer.
    """
    targets = targets_of(examples, ensemble.config)
    counts = range(1, len(ensemble.alphas) + 1)
    members: list[list[dict[str, float]]] = [[] for _ in ensemble.alphas]
    combined = {rule: [_Prefix(rule, ensemble.alphas[:count]) for count in counts] for rule in _rules(ensemble.config)}
    for seed in range(seeds):
        logits = split_logits(ensemble, encoded, sigma, seed)
        for index, outputs in enumerate(logits):
            members[index].append(evaluate(targets, outputs))
        for prefixes in combined.values():
            for prefix in prefixes:
                prefix.add(targets, logits)
    return {
        "sigma": sigma,
        "seeds": list(range(seeds)),
        "members": [_spread(runs) for runs in members],
        "ensembles": {rule: [prefix.summary() for prefix in prefixes] for rule, prefixes in combined.items()},
    }


class _Prefix:
    """Metrics of the first members under one rule, run after run."""

    def __init__(self, rule: str, alphas: NDArray[np.float64]) -> None:
        self.rule, self.alphas = rule, alphas
        self.undefined = _undefined(rule, alphas)
        self.runs: list[dict[str, float]] = []

    def add(self, targets: Targets, logits: NDArray[np.float32]) -> None:
        """One more run, logits float32[members, M, K] of all members."""
        if not self.undefined:
            outputs = combine(self.rule, logits[: len(self.alphas)], self.alphas, multi_label=targets.ndim == 2)
            self.runs.append(evaluate(targets, outputs))

    def summary(self) -> dict[str, Any]:
        """Mean and deviation of every metric, or why these alphas leave no answer."""
        return {"undefined": self.undefined} if self.undefined else _spread(self.runs)


def _put_main_first(figures: dict[str, Any], task: Task | None) -> None:
    """Name the main metric and order the metrics of every entry."""
    entries = [*figures["members"], *(entry for entries in figures["ensembles"].values() for entry in entries)]
    for entry in [figures["full_precision"], *entries] if "full_precision" in figures else entries:
        if "metrics" in entry:
            entry["metrics"] = main_first(task, entry["metrics"])
    figures["task"] = task and task.name
    figures["main_metric"] = main_metric(task, figures["members"][0]["metrics"])[0]


def _rules(config: Config) -> tuple[str, ...]:
    return VALUE_RULES if config.problem_type == "regression" else CLASS_RULES


def _single(targets: Targets, logits: NDArray[np.float32], bootstrap: Bootstrap | None) -> dict[str, Any]:
    """Figures of one model's logits float32[M, K]."""
    return _figures(targets, logits, softmax(logits) if targets.ndim == 1 else sigmoid(logits), bootstrap)


def _ensemble(
    targets: Targets,
    rule: str,
    members: NDArray[np.float32],
    alphas: NDArray[np.float64],
    bootstrap: Bootstrap | None,
) -> dict[str, Any]:
    """Figures of some members under one rule, or why these alphas leave it without an answer."""
    undefined = _undefined(rule, alphas)
    if undefined:
        return {"undefined": undefined}
    several = targets.ndim == 2
    outputs = combine(rule, members, alphas, multi_label=several)
    shares = outputs if rule in VALUE_RULES else class_probabilities(rule, outputs, alphas, multi_label=several)
    return _figures(targets, outputs, shares, bootstrap)


def _undefined(rule: str, alphas: NDArray[np.float64]) -> str:
    """Why these alphas leave a rule without an answer; empty if they do not."""
    try:
        check_alphas(rule, alphas)
    except InputError as error:
        return str(error)
    return "" if alphas.any() else f"alphas are {alphas.tolist()}; at least one must not be 0"


def _figures(
    targets: Targets, outputs: NDArray[np.floating], shares: NDArray[np.float64], bootstrap: Bootstrap | None
) -> dict[str, Any]:
    metrics = {name: {"value": value} for name, value in evaluate(targets, outputs).items()}
    if bootstrap is not None:
        for name, (low, high) in intervals(targets, outputs, bootstrap.resamples, bootstrap.seed).items():
            metrics[name] |= {"low": low, "high": high}
    if targets.ndim == 2:  # every decision on a label counts, with the probability of what was decided
        said = outputs > 0
        confidences = np.where(said, shares, 1 - shares).ravel()
        return {"metrics": metrics, "calibration": calibration(targets.ravel() > 0.5, said.ravel(), confidences)}
    if outputs.shape[1] == 1:
        return {"metrics": metrics}
    answers = outputs.argmax(axis=1)
    confidences = np.take_along_axis(shares, answers[:, None], axis=1)[:, 0]
    return {"metrics": metrics, "calibration": calibration(targets.astype(np.int64), answers, confidences)}


def _spread(runs: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean and sample standard deviation (division by runs - 1) of every metric."""
    columns = {name: np.array([run[name] for run in runs]) for name in runs[0]}
    return {
        name: {"mean": float(values.mean()), "std": float(values.std(ddof=1)), "values": values.tolist()}
        for name, values in columns.items()
    }
