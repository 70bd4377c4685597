"""JSON from a file that nobody vouches for: strict syntax, no key twice, a bound on the number of values."""

import json
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from bebert_infer.errors import ModelFormatError


def read_json(raw: bytes, file: Path, most: int, part: str = "") -> Any:
    """Return the value of UTF-8 JSON. `part` names what of the file this is, "" for all of it.

    most : values (keys not counted) that are accepted; a Python object takes up to 100 bytes where the file has 2, so
           that without this bound a small file could fill the memory
    Raises ModelFormatError for anything else, nesting beyond Python's recursion limit and a key given twice included:
    two readers may disagree about which of the two counts.
    """
    what = f"{part} of {file}" if part else str(file)
    values = 1 + raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if values > most:
        raise ModelFormatError(f"{what} has about {values} JSON values; accepted are at most {most}")
    try:
        value = msgspec.json.decode(raw)
        json.loads(raw.decode(), object_pairs_hook=_refuse_twice, parse_constant=_refuse)
    except _KeyTwice as error:
        raise ModelFormatError(f'{what} has the key "{error.args[0]:.80}" twice; accepted is once') from None
    except RecursionError:
        raise ModelFormatError(f"{what} is nested too deep; a config has a handful of levels") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ModelFormatError(f"{what} is not JSON: {error}; fetch it again") from None
    return value


class _KeyTwice(Exception):
    pass


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise _KeyTwice(key)
        seen.add(key)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
