"""The memory of one native call: made once, grown when a larger batch comes, used again and again.

Slots are explained in `bebert_kernels/abi/slot.py`. Shared buffers hold a row for every token or sentence of a batch;
each thread has scratch for BLOCK rows. Nothing is allocated during a call unless a batch is larger than any before.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bebert_infer.model.batch import Batch
from bebert_kernels.abi import slot
from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.bitsliced.triples import aligned
from bebert_kernels.checks import array as checked_array
from bebert_kernels.checks import rows as checked_rows
from bebert_kernels.program.layer import LayerShape

STORES = 3 + 2 * (slot.FLAGS + 1)  # shared buffers of every program: hidden rows, first rows, logits, two stores
ROUND = 64  # rows are rounded up to this, so that a slightly longer sentence needs no new memory


class Sizes(Struct):
    """What a program needs a row: filled in while it is written.

    hidden, labels : C and the count of labels        vocabulary, positions, types : rows of the tables
    layers : the kinds of linear layers                      floats : widest float output of one
    words, codes : words or bytes of queries                 scratch : count of keys -> words of scratch for attention
    shared : bytes a row of slots that unfused programs need  dots, clipped : their widest outputs; floats of a row
    """

    hidden: int
    labels: int
    vocabulary: int
    positions: int
    types: int
    layers: set[LayerShape] = set()  # msgspec gives each its own
    floats: int = 1
    words: int = 0
    codes: int = 0
    dots: int = 0
    clipped: int = 0
    shared: dict[int, int] = {}
    scratch: Callable[[int], int] = lambda keys: 8  # noqa: E731


OF_A_CALL = [slot.IDS, slot.POSITIONS, slot.TYPES, slot.OFFSETS, slot.NOISE]
FURTHER_FLAGS = np.arange(1, slot.STORE - slot.FLAGS)  # those behind the first ones, in rows


class CheckedBatch(NamedTuple):
    """A batch that programs can take: the tokens of its longest sentence, and where its arrays stand (OF_A_CALL)."""

    batch: Batch
    longest: int
    addresses: list[int]


def check_batch(batch: Batch, sizes: Sizes) -> CheckedBatch:
    """Raises ValueError for a batch that a program of these sizes cannot take."""
    rows = len(batch.ids)
    for name, values, table, count in (
        ("ids", batch.ids, "the word tables", sizes.vocabulary),
        ("positions", batch.positions, "the position table", sizes.positions),
        ("types", batch.types, "the type table", sizes.types),
    ):
        checked_rows(name, values, rows, table, count)
    offsets = checked_array("offsets", batch.offsets, np.int64, ("S + 1",))
    lengths = offsets[1:] - offsets[:-1]
    if lengths.size == 0 or offsets[0] != 0 or offsets[-1] != rows or lengths.min() < 1:
        raise ValueError(f"offsets do not cut {rows} rows into sentences of at least 1; accepted: rising 0 .. {rows}")
    if batch.key_mask is not None:
        raise ValueError("batch has a key mask; programs take batches without padding (`batch.ragged_batch`)")
    addresses = [array.ctypes.data for array in (batch.ids, batch.positions, batch.types, batch.offsets)]
    return CheckedBatch(batch, int(lengths.max()), addresses)


class Workspace:
    """Buffers of one call at a time."""

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self.slots = np.zeros((0, slot.COUNT), np.int64)
        self._rows = self._sentences = self._keys = 0
        self._flags_of = 0  # rows for which the slots of flags are right
        self._shared: list[NDArray] = []
        self._own: list[dict[int, NDArray]] = []
        self._addresses: list[int] = []  # of _shared
        self._call: tuple[Batch, NDArray[np.float32] | None] | None = None

    def prepare(
        self, checked: CheckedBatch, threads: int, noise: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Make room for a batch and return the logits float32[S, labels] that a run will fill.

        checked : the batch, checked for a program with the same tables
        noise   : float32[R, C], contiguous, to add to the embeddings

        Raises ValueError for noise of another shape: from here on it is addresses.
        """
        batch, keys = checked.batch, checked.longest
        if noise is not None:
            checked_array("noise", noise, np.float32, (batch.rows, self.sizes.hidden))
        if batch.rows > self._rows or batch.sentences > self._sentences or keys > self._keys:
            self._rows = max(self._rows, rounded(batch.rows))
            self._sentences = max(self._sentences, batch.sentences)
            self._keys = max(self._keys, rounded(keys))
            self._grow()
            self._own = []
        while len(self._own) < threads:
            self._own.append(self._scratch())
        if len(self.slots) < threads or not self._addresses:
            self._addresses = [array.ctypes.data for array in self._shared]
            self.slots = np.array([self._fixed_slots(own) for own in self._own], np.int64)
            self._flags_of = 0
        self._call = (batch, noise)  # keeps the arrays below alive
        self.slots[:, OF_A_CALL] = [*checked.addresses, 0 if noise is None else noise.ctypes.data]
        if self._flags_of != batch.rows:  # the flags of queries, keys and values lie in one array
            self._flags_of = batch.rows
            for store in (slot.QUERY, slot.QUERY + slot.STORE):
                first, slots = store + slot.FLAGS, self.slots
                slots[:, first + 1 : store + slot.STORE] = slots[:, first : first + 1] + batch.rows * FURTHER_FLAGS
        return self._shared[2][: batch.sentences * self.sizes.labels].reshape(batch.sentences, -1)

    def _fixed_slots(self, own: dict[int, NDArray]) -> NDArray[np.int64]:
        """The slots of a thread but for those of a call: asking for addresses takes longer than a short sentence."""
        slots = np.zeros(slot.COUNT, np.int64)
        slots[[slot.HIDDEN, slot.FIRST, slot.LOGITS]] = self._addresses[:3]
        for store in range(2):
            first, places = slot.QUERY + slot.STORE * store, self._addresses[3 + (slot.FLAGS + 1) * store :]
            slots[first : first + slot.FLAGS + 1] = places[: slot.FLAGS + 1]
        slots[list(self.sizes.shared)] = self._addresses[STORES:]
        for place, array in own.items():
            slots[place] = array.ctypes.data
        return slots

    @property
    def scratch_words(self) -> int:
        """Words of scratch for attention over the longest sentence so far."""
        return self.sizes.scratch(self._keys)

    def _grow(self) -> None:
        sizes, self._addresses = shared_bytes(self.sizes, self._rows, self._sentences), []
        self._shared = [aligned((size // 4,), np.float32) for size in sizes[:3]]
        self._shared += [aligned((size,), np.uint8) for size in sizes[3:]]

    def _scratch(self) -> dict[int, NDArray]:
        """Memory of one thread, by slot."""
        sizes = scratch_bytes(self.sizes, self._rows, self._keys)
        found = {place: aligned((size,), np.uint8) for place, size in sizes.items()}
        if slot.NOTHING in found:
            found[slot.NOTHING][:] = 0
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
    of_sentences = [4 * sentences * sizes.hidden, 4 * sentences * sizes.labels]
    unfused = [rows * size for size in sizes.shared.values()]
    return [4 * rows * sizes.hidden, *of_sentences, *stores, *stores, *unfused]


def scratch_bytes(sizes: Sizes, rows: int, keys: int) -> dict[int, int]:
    """Bytes of the scratch of one thread, by slot; it is for a block of rows, and for the longest sentence.

    rows, keys : as `rounded`
    """
    rows = min(BLOCK, rows)
    slots = {slot.FLOATS: 4 * rows * sizes.floats, slot.ATTENTION: 8 * sizes.scratch(keys), slot.LANES: 4 * 16}
    if sizes.dots:
        dots = 4 * max(rows * sizes.dots, sizes.clipped)
        slots |= {slot.DOTS: dots, slot.DOTS + 1: dots, slot.CODED: 16 * BLOCK}
    for layer in sizes.layers:
        for place, size in layer.scratch(rows).items():
            slots[place] = max(slots.get(place, 0), size)
    return slots
