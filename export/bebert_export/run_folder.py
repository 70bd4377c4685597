"""The folder of one training run: its options, its finished stages and its log, safe against being killed.

A stage counts as finished if its file exists, and a file only ever appears whole (written beside its place,
then renamed). So a killed run, started again with the same options, goes on after its last finished stage.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bebert_infer.errors import InputError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write(temporary path beside `path`), then move the result to `path`; an old folder is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        write(temporary)
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write readable JSON atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8"))


class RunFolder:
    """Files of a run under `path`: options.json, log.jsonl, stages/<name>.safetensors."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, options: dict[str, Any]) -> None:
        """Start or resume a run with these options (JSON values; data files with their sha256).

        Raises InputError if the folder holds a run with other options, naming the first that differs, or
        if it is not empty and holds no run at all.
        """
        stored_at = self.path / "options.json"
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f'out is "{self.path}", which is a file; pass a folder')
        if stored_at.is_file():
            stored = json.loads(stored_at.read_text("utf-8"))
            for name in sorted(stored.keys() | options.keys()):
                if stored.get(name) != options.get(name):
                    raise InputError(
                        f"{self.path} holds a run with {name} {json.dumps(stored.get(name))}, this one has "
                        f"{json.dumps(options.get(name))}; repeat that one to resume, or take another folder"
                    )
        elif self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise InputError(f"{self.path} is not empty and holds no training run; choose another folder")
        else:
            write_json(stored_at, options)

    def has(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return self._file(stage).is_file()

    def save(self, stage: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Finish a stage: its tensors and facts (JSON values) in one file."""
        whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        text = {"facts": json.dumps(facts)}
        write_atomically(self._file(stage), lambda temporary: save_file(whole, temporary, metadata=text))

    def load(self, stage: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and facts of a finished stage."""
        with safe_open(self._file(stage), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return tensors, json.loads(file.metadata()["facts"])

    def log(self, **entry: Any) -> None:
        """Append one line to log.jsonl, with the time in seconds since 1970."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **entry}) + "\n")

    def _file(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.safetensors"
