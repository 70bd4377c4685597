"""`--budget-minutes`: what a run costs at measured speeds, and the epochs that fit into the time."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bebert_infer.errors import InputError

RESERVE = 0.05  # of the budget: packing, parity check and evaluation, which are not measured
LEAST = 0.01  # of the epochs; less is no training


@dataclass(frozen=True)
class StageCost:
    """One kind of stage.

    option              : name of the option with its epochs
    epochs              : asked for
    times               : how often it is run (members)
    examples_per_second : while training
    epoch_seconds       : of one epoch, evaluations for early stopping included
    other_seconds       : beside training each time: predictions
    """

    stage: str
    option: str
    epochs: float
    times: int
    examples_per_second: float
    epoch_seconds: float
    other_seconds: float


def scale_epochs(costs: Sequence[StageCost], budget_seconds: float, spent_seconds: float) -> dict[str, Any]:
    """One factor <= 1 for the epochs of all stages, so that the run ends within the budget.

    Returns {"factor", "epochs": {option: epochs}, "stages": [rows for people]}. Raises InputError if the budget does
    not even pay for a hundredth of the epochs, and says how much would.
    """
    training = sum(cost.times * cost.epochs * cost.epoch_seconds for cost in costs)
    other = sum(cost.times * cost.other_seconds for cost in costs)
    factor = min(1.0, (budget_seconds * (1 - RESERVE) - spent_seconds - other) / training)
    if factor < LEAST:
        least = (LEAST * training + other + spent_seconds) / (1 - RESERVE)
        raise InputError(
            f"budget_minutes is {budget_seconds / 60:g}; this run needs {least / 60:.1f} minutes for a hundredth of "
            "its epochs; accepted is more, or take a smaller encoder, fewer members or less data"
        )
    rows = []
    for cost in costs:
        given = factor * cost.epochs
        minutes = cost.times * (given * cost.epoch_seconds + cost.other_seconds) / 60
        rows.append(asdict(cost) | {"epochs_given": given, "minutes": minutes})
    return {"factor": factor, "epochs": {row["option"]: row["epochs_given"] for row in rows}, "stages": rows}
