"""Which `tokenizer.json` a model may bring: BERT's own parts, ids that exist, no regular expressions of its own.

The tokenizers library can do far more than BERT needs, some of it in time that grows with the square of a text or
worse (a regular expression of the file's choice), and a token id beyond the table would only be noticed at the first
text that holds the token. Every part is therefore checked against the lists below before the library sees it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bebert_infer.artifact.strict_json import read_json
from bebert_infer.errors import ModelFormatError

MAX_BYTES = 32 * 2**20  # of the file; a vocabulary of 120,000 pieces takes 3 MB
# Time per word grows with the square of its length; a longer word becomes [UNK]. BERT has 100.
MAX_WORD = 1000

# Type -> fields that it may have besides "type".
Parts = dict[str, set[str]]
NORMALIZERS: Parts = {
    "BertNormalizer": {"clean_text", "handle_chinese_chars", "strip_accents", "lowercase"},
    "Lowercase": set(),
    "StripAccents": set(),
    "Strip": {"strip_left", "strip_right"},
    "NFC": set(),
    "NFD": set(),
    "NFKC": set(),
    "NFKD": set(),
    "Sequence": {"normalizers"},
}
PRE_TOKENIZERS: Parts = {
    "BertPreTokenizer": set(),
    "Whitespace": set(),
    "WhitespaceSplit": set(),
    "Punctuation": {"behavior"},
    "Digits": {"individual_digits"},
    "Sequence": {"pretokenizers"},
}
POST_PROCESSORS: Parts = {
    "TemplateProcessing": {"single", "pair", "special_tokens"},
    "BertProcessing": {"sep", "cls"},
}
DECODERS: Parts = {"WordPiece": {"prefix", "cleanup"}}
WORD_PIECE = {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}
TOP = {
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
}


def check_tokenizer(raw: bytes, file: Path, vocab_size: int, type_vocab_size: int) -> None:
    """Raise ModelFormatError, naming file and field, unless `raw` is a WordPiece tokenizer for this many ids.

    vocab_size : rows of the word table; type_vocab_size : segment types
    """
    tokenizer = read_json(raw, file, 16 * vocab_size + 10_000)
    check = _Check(file, vocab_size, type_vocab_size)
    check.fields("tokenizer", tokenizer, TOP)
    check.model(tokenizer.get("model"))
    check.added_tokens(tokenizer.get("added_tokens"))
    check.part("normalizer", tokenizer.get("normalizer"), NORMALIZERS)
    check.part("pre_tokenizer", tokenizer.get("pre_tokenizer"), PRE_TOKENIZERS)
    check.part("decoder", tokenizer.get("decoder"), DECODERS)
    check.part("post_processor", tokenizer.get("post_processor"), POST_PROCESSORS)
    check.post_processor(tokenizer.get("post_processor"))


def check_added(tokenizer: Tokenizer, file: Path) -> None:
    """Raise ModelFormatError for two added tokens that are one when normalized, as `the` and `The` without case.

    Which of them a text holds would be left to chance: the library finds another one in every process.
    """
    normalizer = tokenizer.normalizer
    seen: dict[str, str] = {}
    for token in tokenizer.get_added_tokens_decoder().values():
        if token.normalized:
            normal = token.content if normalizer is None else normalizer.normalize_str(token.content)
            other = seen.setdefault(normal, token.content)
            if other != token.content:
                raise ModelFormatError(
                    f"{file} has the added tokens {other!r:.80} and {token.content!r:.80}, which are the same when "
                    "normalized; accepted is one of them, or not normalized: mend the added tokens"
                )


class _Check:
    def __init__(self, file: Path, vocab_size: int, types: int):
        self.file = file
        self.vocab_size = vocab_size
        self.types = types

    def refuse(self, field: str, found: Any, expected: str) -> None:
        raise ModelFormatError(f"{self.file} has {field} {str(found):.80}; accepted is {expected}")

    def fields(self, name: str, value: Any, accepted: set[str]) -> None:
        if not isinstance(value, dict):
            self.refuse(name, value, "an object")
        if value.keys() - accepted:
            self.refuse(f"{name} fields", sorted(value.keys() - accepted), f"only {', '.join(sorted(accepted))}")

    def part(self, name: str, value: Any, accepted: Parts, inside: bool = False) -> None:
        """Check one part by its type; a sequence has parts, but no sequences."""
        if value is None and not inside:
            return
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in accepted or (inside and kind == "Sequence"):
            found = kind if isinstance(value, dict) else value
            self.refuse(name, found, f"one of {', '.join(accepted)}, as BERT needs")
        assert isinstance(kind, str)
        self.fields(name, value, accepted[kind] | {"type"})
        if kind == "Sequence":
            (inner,) = accepted[kind]
            parts = value.get(inner)
            if not isinstance(parts, list) or len(parts) > 16:
                self.refuse(f"{name}.{inner}", parts, "a list of at most 16 parts")
            for index, part in enumerate(parts):
                self.part(f"{name}.{inner}[{index}]", part, accepted, inside=True)

    def model(self, model: Any) -> None:
        self.fields("model", model, WORD_PIECE)
        if model.get("type") != "WordPiece":
            self.refuse("model.type", model.get("type"), "WordPiece")
        vocab, unknown = model.get("vocab"), model.get("unk_token")
        if not isinstance(vocab, dict) or not vocab:
            self.refuse("model.vocab", type(vocab).__name__, "an object of tokens and ids")
        self.ids("model.vocab", vocab.values())
        if len(set(vocab.values())) != len(vocab):
            self.refuse("model.vocab", "one id for two tokens", "an id of its own for each")
        if not isinstance(unknown, str) or unknown not in vocab:
            self.refuse("model.unk_token", unknown, "a token of the vocabulary")
        if not isinstance(model.get("continuing_subword_prefix"), str):
            self.refuse("model.continuing_subword_prefix", model.get("continuing_subword_prefix"), "a text like ##")
        longest = model.get("max_input_chars_per_word")
        if type(longest) is not int or not 1 <= longest <= MAX_WORD:
            self.refuse("model.max_input_chars_per_word", longest, f"1 to {MAX_WORD}")

    def added_tokens(self, tokens: Any) -> None:
        if not isinstance(tokens, list):
            self.refuse("added_tokens", tokens, "a list")
        flags = {"single_word", "lstrip", "rstrip", "normalized", "special"}
        for index, token in enumerate(tokens):
            self.fields(f"added_tokens[{index}]", token, flags | {"id", "content"})
            self.ids(f"added_tokens[{index}].id", [token.get("id")])
            if not isinstance(token.get("content"), str) or not token["content"]:
                self.refuse(f"added_tokens[{index}].content", token.get("content"), "a text")

    def post_processor(self, value: Any) -> None:
        """Ids and segment types that are put around a text."""
        if value is None:
            return
        if value["type"] == "BertProcessing":
            for field in ("sep", "cls"):
                pair = value.get(field)
                if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
                    self.refuse(f"post_processor.{field}", pair, "a token and its id")
                self.ids(f"post_processor.{field}", pair[1:])
            return
        special = value.get("special_tokens")
        if not isinstance(special, dict):
            self.refuse("post_processor.special_tokens", special, "an object of tokens")
        for name, token in special.items():
            field = f"post_processor.special_tokens[{name:.80}]"
            self.fields(field, token, {"id", "ids", "tokens"})
            self.ids(f"{field}.ids", token.get("ids"))
            tokens = token.get("tokens")
            if token.get("id") != name or not isinstance(tokens, list) or len(tokens) != len(token["ids"]):
                self.refuse(field, token, "an object with that id, ids, and as many tokens")
            if not all(isinstance(text, str) for text in tokens):
                self.refuse(f"{field}.tokens", tokens, "a list of texts")
        for field, sequences in (("single", ["A"]), ("pair", ["A", "B"])):
            self.template(f"post_processor.{field}", value.get(field), special, sequences)

    def template(self, field: str, pieces: Any, special: dict[str, Any], sequences: list[str]) -> None:
        """Check what is put around one text or two; the library aborts at a piece that it does not know."""
        if not isinstance(pieces, list) or not 1 <= len(pieces) <= 16:
            self.refuse(field, pieces, "a list of 1 to 16 pieces")
        seen = []
        for index, piece in enumerate(pieces):
            inner: Any
            name, inner = next(iter(piece.items())) if isinstance(piece, dict) and len(piece) == 1 else (None, None)
            known = {"SpecialToken": special, "Sequence": sequences}.get(name, ()) if isinstance(name, str) else ()
            fits = isinstance(inner, dict) and inner.keys() == {"id", "type_id"} and isinstance(inner["id"], str)
            if not fits or inner["id"] not in known:
                self.refuse(f"{field}[{index}]", piece, "a Sequence A or B or one of special_tokens, with a type_id")
            if type(inner["type_id"]) is not int or not 0 <= inner["type_id"] < max(self.types, 2):
                self.refuse(f"{field}[{index}].type_id", inner["type_id"], f"0 to {self.types - 1}")
            seen += [inner["id"]] if name == "Sequence" else []
        if sorted(seen) != sequences:
            self.refuse(field, f"the sequences {seen}", f"each of {sequences} once")

    def ids(self, field: str, values: Any) -> None:
        if not isinstance(values, Iterable) or isinstance(values, str):
            self.refuse(field, values, "a list of ids")
        for value in values:
            if type(value) is not int or not 0 <= value < self.vocab_size:
                self.refuse(field, value, f"0 to {self.vocab_size - 1}, the rows of the model's word table")
