"""Latency of several engines in one run: packed ensembles here, peers from `bebert_export.peers` where installed.

Method. Every round gives each engine one turn, in an order that rotates: a pause in which the threads of the engine
before fall asleep, one call that is not timed (it wakes threads and refills caches, as in a service that is called
again and again), then the timed calls. So whatever else the machine does falls on all engines alike. Medians count.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact import Artifact
from bebert_infer.config import Config
from bebert_infer.ensemble import Ensemble

PAUSE = 0.02  # seconds; the threads of a peer were seen to spin for up to 4 ms after a call
FULL_PRECISION = "fp32"
INT8 = "int8"


@dataclass(frozen=True)
class Engine:
    """Something that classifies one sentence.

    name : what tables show
    kind : "packed", "fp32", "bf16" or "int8"; ratios are taken against the fastest "fp32" and the fastest "int8"
    call : returns logits float[1, labels]
    """

    name: str
    kind: str
    call: Callable[[], NDArray]


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


def packed_engine(name: str, artifact: Artifact, ids: NDArray[np.int64], threads: int) -> Engine:
    """Return the packed ensemble of an artifact on these token ids, int64[1, T]."""
    ensemble = Ensemble(artifact, threads=threads)
    return Engine(name, "packed", lambda: ensemble.logits(ids))


def measure(
    calls: Mapping[str, Callable[[], Any]], rounds: int, *, calls_a_turn: int = 3, pause: float = PAUSE
) -> dict[str, list[float]]:
    """Give every call one turn a round, as the head of this file says; returns milliseconds of the timed calls."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for call in calls.values():
        call()  # compiles, loads, allocates
    for _ in range(rounds):
        for name in order:
            call = calls[name]
            time.sleep(pause)
            call()
            for _ in range(calls_a_turn):
                started = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - started))
        order = order[1:] + order[:1]
    return times


@dataclass(frozen=True)
class Row:
    """Figures of one engine; the ratios say how many times faster it is than the engine they are taken against."""

    name: str
    kind: str
    median_ms: float
    min_ms: float
    max_ms: float
    ratios: dict[str, float]


def compare(engines: list[Engine], times: Mapping[str, list[float]], baseline: str | None = None) -> list[Row]:
    """Return medians, and ratios of medians: against `baseline`, the fastest fp32 and the fastest int8 engine."""
    medians = {engine.name: statistics.median(times[engine.name]) for engine in engines}
    against = {}
    if baseline in medians:
        against[baseline] = medians[baseline]
    for kind, title in ((FULL_PRECISION, "fastest fp32"), (INT8, "fastest int8")):
        of_kind = [medians[engine.name] for engine in engines if engine.kind == kind]
        if of_kind:
            against[title] = min(of_kind)
    rows = []
    for engine in engines:
        values, median = times[engine.name], medians[engine.name]
        ratios = {title: round(other / median, 2) for title, other in against.items()}
        rows.append(
            Row(engine.name, engine.kind, round(median, 3), round(min(values), 3), round(max(values), 3), ratios)
        )
    return rows
