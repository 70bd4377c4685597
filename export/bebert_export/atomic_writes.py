"""Write files so that they only ever appear whole, whatever kills the process."""

import json
from collections.abc import Callable
from pathlib import Path

from bebert_export.distributed import main_writes
from bebert_infer.artifact.folder_swap import staging


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write(temporary path beside `path`), then move the result to `path`; an old folder is replaced.

    Of several processes the main one writes, and all of them go on when the file is there.
    """
    main_writes(lambda: _replace(path, write))


def write_json(path: Path, value: object) -> None:
    """Write readable JSON atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    with staging(path) as temporary:
        write(temporary)
