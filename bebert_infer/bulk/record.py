"""How texts are answered, and an answer as plain JSON values: of a file's row, and of a text without a file."""

from dataclasses import dataclass
from typing import Any, Literal

from bebert_infer.bulk.row import PAIR_COLUMNS, TEXT_COLUMNS
from bebert_infer.early_exit import EarlyExit
from bebert_infer.prediction import Prediction
from bebert_infer.text.tokenizer import Text
from bebert_infer.text.windows import LongTexts


@dataclass(frozen=True)
class BulkOptions:
    """How to read and answer rows.

    text_column, pair_column : names; None for the usual ones (row.TEXT_COLUMNS, PAIR_COLUMNS), pairs if there are
    on_error   : "stop" at the first row that cannot be classified, or "skip" it: {"row": …, "error": …} in its place
    early_exit : as in `Ensemble.predict`; answers then say members_run
    """

    text_column: str | None = None
    pair_column: str | None = None
    long: LongTexts = LongTexts()
    on_error: Literal["stop", "skip"] = "stop"
    early_exit: EarlyExit | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Accepted names of the text column."""
        return (self.text_column,) if self.text_column is not None else TEXT_COLUMNS

    @property
    def pairs(self) -> tuple[str, ...]:
        """Accepted names of the column of second texts; none if only the text's column was named."""
        if self.pair_column is not None:
            return (self.pair_column,)
        return PAIR_COLUMNS if self.text_column is None else ()


def as_record(text: Text, prediction: Prediction, options: BulkOptions) -> dict[str, Any]:
    """Return a prediction as plain JSON values, with the text that it answers; options : it was made with."""
    record: dict[str, Any] = {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
    return record | answer_values(prediction, options)


def answer_values(prediction: Prediction, options: BulkOptions) -> dict[str, Any]:
    """Return a prediction as plain JSON values; options : it was made with."""
    record: dict[str, Any] = {
        "label": prediction.label,
        "score": prediction.score,
        "probabilities": prediction.probabilities,
        "votes": prediction.votes,
    }
    if options.early_exit is not None:
        record["members_run"] = prediction.members_run
    if prediction.labels is not None:
        record["labels"] = prediction.labels
    if prediction.windows > 1:
        record["windows"] = prediction.windows
    if prediction.cut:
        record["cut"] = prediction.cut
    return record
