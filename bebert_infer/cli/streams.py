"""Standard streams that are closed, full or broken: they must cost neither the work nor a sentence in its place."""

import os
import sys
from typing import Any


class Forgiving:
    """Standard error that drops what it cannot take: a message that nobody can read must not end the work."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write or drop a text."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # full, broken, closed
            pass
        return len(text)

    def flush(self) -> None:
        """Send what was written, or drop it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass


def prepare_streams() -> None:
    """Fill the places of closed streams, and make standard error forgiving.

    The next file that is opened, perhaps one of answers, would get the number of a closed stream, and with it what
    libraries in C write there.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stderr is not None and not isinstance(sys.stderr, Forgiving):
        sys.stderr = Forgiving(sys.stderr)  # type: ignore[assignment]


def drop_output() -> None:
    """Forget what standard output cannot take: Python would try again when it ends, and complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
