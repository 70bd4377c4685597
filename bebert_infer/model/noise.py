"""Gaussian noise on the output of the embeddings: how much of an answer depends on the exact input (numerics §6.1).

    h0 = LN(word + position + type) + sigma * n,    n ~ N(0, 1), float32, one draw a component

BEBERT reports noise of variance 0.01 (sigma = 0.1); its published code draws with standard deviation 0.01, after the
LayerNorm, and anew in every forward pass, so every member has noise of its own.

The draws of an example come from a generator of (seed, member, number of the example). Batch, order, padding and
threads therefore do not matter, and a run can be repeated with the same release of NumPy.
"""

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from bebert_infer.errors import InputError
from bebert_infer.model.batch import Batch

MAX_SIGMA = 1e4  # thousands of times what a LayerNorm gives; far beyond, float32 overflows and answers mean nothing


class Noise(Struct, frozen=True):
    """Noise for the sentences of one call.

    sigma    : standard deviation, from 0 to MAX_SIGMA
    seed     : whole number of at least 0
    examples : int64[S] number of each sentence in its data, or None for 0, 1, 2, …
    member   : which member draws; set by the ensemble

    Raises InputError for values outside these.
    """

    sigma: float
    seed: int
    examples: NDArray[np.int64] | None = None
    member: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= MAX_SIGMA:
            raise InputError(f"the sigma of noise is {self.sigma}; accepted are numbers from 0 to {MAX_SIGMA:g}")
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise InputError(f"the seed of noise is {self.seed!r}; accepted are whole numbers of at least 0")
        if self.examples is not None and (self.examples < 0).any():
            raise InputError(f"the examples of noise go down to {self.examples.min()}; they are counted from 0")

    def numbered(self, sentences: int) -> "Noise":
        """The same noise with one example number a sentence. Raises InputError for another number of them."""
        if self.examples is None:
            return replace(self, examples=np.arange(sentences))
        if self.examples.shape != (sentences,):
            raise InputError(f"noise is for {self.examples.shape} examples, the batch has {sentences}; make them equal")
        return self

    def part(self, sentences: slice, member: int) -> "Noise":
        """The noise of some sentences for one member; only after `numbered`."""
        assert self.examples is not None
        return replace(self, examples=self.examples[sentences], member=member)

    def draw(self, batch: Batch, rows: slice, width: int) -> NDArray[np.float32]:
        """What to add to these rows of the batch, float32[rows, C] of width C; only after `numbered`."""
        assert self.examples is not None
        drawn = np.empty((rows.stop - rows.start, width), np.float32)
        sentence = int(np.searchsorted(batch.offsets, rows.start, side="right")) - 1
        while sentence < batch.sentences and batch.offsets[sentence] < rows.stop:
            start, stop = (int(offset) for offset in batch.offsets[sentence : sentence + 2])
            generator = np.random.default_rng([self.seed, self.member, int(self.examples[sentence])])
            # The whole sentence is drawn even where a thread has only some of its rows: a row's noise must not
            # depend on where threads are cut.
            whole = generator.standard_normal((stop - start, width), np.float32)
            first, last = max(start, rows.start), min(stop, rows.stop)
            drawn[first - rows.start : last - rows.start] = whole[first - start : last - start]
            sentence += 1
        drawn *= np.float32(self.sigma)
        return drawn
