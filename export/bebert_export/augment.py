"""`bebert augment`: a training file in, a longer one out; what the models said is kept, so a killed run goes on.

The costly part, the candidates of every text, goes line by line into a file beside the output, named after a hash
of everything that candidates depend on: the data, the models, K, the length. Drawing the copies is cheap and starts
over each time: another seed, number of copies or probability finds the same file and is done in seconds.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from rich.console import Console

from bebert_export.atomic_writes import write_atomically
from bebert_export.augmentation.masked_lm import MaskedLanguageModel
from bebert_export.augmentation.options import AugmentOptions
from bebert_export.augmentation.progress import Advance, count_bar
from bebert_export.augmentation.replacement import CandidateSource, Words, augment_example
from bebert_export.augmentation.word_vectors import read_word_vectors
from bebert_export.data.examples import ORIGIN_COLUMN, Examples, read_examples
from bebert_infer.errors import InputError
from bebert_infer.threads import thread_budget

__all__ = ["AugmentOptions", "Augmented", "augment_file"]

FORMAT = 1  # of the candidate file; part of its hash
COLUMNS = ("sentence1", "sentence2", "label", ORIGIN_COLUMN)
BREAKS = str.maketrans("\t\r\n", "   ")  # blanks to every tokenizer; a TSV text must not hold them


@dataclass(frozen=True)
class Augmented:
    """What was done: examples read, rows written, examples whose candidates were already there, and their file."""

    examples: int
    rows: int
    found: int
    cache: Path


def augment_file(options: AugmentOptions, console: Console) -> Augmented:
    """Augment a file of examples: each example, then its versions, all with its label as written.

    Columns of the output: sentence1, sentence2 where the data has pairs, label, and augmented_from, the number of the
    example from 0, by which `bebert train` keeps the versions of a held-out example out of training. Raises InputError
    (DataError for files) before anything is written.
    """
    options.check()
    torch.set_num_threads(thread_budget(options.threads)[0])
    sampling, examples = options.sampling, read_examples(options.data)
    vectors = None if options.word_vectors is None else read_word_vectors(options.word_vectors)
    source = MaskedLanguageModel(options.masked_lm, vectors, options.candidates, options.max_length)
    key = hashlib.sha256(json.dumps([FORMAT, examples.sha256, source.fingerprint]).encode()).hexdigest()
    cache = options.out.with_name(f"{options.out.stem}.{key[:16]}.candidates.jsonl")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with _locked(cache) as stream:
        kept = _whole_lines(stream, len(examples))
        with count_bar("candidates", len(examples), "examples", console) as advance:
            advance(kept)
            _complete(stream, kept, examples, source, advance)
        rows = 0

        def write(temporary: Path) -> None:
            nonlocal rows
            with (
                count_bar("writing", len(examples), "examples", console) as advance,
                temporary.open("w", encoding="utf-8", newline="\n") as file,
            ):
                columns = [name for name in COLUMNS if examples.pairs is not None or name != "sentence2"]
                file.write("\t".join(columns) + "\n")
                for i, found in enumerate(_candidates(stream)):
                    ending = (str(examples.labels[i]), str(examples.origins[i]))
                    for row in augment_example(_texts(examples, i), found, sampling, sampling.generator(i)):
                        file.write("\t".join(cell.translate(BREAKS) for cell in (*row, *ending)) + "\n")
                        rows += 1
                    advance(1)

        write_atomically(options.out, write)
    return Augmented(len(examples), rows, kept, cache)


def _texts(examples: Examples, i: int) -> list[str]:
    return [examples.texts[i]] if examples.pairs is None else [examples.texts[i], examples.pairs[i]]


def _complete(stream: BinaryIO, kept: int, examples: Examples, source: CandidateSource, advance: Advance) -> None:
    """Append the candidates of every example that follows the kept ones."""
    for i in range(kept, len(examples)):
        found = [source.candidates(text) for text in _texts(examples, i)]
        record = [(text.words, dict(text.candidates)) for text in found]
        stream.write(json.dumps(record).encode() + b"\n")
        stream.flush()  # so that a kill costs one example
        advance(1)


def _candidates(stream: BinaryIO) -> Iterator[list[Words]]:
    """Candidates of each example in order, one line each."""
    stream.seek(0)
    for line in stream:
        yield [Words(tuple(words), {int(i): c for i, c in found.items()}) for words, found in json.loads(line)]


def _whole_lines(stream: BinaryIO, most: int) -> int:
    """Count the whole lines at the beginning and cut off what follows: a kill may leave half a line."""
    stream.seek(0)
    count = end = 0
    for line in stream:
        if count == most or not line.endswith(b"\n") or not _is_json(line):
            break
        count, end = count + 1, end + len(line)
    stream.truncate(end)
    return count


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file, opened to read and append, for this process alone. Raises InputError if another one has it."""
    with path.open("a+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is writing {path}; wait for it, or choose another out") from None
        yield stream
