"""Replacement words from a masked language model, with word vectors for what its vocabulary does not hold whole.

For every one-piece word that may change, the model reads

    [CLS] the text with [MASK] in place of the word [SEP] the text [SEP]      segments 0 and 1

and its top K pieces at [MASK] are the candidates, less those that continue a word and special tokens. The model is
the pretrained one, not fine-tuned on the task.
Source: Jiao et al., "TinyBERT", 2020, section 3.3; the second segment and what is left out: reference numerics, 5.7.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForMaskedLM

from bebert_export.augmentation.replacement import Words, may_change
from bebert_export.augmentation.word_vectors import WordVectors
from bebert_export.checkpoints.pretrained import local_folder
from bebert_export.checkpoints.weights import load_weights
from bebert_export.data.batches import load_tokenizer
from bebert_infer.errors import DataError

# One batch holds maskings of one text, all of one length: no padding, and the answer does not depend on other texts.
BATCH = 16
SPECIAL = ("[CLS]", "[SEP]", "[MASK]")


class MaskedLanguageModel:
    """A CandidateSource; without word vectors, words of several pieces stay as they are.

    count      : K, candidates for each word, before any are left out
    max_length : tokens of both segments together; of a longer text, both show the same window around the word
    """

    def __init__(self, source: str, vectors: WordVectors | None, count: int = 15, max_length: int = 128) -> None:
        folder = local_folder(source, "masked_lm")
        # A fresh random head would offer random words, so nothing may lack.
        self._model = load_weights(AutoModelForMaskedLM, folder, "a masked language model with its head")[0]
        self._tokenizer = load_tokenizer(folder)
        self._vectors, self._count = vectors, count
        self._near: dict[str, list[str]] = {}  # the search among the vectors is slow, and words come again
        self._cls, self._sep, self._mask = _special_ids(self._tokenizer, folder)
        pieces, rows = max(self._tokenizer.get_vocab().values()) + 1, self._model.config.vocab_size
        if pieces > rows:
            raise DataError(
                f"the tokenizer of {folder} has {pieces} pieces, its model {rows}; they do not belong together"
            )
        self._usable = _usable(self._tokenizer)
        positions = getattr(self._model.config, "max_position_embeddings", max_length)
        self._window = (min(max_length, positions) - 3) // 2
        if self._window < 1:
            raise DataError(f"max_length is {max_length} and {folder} has {positions} positions; at least 5 are needed")
        # DistilBERT knows no segments, and others know a single one.
        types = getattr(self._model.config, "type_vocab_size", 0)
        self._segments = types > 1 and "token_type_ids" in inspect.signature(self._model.forward).parameters

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that candidates depend on besides the text: weights, vocabulary, vectors, K, length."""
        digest = hashlib.sha256()
        vectors = None if self._vectors is None else self._vectors.sha256
        digest.update(json.dumps([vectors, self._count, self._window]).encode())
        digest.update(self._tokenizer.to_str().encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy())
        return digest.hexdigest()

    def candidates(self, text: str) -> Words:
        """Words of a text and their candidates; a word for which nothing is offered is left out."""
        words = self._split(text)
        encoding = self._tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
        ids = np.array(encoding.ids, np.int64)
        owners = np.array(encoding.word_ids, np.int64)
        changeable = [i for i, word in enumerate(words) if may_change(word)]
        places = {i: np.flatnonzero(owners == i) for i in changeable}
        whole = [i for i in changeable if len(places[i]) == 1]
        found = dict(zip(whole, self._predict(ids, [int(places[i][0]) for i in whole]), strict=True))
        found |= {i: self._neighbours(words[i]) for i in changeable if len(places[i]) > 1}
        return Words(tuple(words), {i: found[i] for i in changeable if found.get(i)})

    def _split(self, text: str) -> list[str]:
        """Words as the model's own tokenizer sees them: normalised, cut at blanks and punctuation."""
        normalizer, splitter = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        normal = text if normalizer is None else normalizer.normalize_str(text)
        return [word for word, _ in splitter.pre_tokenize_str(normal)]

    def _neighbours(self, word: str) -> list[str]:
        if self._vectors is None:
            return []
        if word not in self._near:
            self._near[word] = self._vectors.nearest(word, self._count)
        return self._near[word]

    def _predict(self, ids: np.ndarray, places: Sequence[int]) -> Iterator[list[str]]:
        """Candidates for each place (index of a piece) of one text of pieces int64[P]."""
        for start in range(0, len(places), BATCH):
            inputs = [self._masked(ids, place) for place in places[start : start + BATCH]]
            tokens = torch.from_numpy(np.stack([row for row, _, _ in inputs]))  # int64[B, T]
            rest = {"attention_mask": torch.ones_like(tokens)}
            if self._segments:
                types = np.arange(tokens.shape[1]) >= inputs[0][2]
                rest["token_type_ids"] = torch.from_numpy(types.astype(np.int64)).expand_as(tokens)
            with torch.inference_mode():
                logits = self._model(input_ids=tokens, **rest).logits  # float32[B, T, V]
            scores = logits[torch.arange(len(inputs)), torch.tensor([at for _, at, _ in inputs])]
            for best in scores.topk(min(self._count, scores.shape[1])).indices.tolist():
                yield [self._usable[i] for i in best if i in self._usable]

    def _masked(self, ids: np.ndarray, place: int) -> tuple[np.ndarray, int, int]:
        """Input int64[T] with one piece masked, where its [MASK] is, and where the second segment begins."""
        size = min(len(ids), self._window)
        start = min(max(place - size // 2, 0), len(ids) - size)
        window = ids[start : start + size]
        masked = window.copy()
        masked[place - start] = self._mask
        row = np.concatenate([[self._cls], masked, [self._sep], window, [self._sep]])
        return row, place - start + 1, size + 2


def _special_ids(tokenizer: Tokenizer, folder: Path) -> list[int]:
    kind = json.loads(tokenizer.to_str())["model"]["type"]
    if kind != "WordPiece" or tokenizer.pre_tokenizer is None:
        raise DataError(f"{folder} has a {kind} tokenizer; accepted are masked language models with WordPiece")
    vocabulary = tokenizer.get_vocab()
    for token in SPECIAL:
        if token not in vocabulary:
            raise DataError(f"the tokenizer of {folder} has no {token}; accepted are those with {', '.join(SPECIAL)}")
    return [vocabulary[token] for token in SPECIAL]


def _usable(tokenizer: Tokenizer) -> dict[int, str]:
    """Pieces that can stand as a word: none that continues one, is special, unused or holds a blank."""
    description = json.loads(tokenizer.to_str())
    prefix = description["model"]["continuing_subword_prefix"]
    special = {token["content"] for token in description["added_tokens"]} | {description["model"]["unk_token"]}
    return {
        i: piece
        for piece, i in tokenizer.get_vocab().items()
        if not piece.startswith(prefix)
        and piece not in special
        and not piece.startswith("[unused")
        and piece.split() == [piece]
    }
