"""Which baselines (peers) a run can have: their files, made or found again, and the pip line of what is missing."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bebert_infer.bench.engines import Engine, EngineGroup, peer_facts
from bebert_infer.bench.settings import Settings
from bebert_infer.errors import BebertError, ParityError, first_line
from bebert_infer.optional import load_export

UNUSED = 30 * 86400  # seconds after which files of other geometries and versions are removed from the cache
LEFT_OUT = "were not made in the time of --quick; `bebert bench` makes them and keeps them"


def find_peers(
    groups: list[EngineGroup], settings: Settings, folder: Path, status: Callable[[str], Any]
) -> tuple[dict[str, list[Engine]], dict[str, str]]:
    """The peers that can run here, by group, with their files made, and for each other one why it cannot.

    Peer by peer, so that a quick run that has no more time has the first ones in all groups.
    """
    registry = load_export("peers.engines")
    found: dict[str, list[Engine]] = {group.name: [] for group in groups}
    missing, workshops = {}, {}
    for name, peer in registry.PEERS.items():
        if reason := registry.missing(peer):
            missing[name] = reason
            continue
        for group in groups:
            if settings.spent() > settings.prepare_seconds:
                missing[name] = f"{group.name}: its files {LEFT_OUT}"
                continue
            with status(f"{group.name}: preparing {name}"):
                if group.name not in workshops:
                    module = load_export("peers.files", extra="bench")
                    workshops[group.name] = module.Workshop(
                        group.geometry, folder, group.full_precision, group.first_packed
                    )
                files = _files(peer, workshops[group.name])
            if isinstance(files, str):
                missing[name] = files
                continue
            facts = peer_facts(group, name, peer.kind, files, group.tokens(settings.batch_tokens))
            found[group.name].append(Engine(group.name, name, peer.kind, files, facts))
    return found, missing


def _files(peer: Any, workshop: Any) -> Path | str:
    """The folder of a peer, or why there is none.

    A peer is other people's software: whatever it raises costs its own row and not the run.
    """
    try:
        files: Path = workshop.files(peer)
        return peer.unavailable() or files
    except ParityError as error:
        return failure(error)
    except BebertError:
        raise
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> str:
    """An error of somebody else's software in one line."""
    return f"cannot run here: {type(error).__name__}: {first_line(error)}"


@contextmanager
def peers_folder(chosen: Path | None) -> Iterator[Path]:
    """Where files of peers are kept: the folder that was chosen, else the user's cache, else one that vanishes."""
    from bebert_kernels.private_folder import private_folder

    folder = None if chosen else private_folder("peers")[0]
    if chosen is not None:
        yield chosen
    elif folder is not None:
        _remove_unused(folder)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="bebert-bench-") as name:
            yield Path(name)


def _remove_unused(folder: Path) -> None:
    """Remove what no run has used for long; runs mark what they use by its time of change."""
    for entry in folder.iterdir():
        with suppress(OSError):
            if entry.is_dir() and not entry.is_symlink() and time.time() - entry.stat().st_mtime > UNUSED:
                shutil.rmtree(entry)


def mark_used(engines: Iterable[Engine]) -> None:
    """Say that the files of these engines are in use."""
    for engine in engines:
        with suppress(OSError):
            os.utime(engine.folder)
