"""The memory of one native call: made once, grown when a larger batch comes, used again and again.

Slots are explained in `bebert_kernels/slots.py`. Shared buffers hold a row for every token or sentence of a batch;
each thread has scratch for BLOCK rows. Nothing is allocated during a call unless a batch is larger than any before.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.batch import Batch
from bebert_kernels.abi import layout as at
from bebert_kernels.bitsliced.tile import PANEL_OUTPUTS
from bebert_kernels.bitsliced.triples import aligned
from bebert_kernels.checks import array as checked_array
from bebert_kernels.checks import rows as checked_rows
from bebert_kernels.program.linear import SCRATCH
from bebert_kernels.program.stages import chain_bytes

ROUND = 64  # rows are rounded up to this, so that a slightly longer sentence needs no new memory


@dataclass
class Sizes:
    """What a program needs a row: filled in while it is written.

    hidden, labels : C and the count of labels        vocabulary, positions, types : rows of the tables
    depth, floats : widest input and float output of a linear
    index, state : bytes of index planes and of states  tables : bytes of look-up tables of a block
    words, codes : words or bytes of queries
    scratch : count of keys -> words of scratch for attention
    """

    hidden: int
    labels: int
    vocabulary: int
    positions: int
    types: int
    depth: int = 1
    floats: int = 1
    index: int = 1
    state: int = 1
    tables: int = 0
    words: int = 0
    codes: int = 0
    scratch: Callable[[int], int] = field(default=lambda keys: 8)


class Workspace:
    """Buffers of one call at a time."""

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self.slots = np.zeros((0, at.COUNT), np.int64)
        self._rows = self._sentences = self._keys = 0
        self._shared: list[NDArray] = []
        self._own: list[dict[int, NDArray]] = []
        self._call: tuple[Batch, NDArray[np.float32] | None] | None = None

    def prepare(self, batch: Batch, threads: int, noise: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Make room for a batch and return the logits float32[S, labels] that a run will fill.

        noise : float32[R, C], contiguous, to add to the embeddings

        Raises ValueError for a batch that a program cannot take: from here on it is addresses.
        """
        keys = self._check(batch, noise)
        if batch.rows > self._rows or batch.sentences > self._sentences or keys > self._keys:
            self._rows = max(self._rows, rounded(batch.rows))
            self._sentences = max(self._sentences, batch.sentences)
            self._keys = max(self._keys, rounded(keys))
            self._grow()
            self._own = []
        while len(self._own) < threads:
            self._own.append(self._scratch())
        if len(self.slots) < threads:
            self.slots = np.zeros((threads, at.COUNT), np.int64)
        self._call = (batch, noise)  # keeps the arrays below alive
        for thread in range(threads):
            slots = self.slots[thread]
            slots[at.NOISE] = 0 if noise is None else noise.ctypes.data
            for slot, array in enumerate(self._shared[:3]):
                slots[slot] = array.ctypes.data
            for slot, array in zip(
                (at.IDS, at.POSITIONS, at.TYPES, at.OFFSETS),
                (batch.ids, batch.positions, batch.types, batch.offsets),
                strict=True,
            ):
                slots[slot] = array.ctypes.data
            for store in range(2):
                for which in range(at.STORE):
                    place = self._shared[3 + min(which, 6) + 7 * store].ctypes.data
                    slots[at.QUERY + at.STORE * store + which] = place + max(0, which - 6) * batch.rows
            for slot, array in self._own[thread].items():
                slots[slot] = array.ctypes.data
        return self._shared[2][: batch.sentences * self.sizes.labels].reshape(batch.sentences, -1)

    def _check(self, batch: Batch, noise: NDArray[np.float32] | None) -> int:
        """Return the tokens of the longest sentence."""
        sizes, rows = self.sizes, len(batch.ids)
        for name, values, table, count in (
            ("ids", batch.ids, "the word tables", sizes.vocabulary),
            ("positions", batch.positions, "the position table", sizes.positions),
            ("types", batch.types, "the type table", sizes.types),
        ):
            checked_rows(name, values, rows, table, count)
        offsets = checked_array("offsets", batch.offsets, np.int64, ("S + 1",))
        lengths = np.diff(offsets)
        if lengths.size == 0 or offsets[0] != 0 or offsets[-1] != rows or lengths.min() < 1:
            raise ValueError(
                f"offsets do not cut {rows} rows into sentences of at least 1; accepted: rising 0 .. {rows}"
            )
        if batch.key_mask is not None:
            raise ValueError("batch has a key mask; programs take batches without padding (`batch.ragged_batch`)")
        if noise is not None:
            checked_array("noise", noise, np.float32, (rows, sizes.hidden))
        return int(lengths.max())

    @property
    def scratch_words(self) -> int:
        """Words of scratch for attention over the longest sentence so far."""
        return self.sizes.scratch(self._keys)

    def _grow(self) -> None:
        sizes = shared_bytes(self.sizes, self._rows, self._sentences)
        self._shared = [aligned((size // 4,), np.float32) for size in sizes[:3]]
        self._shared += [aligned((size,), np.uint8) for size in sizes[3:]]

    def _scratch(self) -> dict[int, NDArray]:
        """Memory of one thread, by slot."""
        sizes = scratch_bytes(self.sizes, self._rows, self._keys)
        found = {slot: aligned((size,), np.uint8) for slot, size in sizes.items()}
        found[at.NOTHING][:] = 0
        return found


def rounded(count: int) -> int:
    """Rows or keys that room is made for when `count` are needed."""
    return -(-count // ROUND) * ROUND


def shared_bytes(sizes: Sizes, rows: int, sentences: int) -> list[int]:
    """Bytes of the buffers of a call: hidden rows, first rows, logits; twice queries, keys, values and what they need.

    rows : as `rounded`
    """
    store = max(8 * sizes.words, sizes.codes)
    stores = [rows * store] * 3 + [rows * 8 * sizes.words] * 3 + [3 * rows]
    return [4 * rows * sizes.hidden, 4 * sentences * sizes.hidden, 4 * sentences * sizes.labels, *stores, *stores]


def scratch_bytes(sizes: Sizes, rows: int, keys: int) -> dict[int, int]:
    """Bytes of the scratch of one thread, by slot; it is for a block of rows, and for the longest sentence.

    rows, keys : as `rounded`
    """
    rows = min(at.BLOCK, rows)
    state = at.BLOCK * max(sizes.state, 4 * PANEL_OUTPUTS)
    slots = SCRATCH | {
        at.FLOATS: 4 * rows * sizes.floats,
        at.CHAIN: chain_bytes(sizes.depth, 8),
        at.ATTENTION: 8 * sizes.scratch(keys),
        at.STATE: state,
        at.STATE + 1: state,
    }
    for place in (0, at.INPUT):
        slots[at.INDEX + place] = max(at.INDEX_ROWS * sizes.index, sizes.tables)
        slots[at.PARITY + place] = 8 * rows
        slots[at.PLAIN + place] = rows
        slots[at.READY_PLAIN + place // at.INPUT] = rows
        slots[at.BYTES + place] = rows * sizes.depth
    return slots
