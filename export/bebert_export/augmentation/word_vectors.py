"""Word vectors in the text format of GloVe, and the nearest neighbours of a word among them.

A line is a word and its numbers, separated by single blanks. Only the first vectors are read (files are sorted
by frequency, and rare words make poor replacements), so a file of gigabytes costs seconds.
Source: Pennington et al., "GloVe: Global Vectors for Word Representation", 2014; the limit of 100,000 vectors is
that of the augmentation published with TinyBERT (reference numerics, section 5.7).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebert_infer.errors import DataError

LIMIT = 100_000
BLOCK = 16_384  # rows of one product: the temporaries stay small beside the matrix


@dataclass(frozen=True)
class WordVectors:
    """V words and their directions.

    words  : the V words, in the order of the file
    units  : float32[V, D], rows of Euclidean length 1
    index  : word -> row
    sha256 : of the lines that were read
    """

    words: list[str]
    units: NDArray[np.float32]
    index: dict[str, int]
    sha256: str

    def nearest(self, word: str, count: int) -> list[str]:
        """At most `count` other words by falling cosine, equals in the order of the file; [] for an unknown word.

        A word that is not listed as written is looked up in lower case, and a title-case word gets its
        neighbours in title case. One word is looked up at a time: the answer does not depend on others.
        """
        row = self.index.get(word, self.index.get(word.lower()))
        if row is None or count < 1:
            return []
        blocks = [self.units[start : start + BLOCK] @ self.units[row] for start in range(0, len(self.words), BLOCK)]
        cosines = np.concatenate(blocks)
        cosines[row] = -np.inf
        count = min(count, len(self.words) - 1)
        if count == 0:
            return []
        least = np.partition(cosines, -count)[-count]
        near = np.flatnonzero(cosines >= least)  # ascending, so that the stable sort keeps the order of the file
        best = near[np.argsort(-cosines[near], kind="stable")[:count]]
        found = [self.words[i] for i in best]
        return [other.title() for other in found] if word.istitle() else found


def read_word_vectors(path: Path, limit: int = LIMIT) -> WordVectors:
    """Read the first `limit` vectors of a GloVe text file, line by line.

    The first line decides the number of dimensions D; a first line of two whole numbers (the header of word2vec
    and fastText files) is skipped. Left out are vectors of zeros, which have no direction, words that hold a
    blank or occurred before. Raises DataError for a file that cannot be read, holds no vector, or has a line
    that is not UTF-8 or not a word and D finite numbers.
    """
    try:
        with path.open("rb") as stream:
            return _read(_numbered(stream, limit), path, limit)
    except OSError as error:
        raise DataError(f'cannot read "{path}": {error.strerror}; pass a GloVe file of word vectors') from None


def _numbered(stream: Iterator[bytes], limit: int) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of the lines that hold the first `limit` vectors."""
    vectors = 0
    for number, line in enumerate(stream, start=1):
        if number == 1 and _is_header(line):
            continue
        if vectors == limit:
            return
        vectors += 1
        yield number, line


def _is_header(line: bytes) -> bool:
    fields = line.split()
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _read(lines: Iterator[tuple[int, bytes]], path: Path, limit: int) -> WordVectors:
    digest = hashlib.sha256()
    words: list[str] = []
    index: dict[str, int] = {}
    units: NDArray[np.float32] | None = None
    for number, line in lines:
        digest.update(line)
        try:
            text = line.decode("utf-8").rstrip("\r\n ")
        except UnicodeDecodeError:
            raise DataError(f"line {number} of {path} is not UTF-8; convert the file to UTF-8") from None
        if units is None:
            # Memory that is never written is never taken, so a short file does not pay for the limit.
            units = np.empty((limit, text.count(" ")), np.float32)
        word, vector = _parse(text, units.shape[1], number, path)
        largest = float(np.abs(vector).max())
        if largest == 0 or word in index or word.split() != [word]:
            continue
        scaled = vector / largest  # squares of the numbers as they are might overflow
        units[len(words)] = scaled / np.linalg.norm(scaled)
        index[word] = len(words)
        words.append(word)
    if units is None or not words:
        raise DataError(f"{path} has no word vector; accepted is a GloVe file, a word and its numbers on each line")
    return WordVectors(words, units[: len(words)], index, digest.hexdigest())


def _parse(text: str, dimensions: int, number: int, path: Path) -> tuple[str, NDArray[np.float64]]:
    """Word and float64[D] of one line; blanks inside the word are allowed, since some files have them."""
    if dimensions == 0:
        raise DataError(
            f'line {number} of {path} is "{text[:40]}"; accepted is a word and its numbers, by single blanks'
        )
    fields = text.rsplit(" ", dimensions)
    if len(fields) != dimensions + 1:
        raise DataError(f"line {number} of {path} has {len(fields) - 1} numbers, the first line has {dimensions}")
    try:
        vector = np.array(fields[1:], np.float64)
    except ValueError:
        wrong = next(field for field in fields[1:] if not _is_number(field))
        raise DataError(f'line {number} of {path} has "{wrong[:40]}" where a number should be') from None
    if not np.isfinite(vector).all():
        raise DataError(f"line {number} of {path} has a number that is not finite")
    return fields[0], vector


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
