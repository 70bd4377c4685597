"""Starts of all engines in turn, each in an environment with only what it needs; medians count.

The first start in an environment is not timed: it writes the byte code that is missing. `import numpy`, in one with
NumPy alone, takes its turns as well: what no user of NumPy can be quicker than.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bebert_infer.bench.engines import PACKED, Engine, EngineGroup
from bebert_infer.bench.environment import Environment, make_environment
from bebert_infer.bench.process import Question, engine_command, numpy_command, start
from bebert_infer.bench.settings import Settings
from bebert_infer.errors import BebertError

Status = Callable[[str], AbstractContextManager[Any]]
Command = Callable[[Environment], list[str]]
FLOOR = "import numpy"


@dataclass
class Starts:
    """What was found.

    figures : (group, engine) -> fields of the record;  import_numpy_s : seconds of the floor
    notes   : in words, why an engine has no figures
    """

    figures: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    import_numpy_s: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class _Program:
    """What takes turns: its group and name, the requirements of its environment, its command there, its figures."""

    group: str
    name: str
    needs: tuple[str, ...]
    command: Command
    found: list[dict[str, Any]] = field(default_factory=list)
    failed: bool = False

    @property
    def words(self) -> str:
        return f"{self.group}, start of {self.name}" if self.group else f"start of {self.name}"


class _Environments:
    """Environments by their requirements, made when the first engine asks; engines share them, as PyTorch's do."""

    def __init__(self, folder: Path, status: Status) -> None:
        self._folder, self._status = folder, status
        self._made: dict[tuple[str, ...], Environment | BebertError] = {}

    def get(self, needs: tuple[str, ...]) -> tuple[Environment, bool]:
        """An environment, and whether it is new. Raises BebertError, each time anew, where it cannot be made."""
        new = needs not in self._made
        if new:
            with self._status(f"an environment with {', '.join(needs)} alone"):
                try:
                    self._made[needs] = make_environment(needs, self._folder / str(len(self._made)))
                except BebertError as error:
                    self._made[needs] = error
        made = self._made[needs]
        if isinstance(made, BebertError):
            raise made
        return made, new

    def install(self, needs: tuple[str, ...]) -> dict[str, Any]:
        """Fields of the record about an environment that was made."""
        made = self._made.get(needs)
        if not isinstance(made, Environment):
            return {}
        return {"install_bytes": made.bytes, "install_packages": list(made.packages)}


def measure_starts(
    engines: Iterable[Engine],
    groups: list[EngineGroup],
    asked: dict[str, Question],
    settings: Settings,
    status: Status,
    late: Callable[[str], bool],
) -> Starts:
    """Start every engine `settings.processes` times, ours first, then the peers of the last group.

    asked : what the engines of a group answer
    late  : whether there is no time left for what it is told
    """
    places = [group.name for group in groups]
    ordered = sorted(engines, key=lambda engine: (engine.kind != PACKED, -places.index(engine.group)))
    programs = [_Program("", FLOOR, ("numpy",), numpy_command)]
    programs += [_program(engine, asked[engine.group], settings.threads[0]) for engine in ordered]
    found = Starts()
    with tempfile.TemporaryDirectory(prefix="bebert-bench-", ignore_cleanup_errors=True) as folder:
        environments = _Environments(Path(folder), status)
        for number in range(settings.processes):
            for program in programs[number:] + programs[:number]:
                if program.failed or late(program.words):
                    continue
                try:
                    _take_turn(program, environments, status)
                except BebertError as error:
                    program.failed = True  # it would say the same again
                    found.notes.append(f"{program.words}: {error}")
    for program in programs:
        medians = _medians(program.found)
        if program.group:
            found.figures[program.group, program.name] = environments.install(program.needs) | medians
        else:
            found.import_numpy_s = medians.get("first_answer_s")
    return found


def _program(engine: Engine, asked: Question, threads: int) -> _Program:
    return _Program(
        engine.group,
        engine.name,
        engine.runtime(),
        lambda environment: engine_command(engine, environment, asked, threads),
    )


def _take_turn(program: _Program, environments: _Environments, status: Status) -> None:
    """One timed start, after one that is not timed if the environment is new. Raises BebertError."""
    environment, new = environments.get(program.needs)
    command = program.command(environment)
    with status(program.words):
        if new:
            start(command)
        program.found.append(start(command))


def _medians(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure; none of those that the system does not tell."""
    first, *_ = figures or [{}]
    return {
        name: statistics.median(one[name] for one in figures) if first[name] is not None else None for name in first
    }
