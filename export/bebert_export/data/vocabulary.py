"""Leave out word pieces that a task hardly uses: the vocabulary is most of a small binary model.

Kept are the special tokens, every single Latin character (so that any Latin word can still be spelled) and
the word pieces that occur most often in the training texts. A left-out word falls apart into smaller pieces
by the unchanged WordPiece rule. Both the full-precision and the binary models use the result, so a
comparison between them stays fair.
"""

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bebert_export.data.examples import Examples
from bebert_infer.errors import DataError

LAST_LATIN = 0x024F  # end of Latin Extended-B; ASCII punctuation and digits are below it too


@dataclass(frozen=True)
class Trimmed:
    """A smaller tokenizer, and where its pieces come from.

    kept     : int64[new size], id of each new piece in the old vocabulary, ascending; then those of added tokens
    coverage : share of the word pieces of the training texts that are in the new vocabulary, 0..1
    """

    tokenizer: Tokenizer
    kept: NDArray[np.int64]
    coverage: float


def trim_vocabulary(tokenizer: Tokenizer, train: Examples, size: int) -> Trimmed:
    """Reduce a WordPiece tokenizer to `size` pieces, or leave it alone if it has no more than that.

    Raises DataError if the tokenizer is not WordPiece or `size` is below the number of pieces that must stay.
    """
    description = json.loads(tokenizer.to_str())
    model = description["model"]
    if model["type"] != "WordPiece":
        raise DataError(f"the tokenizer is {model['type']}; a vocabulary can be trimmed for WordPiece only")
    vocabulary: dict[str, int] = model["vocab"]
    special = {token["content"] for token in description["added_tokens"]} | {model["unk_token"]}
    # The library numbers added tokens that are no word pieces itself, after the word pieces.
    beyond = [token["id"] for token in description["added_tokens"] if token["content"] not in vocabulary]
    if twice := set(beyond) & set(vocabulary.values()):
        raise DataError(f"the tokenizer has the id {min(twice)} for two tokens; a vocabulary cannot be trimmed then")
    counts = _piece_counts(tokenizer, train)
    prefix = model["continuing_subword_prefix"]
    required = {i for piece, i in vocabulary.items() if piece in special or _is_latin_letter(piece, prefix)}
    required |= _template_ids(description["post_processor"]) - set(beyond)
    least = len(required) + len(beyond)
    if size < least:
        raise DataError(f"vocabulary_size is {size}; special tokens and single characters alone are {least}")
    by_count = sorted((i for i in vocabulary.values() if i not in required), key=lambda i: (-counts[i], i))
    used = [i for i in by_count if counts[i] > 0]  # a piece that never occurs would be a row that is never trained
    kept = sorted(required | set(used[: size - least])) + beyond
    total = sum(counts.values())
    coverage = sum(counts[i] for i in kept) / total if total else 1.0
    return Trimmed(_renumber(description, kept), np.array(kept, np.int64), coverage)


def _piece_counts(tokenizer: Tokenizer, train: Examples) -> Counter[int]:
    texts = train.texts + (train.pairs or [])
    counts: Counter[int] = Counter()
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        counts.update(encoding.ids)
    return counts


def _is_latin_letter(piece: str, prefix: str) -> bool:
    letter = piece.removeprefix(prefix) if len(piece) > len(prefix) else piece
    return len(letter) == 1 and ord(letter) <= LAST_LATIN


def _renumber(description: dict, kept: list[int]) -> Tokenizer:
    """The same tokenizer with the pieces `kept` numbered 0, 1, … in their order."""
    new = {old: i for i, old in enumerate(kept)}
    model = description["model"]
    model["vocab"] = {piece: new[i] for piece, i in model["vocab"].items() if i in new}
    for token in description["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber_template(description.get("post_processor"), new)
    return Tokenizer.from_str(json.dumps(description))


def _template_ids(processor: dict | None) -> set[int]:
    """Ids that are put around every text, whatever the names of their tokens."""
    if processor is None:
        return set()
    if processor["type"] == "TemplateProcessing":
        return {i for token in processor["special_tokens"].values() for i in token["ids"]}
    return {processor[name][1] for name in ("sep", "cls") if name in processor}


def _renumber_template(processor: dict | None, new: dict[int, int]) -> None:
    if processor is None:
        return
    if processor["type"] == "TemplateProcessing":
        for token in processor["special_tokens"].values():
            token["ids"] = [new[i] for i in token["ids"]]
    elif processor["type"] == "BertProcessing":
        for name in ("sep", "cls"):
            processor[name][1] = new[processor[name][1]]
    else:
        raise DataError(f"the tokenizer adds [CLS] and [SEP] by {processor['type']}; accepted is TemplateProcessing")
