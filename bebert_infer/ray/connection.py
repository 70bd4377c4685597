"""A cluster for a command: one that is there, or one that ends with the command. Its failures in our words."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from bebert_infer.errors import BebertError, InputError, first_line
from bebert_infer.threads import granted_cores

LOCAL_STORE_BYTES = 2**29  # of a cluster that is started here: chunks of rows on their way
TRIED = "\nFailed to "  # begins what Ray puts behind the text of an error: how often it tried, and what to set


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one of this machine's CPUs where there is neither address nor RAY_ADDRESS.

    A process that is connected stays so. Raises InputError if nothing answers at the address.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    # A command of ours tells nobody that it was run; whoever has decided otherwise has said so already.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray calls it an error that an actor's arguments lie in the object store, where they stay as long as the job runs.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet: dict = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init("local", num_cpus=granted_cores()[0], object_store_memory=LOCAL_STORE_BYTES, **quiet)
    else:
        del quiet["include_dashboard"]
        try:
            _knock(address)
            ray.init(address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f'no Ray cluster answers at "{address}": {first_line(error)}; pass the address '
                "that `ray start --head` shows, or none to start one here"
            ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nothing listens there: Ray itself tries for more than eight minutes."""
    host, colon, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def settings() -> Iterator[None]:
    """Settings of Ray Data for a command, taken back behind it.

    Every chunk is a block of its own, so that one file keeps all workers busy; errors come as they were raised.
    """
    from ray.data import DataContext

    context = DataContext.get_current()
    ours = {
        "target_max_block_size": 1,
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "raise_original_map_exception": True,
        "max_consecutive_actor_init_deaths": 3,  # ours tell of errors later, so whoever dies at its start was killed
    }
    before = {name: getattr(context, name) for name in ours if hasattr(context, name)}
    logger = logging.getLogger("ray.data")
    level = logger.level
    try:
        for name in before:
            setattr(context, name, ours[name])
        logger.setLevel(logging.CRITICAL)
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)


@contextmanager
def failures_told() -> Iterator[None]:
    """Raise what a task raised on purpose as if it had happened here, and other failures as BebertError."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, BebertError):
            cause.args = (str(cause).partition(TRIED)[0],)
            raise cause from None
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise BebertError(
            f"the Ray job failed: {lines[-1]:.500}; Ray's logs say more, and nothing was written"
        ) from error
