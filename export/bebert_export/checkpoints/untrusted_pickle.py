"""Read checkpoints that somebody else made: a pickle only in a process of its own, under limits, and never its code.

The child (`unpickle_child.py`) reads with `weights_only`, checks names, dtypes and sizes, and hands the tensors back
as a safetensors file in a temporary folder. If it dies, whatever the reason, the parent answers with one sentence.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bebert_export.checkpoints import unpickle_child
from bebert_infer.errors import DataError, InputError
from bebert_kernels.child_python import OTHER_PYTHON, child_environment, python_command

MEMORY, SECONDS = "BEBERT_PICKLE_MEMORY", "BEBERT_PICKLE_SECONDS"
PICKLE = "pytorch_model.bin"
# Not from a file of this package: its folder, whose names are common words, is no place to look for modules.
_CHILD = "import runpy; sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
NEEDS_PYTHON = "is a pickle, which only another process of this Python may read"
INSTEAD = "run bebert with a Python, or save the tensors as model.safetensors"
# Real time beside the CPU time: torch is imported first, from a cold disk on a slow board.
PATIENCE = 120


@dataclass(frozen=True)
class ProcessLimits:
    """What the process that reads a pickle may use, beyond what it takes to start.

    memory  : MiB; None is 4 times the file and 512 more
    seconds : of CPU time
    """

    memory: int | None = None
    seconds: int = 120

    @classmethod
    def from_environment(cls) -> "ProcessLimits":
        """As BEBERT_PICKLE_MEMORY and BEBERT_PICKLE_SECONDS say. Raises InputError."""
        found = {}
        for field, name in (("memory", MEMORY), ("seconds", SECONDS)):
            text = os.environ.get(name)
            if text:
                if not text.isdecimal() or int(text) < 1:
                    raise InputError(f'{name} is "{text}"; accepted are whole numbers of at least 1')
                found[field] = int(text)
        return cls(**found)

    def mebibytes(self, file: Path) -> int:
        """Memory for one file, MiB."""
        return self.memory or 4 * (file.stat().st_size // 2**20) + 512


def read_pickle(file: Path, limits: ProcessLimits | None = None) -> dict[str, Tensor]:
    """Return the tensors of a pickled state dict; runs no code from it. Raises DataError without the file's name."""
    with tempfile.TemporaryDirectory(prefix="bebert-") as folder:
        target = Path(folder) / "model.safetensors"
        _convert(file, target, limits or ProcessLimits.from_environment())
        return load_file(target)


@contextmanager
def without_pickles(folder: Path) -> Iterator[Path]:
    """Give a folder with the same config and weights, but no pickle: `folder` itself, or a temporary one.

    Weights of several pickles are not accepted. Raises DataError.
    """
    if any(folder.glob("*.safetensors")) or not (folder / PICKLE).is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="bebert-") as temporary:
        shutil.copy(folder / "config.json", temporary)
        try:
            _convert(folder / PICKLE, Path(temporary) / "model.safetensors", ProcessLimits.from_environment())
        except DataError as error:
            raise DataError(f"{folder / PICKLE}: {error}") from None
        yield Path(temporary)


def check_finite(model: nn.Module, folder: Path) -> None:
    """Raise DataError if a weight is NaN or infinite: training from it would yield nothing."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise DataError(f"{folder} has NaN or infinity in {name}; fetch the model again")


def _convert(file: Path, target: Path, limits: ProcessLimits) -> None:
    memory = limits.mebibytes(file)
    said = target.with_name("said")
    try:
        command = python_command(
            _CHILD, unpickle_child.__file__, str(file.resolve()), str(target), str(memory * 2**20), str(limits.seconds)
        )
        with said.open("wb") as output:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env=child_environment(OMP_NUM_THREADS="1"),
                timeout=limits.seconds + PATIENCE,
            ).returncode
    except subprocess.TimeoutExpired:
        code = -signal.SIGXCPU
    except OSError as error:
        raise DataError(f"{NEEDS_PYTHON}: {error}; {INSTEAD}") from None
    with said.open("rb") as output:
        reason = output.read(600).decode("utf-8", "replace")
    if code == 0 and target.is_file():
        return
    reason = "".join(letter if letter.isprintable() else " " for letter in reason)
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        raise DataError(f"takes more than {limits.seconds} s to read; raise {SECONDS} if you trust it")
    if reason == "memory" or code in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGXFSZ):
        raise DataError(
            f"takes more than {memory} MiB to read, from {file.stat().st_size:,} bytes; raise {MEMORY} if you trust it"
        )
    if code == OTHER_PYTHON:
        raise DataError(f"{NEEDS_PYTHON}: sys.executable is another one, {sys.executable}; {INSTEAD}")
    if code == unpickle_child.REFUSED and reason:
        raise DataError(reason)
    raise DataError(f"ended the process that read it with code {code}; fetch it again")
