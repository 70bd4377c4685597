"""Several threads for one call, without the interpreter in between: how they get programs and wait for each other.

A worker is a thread that Python has started and that has come here (`serve`). It has a mailbox, a cache line:

    AWAY      the worker is not here: Python must send it
    WAITING   it looks here again and again, for a moment; then it goes back to Python and sleeps there
    CLAIMED   a caller has it and will bring work
    WORKING   it has the work
    DONE      it has done the work; it waits until the caller has seen that

To wake a sleeping thread takes longer than many a short sentence, and so does handing over Python's lock, twice for
each thread: 0.35 of 1.2 ms for two members and 16 tokens. A worker that is still here starts within a microsecond.
"""

import numpy as np

from bebert_kernels.abi import mailbox
from bebert_kernels.abi.stage import stage
from bebert_kernels.emit.memory import (
    array,
    as_int64,
    atomic_exchange_if,
    atomic_load,
    atomic_store,
    now,
)
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.program.interpreter import look_again, run_rows


@kernel
def _run_all(jobs: int, count: int) -> None:
    """Run programs one after the other; jobs : int64[count, 5] at an address, see `run_team`."""
    table = array(as_int64(jobs), (count, mailbox.JOB))
    for i in range(count):
        run_rows(table[i, 0], table[i, 1], table[i, 2], table[i, 3], table[i, 4], table[i, 5])


@stage
def serve(box: int, patience: int, c: int, d: int, f: int, g: int) -> None:
    """Work for whoever brings work to this mailbox, until nobody has for `patience` nanoseconds, or LEAVE is set."""
    own = array(as_int64(box), (mailbox.FIELDS,))
    state = box + 8 * mailbox.STATE
    atomic_store(state, np.int64(mailbox.WAITING))
    since, tries = now(), 0
    while True:
        found = atomic_load(state)
        if found == mailbox.WORKING:
            _run_all(own[mailbox.JOBS], own[mailbox.COUNT])
            atomic_store(state, np.int64(mailbox.DONE))
            since, tries = now(), 0
        elif found == mailbox.WAITING and (now() - since > patience or atomic_load(box + 8 * mailbox.LEAVE) != 0):
            if atomic_exchange_if(state, np.int64(mailbox.WAITING), np.int64(mailbox.AWAY)) != 0:
                return
        tries = look_again(tries)


@stage
def run_team(shares: int, threads: int, boxes: int, patience: int, result: int, g: int) -> None:
    """Run the share of each thread, the first one here, the others by the workers of the first mailboxes.

    shares   : int64[threads, 2] at an address: address and count of jobs, int64[count, 6], arguments of `run_program`
    boxes    : int64[at least threads - 1, mailbox.FIELDS] at an address
    patience : nanoseconds to wait for workers that are not here yet
    result   : address of an int64: 1 if all is done, 0 if a worker has not come: then nothing has been done
    """
    table, since = array(as_int64(shares), (threads, 2)), now()
    answer = array(as_int64(result), (1,))
    answer[0] = 0
    size = 8 * mailbox.FIELDS
    for worker in range(threads - 1):
        state, tries = boxes + size * worker + 8 * mailbox.STATE, 0
        while atomic_exchange_if(state, np.int64(mailbox.WAITING), np.int64(mailbox.CLAIMED)) == 0:
            if now() - since > patience:
                for other in range(worker):
                    atomic_store(boxes + size * other + 8 * mailbox.STATE, np.int64(mailbox.WAITING))
                return
            tries = look_again(tries)
    for worker in range(threads - 1):
        box = array(as_int64(boxes + size * worker), (mailbox.FIELDS,))
        box[mailbox.JOBS], box[mailbox.COUNT] = table[worker + 1, 0], table[worker + 1, 1]
        atomic_store(boxes + size * worker + 8 * mailbox.STATE, np.int64(mailbox.WORKING))
    _run_all(table[0, 0], table[0, 1])
    for worker in range(threads - 1):
        state, tries = boxes + size * worker + 8 * mailbox.STATE, 0
        while atomic_load(state) != mailbox.DONE:
            tries = look_again(tries)
        atomic_store(state, np.int64(mailbox.WAITING))
    answer[0] = 1
