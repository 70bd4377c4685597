"""A model folder on disk: `config.json`, `model.safetensors`, `tokenizer.json`, `README.md`.

Reading validates everything before anything is used, and names all faults in one error. No byte of a folder is
ever executed, and no path in it is followed. Writing is atomic and reproducible byte for byte.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bebert_infer.config import FORMAT, FORMAT_VERSION, LINEARS, Config, expected_tensors
from bebert_infer.errors import MissingModelError, ModelFormatError

CONFIG, TENSORS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"
MAX_CONFIG_BYTES = 64 * 2**20
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
    if not folder.exists():
        raise MissingModelError(f'there is no model folder "{folder}"; pass the folder that holds {CONFIG}')
    if not folder.is_dir() or not (folder / CONFIG).is_file():
        raise MissingModelError(
            f'"{folder}" is no bebert model: it has no {CONFIG}; make one with `bebert convert` or `bebert train`'
        )
    file = folder / CONFIG
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise ModelFormatError(f"{file} has {file.stat().st_size} bytes; at most {MAX_CONFIG_BYTES} are accepted")
    raw = file.read_bytes()
    try:
        head = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFormatError(f"{file} is not JSON: {error}") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ModelFormatError(
            f'{file} does not say "format": "{FORMAT}", so this is no packed model; '
            "a training checkpoint becomes one with `bebert convert`"
        )
    if head.get("format_version") != FORMAT_VERSION:
        raise ModelFormatError(
            f"{file} has format_version {head.get('format_version')}; this release reads {FORMAT_VERSION}: "
            "upgrade bebert-infer or export the model again"
        )
    try:
        config = msgspec.convert(head, Config)
    except msgspec.ValidationError as error:
        raise ModelFormatError(f"{file}: {error}") from None
    _refuse(file, config.faults())
    return config


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read a model folder and check every tensor against the config. Raises ModelFormatError with all faults."""
    config = read_config(path)
    folder = Path(path)
    file = folder / TENSORS
    if not file.is_file():
        raise ModelFormatError(f'"{folder}" has a {CONFIG} but no {TENSORS}; copy the whole folder')
    size = file.stat().st_size
    if size != config.tensors_bytes:
        raise ModelFormatError(
            f"{file} has {size} bytes, the config says {config.tensors_bytes}: an incomplete copy? fetch it again"
        )
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != config.tensors_sha256:
        raise ModelFormatError(
            f"{file} has sha256 {digest[:16]}…, the config says {config.tensors_sha256[:16]}…: fetch it again"
        )
    tensors = _read_tensors(file, config)
    tokenizer = folder / TOKENIZER
    if config.tokenizer is not None and not tokenizer.is_file():
        raise ModelFormatError(f'"{folder}" has no {TOKENIZER}, but its config has a tokenizer; copy the whole folder')
    text = tokenizer.read_text("utf-8") if config.tokenizer is not None else None
    return Artifact(folder, config, tensors, text)


def _read_tensors(file: Path, config: Config) -> Tensors:
    expected = expected_tensors(config)
    try:
        with safe_open(file, framework="numpy") as stored:  # memory-mapped; checks lengths and offsets itself
            names = set(stored.keys())
            faults = [f"{name} is missing" for name in sorted(set(expected) - names)]
            faults += [f"{name} is not expected" for name in sorted(names - set(expected))]
            for name in sorted(names & set(expected)):
                part = stored.get_slice(name)
                found = (part.get_dtype(), list(part.get_shape()))
                if found != expected[name]:
                    faults.append(f"{name} is {found[0]}{found[1]}, expected {expected[name][0]}{expected[name][1]}")
            _refuse(file, faults)
            tensors = {name: stored.get_tensor(name) for name in expected}
    except SafetensorError as error:
        raise ModelFormatError(f"{file} is no safetensors file: {error}") from None
    _refuse(file, _value_faults(tensors, config))
    return tensors


def bit_depths(config: Config) -> dict[str, int]:
    """Name of every tensor of sign words -> values of a row before padding."""
    depths = {}
    for index, member in enumerate(config.members):
        for branch in range(member.branches):
            depths[f"members.{index}.embeddings.word.{branch}.signs"] = member.hidden_size
            for kind in LINEARS:
                layers = [""] if kind == "pooler" else [f"layers.{n}." for n in range(member.num_hidden_layers)]
                for layer in layers:
                    depths[f"members.{index}.{layer}{kind}.{branch}.signs"] = member.linears()[kind][1]
    return depths


def _value_faults(tensors: Mapping[str, NDArray], config: Config) -> list[str]:
    """Values that would crash a kernel or poison an answer: not finite, steps of 0, padding bits that are set."""
    faults = []
    depths = bit_depths(config)
    for name, array in tensors.items():
        if name in depths:
            spare = -depths[name] % 64
            if spare and np.any(array[:, -1] >> np.uint64(64 - spare)):
                faults.append(f"{name} has bits set beyond depth {depths[name]}; padding bits are 0")
        elif not np.all(np.isfinite(array)):
            faults.append(f"{name} holds NaN or infinity")
        elif name.endswith(".step") and np.any(array == 0):
            faults.append(f"{name} is 0; a step may be negative but not 0")
        elif name.endswith(".clip") and not array[0] < array[1]:
            faults.append(f"{name} is {array.tolist()}; the first must be below the second")
    return faults


def _refuse(file: Path, faults: list[str]) -> None:
    if faults:
        shown = faults[:20] + ([f"… and {len(faults) - 20} more"] if len(faults) > 20 else [])
        raise ModelFormatError(f"{file} is not valid: " + "; ".join(shown))


def finish_config(config: Config, tensors: Tensors) -> tuple[Config, bytes]:
    """Return the config with size and sha256 of the tensors filled in, and the bytes of `model.safetensors`.

    Raises ModelFormatError if the tensors are not exactly those that the config asks for.
    """
    written = {np.dtype(np.uint64): "U64", np.dtype(np.float32): "F32", np.dtype(np.float64): "F64"}
    found = {name: (written.get(a.dtype, str(a.dtype)), list(a.shape)) for name, a in tensors.items()}
    expected = expected_tensors(config)
    names = sorted(set(found) | set(expected))
    faults = [f"{n} is {found.get(n)}, expected {expected.get(n)}" for n in names if found.get(n) != expected.get(n)]
    _refuse(Path(TENSORS), config.faults() + faults or _value_faults(tensors, config))
    # safetensors sorts by dtype, then name, whatever the order given: the bytes depend on the content only.
    data = save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}, metadata={"format": FORMAT})
    digest = hashlib.sha256(data).hexdigest()
    return msgspec.structs.replace(config, tensors_sha256=digest, tensors_bytes=len(data)), data


def write_artifact(
    path: str | os.PathLike[str], config: Config, tensors: Tensors, tokenizer_json: str | None, card: str
) -> Config:
    """Write a model folder so that it is there whole or not at all; an existing model is replaced only at the end.

    `config` needs no sha256 yet. Raises ModelFormatError if tensors and config do not fit, or if `path` exists and
    is no model folder. Returns the config as written.
    """
    folder = Path(path)
    if folder.exists() and not (folder / CONFIG).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelFormatError(f'"{folder}" exists and is no model folder; choose another place')
    config, data = finish_config(config, tensors)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(staging / TENSORS, data)
        _write(staging / CONFIG, msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
        if tokenizer_json is not None:
            _write(staging / TOKENIZER, tokenizer_json.encode())
        _write(staging / CARD, card.encode())
        staging.chmod(0o755)
        _swap(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return config


def _write(file: Path, data: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _swap(staging: Path, folder: Path) -> None:
    """Put the finished folder in its place; an old one steps aside first and comes back if the move fails."""
    if not folder.exists():
        staging.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.rename(aside / folder.name)
    try:
        staging.rename(folder)
    except OSError:
        (aside / folder.name).rename(folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
