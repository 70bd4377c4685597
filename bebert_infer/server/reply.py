"""Answers as JSON, in the shape that the client of a request takes apart."""

from collections.abc import Sequence
from typing import Any

import msgspec

from bebert_infer.prediction import Prediction
from bebert_infer.server.request import Request


def answer_body(request: Request, answers: Sequence[Prediction]) -> bytes:
    """[{"label", "score"}, …] for one text, best first, or a list of these (`Request.nested`)."""
    rows = [_labels(request, answer) for answer in answers]
    return msgspec.json.encode(rows if request.nested else rows[0])


def _labels(request: Request, answer: Prediction) -> list[dict[str, Any]]:
    ranked = answer.ranked()
    if request.raw:
        raw = dict(zip(answer.probabilities, answer.logits.tolist(), strict=True))
        ranked = [(label, raw[label]) for label, _ in ranked]
    return [{"label": label, "score": score} for label, score in ranked[: request.top_k]]


def votes_body(
    answer: Prediction, members: Sequence[Prediction], alphas: Sequence[float], milliseconds: float
) -> bytes:
    """The answer to one text, what each member says alone, and the milliseconds from the body to the answer."""
    said = [
        {"label": member.label, "score": member.score, "probabilities": member.probabilities, "weight": alpha}
        for member, alpha in zip(members, alphas, strict=True)
    ]
    return msgspec.json.encode(
        {
            "label": answer.label,
            "score": answer.score,
            "labels": answer.labels,
            "probabilities": answer.probabilities,
            "members": said,
            "windows": answer.windows,
            "cut": answer.cut,
            "milliseconds": round(milliseconds, 3),
        }
    )
