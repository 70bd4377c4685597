"""The figures of log.jsonl once more, as curves for TensorBoard."""

from pathlib import Path
from typing import Any

from bebert_infer.errors import MissingExtraError


class Board:
    """Writes event files under a folder, which appears with the first figure. Raises MissingExtraError at once."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            raise MissingExtraError(
                '--tensorboard needs the package "tensorboard": pip install "bebert-infer[train]"'
            ) from None
        self._folder, self._open = folder, SummaryWriter
        self._writer: Any = None

    def add(self, stage: str, step: int, scalars: dict[str, float]) -> None:
        """Figures of optimizer step `step` of a stage; on disk when this returns."""
        if self._writer is None:
            self._writer = self._open(str(self._folder))
        for name, value in scalars.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)
        self._writer.flush()
