"""A whole model as data: a list of instructions that one compiled function runs without Python.

An instruction is a row of int64: the address of a stage (`stages.py`, `linear.py`, the products), then its arguments
(`abi/instruction.py`), which are addresses of weights, sizes and slots (`abi/slot.py`). A *phase* is a run of
instructions that need nothing from other rows; it is done for a block of rows at a time, so that what one leaves in the
cache the next one finds there. Between two phases all threads wait for each other, because attention reads the keys and
values of all rows of a sentence. Phases of even and odd layers use two stores of queries, keys and values in turn: a
fast thread may then write the next ones while a slow one still reads.

    phase 0            embed, norm, q k v of block 0
    phase 1 .. L - 1   attention, output, norm, feed-forward, norm of one block; q k v of the next
    last phase         the first token of each sentence only: the rest of the last block, pooler, classifier

`bebert_infer/native/lower_member.py` writes programs; nothing here knows BERT. Results are those of the NumPy truth,
bit for bit.
"""

import numpy as np

from bebert_kernels.abi import frame as frames
from bebert_kernels.abi import slot
from bebert_kernels.abi.instruction import FIELDS
from bebert_kernels.abi.stage import stage
from bebert_kernels.abi.table import WORD, Table, width
from bebert_kernels.emit.memory import array, as_int64, call
from bebert_kernels.emit.tables import read_frame, read_phase
from bebert_kernels.emit.threads import atomic_add, atomic_load, now, relax, sched_yield
from bebert_kernels.jit.kernel import kernel

PHASE, FRAME = width(frames.Phase), width(frames.Frame)
LOOKS_BEFORE_YIELD = 200  # at what another thread will change, before a waiting thread offers its core to others


@kernel
def run(instructions: Table, phases: Table, slots: Table, frame: Table, thread: int) -> None:
    """Run a program on one thread's share of the rows.

    instructions : int64[any, 16]
    phases       : int64[any, 3]   `frame.Phase`
    slots        : int64[slot.COUNT], addresses, those from LOCAL on of this thread
    frame        : int64[7]        `frame.Frame`
    thread       : 0 .. threads - 1
    """
    sizes = read_frame(frame.ctypes.data, 0)
    for p in range(phases.shape[0]):
        phase = read_phase(phases.ctypes.data, p)
        if p > 0 and sizes.threads > 1:
            barrier(sizes.barrier, sizes.threads)
        total = sizes.rows if phase.domain == frames.ROWS else sizes.sentences
        begin, last = total * thread // sizes.threads, total * (thread + 1) // sizes.threads
        # Equal blocks: 129 rows as 128 and 1 would fill all tables twice, the second time for nothing.
        blocks = -(-(last - begin) // sizes.block)
        for block in range(blocks):
            first = begin + (last - begin) * block // blocks
            rows = begin + (last - begin) * (block + 1) // blocks - first
            for i in range(phase.first, phase.end):
                start = now() if sizes.times != 0 else np.int64(0)
                arguments = instructions.ctypes.data + WORD * (FIELDS * i + 1)
                call(instructions[i, 0], arguments, slots.ctypes.data, frame.ctypes.data, phase.domain, first, rows)
                if sizes.times != 0:
                    array(as_int64(sizes.times), (instructions.shape[0],))[i] += now() - start


@stage
def run_program(instructions: int, phases: int, count: int, slots: int, frame: int, thread: int) -> None:
    """`run`, by addresses; count : of phases, at least one."""
    run_rows(instructions, phases, count, slots, frame, thread)


@kernel
def run_rows(instructions: int, phases: int, count: int, slots: int, frame: int, thread: int) -> None:
    """The same for kernels."""
    table = array(as_int64(phases), (count, PHASE))
    rows = array(as_int64(instructions), (read_phase(phases, count - 1).end, FIELDS))
    run(rows, table, array(as_int64(slots), (slot.COUNT,)), array(as_int64(frame), (FRAME,)), thread)


@kernel
def barrier(counter: int, threads: int) -> None:
    """Return when all threads have come here; the counter only grows, so it needs no reset between barriers.

    It lasts as long as the share of the slowest; after a moment a waiting thread offers its core to others.
    """
    arrived = atomic_add(counter, np.int64(1))
    target = (arrived // threads + 1) * threads
    tries = 0
    while atomic_load(counter) < target:
        tries = look_again(tries)


@kernel
def look_again(tries: int) -> int:
    """Wait a little before the next look at what another thread will change; returns the number of looks."""
    if tries > LOOKS_BEFORE_YIELD:
        sched_yield()
    else:
        relax()
    return tries + 1
