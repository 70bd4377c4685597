"""Scores of predictions, always over a whole split at once.

Per-batch averages, as in the published code, are not the metric of the split (reference numerics §5.2.4).
"""

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from bebert_export.data.tasks import Task

Floats = NDArray[np.floating]
Value = TypeVar("Value")
CLASS_RULES = ("vote", "logits", "probabilities")
VALUE_RULES = ("mean", "median")


def classification_metrics(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> dict[str, float]:
    """Accuracy, macro-F1 (0 to 1), Matthews correlation (-1 to 1); with two classes also F1 of class 1."""
    with warnings.catch_warnings():
        # Of one class, Matthews is 0 whatever the shape of its matrix; the advice is about an argument it lacks.
        warnings.filterwarnings("ignore", "A single label was found", UserWarning)
        matthews = matthews_corrcoef(labels, predicted)
    metrics = {
        "accuracy": accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, labels=range(classes), average="macro", zero_division=0),
        "matthews": matthews,
    }
    if classes == 2:
        metrics["f1"] = f1_score(labels, predicted, zero_division=0)
    return {name: float(value) for name, value in metrics.items()}


def regression_metrics(values: Floats, predicted: Floats) -> dict[str, float]:
    """Pearson and Spearman correlation (0 where the prediction is constant), their mean, mean absolute error."""
    constant = np.ptp(predicted) == 0 or np.ptp(values) == 0
    pearson = 0.0 if constant else float(pearsonr(values, predicted).statistic)
    spearman = 0.0 if constant else float(spearmanr(values, predicted).statistic)
    return {
        "pearson": pearson,
        "spearman": spearman,
        "pearson_spearman": (pearson + spearman) / 2,
        "mean_absolute_error": float(np.mean(np.abs(predicted - values))),
    }


def multi_label_metrics(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> dict[str, float]:
    """F1 over all decisions and mean F1 of the labels (0 to 1), share of right decisions and of wholly right examples.

    truth, said : bool[M, K], the labels of each example and those that are answered

    F1 is 2·TP/(2·TP + FP + FN), 0 where a label is neither there nor said.
    """
    hits, there, answered = (np.count_nonzero(each, axis=0).astype(np.float64) for each in (truth & said, truth, said))
    right = truth == said
    return {
        "micro_f1": float(_ratio(2 * hits.sum(), (there + answered).sum())),
        "macro_f1": float(_ratio(2 * hits, there + answered).mean()),
        "label_accuracy": float(right.mean()),
        "exact_match": float(right.all(axis=1).mean()),
    }


def evaluate(targets: NDArray[np.int64] | Floats, outputs: Floats) -> dict[str, float]:
    """Metrics of outputs[M, K]: class scores where K > 1 (the first maximum wins), values where K == 1.

    Of targets [M, K] labels do not exclude each other, and outputs above 0 say yes.
    """
    if targets.ndim == 2:
        return multi_label_metrics(targets > 0.5, outputs > 0)
    if outputs.shape[1] == 1:
        return regression_metrics(targets.astype(np.float64), outputs[:, 0].astype(np.float64))
    return classification_metrics(targets.astype(np.int64), outputs.argmax(axis=1), outputs.shape[1])


def main_metric(task: Task | None, metrics: Mapping[str, Value]) -> tuple[str, Value]:
    """Name and value of the one metric for choosing and for tables.

    That of the task; without one, accuracy for classes, F1 over all decisions for labels that do not exclude each
    other, and the mean of both correlations for regression.
    """
    usual = next(name for name in ("accuracy", "micro_f1", "pearson_spearman") if name in metrics)
    name = task.metrics[0] if task else usual
    return name, metrics[name]


def main_first(task: Task | None, metrics: Mapping[str, Value]) -> dict[str, Value]:
    """The same metrics in the order to show them: the main one, the task's other official ones, the rest."""
    official = task.metrics if task else (main_metric(None, metrics)[0],)
    return {name: metrics[name] for name in official} | dict(metrics)


def counted_metrics(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The same as `classification_metrics` from confusion counts int64[R, K, K] (label, answer): float64[R] each.

    For thousands of resamples at once. F1 of class k is 2·TP/(2·TP + FP + FN), 0 where nothing is or is said to be k;
    Matthews is (S·Σ TP − Σ t·p) / sqrt((S² − Σ t²)(S² − Σ p²)) with t, p the rows labelled and answered k, S all rows,
    and 0 where the root is 0.
    """
    hits = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)
    labelled, answered = counts.sum(axis=2).astype(np.float64), counts.sum(axis=1).astype(np.float64)
    rows = labelled.sum(axis=1)
    f1 = _ratio(2 * hits, labelled + answered)
    root = np.sqrt((rows**2 - (labelled**2).sum(axis=1)) * (rows**2 - (answered**2).sum(axis=1)))
    metrics = {
        "accuracy": _ratio(hits.sum(axis=1), rows),
        "macro_f1": f1.mean(axis=1),
        "matthews": _ratio(rows * hits.sum(axis=1) - (labelled * answered).sum(axis=1), root),
    }
    if counts.shape[1] == 2:
        metrics["f1"] = f1[:, 1]
    return metrics


def _ratio(above: Any, below: Any) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros_like(above), where=np.asarray(below) > 0)
