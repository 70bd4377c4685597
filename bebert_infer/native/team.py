"""Threads that run native programs together; never more than the budget.

Threads take members first, because members share nothing and need no barrier; a member that runs with several threads
splits its rows (`native/engine.py`). One call into native code runs the shares of all threads
(`bebert_kernels/program/team.py`), so no interrupt and no error can come between them. After a call workers look for
the next one for a moment, PATIENCE, and then sleep in native code: to wake them needs no lock of Python's.
"""

import atexit
import os
import queue
import threading
import time
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bebert_infer.errors import InputError
from bebert_kernels.abi import mailbox
from bebert_kernels.abi.stage import Stage

RUN_TEAM, SERVE, ROUSE = Stage.named("run_team"), Stage.named("serve"), Stage.named("rouse")

PATIENCE = 100_000  # nanoseconds that a worker looks for the next call before it sleeps: the Python between two calls
COMING = 50_000_000  # nanoseconds that a caller waits in native code for workers to wake; then Python looks around
ENDING = 60.0  # seconds that the end of the process waits for one call of a daemon thread

Jobs = NDArray[np.int64]  # int64[count, mailbox.JOB], arguments of the stage `run_program`


class ThreadTeam:
    """Run several shares of work at once, each on its own thread; threads start when needed, and anew after a fork.

    One call has its *turn* at a time: shares that wait for each other at a barrier must have all threads, and two
    callers that share them would each hold half and wait for ever. It also keeps running threads within the budget,
    and memory at one workspace a member, however many Python threads call.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self.turn = _Turn()
        self._workers: _Workers | None = None
        _teams.add(self)

    def run(self, shares: Sequence[Jobs]) -> None:
        """Run all shares to their end, at most `threads`: the first on the calling thread.

        Raises InputError where the system gives no more threads; nothing has run then.
        """
        with self.turn:
            table = np.array([[share.ctypes.data, len(share)] for share in shares], np.int64)
            if len(shares) > 1 and self._workers is None:
                self._workers = _Workers(self.threads - 1)
            boxes = self._workers.boxes_for(len(shares) - 1) if self._workers else table
            done = np.zeros(1, np.int64)
            while True:
                if len(shares) > 1 and self._workers:
                    self._workers.send(len(shares) - 1)
                RUN_TEAM(table.ctypes.data, len(shares), boxes.ctypes.data, COMING, done.ctypes.data, 0)
                if done[0]:
                    break
            if _ending.is_set():  # the process ends soon: nobody may still be in native code then
                self.leave()

    def rouse(self, workers: int) -> None:
        """Wake so many of the workers that there are: a call comes soon. It takes them as long as its preparation."""
        if self._workers is not None:
            self._workers.rouse(workers)

    def leave(self) -> None:
        """Return when no worker is in native code any more."""
        if self._workers is not None:
            self._workers.leave()


class _Turn:
    """A lock that its holder may take again; neither forks nor the end of the process leave it behind locked."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Nobody holds it any more."""
        self.lock, self._depth = threading.RLock(), 0

    def __enter__(self) -> None:
        self.lock.acquire()
        self._depth += 1
        if self._depth == 1 and _ending.is_set() and threading.current_thread() is not threading.main_thread():
            self.__exit__()
            threading.Event().wait()  # a daemon thread: the process ends before it can do anything more

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        self.lock.release()


class _Workers:
    """Threads with a mailbox and a queue each: daemons, since a process may end while they sleep. They go with this."""

    def __init__(self, most: int) -> None:
        self.boxes = _lines(most)
        self._queues: list[queue.SimpleQueue[NDArray[np.int64] | None]] = []

    def boxes_for(self, count: int) -> NDArray[np.int64]:
        """Mailboxes, of which the first `count` have a thread. Raises InputError where the system gives no more."""
        while len(self._queues) < count:
            box, own = self.boxes[len(self._queues) :][:1], queue.SimpleQueue[NDArray[np.int64] | None]()
            name = f"bebert_{len(self._queues)}"
            thread = threading.Thread(target=_serve, args=(own,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                raise InputError(
                    f"{count + 1} threads were wanted, the system gives this process {len(self._queues) + 1}; pass "
                    "threads=… (--threads) or BEBERT_THREADS of at most that"
                ) from None
            weakref.finalize(self, _dismiss, box, own).atexit = False
            self._queues.append(own)
        return self.boxes

    def send(self, count: int) -> None:
        """Send those of the first workers to their mailboxes that are not in native code."""
        for box, own in zip(self.boxes[:count], self._queues, strict=False):
            if box[mailbox.STATE] == mailbox.AWAY:
                own.put(box)

    def rouse(self, count: int) -> None:
        """Wake those of the first workers that sleep at their mailboxes."""
        if (self.boxes[:count, mailbox.STATE] == mailbox.ASLEEP).any():
            ROUSE(self.boxes.ctypes.data, count, 0, 0, 0, 0)

    def leave(self) -> None:
        """Return when no worker is in native code."""
        ROUSE(self.boxes.ctypes.data, len(self.boxes), 1, 0, 0, 0)
        while (self.boxes[:, mailbox.STATE] != mailbox.AWAY).any():
            time.sleep(1e-4)
        self.boxes[:, mailbox.LEAVE] = 0


def _dismiss(box: NDArray[np.int64], own: "queue.SimpleQueue[NDArray[np.int64] | None]") -> None:
    """End the worker of a mailbox, int64[1, FIELDS], and of a queue."""
    own.put(None)
    ROUSE(box.ctypes.data, 1, 1, 0, 0, 0)


def _lines(count: int) -> NDArray[np.int64]:
    """Mailboxes int64[count, FIELDS], each on lines of its own: threads that look at theirs disturb no other."""
    line = 8 * mailbox.FIELDS
    memory = np.zeros(line * (count + 1), np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + line * count].view(np.int64).reshape(count, mailbox.FIELDS)


def _serve(own: "queue.SimpleQueue[NDArray[np.int64] | None]") -> None:
    while (box := own.get()) is not None:
        SERVE(box.ctypes.data, PATIENCE, 0, 0, 0, 0)
        del box


_teams: "weakref.WeakSet[ThreadTeam]" = weakref.WeakSet()


_ending = threading.Event()


def _renew() -> None:
    """A forked child has none of the threads, and perhaps a turn that a thread which is gone will never give back."""
    for team in _teams:
        team.turn.renew()
        team._workers = None


def _finish() -> None:
    """Let calls of daemon threads that are under way end, and no new one begin: their memory and code go away now.

    Calls of the main thread, the last one, still work.
    """
    _ending.set()
    for team in list(_teams):
        if team.turn.lock.acquire(timeout=ENDING):
            team.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
atexit.register(_finish)
