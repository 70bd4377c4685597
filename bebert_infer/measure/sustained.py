"""One engine under load for a while: does it stay as fast, and what does it cost? Small boards get hot and slow."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bebert_infer.measure.power import Reading, joules_between, read_machine

SLICES = 10
SLOWER = 1.1  # the last slice against the fastest one: more than this is called throttling, less is noise


@dataclass(frozen=True)
class Slice:
    """A tenth of the time: answers, median milliseconds of one, joules of one, hottest zone, slowest clock."""

    answers: int
    median_ms: float
    joules: float | None
    celsius: float | None
    megahertz: float | None
    throttled: list[str] | None


def sustain(
    call: Callable[[], Any],
    seconds: float,
    *,
    read: Callable[[], Reading] = read_machine,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Slice]:
    """Call without a pause for `seconds`, in SLICES equal parts; each part has at least one call."""
    call()  # compiles, loads, allocates
    found = []
    begin, before = clock(), read()
    for part in range(SLICES):
        times: list[float] = []
        end = begin + seconds * (part + 1) / SLICES
        while not times or clock() < end:
            started = clock()
            call()
            times.append(clock() - started)
        after = read()
        joules = joules_between(before, after)
        found.append(
            Slice(
                answers=len(times),
                median_ms=1e3 * statistics.median(times),
                joules=None if joules is None else joules / len(times),
                celsius=max(after.celsius.values(), default=None),
                megahertz=min(after.megahertz, default=None),
                throttled=after.throttled,
            )
        )
        before = after
    return found


def slowdown(slices: list[Slice]) -> float:
    """Median latency of the last slice over that of the fastest one; above SLOWER the machine slows down."""
    return slices[-1].median_ms / min(part.median_ms for part in slices)
