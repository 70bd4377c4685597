"""What transformers makes of the tokenizer files of a folder, as one `tokenizer.json` that needs no transformers.

A folder may say the same thing in many ways (`vocab.txt`, `tokenizer.json`, `tokenizer_config.json`,
`special_tokens_map.json`, `added_tokens.json`), and which counts has changed between versions of transformers. So the
library reads it, and its backend is written down. What lives outside the backend is put into it, or refused here.
"""

import json
import warnings
from pathlib import Path, PurePath
from typing import Any

from tokenizers import Tokenizer

from bebert_infer.artifact.tokenizer_check import check_added
from bebert_infer.errors import BebertWarning, DataError

CASED = 0.05  # share of words with capitals from which on a vocabulary is one of cased texts; uncased ones have none
CASING = {"do_lower_case", "strip_accents", "tokenize_chinese_chars"}
# Settings with which a tokenizer would take its words from somewhere else, such as a file outside the folder.
FOREIGN = ("vocab", "merges", "gguf_file", "tokenizer_object", "init_inputs")


def transformers_tokenizer(folder: Path) -> str:
    """Text of a `tokenizer.json` that gives the ids and segment types of `AutoTokenizer.from_pretrained(folder)`.

    A folder whose config.json is absent, or names a model that transformers does not know, is read as one of BERT. No
    code of the folder runs, and nothing is fetched. The side of padding is not kept: packed models do not pad.
    Raises DataError for what transformers cannot read, and for what a `tokenizer.json` cannot say; ModelFormatError for
    added tokens that are not told apart.
    """
    settings = _object(folder / "tokenizer_config.json")
    for part in (settings, _object(folder / "special_tokens_map.json")):  # fields of either become arguments
        _check_settings(folder, part)
    loaded = _load(folder, settings)
    if loaded.truncation_side != "right":
        raise _refused(folder, "truncation_side", loaded.truncation_side, "right, for long texts are cut at their end")
    if loaded.split_special_tokens:
        raise _refused(folder, "split_special_tokens", True, "false, for a packed model cannot say it")
    backend = loaded.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    description = json.loads(backend.to_str())
    if "token_type_ids" not in loaded.model_input_names:
        _one_segment(description, folder, told="model_input_names" in settings)
    text = json.dumps(description, ensure_ascii=False)
    again = Tokenizer.from_str(text)
    if again.get_vocab() != backend.get_vocab():  # the library does not read ids of added tokens, but counts them
        raise DataError(
            f"the added tokens of {folder} have ids that tokenizer.json cannot keep; number its words without gaps and "
            "doubles (vocab.txt: no line twice), and added tokens after them"
        )
    check_added(again, folder / "tokenizer.json")
    _warn_of_casing(folder, settings, description)
    _warn_of_capitals(folder, settings, description)
    return text


def _load(folder: Path, settings: dict[str, Any]) -> Any:
    # Imported late: a packed model's tokenizer is read where there is no transformers.
    from transformers import CONFIG_MAPPING, AutoTokenizer, BertConfig, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from bebert_export.quiet_transformers import quiet_transformers

    raw = _object(folder / "config.json")
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # All that AutoTokenizer asks a config for; without a kind of model it would find no tokenizer.
            config = CONFIG_MAPPING[raw["model_type"]]() if raw.get("model_type") in CONFIG_MAPPING else BertConfig()
            config.tokenizer_class = raw.get("tokenizer_class")
            named = settings.get("tokenizer_class") or config.tokenizer_class
            kind = tokenizer_class_from_name(named) if named else None
            if kind is not None and not (isinstance(kind, type) and issubclass(kind, PreTrainedTokenizerBase)):
                raise _refused(folder, "tokenizer_class", named, "a tokenizer")  # a model would load its weights
            loaded = AutoTokenizer.from_pretrained(
                str(folder), config=config, local_files_only=True, trust_remote_code=False
            )
    except DataError:
        raise
    except Exception as error:  # the library raises many kinds, tokenizers bare Exception
        reason = " ".join(str(error).split())
        raise DataError(f"the tokenizer of {folder} cannot be read: {reason:.200}; fetch it again") from None
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise _refused(folder, "tokenizer_class", type(loaded).__name__, "one with a fast form, as BertTokenizer has")
    return loaded


def _object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no file. Raises DataError."""
    try:
        value = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {error}; fetch it again") from None
    if not isinstance(value, dict):
        raise DataError(f"{file} is no JSON object; fetch it again")
    return value


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    for field in FOREIGN:
        if settings.get(field):
            raise _refused(folder, field, settings[field], "none, for its words are those of this folder")
    others = settings.get("fast_tokenizer_files") or []
    if not isinstance(others, list) or any(PurePath(str(other)).name != other for other in others):
        raise _refused(folder, "fast_tokenizer_files", others, "a list of names in this folder")


def _refused(folder: Path, field: str, found: Any, accepted: str) -> DataError:
    return DataError(f"the tokenizer of {folder} has {field} {found!r:.80}; accepted is {accepted}")


def _one_segment(description: dict[str, Any], folder: Path, *, told: bool) -> None:
    """Segment type 0 everywhere: where a tokenizer gives no types, BERT takes all for 0."""
    processor = description["post_processor"]
    if processor["type"] == "BertProcessing":
        processor = description["post_processor"] = _template(processor)
    if processor["type"] != "TemplateProcessing":
        return  # of no BERT
    pieces = [inner for piece in processor["single"] + processor["pair"] for inner in piece.values()]
    if not told and any(piece["type_id"] for piece in pieces):
        warnings.warn(
            f"the tokenizer of {folder} gives no segment types in this version of transformers, so that both texts of "
            "a pair have type 0, here as well; if the model was trained with 0 and 1, add token_type_ids to "
            "model_input_names in its tokenizer_config.json",
            BebertWarning,
            stacklevel=3,
        )
    for piece in pieces:
        piece["type_id"] = 0


def _template(processor: dict[str, Any]) -> dict[str, Any]:
    """BertProcessing, whose types are fixed, as the template that it stands for."""
    cls, sep = ({"SpecialToken": {"id": processor[name][0], "type_id": 0}} for name in ("cls", "sep"))
    single = [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep]
    second = [{name: inner | {"type_id": 1}} for piece in single[1:] for name, inner in piece.items()]
    second[0]["Sequence"]["id"] = "B"
    tokens = {token: {"id": token, "ids": [i], "tokens": [token]} for token, i in (processor["cls"], processor["sep"])}
    return {"type": "TemplateProcessing", "single": single, "pair": single + second, "special_tokens": tokens}


def _warn_of_casing(folder: Path, settings: dict[str, Any], description: dict[str, Any]) -> None:
    """Tell of a tokenizer.json that says of letters what transformers does not follow, where no setting says it."""
    said, done = _object(folder / "tokenizer.json").get("normalizer"), description["normalizer"]
    if said is None or said == done or CASING & settings.keys():
        return
    parts = [name for name in said if said[name] != done.get(name)]
    shown, instead = (", ".join(f"{name} {part.get(name)}" for name in parts) for part in (said, done))
    warnings.warn(
        f"the normalizer of {folder / 'tokenizer.json'} has {shown:.200}, but transformers reads texts with "
        f"{instead:.200}, and so does this model; to say which is right, set do_lower_case and strip_accents in its "
        "tokenizer_config.json",
        BebertWarning,
        stacklevel=3,
    )


def _warn_of_capitals(folder: Path, settings: dict[str, Any], description: dict[str, Any]) -> None:
    """Tell of a cased vocabulary whose texts are made lower case because nothing says otherwise."""
    normalizer, words = description["normalizer"] or {}, description["model"].get("vocab") or {}
    capitals = sum(word != word.lower() for word in words if not word.startswith("["))
    if normalizer.get("lowercase") and "do_lower_case" not in settings and capitals > CASED * len(words):
        warnings.warn(
            f"{capitals:,} of {len(words):,} words of the vocabulary in {folder} have capitals, but texts are made "
            "lower case, as transformers does where nothing is said; if the model is a cased one, set do_lower_case to "
            "false in tokenizer_config.json",
            BebertWarning,
            stacklevel=3,
        )
