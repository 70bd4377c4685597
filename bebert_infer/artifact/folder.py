"""A model folder on disk: `config.json`, `model.safetensors`, `tokenizer.json`, `README.md`.

Reading validates everything before anything is used, and names all faults in one error. No byte of a folder is
ever executed, and no path in it is followed (`safe_file.py` says which links are). Writing is atomic and
reproducible byte for byte.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.config import (
    FORMAT,
    FORMAT_VERSION,
    Config,
    expected_tensors,
    tensor_totals,
)
from bebert_infer.artifact.safe_file import read_bytes
from bebert_infer.artifact.strict_json import read_json
from bebert_infer.artifact.tensors import kind_and_shape, read_whole, split_tensors
from bebert_infer.artifact.tokenizer_check import MAX_BYTES as MAX_TOKENIZER_BYTES
from bebert_infer.artifact.tokenizer_check import check_tokenizer
from bebert_infer.artifact.values import value_faults
from bebert_infer.errors import MissingModelError, ModelFormatError

CONFIG, TENSORS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"
FILES = (CONFIG, TENSORS, TOKENIZER, CARD)  # all that a model folder has
# A member takes 3 KB and 80 values in the config, and 650 tensors where it has 12 layers of two branches.
MAX_CONFIG_BYTES = 4 * 2**20
MAX_CONFIG_VALUES = 2**18
MAX_TENSORS = 2**16
READS = 20
Tensors = dict[str, NDArray]


@dataclass(frozen=True)
class Artifact:
    """A model folder that has passed every check. tokenizer_json is None where the model takes token ids only."""

    path: Path
    config: Config
    tensors: Tensors
    tokenizer_json: str | None


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read and check `config.json` of a folder. Raises ModelFormatError with all faults."""
    folder = Path(path)
    with _naming_repository(folder):
        return _read_config(folder)


def _read_config(folder: Path) -> Config:
    file = folder / CONFIG
    if not _exists(folder):
        raise MissingModelError(
            f'there is no model folder "{folder}"; pass the folder that holds {CONFIG}, '
            'or the name of a model on the hub, like "owner/name"'
        )
    if not _exists(file):
        raise MissingModelError(
            f'"{folder}" is no bebert model: it has no {CONFIG}; make one with `bebert convert` or `bebert train`'
        )
    head = read_json(read_bytes(file, MAX_CONFIG_BYTES), file, MAX_CONFIG_VALUES)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ModelFormatError(
            f'{file} does not say "format": "{FORMAT}", so this is no packed model; '
            "a training checkpoint becomes one with `bebert convert`"
        )
    if head.get("format_version") != FORMAT_VERSION:
        raise ModelFormatError(
            f"{file} has format_version {str(head.get('format_version')):.40}; this release reads {FORMAT_VERSION}: "
            "upgrade bebert-infer or export the model again"
        )
    try:
        config = msgspec.convert(head, Config)
    except msgspec.ValidationError as error:
        raise ModelFormatError(f"{file}: {error}") from None
    _refuse(file, config.faults())
    count, size = tensor_totals(config)
    if count > MAX_TENSORS or size >= config.tensors_bytes:
        # Found before anything of that size is made: 1,000 members of 1,000 layers are quickly written down.
        raise ModelFormatError(
            f"{file} asks for {count} tensors of {size} bytes in all; accepted are at most {MAX_TENSORS} tensors, and "
            f"fewer bytes than the {config.tensors_bytes} of tensors_bytes"
        )
    return config


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read a model folder and check every tensor against the config. Raises ModelFormatError with all faults.

    A folder that a writer exchanges for another meanwhile is read again: its files belong together.
    """
    folder = Path(path)
    for _ in range(READS):
        before = _identity(folder)
        try:
            with _naming_repository(folder):
                artifact = _read(folder)
        except ModelFormatError:
            if before == _identity(folder):
                raise
        else:
            # Without this the tokenizer, which has no digest, could be that of the new model.
            if before == _identity(folder):
                return artifact
    raise ModelFormatError(f'"{folder}" was replaced by another model {READS} times while it was read; try again later')


def _identity(folder: Path) -> tuple[int, ...] | None:
    """What tells a folder from one that took its name: the inode, and the time, for inodes are used again."""
    try:
        found = folder.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


@contextmanager
def _naming_repository(folder: Path) -> Iterator[None]:
    """Faults of a folder in a hub cache also say which repository it is of, and how to get it anew."""
    try:
        yield
    except ModelFormatError as error:
        repository = folder.absolute().parent.parent
        if folder.absolute().parent.name != "snapshots" or not repository.name.startswith("models--"):
            raise
        name = repository.name.removeprefix("models--").replace("--", "/")
        raise type(error)(
            f'{error}; these files are revision {folder.name} of "{name}" in the hub cache: if the hub has better, '
            f'remove "{repository}" and load the model again'
        ) from None


def _read(folder: Path) -> Artifact:
    config = _read_config(folder)
    file = folder / TENSORS
    if not _exists(file):
        raise ModelFormatError(f'"{folder}" has a {CONFIG} but no {TENSORS}; copy the whole folder')
    raw, digest = read_whole(file, config.tensors_bytes)
    if digest != config.tensors_sha256:
        raise ModelFormatError(
            f"{file} has sha256 {digest}, tensors_sha256 in {CONFIG} says {config.tensors_sha256:.80}: fetch it again"
        )
    tensors, faults = split_tensors(raw, file, expected_tensors(config))
    # Where the two files disagree, either may be the damaged one: the message names both.
    _refuse(file, faults, beside=f" beside its {CONFIG}")
    _refuse(file, value_faults(tensors, config), beside=f" beside its {CONFIG}")
    return Artifact(folder, config, tensors, None if config.tokenizer is None else _read_tokenizer(folder, config))


def _read_tokenizer(folder: Path, config: Config) -> str:
    file = folder / TOKENIZER
    if not _exists(file):
        raise ModelFormatError(f'"{folder}" has no {TOKENIZER}, but {CONFIG} has a tokenizer; copy the whole folder')
    raw = read_bytes(file, MAX_TOKENIZER_BYTES)
    check_tokenizer(raw, file, config.vocab_size, config.type_vocab_size)
    said, digest = config.tokenizer and config.tokenizer.sha256, hashlib.sha256(raw).hexdigest()
    if said is not None and said != digest:
        raise ModelFormatError(
            f"{file} has sha256 {digest}, tokenizer.sha256 in {CONFIG} says {said:.80}: it is of another model, or was "
            "changed; fetch it again"
        )
    return raw.decode()


def _exists(path: Path) -> bool:
    """Whether a name is there, be it a link that leads nowhere."""
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL in the name
        return False


def _refuse(file: Path, faults: list[str], beside: str = "") -> None:
    if faults:
        shown = faults[:20] + ([f"… and {len(faults) - 20} more"] if len(faults) > 20 else [])
        raise ModelFormatError(f"{file} is not valid{beside}: " + "; ".join(shown))


def finish_config(config: Config, tensors: Tensors) -> tuple[Config, bytes]:
    """Return the config with size and sha256 of the tensors filled in, and the bytes of `model.safetensors`.

    Raises ModelFormatError for a config that could not be read again, or if the tensors are not exactly those that it
    asks for.
    """
    from safetensors.numpy import save  # a library that reading does without

    try:
        msgspec.convert(msgspec.to_builtins(config), Config)  # its constructor checks no value
    except msgspec.ValidationError as error:
        raise ModelFormatError(f"{CONFIG}: {error}") from None
    found = {name: kind_and_shape(tensor) for name, tensor in tensors.items()}
    expected = expected_tensors(config)
    names = sorted(set(found) | set(expected))
    faults = [f"{n} is {found.get(n)}, expected {expected.get(n)}" for n in names if found.get(n) != expected.get(n)]
    _refuse(Path(TENSORS), config.faults() + faults or value_faults(tensors, config))
    # safetensors sorts by dtype, then name, whatever the order given: the bytes depend on the content only.
    data = save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}, metadata={"format": FORMAT})
    digest = hashlib.sha256(data).hexdigest()
    return msgspec.structs.replace(config, tensors_sha256=digest, tensors_bytes=len(data)), data


def check_place(path: str | os.PathLike[str]) -> None:
    """Raise ModelFormatError if a model at `path` would replace anything but nothing, an empty folder or a model.

    A checkpoint has a `config.json` too, so the field "format" decides; and what no writer of models put into a folder
    would be gone with it.
    """
    folder = Path(path)
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not is_packed(folder)):
        raise ModelFormatError(f'"{folder}" exists and is no model folder; choose another place')
    if others := sorted({entry.name for entry in folder.iterdir()} - set(FILES)):
        shown = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        raise ModelFormatError(
            f'"{folder}" holds {shown} beside a model, which replacing it would delete; move that away or choose '
            "another place"
        )


def is_packed(folder: Path) -> bool:
    """Whether the `config.json` of a folder says that it is a packed model; other faults are for `read_artifact`."""
    file = folder / CONFIG
    try:
        head = read_json(read_bytes(file, MAX_CONFIG_BYTES), file, MAX_CONFIG_VALUES)
    except (ModelFormatError, OSError):
        return False
    return isinstance(head, dict) and head.get("format") == FORMAT


def write_artifact(
    path: str | os.PathLike[str], config: Config, tensors: Tensors, tokenizer_json: str | None, card: str
) -> Config:
    """Write a model folder so that it is there whole or not at all; an old model is exchanged for it in one step.

    `config` needs no sha256 yet, neither of the tensors nor of the tokenizer. Raises ModelFormatError if tensors,
    tokenizer and config do not fit, or if `path` is taken (`check_place`). Returns the config as written.
    """
    from bebert_infer.atomic_files import staging  # only writers need it

    folder = Path(path)
    check_place(folder)
    config, data = finish_config(config, tensors)
    text = None if tokenizer_json is None else tokenizer_json.encode()
    if text is not None:
        check_tokenizer(text, folder / TOKENIZER, config.vocab_size, config.type_vocab_size)
    if text is not None and config.tokenizer is not None:
        written = msgspec.structs.replace(config.tokenizer, sha256=hashlib.sha256(text).hexdigest())
        config = msgspec.structs.replace(config, tokenizer=written)
    with staging(folder) as made:
        made.mkdir()
        (made / TENSORS).write_bytes(data)
        (made / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
        if text is not None:
            (made / TOKENIZER).write_bytes(text)
        (made / CARD).write_text(card, "utf-8")
    return config
