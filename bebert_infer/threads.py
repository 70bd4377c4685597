"""The thread budget, and a small pool that never runs more threads than that.

Threads take members first, because members share nothing and need no barrier; a member that runs with
several threads splits its rows (`member.py`). Waiting threads sleep, they do not spin.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bebert_infer.errors import InputError


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
    """Run several tasks at once, each on its own thread; created lazily and anew after a fork.

    One call runs at a time: a team whose tasks wait for each other at a barrier must have all its threads,
    and two callers that share the pool would each hold half and wait forever. It also keeps the number of
    running threads within the budget however many Python threads call.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run all tasks to their end, the first on the calling thread; at most `threads` tasks. First error wins."""
        if self._process != os.getpid():  # a forked child inherits the lock and the pool, but no thread
            self._fresh()
        with self._lock:
            if len(tasks) == 1:
                tasks[0]()
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max(1, self.threads - 1), thread_name_prefix="bebert")
            futures = [self._pool.submit(task) for task in tasks[1:]]
            errors: list[BaseException | None] = []
            try:
                tasks[0]()
            except BaseException as error:
                errors.append(error)
            errors += [future.exception() for future in futures]
            raised = [error for error in errors if error is not None]
            # A broken barrier is only the echo of another thread's error.
            raised.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
            if raised:
                raise raised[0]


def _positive(name: str, value: int | str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f'{name} is "{value}"; accepted is a whole number of at least 1')
    return number


def _cgroup_quota() -> int | None:
    """CPUs that the control group grants, rounded up, or None where there is no limit (cgroup v2, then v1)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text().strip()
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return max(1, -(-int(quota) // int(period)))
