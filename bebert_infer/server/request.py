"""What a body asks for, in either of two dialects that existing clients speak.

    hub   huggingface_hub's InferenceClient, and pipelines behind its inference API: {"inputs": …, "parameters": {…}}.
          A list is a batch. One text is answered by a list with one list of labels in it, which is what that client
          takes apart.
    tei   Text Embeddings Inference: {"inputs": …, "truncate": …, "raw_scores": …}. A list of one or two strings is one
          text or pair, a batch is a list of such lists. One text is answered by one list of labels.

`POST /` speaks hub. `POST /predict` speaks tei, or hub where the body has `parameters`, as only those clients send.
Both take {"text": …, "text_pair": …} too, and what is unknown is refused: an option that does nothing would be a wrong
answer in silence.
"""

import reprlib
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from bebert_infer.artifact.config import Config
from bebert_infer.early_exit import EarlyExit, checked_early_exit
from bebert_infer.errors import InputError, safe
from bebert_infer.limits import is_whole
from bebert_infer.server.refusal import Refusal
from bebert_infer.server.settings import Settings
from bebert_infer.text.tokenizer import Text
from bebert_infer.text.windows import LongTexts

Dialect = Literal["hub", "tei"]
OPTIONS = ("early_exit", "truncate", "top_k", "function_to_apply")
HUB_KEYS = (
    "inputs",
    "parameters",
    "options",
)  # options: of the hub's own servers (caching, waiting); no answer differs
TEI_KEYS = ("inputs", "truncate", "truncation_direction", "raw_scores", "early_exit", "top_k")


@dataclass(frozen=True)
class Request:
    """Texts, and how they are to be answered.

    single : one text was given, not a list          nested : its answer is a list in a list
    top_k  : labels of an answer, None for all        raw : scores of the combination rule instead of probabilities
    """

    texts: list[Text]
    single: bool
    nested: bool
    top_k: int | None = None
    raw: bool = False
    early_exit: EarlyExit | None = None
    long: LongTexts = LongTexts()


def parse(body: bytes, dialect: Dialect, settings: Settings, config: Config) -> Request:
    """Return what a body asks for. Raises Refusal: 400 for no JSON, 413 beyond a limit, 422 for wrong values."""
    value = _json(body)
    if not isinstance(value, dict):
        raise Refusal(422, f'the body is {_shown(value)}; accepted is an object, {{"inputs": "a text"}}')
    if dialect == "tei" and value.get("parameters") is not None:
        dialect = "hub"
    _check_keys("the body", value, HUB_KEYS if dialect == "hub" else TEI_KEYS)
    if value.get("inputs") is None:
        raise Refusal(422, 'the body has no "inputs"; accepted are a text, a pair of texts, or a list of these')
    texts, single = (_hub_texts if dialect == "hub" else _tei_texts)(value["inputs"], settings)
    options = _hub_options(value) if dialect == "hub" else _tei_options(value)
    try:
        early_exit = checked_early_exit(options.get("early_exit"), config)
    except InputError as error:
        raise Refusal(422, str(error)) from None
    top_k = options.get("top_k")
    if top_k is not None and not (is_whole(top_k) and top_k >= 1):
        raise Refusal(422, f"top_k is {_shown(top_k)}; accepted are whole numbers from 1, or null for all labels")
    long = LongTexts("truncate") if _flag(options, "truncate") else settings.long
    raw = _flag(options, "raw_scores") or _raw(options.get("function_to_apply"), config)
    return Request(texts, single, not single or dialect == "hub", top_k, raw, early_exit, long)


def _json(body: bytes) -> Any:
    if not body:
        raise Refusal(400, 'the body is empty; send JSON, {"inputs": "a text"}')
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is no UTF-8: byte {error.start} is 0x{body[error.start]:02X}") from None
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise Refusal(400, "the body is nested too deep; inputs are lists of pairs at most") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise Refusal(400, f"the body is no JSON: {error}") from None


def _hub_texts(inputs: Any, settings: Settings) -> tuple[list[Text], bool]:
    """A string or object is one text, a list is a batch."""
    if isinstance(inputs, list):
        _check_count(len(inputs), settings)
        return [_text(f"inputs[{index}]", item, settings) for index, item in enumerate(inputs)], False
    return [_text("inputs", inputs, settings)], True


def _tei_texts(inputs: Any, settings: Settings) -> tuple[list[Text], bool]:
    """A string, an object or a list of strings is one text; a list of lists or objects is a batch."""
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], str):
        if len(inputs) > 2 or not all(isinstance(item, str) for item in inputs):
            raise Refusal(
                422,
                f"inputs is {_shown(inputs)}; here a list of strings is one text or a pair: send a batch as a list of "
                "lists, or to POST /",
            )
        return [_text("inputs", inputs, settings)], True
    return _hub_texts(inputs, settings)


def _text(name: str, item: Any, settings: Settings) -> Text:
    """One text or pair: "a", ["a"], ["a", "b"] or {"text": "a", "text_pair": "b"}."""
    sides = [item]
    if isinstance(item, list):
        sides = item
    elif isinstance(item, dict):
        _check_keys(name, item, ("text", "text_pair"))
        sides = [item.get("text"), *([] if item.get("text_pair") is None else [item["text_pair"]])]
    if len(sides) not in (1, 2) or not all(isinstance(side, str) for side in sides):
        raise Refusal(422, f"{name} is {_shown(item)}; accepted are a text or a pair of two texts")
    for side in sides:
        if len(side) > settings.characters:
            raise Refusal(
                413,
                f"{name} has {len(side):,} characters; accepted are {settings.characters:,} (--max-characters): "
                "send less of it",
            )
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _hub_options(value: dict[str, Any]) -> dict[str, Any]:
    for key in ("parameters", "options"):
        if not isinstance(value.get(key) or {}, dict):
            raise Refusal(422, f"{key} is {_shown(value[key])}; accepted is an object")
    options: dict[str, Any] = value.get("parameters") or {}
    _check_keys("parameters", options, OPTIONS)
    return options


def _tei_options(value: dict[str, Any]) -> dict[str, Any]:
    direction = value.get("truncation_direction")
    if direction is not None and direction not in ("Right", "right"):
        raise Refusal(422, f'truncation_direction is {_shown(direction)}; this server cuts the end, "Right"')
    return value


def _raw(function: Any, config: Config) -> bool:
    """Whether raw scores are asked for; a function that is not the model's own is refused."""
    own = {"multi_label_classification": "sigmoid", "regression": "none"}.get(config.problem_type, "softmax")
    if function not in (None, "none", own):
        raise Refusal(
            422,
            f'function_to_apply is {_shown(function)}; accepted are "none" and "{own}", which this model has learned',
        )
    return function == "none"


def _flag(options: dict[str, Any], name: str) -> bool:
    value = options.get(name)
    if value not in (None, True, False) or isinstance(value, int | float) and not isinstance(value, bool):
        raise Refusal(422, f"{name} is {_shown(value)}; accepted are true and false")
    return bool(value)


def _check_count(count: int, settings: Settings) -> None:
    if count == 0:
        raise Refusal(422, "inputs is an empty list; send at least one text")
    if count > settings.texts:
        raise Refusal(413, f"the request has {count:,} texts; accepted are {settings.texts} (--max-texts): send fewer")


def _check_keys(what: str, value: dict[str, Any], accepted: tuple[str, ...]) -> None:
    if unknown := [key for key in value if key not in accepted]:
        raise Refusal(422, f"{what} has the key {_shown(unknown[0])}; accepted are {', '.join(accepted)}")


def _shown(value: Any) -> str:
    return safe(reprlib.repr(value))
