"""What one run of `bebert bench` measures, and how long it may take: the full run, and `--quick`."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bebert_infer.errors import InputError
from bebert_infer.threads import granted_cores, thread_budget

LENGTHS = (16, 32, 64, 128, 256, 512)
BATCHES = (8, 32)
BATCH_TOKENS = 128  # throughput, operations, first answers and ratios are of sentences of this length
ROUNDS = 7


@dataclass(frozen=True)
class Settings:
    """Settings of one run.

    lengths   : tokens of one sentence, latency;   batches : sentences of BATCH_TOKENS at a time, throughput
    threads   : budgets, one after the other;      rounds  : turns of every engine for latency
    batch_rounds : turns for throughput;           processes : fresh processes of each engine, medians are shown
    profile_rounds : passes for the time of every operation
    shape_seconds  : no further round of one batch and length after this time
    prepare_seconds, total_seconds : after this time no further peer is made, nothing further is measured
    """

    lengths: tuple[int, ...] = LENGTHS
    batches: tuple[int, ...] = BATCHES
    threads: tuple[int, ...] = (1,)
    rounds: int = ROUNDS
    batch_rounds: int = 3
    processes: int = 3
    profile_rounds: int = 20
    shape_seconds: float = float("inf")
    prepare_seconds: float = float("inf")
    total_seconds: float = float("inf")
    quick: bool = False
    peers: bool = True
    peers_folder: Path | None = None
    data: Path | None = None
    full_precision: Path | None = None
    begun: float = field(default_factory=time.monotonic)

    @property
    def batch_tokens(self) -> int:
        """BATCH_TOKENS, or the longest length below it that was asked for."""
        return max((length for length in self.lengths if length <= BATCH_TOKENS), default=min(self.lengths))

    def spent(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self.begun

    def as_json(self) -> dict[str, Any]:
        """The settings that a record keeps."""
        return {
            "lengths": list(self.lengths),
            "batches": list(self.batches),
            "batch_tokens": self.batch_tokens,
            "threads": list(self.threads),
            "rounds": self.rounds,
            "quick": self.quick,
            "data": None if self.data is None else self.data.name,
        }


def make_settings(
    *,
    quick: bool = False,
    lengths: str | None = None,
    threads: str | None = None,
    rounds: int | None = None,
    **others: Any,
) -> tuple[Settings, list[str]]:
    """Settings of a full or quick run from what a user wrote, and sentences about what is left out.

    A quick run takes three lengths, one batch and few rounds, and gives up what would not fit into three minutes on two
    quiet cores: preparing further peers after a minute, and after two and a half what is then still to be measured.
    Raises InputError.
    """
    budgets, notes = _budgets(threads)
    values: dict[str, Any] = {"threads": budgets, "quick": quick, **others}
    if quick:
        values |= {
            "lengths": (16, 64, 128),
            "batches": (8,),
            "rounds": 4,
            "batch_rounds": 1,
            "processes": 1,
            "profile_rounds": 5,
            "shape_seconds": 8.0,
            "prepare_seconds": 60.0,
            "total_seconds": 155.0,
        }
    if lengths is not None:
        values["lengths"] = tuple(sorted(set(_numbers("--tokens", lengths))))
    if rounds is not None:
        values["rounds"] = values["batch_rounds"] = rounds
    return Settings(**values), notes


def _budgets(text: str | None) -> tuple[tuple[int, ...], list[str]]:
    """Thread budgets in their order. Those above the cores are left out, and an error if there is no other."""
    if text is None:
        return (thread_budget()[0],), []
    wanted = list(dict.fromkeys(_numbers("--threads", text)))
    cores, source = granted_cores()
    fitting = tuple(number for number in wanted if number <= cores)
    above = ", ".join(str(number) for number in wanted if number > cores)
    where = f"this process may use {cores} core{'s' if cores > 1 else ''} ({source})"
    if not fitting:
        raise InputError(f"--threads is {above}; {where}: pass at most that")
    return fitting, [f"--threads {above} is left out: {where}"] if above else []


def _numbers(option: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InputError(f'{option} is "{text}"; accepted are whole numbers of at least 1 with commas, like 1,2')
    return numbers
