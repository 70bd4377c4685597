"""The folder of one training run: its options, its finished stages and its log, safe against being killed.

A stage counts as finished if its file exists, and a file only ever appears whole (written beside its place,
then renamed). So a killed run, started again with the same options, goes on after its last finished stage.
"""

import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bebert_export.atomic_writes import write_atomically, write_json
from bebert_export.checkpoints.weights import check_shapes
from bebert_export.distributed import is_main, main_writes, processes
from bebert_export.pipeline.tensorboard import Board
from bebert_export.training.snapshots import Snapshots
from bebert_infer.errors import DataError, InputError, first_line

EARLIER = "start_from"  # copy of the student of another run that this one starts from (transfer.py)
# What is there before anything is trained; it goes if the next call has other options.
BEFORE = ("calibration", EARLIER)


class RunFolder:
    """Files of a run under `path`: options.json, log.jsonl, stages/<name>.safetensors.

    snapshot_seconds : between two snapshots of the running stage (snapshots.py); 0 keeps none
    tensorboard      : whether figures also go to <path>/tensorboard; raises MissingExtraError if it is not installed
    """

    def __init__(self, path: Path, snapshot_seconds: float = 0.0, tensorboard: bool = False) -> None:
        self.path, self._snapshot_seconds = path, snapshot_seconds
        self._options = path / "options.json"
        self._board = Board(path / "tensorboard") if tensorboard else None

    @contextmanager
    def claim(
        self, options: dict[str, Any], may_grow: tuple[str, ...] = (), console: Console | None = None
    ) -> Iterator[None]:
        """Start or resume a run with these options (JSON values; data files with their sha256), alone in the folder.

        may_grow : numbers that may be larger than the last time; what is finished is part of the larger run too
        console  : told when another process trains in the folder, which is waited for

        Raises InputError if the folder holds a run with other options that has begun to train, naming the first that
        differs, or if it is not empty and holds no run at all.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f'out is "{self.path}", which is a file; pass a folder')
        with self._alone(console or Console(quiet=True)) if is_main() else nullcontext():
            processes().wait_for_everyone()  # the main process has the folder
            others = self._check(options, may_grow)
            processes().wait_for_everyone()  # all have seen what was there before one of them writes
            main_writes(lambda: self._remove_leftovers(BEFORE if others else ()))
            write_json(self._options, options)
            yield

    def _check(self, options: dict[str, Any], may_grow: tuple[str, ...]) -> bool:
        """Raise InputError for a folder of another run; returns whether what is there is of other options."""
        stored = self.options()
        begun = self._begun()
        if stored is not None and begun:
            for name in sorted(stored.keys() | options.keys()):
                grows = name in may_grow and stored.get(name, math.inf) < options.get(name, 0)
                if stored.get(name) != options.get(name) and not grows:
                    raise InputError(
                        f"{self.path} holds a run with {name} {json.dumps(stored.get(name))}, this one has "
                        f"{json.dumps(options.get(name))}; repeat that one to resume, or take another folder"
                    )
        elif stored is None and any(entry.name[0] != "." for entry in self.path.iterdir()):
            raise InputError(f"{self.path} is not empty and holds no training run; choose another folder")
        return not begun and stored != options

    @contextmanager
    def _alone(self, console: Console) -> Iterator[None]:
        """Hold the lock of the folder until the block ends or the process dies: two would train every stage twice."""
        self.path.mkdir(parents=True, exist_ok=True)
        number = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(OSError):  # a file system that cannot lock folders
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    console.print(
                        f"another process trains in {self.path}; waiting for it", markup=False, soft_wrap=True
                    )
                    fcntl.flock(number, fcntl.LOCK_EX)
            yield
        finally:
            os.close(number)

    def options(self) -> dict[str, Any] | None:
        """The options with which the folder was claimed the last time, None if it holds no run."""
        return json.loads(self._options.read_text("utf-8")) if self._options.is_file() else None

    def has(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return self._file(stage).is_file()

    def check_numbered(self, name: str) -> None:
        """Raise InputError if of the stages name_0, name_1, … one is missing before a finished one."""
        found = sorted(
            int(number)
            for file in (self.path / "stages").glob(f"{name}_*.safetensors")
            if (number := file.stem.removeprefix(f"{name}_")).isdecimal()
        )
        if found != list(range(len(found))):
            gap = next(number for number in range(len(found)) if number not in found)
            raise InputError(
                f"{self.path / 'stages'} holds {name} {', '.join(map(str, found))} and lacks {gap}, from which those "
                f"behind it learned; put {name}_{gap}.safetensors back, or remove those behind it to train them anew"
            )

    def save(self, stage: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Finish a stage: its tensors and facts (JSON values) in one file."""
        whole: dict[str, Tensor] = {}
        places: set[int] = set()
        for name, tensor in tensors.items():
            whole[name] = tensor.detach().contiguous()
            if whole[name].data_ptr() in places:  # a shared step: the file format has no two names for one tensor
                whole[name] = whole[name].clone()
            places.add(whole[name].data_ptr())
        text = {"facts": json.dumps(facts)}
        write_atomically(self._file(stage), lambda temporary: save_file(whole, temporary, metadata=text))
        main_writes(self._remove_leftovers)

    def load(self, stage: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and facts of a finished stage. Raises DataError for a file that is damaged."""
        try:
            with safe_open(self._file(stage), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                return tensors, json.loads(file.metadata()["facts"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self._file(stage)} cannot be read ({first_line(error)}); delete it, and the same command makes "
                "that stage again"
            ) from None

    def load_into(self, student: nn.Module, stage: str, tensors: dict[str, Tensor]) -> None:
        """Put `stored_state` of the tensors of a stage into a student. Raises DataError if names or shapes differ."""
        check_shapes(self._file(stage), tensors, student.state_dict())
        student.load_state_dict(tensors)

    def snapshots(self, stage: str) -> Snapshots | None:
        """Where the running stage keeps its snapshots, None if it keeps none."""
        return Snapshots(self.path / "stages", stage, self._snapshot_seconds) if self._snapshot_seconds else None

    def log(self, **entry: Any) -> None:
        """Append one line to log.jsonl, with the time in seconds since 1970."""
        if not is_main():
            return
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **entry}) + "\n")

    def log_scalars(self, stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        """Log figures of optimizer step `step` of `steps` of a stage."""
        self.log(stage=stage, step=step, steps=steps, **scalars)
        if self._board is not None and is_main():
            self._board.add(stage, step, scalars)

    def _begun(self) -> bool:
        """Whether there is a finished stage or a snapshot of one that trains."""
        return any(entry.is_file() and entry.stem not in BEFORE for entry in (self.path / "stages").glob("*"))

    def _remove_leftovers(self, stages: tuple[str, ...] = ()) -> None:
        """Delete these stages, snapshots of finished ones, and half-written files of a process that was killed."""
        for stage in stages:
            self._file(stage).unlink(missing_ok=True)
        for entry in (self.path / "stages").glob(".*"):
            stage = entry.name.removeprefix(".running-").rsplit("-", 2)[0]
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name.startswith(".running-") and self.has(stage):
                entry.unlink()

    def _file(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.safetensors"
