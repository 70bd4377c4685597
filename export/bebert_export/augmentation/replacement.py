"""More training sentences from few: replace words by what a language model or word vectors offer in their place.

Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020, section 3.3 and algorithm 1;
details that the paper leaves open follow its published results (reference numerics, section 5.7).

    positions    purely alphabetic English words that are no stop words
    candidates   of one-piece words from a masked language model, of others from word vectors (CandidateSource)
    copies       of each sentence: at every position, independently, a random candidate with the given probability
    kept         the sentence itself first, then the copies that differ from it and from each other
    pairs        first the one text is augmented, then the other beside the last version of the first

Nothing here knows a model: this is the procedure, its random numbers, and nothing else.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bebert_infer.errors import InputError

_ALPHABETIC = re.compile(r"[A-Za-z]+")
# Words that carry grammar more than meaning, with the halves that a tokenizer leaves of "don't" and "they'll".
STOP_WORDS = frozenset(
    """
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
    herself it its itself they them their theirs themselves who whom whose which what this that these those
    am is are was were be been being have has had having do does did doing done will would shall should can could may
    might must ought cannot
    a an the and or but nor if then else because as until while though although unless whether than so
    of at by for with without about against between among into onto through during before after above below to from
    up down in out on off over under upon within per via
    again further once here there when where why how all any both each few more most other some such no not only own
    same too very just now also even ever never
    s t d m o y ll re ve don didn doesn isn aren wasn weren won wouldn shouldn couldn hasn haven hadn ain mustn needn
    """.split()
)


@dataclass(frozen=True)
class Words:
    """One text as whole words (punctuation marks are words too) and what may stand in place of some of them.

    candidates : word position -> the words to draw from, at least one; positions that stay are absent
    """

    words: tuple[str, ...]
    candidates: Mapping[int, Sequence[str]]


class CandidateSource(Protocol):
    """Anything that splits texts into words and offers replacements."""

    def candidates(self, text: str) -> Words:
        """Words of a text, and candidates where `may_change` allows them; depends on the text alone."""


@dataclass(frozen=True)
class Sampling:
    """How much to augment.

    copies      : N >= 0, sentences drawn for each sentence (duplicates are dropped, so fewer may be kept)
    probability : of replacing a word at each position, 0..1
    seed        : every example has a generator of its own, made from the seed and its number
    """

    copies: int = 20
    probability: float = 0.4
    seed: int = 42

    def check(self) -> None:
        """Raise InputError for the first value that is not accepted."""
        for name in ("copies", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; accepted are whole numbers of at least 0")
        if not 0 <= self.probability <= 1:
            raise InputError(f"probability is {self.probability}; accepted are numbers from 0 to 1")

    def generator(self, example: int) -> np.random.Generator:
        """Random numbers of one example, the same whatever else is augmented before it."""
        return np.random.default_rng([self.seed, example])


def may_change(word: str) -> bool:
    """Whether a word is one that augmentation may replace: letters a-z only, and no stop word."""
    return _ALPHABETIC.fullmatch(word) is not None and word.lower() not in STOP_WORDS


def augment(text: str, found: Words, sampling: Sampling, random: np.random.Generator) -> list[str]:
    """The text itself, then at most `sampling.copies` different copies, words joined by one space.

    A copy in which no word changed is a duplicate of the text, whatever blanks the text had between its words.
    """
    versions = {found.words: text}
    for _ in range(sampling.copies if found.candidates else 0):
        words = list(found.words)
        for position, candidates in found.candidates.items():
            # Both numbers are drawn at every position: a higher probability then only adds replacements.
            candidate, chance = candidates[int(random.integers(len(candidates)))], random.random()
            if chance < sampling.probability:
                words[position] = candidate
        versions.setdefault(tuple(words), " ".join(words))
    return list(versions.values())


def augment_example(
    texts: Sequence[str], found: Sequence[Words], sampling: Sampling, random: np.random.Generator
) -> Iterator[tuple[str, ...]]:
    """Versions of an example of one or two texts; the first is the example itself.

    As published, the second text is augmented beside the last version of the first, and its list too begins
    with its original: that row occurs twice, once at the end of the first list.
    """
    row = list(texts)
    for column, (text, words) in enumerate(zip(texts, found, strict=True)):
        for version in augment(text, words, sampling, random):
            row[column] = version
            yield tuple(row)
