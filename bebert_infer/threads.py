"""The thread budget, and a small pool that never runs more threads than that.

Threads take members first, because members share nothing and need no barrier; a member that runs with
several threads splits its rows (`native/engine.py`). Waiting threads sleep, they do not spin.
"""

import atexit
import os
import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from bebert_infer.errors import InputError

Task = Callable[[], None]

PATIENCE = 60  # seconds that the end of the process waits for one call of a daemon thread


def thread_budget(requested: int | None = None) -> tuple[int, str]:
    """Return (number of threads, where it comes from).

    The first of these that is set: the argument, the environment variable BEBERT_THREADS, and else the
    smaller of CPU affinity and cgroup quota (rounded up). Raises InputError for anything below 1.
    """
    if requested is not None:
        return _positive("threads", requested), "argument"
    variable = os.environ.get("BEBERT_THREADS")
    if variable:
        return _positive("BEBERT_THREADS", variable), "BEBERT_THREADS"
    return granted_cores()


def granted_cores() -> tuple[int, str]:
    """Return (cores that this process may use, what limits them): the smaller of CPU affinity and cgroup quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    if quota is not None and quota < affinity:
        return quota, "cgroup quota"
    return affinity, "CPU affinity"


class ThreadTeam:
    """Run several tasks at once, each on its own thread; as many as needed start when needed, and anew after a fork.

    One call has its *turn* at a time: tasks that wait for each other at a barrier must have all threads, and two
    callers that share them would each hold half and wait for ever. It also keeps running threads within the budget,
    and memory at one workspace a member, however many Python threads call.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self.turn = _Turn()
        self._workers: _Workers | None = None
        _teams.add(self)

    def run(self, tasks: Sequence[Task], abandon: Task = lambda: None) -> None:
        """Run all tasks to their end, the first on the calling thread; at most `threads` tasks. First error wins.

        abandon : called when the first task fails or the caller is interrupted, before the others are waited for;
                  it must let go those that wait for the first one. No task runs any more when this returns or raises.
        """
        with self.turn:
            if len(tasks) == 1:
                tasks[0]()
                return
            if self._workers is None:
                self._workers = _Workers()
            self._workers.grow(len(tasks) - 1)
            others = _TaskGroup(len(tasks) - 1)
            errors: list[BaseException] = []
            try:
                for task in tasks[1:]:
                    self._workers.queue.put(partial(others.run, task))
                tasks[0]()
                others.wait()
            except BaseException as error:
                errors.append(error)
                abandon()
                others.stop()  # memory of the call is used again when we return: nobody may still be writing there
            errors += others.errors
            # A broken barrier is only the echo of another thread's error.
            errors.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
            if errors:
                raise errors[0]


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


class _TaskGroup:
    """What became of the tasks of other threads.

    It does not hold them: as a cycle they would keep the arrays of a call until Python's collector comes.
    An interrupt may come between any two lines of the waiting thread, so nothing is counted there: lists grow in the
    threads that do the work, and what is put on the queue only wakes the one that looks at them.
    """

    def __init__(self, count: int):
        self._count = count
        self.errors: list[BaseException] = []
        self._begun: list[None] = []
        self._ended: list[None] = []
        self._stopped = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run(self, task: Task) -> None:
        """Do one of the tasks, on another thread."""
        self._begun.append(None)
        try:
            if not self._stopped:
                task()
        except BaseException as error:
            self.errors.append(error)
        self._ended.append(None)
        self._wake.put(None)

    def wait(self) -> None:
        """Return when all tasks have ended."""
        while len(self._ended) < self._count:
            self._sleep()

    def stop(self) -> None:
        """Let no further task begin, and return when those that have begun have ended; interrupts change nothing."""
        while True:
            try:
                self._stopped = True
                while len(self._ended) < len(self._begun):
                    self._sleep()
                return
            except KeyboardInterrupt:
                continue

    def _sleep(self) -> None:
        with suppress(queue.Empty):
            self._wake.get(timeout=1)


class _Workers:
    """Threads that sleep at a queue. Daemons: a process may end while they sleep; they go when this object does."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._count = 0

    def grow(self, count: int) -> None:
        """Have at least so many threads. Raises InputError where the system gives no more."""
        while self._count < count:
            weakref.finalize(self, self.queue.put, None).atexit = False  # None dismisses one of them
            name = f"bebert_{self._count}"
            thread = threading.Thread(target=_serve, args=(self.queue,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                raise InputError(
                    f"{count + 1} threads were wanted, the system gives this process {self._count + 1}; pass "
                    "threads=… (--threads) or BEBERT_THREADS of at most that"
                ) from None
            self._count += 1


def _serve(tasks: "queue.SimpleQueue[Task | None]") -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # it holds the arrays of a call


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
        team.turn.lock.acquire(timeout=PATIENCE)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
atexit.register(_finish)


def _positive(name: str, value: int | str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f'{name} is "{value}"; accepted is a whole number of at least 1')
    return number


def _cgroup_quota(root: Path = Path("/")) -> int | None:
    """CPUs that control groups grant this process, rounded up, or None where there is no limit (cgroup v2 and v1).

    The group of the process and every group above it has a say; in a container only the folders from its own group
    on are to be seen, as if that were the root. root : where to look, for tests.
    """
    limits = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup"
        bases = [base / "cpu", base / controllers] if controllers else [base, base / "unified"]
        parts = [part for part in group.split("/") if part not in ("", "..")]
        folders = [place.joinpath(*parts[:depth]) for place in bases for depth in range(len(parts) + 1)]
        limits += [_quota_of(folder) for folder in folders]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota_of(folder: Path) -> int | None:
    """Limit of one group in CPUs, rounded up; v2 has one file, v1 has two."""
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [*_read(folder / "cpu.cfs_quota_us").split(), *_read(folder / "cpu.cfs_period_us").split()]
    try:
        quota, period = int(words[0]), int(words[1])
    except (IndexError, ValueError):  # no file, "max", or nothing that we know
        return None
    return max(1, -(-quota // period)) if quota > 0 and period > 0 else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
