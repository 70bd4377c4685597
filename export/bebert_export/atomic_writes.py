"""Write files so that they only ever appear whole, whatever kills the process."""

from collections.abc import Callable
from pathlib import Path

from bebert_export.distributed import main_writes
from bebert_infer import atomic_files


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write(temporary path beside `path`), then move the result to `path`; an old folder is replaced.

    Of several processes the main one writes, and all of them go on when the file is there.
    """
    main_writes(lambda: _replace(path, write))


def write_json(path: Path, value: object) -> None:
    """Write readable JSON atomically."""
    main_writes(lambda: atomic_files.write_json(path, value))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    with atomic_files.staging(path) as temporary:
        write(temporary)
