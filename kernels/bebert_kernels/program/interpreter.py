"""A whole model as data: a list of operations that one compiled function runs without Python.

An operation is a row of int64: the address of a stage (`stages.py`, `linear_rows.py`), then its arguments, which are
addresses of weights, sizes and slots (`slots.py`). A *phase* is a run of operations that need nothing from other
rows; it is done for a block of rows at a time, so that what one operation leaves in the cache the next one finds
there. Between two phases all threads wait for each other, because attention reads the keys and values of all rows of
a sentence. Phases of even and odd layers use two stores of queries, keys and values in turn: a fast thread may then
write the next ones while a slow one still reads.

    phase 0            embed, norm, q k v of block 0
    phase 1 .. L - 1   attention, output, norm, feed-forward, norm of one block; q k v of the next
    last phase         the first token of each sentence only: the rest of the last block, pooler, classifier

`bebert_infer/native_member.py` writes programs; nothing here knows BERT. Results are those of `reference.py`, bit for
bit.
"""

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi import layout as at
from bebert_kernels.abi.memory import array, as_int64, atomic_add, atomic_load, now, sched_yield
from bebert_kernels.abi.stage import call
from bebert_kernels.jit.kernel import kernel

Table = NDArray[np.int64]

SPINS_BEFORE_YIELD = 200  # looks at the barrier before a waiting thread offers its core to others


@kernel
def run(operations: Table, phases: Table, slots: Table, frame: Table, thread: int) -> None:
    """Run a program on one thread's share of the rows.

    operations : int64[any, 16]
    phases     : int64[any, 3]   first operation, behind the last, domain
    slots      : int64[48]       addresses, those from LOCAL on of this thread
    frame      : int64[7]        sizes of this call, see `slots.py`
    thread     : 0 .. threads - 1
    """
    threads = frame[at.THREADS]
    for p in range(phases.shape[0]):
        if p > 0 and threads > 1:
            barrier(frame[at.BARRIER], threads)
        total = frame[phases[p, 2]]
        begin, last = total * thread // threads, total * (thread + 1) // threads
        # Equal blocks: 129 rows as 128 and 1 would fill all tables twice, the second time for nothing.
        blocks = -(-(last - begin) // frame[at.BLOCK_ROWS])
        for block in range(blocks):
            first = begin + (last - begin) * block // blocks
            rows = begin + (last - begin) * (block + 1) // blocks - first
            for o in range(phases[p, 0], phases[p, 1]):
                start = now() if frame[at.TIMES] != 0 else np.int64(0)
                place = operations.ctypes.data + o * 8 * at.COLUMNS
                call(operations[o, 0], place, slots.ctypes.data, frame.ctypes.data, phases[p, 2], first, rows)
                if frame[at.TIMES] != 0:
                    array(as_int64(frame[at.TIMES]), (operations.shape[0],))[o] += now() - start


@kernel
def barrier(counter: int, threads: int) -> None:
    """Return when all threads have come here; the counter only grows, so it needs no reset between barriers.

    It lasts as long as the share of the slowest; after a moment a waiting thread offers its core to others.
    """
    arrived = atomic_add(counter, np.int64(1))
    target = (arrived // threads + 1) * threads
    tries = 0
    while atomic_load(counter) < min(target, at.FREE):  # a thread may fail before or after we arrive
        tries += 1
        if tries > SPINS_BEFORE_YIELD:
            sched_yield()
