"""The thread budget: how many threads a model may use, and where that number comes from."""

import os
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
