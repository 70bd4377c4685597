"""Scores of predictions, always over a whole split at once.

Per-batch averages, as in the published code, are not the metric of the split (reference numerics §5.2.4).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

Floats = NDArray[np.floating]
CLASS_RULES = ("vote", "logits", "probabilities")
VALUE_RULES = ("mean", "median")


def classification_metrics(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> dict[str, float]:
    """Accuracy, macro-F1 (0 to 1), Matthews correlation (-1 to 1); with two classes also F1 of class 1."""
    metrics = {
        "accuracy": accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, labels=range(classes), average="macro", zero_division=0),
        "matthews": matthews_corrcoef(labels, predicted),
    }
    if classes == 2:
        metrics["f1"] = f1_score(labels, predicted, zero_division=0)
    return {name: float(value) for name, value in metrics.items()}


def regression_metrics(values: Floats, predicted: Floats) -> dict[str, float]:
    """Pearson and Spearman correlation (0 where the prediction is constant) and mean absolute error."""
    constant = np.ptp(predicted) == 0 or np.ptp(values) == 0
    return {
        "pearson": 0.0 if constant else float(pearsonr(values, predicted).statistic),
        "spearman": 0.0 if constant else float(spearmanr(values, predicted).statistic),
        "mean_absolute_error": float(np.mean(np.abs(predicted - values))),
    }


def evaluate(targets: NDArray[np.int64] | Floats, outputs: Floats) -> dict[str, float]:
    """Metrics of outputs[M, K]: class scores where K > 1 (the first maximum wins), values where K == 1."""
    if outputs.shape[1] == 1:
        return regression_metrics(targets.astype(np.float64), outputs[:, 0].astype(np.float64))
    return classification_metrics(targets.astype(np.int64), outputs.argmax(axis=1), outputs.shape[1])
