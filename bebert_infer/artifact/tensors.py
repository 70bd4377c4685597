"""Tensors out of the bytes of a safetensors file, against the list of those that must be in it.

    8 bytes    length of the header, little endian
    header     JSON: name -> {"dtype", "shape", "data_offsets": [begin, end]} and, if the writer likes, "__metadata__"
    data       the tensors, in any order, from byte 0 to the last without a gap and without an overlap

The file is read once, so that what was checked is what is used, and the tensors are views of that one copy.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.safe_file import fill, opened
from bebert_infer.artifact.strict_json import read_json
from bebert_infer.errors import ModelFormatError

DTYPES: dict[str, np.dtype[Any]] = {"U64": np.dtype("<u8"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
WRITTEN = {dtype: name for name, dtype in DTYPES.items()}
LENGTH = 8  # bytes before the header
VALUES = 10  # JSON values that describe one tensor, and two to spare
ALIGN = 64  # bytes; a cache line


def kind_and_shape(tensor: NDArray[Any]) -> tuple[str, list[int]]:
    """What a header would say of it; NumPy's name of a dtype that no model folder has."""
    return WRITTEN.get(tensor.dtype) or str(tensor.dtype), list(tensor.shape)


def read_whole(file: Path, size: int) -> tuple[NDArray[np.uint8], str]:
    """Return the bytes of a file of a model folder uint8[size] and their sha256. Raises ModelFormatError.

    The data behind the header starts at a multiple of 64 bytes in memory.
    """
    with opened(file) as (stream, found):
        if found != size:
            raise ModelFormatError(
                f"{file} has {found} bytes, tensors_bytes in config.json says {size}: an incomplete copy? "
                "fetch it again"
            )
        if size <= LENGTH:
            raise ModelFormatError(f"{file} has {size} bytes; expected is a safetensors file of more than {LENGTH}")
        start = bytearray(LENGTH)
        fill(stream, memoryview(start), file)
        try:
            room = np.empty(size + 2 * ALIGN, np.uint8)
        except MemoryError:
            raise ModelFormatError(f"{file} needs {size} bytes of memory, more than there are; free some") from None
        skip = -(room.ctypes.data + LENGTH + int.from_bytes(start, "little")) % ALIGN
        raw = room[skip : skip + size]
        raw[:LENGTH] = start
        fill(stream, raw.data[LENGTH:], file)
    return raw, hashlib.sha256(raw.data).hexdigest()


def split_tensors(
    raw: NDArray[np.uint8], file: Path, expected: Mapping[str, tuple[str, list[int]]]
) -> tuple[dict[str, NDArray], list[str]]:
    """Return (name -> tensor, faults) of a file's bytes; if there are faults, tensors that have one are left out.

    expected : name -> (dtype, shape), exactly what must be there
    Raises ModelFormatError where the file is no safetensors file at all, or its layout is not sound.
    """
    header, data = _header(raw, file, VALUES * len(expected) + 1000)
    address = data.ctypes.data
    faults = [f"{name} is missing" for name in sorted(expected.keys() - header.keys())]
    faults += [f"{name:.200} is not expected" for name in sorted(header.keys() - expected.keys())]
    places: list[tuple[int, int, str]] = []
    tensors: dict[str, NDArray] = {}
    for name in sorted(header.keys() & expected.keys()):
        dtype, shape = expected[name]
        begin, end = _place(header[name], name, file)
        places.append((begin, end, name))
        found = (header[name]["dtype"], header[name]["shape"])
        count = math.prod(shape)
        if found != (dtype, shape):
            faults.append(f"{name} is {str(found[0]):.20}{str(found[1]):.80}, expected {dtype}{shape}")
        elif end - begin != count * DTYPES[dtype].itemsize:
            faults.append(
                f"{name} has data_offsets [{begin}, {end}], expected are {count * DTYPES[dtype].itemsize} bytes"
            )
        elif end <= len(data):
            if (address + begin) % DTYPES[dtype].itemsize == 0:
                tensors[name] = data[begin:end].view(DTYPES[dtype]).reshape(shape)
            else:
                tensors[name] = np.frombuffer(data[begin:end].tobytes(), DTYPES[dtype]).reshape(shape).copy()
    if not faults:
        faults = _gaps(places, len(data))
    return tensors, faults


def _header(raw: NDArray[np.uint8], file: Path, values: int) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    length = int.from_bytes(raw[:LENGTH].tobytes(), "little")
    if not 2 <= length <= len(raw) - LENGTH:
        raise ModelFormatError(
            f"{file} is no safetensors file: its header length is {length}, accepted are 2 to {len(raw) - LENGTH}"
        )
    header = read_json(raw[LENGTH : LENGTH + length].tobytes(), file, values, "the header")
    if not isinstance(header, dict):
        raise ModelFormatError(f"{file} is no safetensors file: its header is a {type(header).__name__}, no object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFormatError(f"the header of {file} has a __metadata__ that is no object of texts")
    return header, raw[LENGTH + length :]


def _place(entry: Any, name: str, file: Path) -> tuple[int, int]:
    """Begin and end of a tensor in the data."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        keys = sorted(entry) if isinstance(entry, dict) else entry
        raise ModelFormatError(
            f"the header of {file} describes {name} by {str(keys):.80}; expected are dtype, shape, data_offsets"
        )
    offsets = entry["data_offsets"]
    whole = isinstance(offsets, list) and all(type(value) is int for value in offsets)  # a bool is no offset
    if not whole or len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1]:
        raise ModelFormatError(
            f"the header of {file} has data_offsets {str(offsets):.80} for {name}; expected are begin and end"
        )
    return offsets[0], offsets[1]


def _gaps(places: list[tuple[int, int, str]], size: int) -> list[str]:
    """Tensors that overlap or leave bytes between them; a hidden byte may belong to another format."""
    reached = 0
    for begin, end, name in sorted(places):
        if begin != reached:
            return [f"{name} begins at byte {begin} of the data, expected is {reached}: tensors overlap or leave a gap"]
        reached = end
    return [] if reached == size else [f"the tensors end at byte {reached} of the data, expected is {size}"]
