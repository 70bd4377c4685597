"""Cycles of the calling thread: counted by the processor where Linux lets us read that, else time by a measured clock.

Counted are cycles in this program only, not in the system: what `perf_event_open` gives without special rights, unless
/proc/sys/kernel/perf_event_paranoid is above 2. Most virtual machines and containers have no such counters. There a
chain of operations whose length in cycles is known says how fast the core runs (`bebert_kernels/tuning/clock.py`); that
is right as long as the core keeps this clock, which wide vectors lower on some older processors.
"""

import ctypes
import os
import platform
import struct
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Cost = NDArray[np.float64]  # nanoseconds and cycles; 0 cycles where nobody counts them

SYSTEM_CALLS = {"x86_64": 298, "aarch64": 241}  # perf_event_open, by architecture
HARDWARE, CYCLES = 0, 0  # of perf_event_attr: type and config
_SIZE = 64  # PERF_ATTR_SIZE_VER0
_FLAGS_AT = 40
_WITHOUT_SYSTEM = 1 << 5 | 1 << 6  # exclude_kernel, exclude_hv
_CLOSE_ON_EXEC = 8


class Counter:
    """A counter of the calling thread, by its file descriptor; whoever makes it closes it."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def read(self) -> int:
        """Events so far."""
        return int.from_bytes(os.read(self._descriptor, 8), "little")

    def close(self) -> None:
        """Give the counter back."""
        os.close(self._descriptor)


def open_counter(kind: int = HARDWARE, event: int = CYCLES) -> Counter | None:
    """A counter of the calling thread; None where the system has none or lets nobody read it.

    kind, event : of perf_event_attr
    """
    number = SYSTEM_CALLS.get(platform.machine())
    if number is None or sys.platform != "linux":
        return None
    descriptor = _system_call(number, attributes(kind, event), 0, -1, -1, _CLOSE_ON_EXEC)
    return Counter(descriptor) if descriptor >= 0 else None


def attributes(kind: int, event: int) -> bytes:
    """A perf_event_attr: count an event in this program, from now on."""
    made = bytearray(_SIZE)
    struct.pack_into("=IIQ", made, 0, kind, _SIZE, event)
    struct.pack_into("=Q", made, _FLAGS_AT, _WITHOUT_SYSTEM)
    return bytes(made)


def cycle_counter(work: Callable[[], object]) -> Counter | None:
    """A counter of cycles that counts; some virtual machines give one that stays 0. work : what must take cycles."""
    counter = open_counter()
    if counter is None:
        return None
    before = counter.read()
    work()
    if counter.read() > before:
        return counter
    counter.close()
    return None


def _system_call(number: int, attribute: bytes, *rest: int) -> int:
    """The result of a system call, -1 for an error."""
    library = ctypes.CDLL(None)
    library.syscall.restype = ctypes.c_long
    arguments = [ctypes.c_long(value) for value in rest]
    return int(library.syscall(ctypes.c_long(number), ctypes.create_string_buffer(attribute, _SIZE), *arguments))


class Watch:
    """Times calls; what calling and reading clocks takes is taken off.

    counter : of cycles, or None      nothing : a call of the same kind that does nothing
    """

    def __init__(self, counter: Counter | None, nothing: Callable[[], object]):
        self._counter, self._nothing, self._own = counter, nothing, np.zeros(2)

    def set_to_zero(self) -> None:
        """Measure anew what calling takes, at the clock that the core has now."""
        self._own = np.zeros(2)
        self._own = np.median([self.cost(self._nothing) for _ in range(50)], axis=0)

    def cost(self, call: Callable[[], object]) -> Cost:
        """Nanoseconds and cycles of one call; it may come out a little below 0."""
        before = self._counter.read() if self._counter else 0
        started = time.perf_counter_ns()
        call()
        spent = time.perf_counter_ns() - started
        cycles = self._counter.read() - before if self._counter else 0
        return np.array([spent, cycles], np.float64) - self._own
