"""Why a request gets no answer: a status of HTTP and one sentence."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from bebert_infer.errors import InputError, safe

# What Text Embeddings Inference calls these; its clients may look at it.
TYPES = {413: "validation", 422: "validation", 500: "backend", 503: "overloaded", 504: "overloaded"}


class Refusal(InputError):
    """A request that is refused: status 400 to 599, a sentence, further headers."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None):
        super().__init__(sentence)
        self.status, self.headers = status, dict(headers or {})

    def json(self) -> bytes:
        """The body of the answer."""
        return error_body(self.status, str(self))


def error_body(status: int, sentence: str) -> bytes:
    """{"error": sentence, "error_type": …} as JSON."""
    kind = TYPES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))
    return msgspec.json.encode({"error": safe(sentence), "error_type": kind})


def overloaded(sentence: str, seconds: int = 1) -> Refusal:
    """A server that has too much to do now."""
    return Refusal(503, f"{sentence}; try again in {seconds} s", {"Retry-After": str(seconds)})
