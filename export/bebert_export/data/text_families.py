"""Which examples give each other away: those whose text is part of another's, and versions of one example.

Whoever has learned "a gripping , funny film" knows most of "funny film", and the other way round. The training file of
SST-2 holds sentences and all their phrases: of rows held out at random, nine in ten lie inside a row that is trained
on, and a model of BERT-tiny errs on them half as often as on sentences of which it knows nothing (0.12 and 0.20). So a
part that is to be unseen has to be drawn by families.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def group_ids(texts: Sequence[str], pairs: Sequence[str] | None, origins: Sequence[int]) -> NDArray[np.int64]:
    """Place of the example that stands for the family of each, int64[M]; its own if it has no other.

    Single texts belong to the longest text that contains them word for word (the first of the longest; blanks and
    upper case do not count), pairs to the first one with both texts. Copies (`examples.Examples.origins`) belong where
    their original belongs.
    """
    if pairs is None:
        found = _longest_containing([text.lower().split() for text in texts])
    else:
        first: dict[tuple[str, str], int] = {}
        found = np.array([first.setdefault(both, i) for i, both in enumerate(zip(texts, pairs, strict=True))], np.int64)
    return found[np.asarray(origins, np.int64)]


def _longest_containing(rows: list[list[str]]) -> NDArray[np.int64]:
    """For each row of words the place of the longest row of which it is a run, int64[M].

    Every word gets a random 64-bit number, and a run of n words the polynomial  sum of number[k] * BASE**(n - 1 - k)
    mod 2**64  as its key. Keys of all runs of n + 1 words follow from those of n words in one step, so the work is half
    the sum of squared row lengths. Two different runs share a key with a chance of about 2**-64 a comparison.
    """
    base = np.uint64(0x9E3779B97F4A7C15)  # any odd number of 64 random bits
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))  # the longest first, so the first match is the answer
    lengths = np.array([len(rows[i]) for i in order], np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(word for row in rows for word in row))}
    numbers = np.random.default_rng(0).integers(2**64, size=len(vocabulary), dtype=np.uint64)
    words = numbers[[vocabulary[word] for i in order for word in rows[i]]]
    row_of = np.repeat(np.arange(len(rows)), lengths)  # of each word, in the sorted order
    answer = np.arange(len(rows))
    keys = np.zeros(len(words), np.uint64)
    for length in range(1, int(lengths.max(initial=0)) + 1):
        last = np.searchsorted(-lengths, -length, side="right")  # rows of at least this length come before it
        runs = int(ends[last - 1]) - length + 1
        keys = keys[:runs] * base + words[length - 1 : length - 1 + runs]
        whole = np.flatnonzero(lengths[:last] == length)
        if len(whole):
            places = np.flatnonzero(ends[row_of[:runs]] - np.arange(runs) >= length)  # runs that end within their row
            unique, first = np.unique(keys[places], return_index=True)
            answer[whole] = row_of[places[first[np.searchsorted(unique, keys[starts[whole]])]]]
    places_of = np.array(order, np.int64)
    found = np.empty(len(rows), np.int64)
    found[places_of] = places_of[answer]
    return found
