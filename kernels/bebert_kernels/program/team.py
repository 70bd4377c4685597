"""Several threads for one call, without the interpreter in between: how they get programs and wait for each other.

A worker is a thread that Python has started and that has come here (`serve`). It has a mailbox, a cache line:

    AWAY      the worker is not here: Python must send it
    WAITING   it looks here again and again, for a moment
    ASLEEP    it has waited long enough and sleeps at this mailbox, in the kernel
    CLAIMED   a caller has it and will bring work
    WORKING   it has the work
    DONE      it has done the work; it waits until the caller has seen that

A worker that waits starts within a microsecond. One that sleeps must be woken, which takes longer than many a layer of
a short sentence; hence `rouse`, which the caller does first, so that workers wake while Python prepares the call.
Where the system has no futex a worker does not sleep here but goes back to Python, whose lock it then needs to come.
"""

import numpy as np

from bebert_kernels.abi import mailbox
from bebert_kernels.abi.stage import stage
from bebert_kernels.emit.memory import array, as_int64
from bebert_kernels.emit.threads import (
    allow_cpus,
    atomic_exchange_if,
    atomic_load,
    atomic_store,
    cpus_of,
    now,
    sleep_while,
    this_cpu,
    this_thread,
    wake,
)
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.program.interpreter import look_again, run_rows


@kernel
def _run_all(jobs: int, count: int) -> None:
    """Run programs one after the other; jobs : int64[count, 5] at an address, see `run_team`."""
    table = array(as_int64(jobs), (count, mailbox.JOB))
    for i in range(count):
        run_rows(table[i, 0], table[i, 1], table[i, 2], table[i, 3], table[i, 4], table[i, 5])


@kernel
def _sleep(box: int) -> bool:
    """Sleep at a mailbox until somebody wakes this worker; whether it may go on waiting: not if it cannot sleep.

    `rouse` sets LEAVE first and then looks at STATE, this the other way round: one of both sees the other.
    """
    state, leave, can = box + 8 * mailbox.STATE, box + 8 * mailbox.LEAVE, np.int64(1)
    if atomic_exchange_if(state, np.int64(mailbox.WAITING), np.int64(mailbox.ASLEEP)) == 0:
        return True
    if atomic_exchange_if(leave, np.int64(1), np.int64(1)) == 0:
        can = sleep_while(state, np.int64(mailbox.ASLEEP))
    atomic_exchange_if(state, np.int64(mailbox.ASLEEP), np.int64(mailbox.WAITING))
    return can != 0


@kernel
def _keep_off_this_cpu(box: int) -> None:
    """Let a worker run wherever this thread may, except on the CPU that this thread is on, if there is another.

    Linux often wakes a worker on the CPU of the caller, where it can only run when the caller's turn ends: two threads
    took 3.5 ms for a sentence now and then, one took 3.6, and two kept apart 2.0.
    """
    own, here = array(as_int64(box), (mailbox.FIELDS,)), this_cpu()
    mask, size = box + 8 * mailbox.CPUS, 8 * mailbox.WORDS
    for i in range(mailbox.WORDS):
        own[mailbox.CPUS + i] = 0
    thread = own[mailbox.THREAD]
    if thread < 1 or here < 0 or here >= 64 * mailbox.WORDS or cpus_of(np.int64(0), mask, np.int64(size)) < 1:
        return
    own[mailbox.CPUS + here // 64] &= ~(np.int64(1) << (here % 64))
    allow_cpus(thread, mask, np.int64(size))  # refuses a set that is empty


@kernel
def _take(box: int, to: int) -> bool:
    """Whether this worker waited or slept; it is awake then, and its mailbox has the state `to`."""
    state = box + 8 * mailbox.STATE
    if atomic_exchange_if(state, np.int64(mailbox.WAITING), np.int64(to)) != 0:
        if array(as_int64(box), (mailbox.FIELDS,))[mailbox.CPU] == this_cpu():
            _keep_off_this_cpu(box)
        return True
    if atomic_exchange_if(state, np.int64(mailbox.ASLEEP), np.int64(to)) != 0:
        _keep_off_this_cpu(box)
        wake(state)
        return True
    return False


@stage
def serve(box: int, patience: int, c: int, d: int, f: int, g: int) -> None:
    """Work for whoever brings work to this mailbox, until LEAVE is set.

    patience : nanoseconds to look for work before sleeping
    """
    own = array(as_int64(box), (mailbox.FIELDS,))
    state = box + 8 * mailbox.STATE
    own[mailbox.THREAD] = this_thread()
    atomic_store(state, np.int64(mailbox.WAITING))
    since, tries, stays = now(), 0, True
    while True:
        found, cpu = atomic_load(state), this_cpu()
        if own[mailbox.CPU] != cpu:
            own[mailbox.CPU] = cpu
        if found == mailbox.WORKING:
            _run_all(own[mailbox.JOBS], own[mailbox.COUNT])
            atomic_store(state, np.int64(mailbox.DONE))
            since, tries = now(), 0
        elif found == mailbox.WAITING and (not stays or atomic_load(box + 8 * mailbox.LEAVE) != 0):
            if atomic_exchange_if(state, np.int64(mailbox.WAITING), np.int64(mailbox.AWAY)) != 0:
                return
        elif found == mailbox.WAITING and now() - since > patience:
            stays = _sleep(box)
            since, tries = now(), 0
        tries = look_again(tries)


@stage
def rouse(boxes: int, count: int, leave: int, d: int, f: int, g: int) -> None:
    """Wake those workers of the first mailboxes that sleep; they look for work then, or leave if `leave` is 1."""
    for worker in range(count):
        box = boxes + 8 * mailbox.FIELDS * worker
        state = box + 8 * mailbox.STATE
        if leave != 0:
            atomic_store(box + 8 * mailbox.LEAVE, np.int64(1))
        if atomic_exchange_if(state, np.int64(mailbox.ASLEEP), np.int64(mailbox.CLAIMED)) != 0:
            _keep_off_this_cpu(box)
            atomic_store(state, np.int64(mailbox.WAITING))
            wake(state)


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
        tries = 0
        while not _take(boxes + size * worker, mailbox.CLAIMED):
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
