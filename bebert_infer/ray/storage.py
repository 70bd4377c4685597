"""Folders on any file system that Arrow or fsspec knows: files to read, and an output that is whole or not there.

Parts are written below `_temporary`, each under a name that no other attempt has. When all answers are there, the
driver moves one attempt of each part to its name and writes `_SUCCESS` last. Readers of folders pass over names that
begin with `_`, so until then they find nothing. A killed worker leaves an attempt that nobody moves.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bebert_infer.errors import DataError, InputError, first_line

TEMPORARY, SUCCESS, JOB = "_temporary", "_SUCCESS", "job"
KINDS = (".csv", ".tsv", ".jsonl", ".json", ".txt")
ENDINGS = (".parquet", *KINDS, *(f"{kind}.gz" for kind in KINDS))


@dataclass(frozen=True)
class Source:
    """A file of rows: its path on the file system, what errors call it, and its path below the folder of them."""

    path: str
    title: str
    name: str


def file_system(uri: str) -> tuple[Any, str]:
    """The `pyarrow.fs.FileSystem` of a path or URI, and the path on it. Raises InputError."""
    import pyarrow as pa
    from pyarrow import fs

    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        return fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason: Exception = error
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(uri)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), path
    except (ImportError, ValueError, OSError) as error:
        raise InputError(f'"{uri}" is on no file system that Ray reads: {first_line(reason)}; {error}') from None


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Raises DataError for what a file system refuses while the block does `what`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot {what}: {error.strerror or error}; check the place and the rights to it") from None


def sources(uri: str, kind: str | None) -> tuple[Any, list[Source]]:
    """The file system of an input and its files: the one that it is, or all below a folder, sorted by path.

    kind : what all files hold, whatever their endings; None: by their endings

    Names that begin with "." or "_" are passed over. Raises InputError if nothing is there, or if a folder holds a file
    of another ending, whose rows would be left out in silence.
    """
    from pyarrow import fs

    system, path = file_system(uri)
    with telling(f'read "{uri}"'):
        info = system.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise InputError(f'there is no input "{uri}"')
        if info.type == fs.FileType.File:
            return system, [Source(path, _title(uri, ""), PurePosixPath(path).name)]
        below = system.get_file_info(fs.FileSelector(path, recursive=True))
    found = []
    for one in below:
        name = PurePosixPath(one.path).relative_to(PurePosixPath(path)).as_posix()
        if one.type == fs.FileType.File and not any(part[0] in "._" for part in name.split("/")):
            found.append(Source(one.path, _title(uri, name), name))
    if strange := [one.name for one in found if kind is None and not one.name.endswith(ENDINGS)]:
        raise InputError(
            f'the folder "{uri}" holds "{strange[0]}"; accepted are {", ".join(ENDINGS)}: take it out, or say with '
            "--input-format what all files hold"
        )
    if not found:
        raise InputError(f'the folder "{uri}" holds no file of rows; accepted are {", ".join(ENDINGS)}')
    return system, sorted(found, key=lambda one: one.name)


def _title(uri: str, name: str) -> str:
    place = uri.partition("://")[2] or uri  # what stands before is lost in a path, which has no double slash
    return f"{place.rstrip('/')}/{name}" if name else place


class Output:
    """A folder of answers that is being written; made by the driver, used by workers too."""

    def __init__(self, uri: str, restart: bool = False) -> None:
        """Make the folder and `_temporary` in it.

        restart : drop what an unfinished run left

        Raises InputError if the folder holds anything else, DataError if it cannot be written.
        """
        from pyarrow import fs

        self.uri = uri
        self.system, self.folder = file_system(uri)
        self.job = uuid.uuid4().hex
        with telling(f'write "{uri}"'):
            info = self.system.get_file_info(self.folder)
            if info.type == fs.FileType.File:
                raise InputError(f'output "{uri}" is a file; with --engine it is a folder of Parquet files')
            here = fs.FileSelector(self.folder, allow_not_found=True)
            there = {one.base_name: one for one in self.system.get_file_info(here)}
            unfinished = TEMPORARY in there
            if there and not (unfinished and restart):
                what = "what an unfinished run left; pass --restart to drop it" if unfinished else "files already"
                raise InputError(f'output "{uri}" holds {what}{"" if unfinished else "; empty it"}, or choose another')
            for name, one in there.items():
                if name == TEMPORARY:
                    continue
                if not (name.startswith("part-") and name.endswith(".parquet")):
                    raise InputError(f'output "{uri}" holds "{name}", which no run wrote; choose another')
                self.system.delete_file(one.path)
            if unfinished:
                self.system.delete_dir(f"{self.folder}/{TEMPORARY}")
            self.system.create_dir(f"{self.folder}/{TEMPORARY}", recursive=True)
            with self.system.open_output_stream(f"{self.folder}/{TEMPORARY}/{JOB}") as stream:
                stream.write(self.job.encode())

    def check(self, where: str) -> None:
        """Raise DataError if this process does not see the folder that the driver made: a disk of its own."""
        from pyarrow import fs

        place = f"{self.folder}/{TEMPORARY}/{JOB}"
        with telling(f'write "{self.uri}" on {where}'):
            if self.system.get_file_info(place).type == fs.FileType.File:
                with self.system.open_input_stream(place) as stream:
                    if stream.read() == self.job.encode():
                        return
        raise DataError(
            f'output "{self.uri}" is not the same folder on {where} as on the driver; choose a place that all machines '
            "share"
        )

    def write(self, part: str, table: Any) -> str:
        """Write a table as an attempt of a part; returns the attempt's name. Raises DataError."""
        import pyarrow.parquet

        attempt = f"{part}.{uuid.uuid4().hex[:12]}"
        with telling(f'write "{self.uri}"'):
            with self.system.open_output_stream(f"{self.folder}/{TEMPORARY}/{attempt}") as stream:
                pyarrow.parquet.write_table(table, stream)
        return attempt

    def finish(self, parts: dict[str, str], facts: dict[str, Any]) -> None:
        """Move the attempts of all parts to their names, then write `_SUCCESS`. Raises DataError."""
        with telling(f'write "{self.uri}"'):
            for part, attempt in parts.items():
                self.system.move(f"{self.folder}/{TEMPORARY}/{attempt}", f"{self.folder}/{part}")
            with self.system.open_output_stream(f"{self.folder}/{SUCCESS}") as stream:
                stream.write((json.dumps(facts) + "\n").encode())
            self.system.delete_dir(f"{self.folder}/{TEMPORARY}")

    def drop(self) -> None:
        """Remove what this run has written, as far as the file system lets it; the folder stays."""
        try:
            self.system.delete_dir(f"{self.folder}/{TEMPORARY}")
        except OSError:
            return
