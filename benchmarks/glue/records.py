"""Cells of the results page: which there are, the settings of each, and the records that were made."""

import json
import tomllib
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from bebert_export.data.tasks import find_task
from bebert_infer.errors import InputError

SETTINGS = Path(__file__).with_name("settings.toml")
NAME = "glue"  # of the file of records
# Options that only the full-precision stage has, and those that it has too. It is shared by all bases.
TEACHER_ONLY = ("teacher_epochs", "teacher_learning_rate", "vocabulary_size")
TEACHER_TOO = ("batch_size", "dropout", "max_length", "hold_out", "regression")
FILES = {
    "train": ("train.tsv", "train_subset.tsv"),
    "dev": ("dev.tsv", "dev_matched.tsv", "dev_subset.tsv"),
}


@dataclass(frozen=True, order=True)
class Cell:
    """One trained ensemble of the page; `encoder` and `base` are names of the settings file."""

    encoder: str
    task: str
    base: str
    distill: str
    seed: int

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return f"{self.encoder}-{self.task}-{self.base}-{self.distill}-{self.seed}"

    @property
    def shared_folder(self) -> str:
        """Name of the folder of its full-precision stage."""
        return f"{self.encoder}-{self.task}-full-{self.seed}"


def read_settings(path: Path = SETTINGS) -> dict[str, Any]:
    """Read the settings file. Raises InputError if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def planned(settings: dict[str, Any]) -> list[Cell]:
    """Cells of the page, in the order of the settings file."""
    names = list(Cell.__dataclass_fields__)
    return [Cell(*values) for grid in settings["cells"] for values in product(*(grid[name] for name in names))]


def first_task(settings: dict[str, Any], encoder: str) -> str | None:
    """The task that an encoder of the settings is fine-tuned on before the one of a cell; None for most."""
    tasks = {entry["name"]: entry["first_task"] for entry in settings.get("encoders", [])}
    return tasks.get(encoder)


def cell_options(settings: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """Options of `bebert train` for the members of a cell; the full-precision stage is not among them.

    Raises InputError if other examples are held out than in that stage, which would then have seen them.
    """
    options = {"base": cell.base} | _matching(settings, asdict(cell))
    held, before = options.get("hold_out"), teacher_options(settings, cell).get("hold_out")
    if held != before:
        raise InputError(
            f"hold_out of {cell.folder} is {held}, of its full-precision stage {before}; "
            "set it in an entry without base and distill"
        )
    return {name: value for name, value in options.items() if name not in TEACHER_ONLY}


def teacher_options(settings: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """Options of `bebert train` for the full-precision stage of an encoder and task."""
    options = _matching(settings, {"encoder": cell.encoder, "task": cell.task})
    return {name: value for name, value in options.items() if name in TEACHER_ONLY + TEACHER_TOO}


def _matching(settings: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Options of all entries whose conditions hold, later ones first; a condition on what is not known fails.

    A condition on the base holds for its name in the cell and for what an earlier entry has said that it is.
    """
    options: dict[str, Any] = {}
    known = {name: {value} for name, value in facts.items()}
    for entry in settings["settings"]:
        accepted = {
            name: set(values) if isinstance(values, list) else {values}
            for name, values in entry.get("when", {}).items()
        }
        if all(known.get(name, set()) & values for name, values in accepted.items()):
            options |= {name: value for name, value in entry.items() if name != "when"}
            if "base" in known and "base" in entry:
                known["base"].add(entry["base"])
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def find_file(data: Path, task: str, split: str) -> Path:
    """The TSV of a task's split below a GLUE folder. Raises InputError if there is none."""
    for name in FILES[split]:
        if (data / task / name).is_file():
            return data / task / name
    raise InputError(f"{data / task} has no {' or '.join(FILES[split])}; pass --data the folder of the unpacked tasks")


def main_metric(task: str) -> str:
    """Name of the main metric of a task by its GLUE name, such as SST-2. Raises InputError for an unknown task."""
    return find_task(task.lower().replace("-", "")).metrics[0]


def read_records(folder: Path) -> dict[Cell, dict[str, Any]]:
    """The last record of each cell, of those with the most members."""
    file = folder / f"{NAME}.jsonl"
    found: dict[Cell, dict[str, Any]] = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in lines:
        record = json.loads(line)
        cell = Cell(**record["cell"])
        if cell not in found or record["options"]["members"] >= found[cell]["options"]["members"]:
            found[cell] = record
    return found
