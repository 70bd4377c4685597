"""From records to figures: one measure of one group of cells, by task, over seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from glue.records import Cell, cell_options, planned

Record = dict[str, Any]
Measure = Callable[[Record], float | None]


@dataclass(frozen=True, order=True)
class CellGroup:
    """Cells that differ in task and seed only."""

    encoder: str
    base: str
    distill: str


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over `seeds` seeds; both None without any, deviation None with one."""

    mean: float | None
    std: float | None
    seeds: int

    def text(self, sign: bool = False, digits: int = 1) -> str:
        """`52.1 ± 0.8`, without deviation `52.1`, without anything `–`."""
        if self.mean is None:
            return "–"
        number = f"{self.mean:{'+' if sign else ''}.{digits}f}"
        return number if self.std is None else f"{number} ± {self.std:.{digits}f}"


def spread(values: list[float]) -> Spread:
    """Mean and deviation of what was measured."""
    return Spread(
        mean(values) if values else None,
        stdev(values) if len(values) > 1 else None,
        len(values),
    )


class Summary:
    """Records of the planned cells; a cell without a record has no value in any measure, a group without is not shown.

    A record of a run that was asked for fewer members than the page shows counts as missing.
    """

    def __init__(self, records: dict[Cell, Record], settings: dict[str, Any]) -> None:
        cells = planned(settings)
        self.settings, self.report = settings, settings["report"]
        fit = {cell for cell, record in records.items() if record["options"]["members"] >= self.report["members"]}
        self.records = {cell: records[cell] for cell in cells if cell in fit}
        groups = dict.fromkeys(CellGroup(cell.encoder, cell.base, cell.distill) for cell in cells)
        self.planned = {group: [cell for cell in cells if _in(cell, group)] for group in groups}
        self.groups = [group for group in groups if any(_in(cell, group) for cell in self.records)]

    def tasks(self, group: CellGroup) -> list[str]:
        """Planned tasks of a group."""
        return list(dict.fromkeys(cell.task for cell in self.planned[group]))

    def base(self, group: CellGroup) -> str:
        """The base of `bebert train` behind a base of the settings, which may have a name of its own."""
        return cell_options(self.settings, self.planned[group][0])["base"]

    def is_subset(self, group: CellGroup, task: str) -> bool:
        """Whether a file behind the figures is a sample of the official one, as its name says."""
        records = [record for cell, record in self.records.items() if _in(cell, group) and cell.task == task]
        return any("subset" in record["data"][split]["file"] for record in records for split in ("train", "dev"))

    def by_seed(self, group: CellGroup, task: str, measure: Measure) -> dict[int, float]:
        """A measure of each seed that has it."""
        found = {
            cell.seed: measure(record)
            for cell, record in self.records.items()
            if _in(cell, group) and cell.task == task
        }
        return {seed: value for seed, value in sorted(found.items()) if value is not None}

    def shared(self, groups: list[CellGroup], measure: Measure) -> Measure:
        """A measure of those tasks and seeds alone that all groups have, so that like is compared with like."""

        def known(record: Record) -> bool:
            task, seed = record["cell"]["task"], record["cell"]["seed"]
            return all(seed in self.by_seed(group, task, measure) for group in groups)

        return lambda record: measure(record) if known(record) else None

    def of_task(self, group: CellGroup, task: str, measure: Measure) -> Spread:
        """Mean and deviation over the seeds of one task."""
        return spread(list(self.by_seed(group, task, measure).values()))

    def measured(self, group: CellGroup, measure: Measure) -> list[str]:
        """Tasks that have a value for at least one seed."""
        return [task for task in self.tasks(group) if self.by_seed(group, task, measure)]

    def average(self, group: CellGroup, measure: Measure, tasks: list[str] | None = None) -> Spread:
        """Mean over tasks (default: all measured) of each seed that all of them have; its mean and deviation."""
        tasks = self.measured(group, measure) if tasks is None else tasks
        rows = [self.by_seed(group, task, measure) for task in tasks]
        seeds = set.intersection(*(set(row) for row in rows)) if rows else set()
        return spread([mean(row[seed] for row in rows) for seed in sorted(seeds)])

    # Measures

    def rule(self, record: Record) -> str:
        """The rule of the page for the kind of task; never chosen by scores."""
        return self.report["regression_rule" if "median" in record["ensembles"] else "rule"]

    def prefix(self, count: int | None = None) -> Measure:
        """Score of the ensemble of the first `count` members (default: that of the page)."""
        wanted = count or self.report["members"]
        return lambda record: self._first(record, record["ensembles"][self.rule(record)], wanted)

    def curve(self) -> dict[int, Measure]:
        """Sizes up to that of the page, which all records have, and their scores."""
        return {size: self.prefix(size) for size in self.report["sizes"] if size <= self.report["members"]}

    def larger(self, group: CellGroup) -> dict[Cell, Record]:
        """Records of ensembles with more members than the page's."""
        return {
            cell: record
            for cell, record in self.records.items()
            if _in(cell, group) and record["options"]["members"] > self.report["members"]
        }

    def _first(self, record: Record, entries: list[Any], count: int) -> Any:
        """Entry of the first `count` members; of all if the boosting ended before, None if fewer were asked for."""
        return entries[min(count, len(entries)) - 1] if record["options"]["members"] >= count else None

    @staticmethod
    def full(record: Record) -> float:
        """Score of the full-precision model."""
        return record["full_precision"]

    @staticmethod
    def single(record: Record) -> float:
        """Score of the single binary model: member 0, trained on unweighted examples."""
        return record["members"][0]

    def gap(self, record: Record) -> float | None:
        """Ensemble minus full precision."""
        return _minus(self.prefix()(record), self.full(record))

    def gain(self, record: Record) -> float | None:
        """Ensemble minus single model."""
        return _minus(self.prefix()(record), self.single(record))

    def noise_single(self, sigma: float) -> Measure:
        """Deviation of the score of member 0 over noise seeds."""
        return lambda record: _level(record, sigma)["members"][0]["std"]

    def noise_members(self, sigma: float) -> Measure:
        """The same, mean of the members of the page's ensemble."""
        wanted = self.report["members"]
        return lambda record: mean(entry["std"] for entry in _level(record, sigma)["members"][:wanted])

    def noise_ensemble(self, sigma: float, count: int | None = None) -> Measure:
        """Deviation of the score of the first `count` members (default: the page's ensemble) over noise seeds."""

        def measure(record: Record) -> float | None:
            rows = _level(record, sigma)["ensembles"][self.rule(record)]
            entry = self._first(record, rows, count or self.report["members"])
            return None if entry is None else entry["std"]

        return measure

    def expected_change(self, record: Record) -> float:
        """What the alphas let expect of the deviation under noise, ensemble against one member, in %.

        Of N equal members: an accuracy counts the rows that noise pushes over a threshold, so its deviation falls by
        N^(1/4); that of a correlation, which has no threshold, by N^(1/2).
        """
        equal = equal_members(record["alphas"][: self.report["members"]])
        return 100 * (equal ** (-1 / 2 if "median" in record["ensembles"] else -1 / 4) - 1)

    def full_precision_bytes(self, group: CellGroup) -> int:
        """Bytes of the group's full precision, the most if tasks differ: how large its encoder is."""
        return max((r["bytes"]["full_precision"] for cell, r in self.records.items() if _in(cell, group)), default=0)

    def seconds(self, record: Record) -> float:
        """Training seconds of the students of the page's ensemble, full precision not included."""
        return record["seconds"]["students"] - sum(record["seconds"]["members"][self.report["members"] :])

    def whole_run(self, record: Record) -> float | None:
        """Seconds of the whole run after full precision; None if it was resumed or made another number of members."""
        return record["seconds"]["whole_run"] if record["options"]["members"] == self.report["members"] else None


def change(before: Spread, after: Spread) -> float | None:
    """Change of a mean in %, None where there is nothing to compare."""
    if before.mean is None or after.mean is None or before.mean == 0:
        return None
    return 100 * (after.mean / before.mean - 1)


def equal_members(alphas: Sequence[float]) -> float:
    """How many members of equal weight average independent noise as those of these alphas do."""
    return sum(alphas) ** 2 / sum(alpha**2 for alpha in alphas)


def _in(cell: Cell, group: CellGroup) -> bool:
    return (cell.encoder, cell.base, cell.distill) == (group.encoder, group.base, group.distill)


def _level(record: Record, sigma: float) -> Record:
    return next(level for level in record["noise"] if level["sigma"] == sigma)


def _minus(one: float | None, other: float) -> float | None:
    return None if one is None else one - other
