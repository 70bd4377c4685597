"""A real Ray cluster on this machine for the tests of one file, and the process numbers of its workers."""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

CPUS = 3  # two workers, and one for the tasks that read
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray writes one into the home folder


@contextmanager
def cluster(cpus: int = CPUS) -> Iterator[None]:
    """Connected to a cluster of its own, without dashboard or reports to anyone; stopped and removed afterwards."""
    import ray

    with short_folder() as folder:
        try:
            ray.init(
                "local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=200 * 2**20,
                log_to_driver=False,
                _temp_dir=folder,
            )
            ray.data.DataContext.get_current().enable_progress_bars = False
            yield
        finally:
            ray.shutdown()


@contextmanager
def short_folder() -> Iterator[str]:
    """A temporary folder with a short name: those of Ray's sockets have at most 107 characters."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def workers(name: str) -> list[int]:
    """Processes below this one that are actors of the class `name` and have loaded: Ray gives them its title."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and name in title:
            found.append(process.pid)
    return found


def wait_for(there: Path, pattern: str, count: int, seconds: float = 120) -> None:
    """Wait until so many files below a folder match a pattern."""
    end = time.monotonic() + seconds
    while len(list(there.glob(pattern))) < count:
        assert time.monotonic() < end, f"{there} has {list(there.glob('*'))}"
        time.sleep(0.01)
