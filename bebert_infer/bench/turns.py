"""Interleaved timing: engines take turns in one process, so that what else the machine does falls on all alike.

Method. Every round gives each engine one turn, in an order that rotates: a pause in which the threads of the engine
before fall asleep, one call that is not timed (it wakes threads and refills caches, as in a service that is called
again and again), then the timed calls. Medians count, with the 10th and 90th percentile beside them.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.config import Config
from bebert_infer.measure.power import Reading, joules_between, read_energy

PAUSE = 0.02  # seconds; the threads of a peer were seen to spin for up to 4 ms after a call
LONG = 0.25  # seconds; a call as long as this wakes threads and fills caches by itself, and one a turn is enough
FULL_PRECISION = "fp32"
INT8 = "int8"
INT4 = "int4"  # weights; the other operand has 8 bits
PACKED_ONNX = "packed ONNX"  # our packed model, run by ONNX Runtime in place of our engine

Name = TypeVar("Name", bound=Hashable)
Call = Callable[[], Any]  # classifies what it was made for and returns logits float[B, labels]


@dataclass(frozen=True)
class Geometry:
    """Widths of the full-precision BERT that a packed model replaces."""

    layers: int = 12
    hidden: int = 768
    heads: int = 12
    intermediate: int = 3072
    vocabulary: int = 30522
    positions: int = 512
    labels: int = 2


def parent_geometry(config: Config) -> Geometry:
    """Return the full-precision BERT behind the first member: half-width members are widened to their parent."""
    member = config.members[0]
    widening = member.hidden_size / member.attention_size
    return Geometry(
        layers=member.num_hidden_layers,
        hidden=member.hidden_size,
        heads=round(member.num_attention_heads * widening),
        intermediate=round(member.intermediate_size * widening),
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        labels=config.num_labels,
    )


@dataclass
class Times:
    """Milliseconds of the timed calls of one engine; joules of them all, None where the machine has no counter."""

    ms: list[float] = field(default_factory=list)
    joules: float | None = None

    @property
    def joules_a_call(self) -> float | None:
        """Joules of one call on average."""
        return None if self.joules is None else self.joules / len(self.ms)


def take_turns(
    calls: Mapping[Name, Call],
    rounds: int,
    *,
    calls_a_turn: int = 3,
    pause: float = PAUSE,
    seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
    energy: Callable[[], Reading] = read_energy,
) -> dict[Name, Times]:
    """Give every call one turn a round, as the head of this file says.

    calls_a_turn : timed calls of a turn; an engine that takes longer than LONG has one call a turn, which is timed
    seconds      : begin no further round after this time; the first one is always finished
    """
    times = {name: Times() for name in calls}
    order = list(calls)
    long: dict[Name, bool] = {}
    for call in calls.values():
        call()  # compiles, loads, allocates
    begun = clock()
    for number in range(rounds):
        if number and clock() - begun > seconds:
            break
        for name in order:
            call, turn = calls[name], []
            time.sleep(pause)
            before, started = energy(), clock()
            call()
            first = clock() - started
            if long.setdefault(name, first > LONG):  # of its first turn, so that an engine is treated alike in all
                turn.append(first)
            else:
                before = energy()
                for _ in range(calls_a_turn):
                    started = clock()
                    call()
                    turn.append(clock() - started)
            joules = joules_between(before, energy())
            times[name].ms += [1e3 * one for one in turn]
            if joules is not None:
                times[name].joules = joules + (times[name].joules or 0.0)
        order = order[1:] + order[:1]
    return times


def measure(
    calls: Mapping[str, Call], rounds: int, *, calls_a_turn: int = 3, pause: float = PAUSE
) -> dict[str, list[float]]:
    """Milliseconds of the timed calls of every engine, after `take_turns`."""
    found = take_turns(calls, rounds, calls_a_turn=calls_a_turn, pause=pause)
    return {name: times.ms for name, times in found.items()}


def spread(milliseconds: list[float]) -> dict[str, Any]:
    """Median, 10th and 90th percentile (interpolated linearly) and how many calls they come from."""
    low, middle, high = np.percentile(milliseconds, (10, 50, 90))
    return {
        "median_ms": round(float(middle), 4),
        "p10_ms": round(float(low), 4),
        "p90_ms": round(float(high), 4),
        "calls": len(milliseconds),
    }


def random_tokens(vocabulary: int, batch: int, tokens: int) -> NDArray[np.int64]:
    """The same random token ids in every run, int64[batch, tokens]."""
    return np.random.default_rng(tokens).integers(0, vocabulary, (batch, tokens))
