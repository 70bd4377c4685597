"""How far the figures of one split can be trusted: calibration, agreement of members, bootstrap intervals."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_export.data.metrics import counted_metrics, multi_label_metrics, regression_metrics

Floats = NDArray[np.floating]
BINS = 15
LEVEL = 0.95


def calibration(labels: NDArray, answers: NDArray, confidences: Floats) -> dict[str, Any]:
    """Expected calibration error over 15 bins of equal width (Guo et al., ICML 2017), and the bins.

        ECE = Σ_b |B_b|/M · |accuracy(B_b) − mean confidence(B_b)|,    B_b: confidence in (b/15, (b+1)/15]

    labels, answers : int64[M] or bool[M]     confidences : float[M], 0 to 1, of the answers (0 is in the first bin)

    Returns {"ece", "bins": [{"upper", "count", "accuracy", "confidence"}]}, empty bins with None. No interval is given:
    ECE is an absolute value, so resampling only ever adds to it.
    """
    which = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
    right = labels == answers
    error, bins = 0.0, []
    for index in range(BINS):
        inside = which == index
        count = int(inside.sum())
        accuracy = float(right[inside].mean()) if count else None
        confidence = float(confidences[inside].mean()) if count else None
        if accuracy is not None and confidence is not None:
            error += count / len(labels) * abs(accuracy - confidence)
        bins.append({"upper": (index + 1) / BINS, "count": count, "accuracy": accuracy, "confidence": confidence})
    return {"ece": error, "bins": bins}


def agreement(answers: NDArray) -> NDArray[np.float64]:
    """Share of M decisions on which members i and j say the same, float64[N, N], from answers int64[N, M] or bool."""
    return (answers[:, None, :] == answers[None, :, :]).mean(axis=2)


def resamples(examples: int, count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """`count` draws of M of the M examples with replacement, int64[M] each; one seed gives every model the same."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield generator.integers(0, examples, examples)


def intervals(
    targets: NDArray[np.int64] | Floats, outputs: Floats, count: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % intervals of every metric by the percentile bootstrap over examples (Efron 1979).

    targets : int64[M], float[M], or labels float[M, K]    outputs : scores float[M, K], or values float[M, 1]

    The bounds are the 2.5 and 97.5 % quantiles (linear between neighbours) of the metric over `count` resamples. They
    say how much a figure may owe to which examples happen to be in the split, nothing about other seeds of training.
    """
    draws = resamples(len(targets), count, seed)
    if targets.ndim == 2:
        rows = [multi_label_metrics(targets[index] > 0.5, outputs[index] > 0) for index in draws]
        samples = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    elif outputs.shape[1] == 1:
        values = outputs[:, 0].astype(np.float64)
        rows = [regression_metrics(targets[index].astype(np.float64), values[index]) for index in draws]
        samples = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    else:
        classes = outputs.shape[1]
        cells = targets.astype(np.int64) * classes + outputs.argmax(axis=1)
        counts = np.stack([np.bincount(cells[index], minlength=classes**2) for index in draws])
        samples = counted_metrics(counts.reshape(-1, classes, classes))
    tail = (1 - LEVEL) / 2
    bounds = {name: np.quantile(values, [tail, 1 - tail]) for name, values in samples.items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
