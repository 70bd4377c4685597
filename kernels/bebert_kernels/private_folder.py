"""A folder that only this user can enter, for what is kept between processes: compiled kernels, measured rates.

What is read there decides what later processes run, so the folder has to be ours alone: it is created with mode 0700,
owner and mode are checked, and where that fails there is none.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

_DAY = 24 * 60 * 60


def private_folder(name: str = "", *, create: bool = True) -> tuple[Path | None, str]:
    """The folder of that name, created if need be, or None, and in words: where it is or why there is none.

    It lies in $BEBERT_CACHE_DIR, else $XDG_CACHE_HOME/bebert-infer, else ~/.cache/bebert-infer; without a name it is
    that folder itself.
    create : whether to create it; else there is None where it does not exist
    """
    try:
        if chosen := os.environ.get("BEBERT_CACHE_DIR"):
            base = Path(chosen)
        elif chosen := os.environ.get("XDG_CACHE_HOME"):
            base = Path(chosen) / "bebert-infer"
        else:
            base = Path.home() / ".cache" / "bebert-infer"
        base = base.absolute().resolve()
        directory = base / name
        if not create and not directory.is_dir():
            return None, f"there is no {directory}"
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        for folder in (base, directory):
            status = folder.stat()
            if status.st_uid != os.getuid():
                return None, f"{folder} belongs to user {status.st_uid}; it must be yours"
            if status.st_mode & 0o077:
                return None, f"{folder} is open to others (mode {status.st_mode & 0o777:o}, not 700); chmod go= it"
        if time.time() - status.st_mtime > _DAY:  # a mark that the folder is in use
            with suppress(OSError):
                os.utime(directory)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        return None, f"no folder can be made: {error}"
    return directory, str(directory)
