"""A process that is killed at any moment of a write leaves the old model or the new one, whole, and nothing that hurts.

"Any moment" is tried in two ways: exactly, at every single call by which the writer touches the file system, and by
chance, many times, in the middle of whatever it does.
"""

import fcntl
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from micro import CONFIG, TENSORS, micro_config, random_tensors, tokenizer_json

from bebert_infer import atomic_files
from bebert_infer.artifact import folder as artifact_module
from bebert_infer.artifact.folder import read_artifact, write_artifact
from bebert_infer.atomic_files import staging
from bebert_infer.errors import ModelFormatError

# What a writer does to the file system, as Python's audit hooks name it.
EVENTS = {
    *("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.listdir", "os.scandir"),
    *("shutil.rmtree", "tempfile.mkdtemp", "ctypes.dlsym", "fcntl.flock"),
}
MODELS = [(micro_config(), random_tensors(micro_config(), seed)) for seed in (0, 1)]
TOKENIZER = tokenizer_json()


def write(folder: Path, which: int) -> None:
    config, tensors = MODELS[which]
    write_artifact(folder, config, tensors, TOKENIZER, f"model {which}")


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("both")
    for which in (0, 1):
        write(folder / str(which), which)
    return [content(folder / str(which)) for which in (0, 1)]


def in_child(work: Callable[[], None], kill_at: int | None) -> bool:
    """Run in a fork, which kills itself before event number `kill_at`; True if it came to its end."""
    child = os.fork()
    if not child:
        try:
            seen = 0

            def hook(event: str, _: tuple) -> None:
                nonlocal seen
                if event in EVENTS:
                    seen += 1
                    if seen == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), code
    return code == 0


def no_exchange(one: Path, other: Path) -> bool:
    return False


@pytest.mark.parametrize("old", [True, False])
def test_killed_at_any_call_a_write_leaves_the_old_model_or_the_new_one(tmp_path, contents, old):
    folder, seen, moments = tmp_path / "model", set(), 0
    finished = False
    while not finished:
        shutil.rmtree(folder, ignore_errors=True)
        if old:
            write(folder, 0)
        moments += 1
        finished = in_child(lambda: write(folder, 1), moments)
        if folder.exists():
            found = content(folder)
            assert found in contents, f"a mixture, killed at call {moments}"
            seen.add(contents.index(found))
        else:
            assert not old, f"no model at all, killed at call {moments}"
            seen.add(None)
        # The next run is not disturbed by what is left, and clears it up.
        write(folder, 0)
        assert content(folder) == contents[0]
        assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert moments > 20
    assert seen == {0 if old else None, 1}


def test_killed_without_exchange_the_next_write_moves_the_old_model_back(tmp_path, contents, monkeypatch):
    """Kernels and file systems without renameat2(RENAME_EXCHANGE) have a moment without a model; docs/format.md."""
    monkeypatch.setattr(atomic_files, "exchange", no_exchange)
    folder, gaps, moments = tmp_path / "model", 0, 0
    finished = False
    while not finished:
        shutil.rmtree(folder, ignore_errors=True)
        write(folder, 0)
        moments += 1
        finished = in_child(lambda: write(folder, 1), moments)
        if folder.exists():
            assert content(folder) in contents
        else:
            gaps += 1
            with pytest.raises(OSError, match="full"), staging(folder):
                raise OSError("full")  # the next writer fails, but has moved the old model back
            assert content(folder) == contents[0]
        write(folder, 0)
        assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert gaps == 1


def test_killed_at_random_moments_while_two_models_take_turns(tmp_path, contents):
    folder, chance = tmp_path / "model", random.Random(0)
    started = time.perf_counter()
    write(folder, 0)
    duration = time.perf_counter() - started
    seen: list[int] = []

    def forever() -> None:
        while True:
            for which in (1, 0):
                write(folder, which)

    while len(seen) < 20 or (len(set(seen)) < 2 and len(seen) < 200):  # later and later, should it be slow now
        child = os.fork()
        if not child:
            try:
                forever()
            finally:
                os._exit(1)
        time.sleep(chance.uniform(0.0, duration * (4 + len(seen) / 4)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.append(contents.index(content(folder)))
        read_artifact(folder)
    assert set(seen) == {0, 1}
    write(folder, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_reader_gets_one_whole_model_while_a_writer_replaces_it(tmp_path, contents):
    folder = tmp_path / "model"
    write(folder, 0)
    child = os.fork()
    if not child:
        try:
            for turn in range(60):
                write(folder, (turn + 1) % 2)
        finally:
            os._exit(0)
    digests = [msgspec.json.decode(each[CONFIG])["tensors_sha256"] for each in contents]
    seen = []
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        artifact = read_artifact(folder)  # without an error, too
        which = digests.index(artifact.config.tensors_sha256)
        assert all(np.array_equal(artifact.tensors[name], value) for name, value in MODELS[which][1].items())
        seen.append(which)
    assert len(seen) > 10


def test_no_part_of_the_next_model_is_read_with_this_one(tmp_path, monkeypatch):
    """The tokenizer has no digest: exchanged after the tensors were read, the new one was taken with the old model."""
    folder, other = tmp_path / "model", tokenizer_json().replace("film", "book")
    write(folder, 0)

    def read_then_exchange(*given):
        monkeypatch.undo()
        answer = artifact_module.read_whole(*given)
        write_artifact(folder, *MODELS[1], other, "the next model")
        return answer

    monkeypatch.setattr(artifact_module, "read_whole", read_then_exchange)
    found = read_artifact(folder)
    assert found.tokenizer_json == other
    assert all(np.array_equal(found.tensors[name], value) for name, value in MODELS[1][1].items())


def test_a_folder_that_never_rests_ends_in_one_error(tmp_path, monkeypatch):
    folder, clock = tmp_path / "model", iter(range(1000))
    write(folder, 0)
    monkeypatch.setattr(artifact_module, "_identity", lambda _: (0, 0, next(clock)))
    with pytest.raises(ModelFormatError, match="was replaced by another model 20 times while it was read"):
        read_artifact(folder)


def test_a_living_writer_is_not_disturbed_by_another(tmp_path, contents):
    folder = tmp_path / "model"
    with staging(folder) as made:
        write(folder, 0)
        assert made.parent.is_dir()
        made.mkdir()
        for name, data in contents[1].items():
            (made / name).write_bytes(data)
    assert content(folder) == contents[1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_the_lock_of_a_writer_ends_with_it(tmp_path):
    place = tmp_path / f".model.abc{atomic_files.SUFFIX}"
    place.mkdir()
    number = os.open(place, os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX)
    write(tmp_path / "model", 0)
    assert place.exists()
    os.close(number)
    write(tmp_path / "model", 0)
    assert not place.exists()


def test_a_link_to_a_model_stays_a_link(tmp_path, contents):
    write(tmp_path / "version1", 0)
    (tmp_path / "current").symlink_to("version1")
    write(tmp_path / "current", 1)
    assert (tmp_path / "current").is_symlink() and content(tmp_path / "version1") == contents[1]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["current", "version1"]


def test_names_with_letters_that_have_a_meaning_in_patterns_are_cleared_up_too(tmp_path):
    folder = tmp_path / "model[1]*"
    (tmp_path / f".{folder.name}.abc{atomic_files.SUFFIX}").mkdir()
    (tmp_path / f".other.abc{atomic_files.SUFFIX}").mkdir()
    write(folder, 0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".other.abc.partial", "model[1]*"]


def test_files_of_the_model_have_the_rights_of_any_new_file(tmp_path):
    write(tmp_path / "model", 0)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").write_text("")
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "model" / TENSORS).stat().st_mode == (tmp_path / "plain" / "file").stat().st_mode


def test_a_writer_leaves_alone_what_belongs_to_a_longer_name(tmp_path, contents):
    """Found by reading: a writer of `model` cleared away, or took for its own, the old `model.v2` of a killed one."""
    old = tmp_path / ".model.v2.abcdefgh.partial" / atomic_files.OLD
    write(old, 1)
    write(tmp_path / "model", 0)
    assert read_artifact(tmp_path / "model").path == tmp_path / "model" and old.is_dir()
    write(tmp_path / "model.v2", 0)
    assert not old.exists(), "its own writer clears it away"


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    """An exchange would put the folder into the hidden one, which goes when the writer has ended."""
    (tmp_path / "kept" / "inside").mkdir(parents=True)
    with pytest.raises(IsADirectoryError), atomic_files.whole_file(tmp_path / "kept") as stream:
        stream.write("text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept" / "inside").is_dir()


def test_text_of_a_writer_that_fails_is_gone_and_the_old_file_stays(tmp_path):
    file = tmp_path / "figures.json"
    atomic_files.write_json(file, {"score": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        atomic_files.write_json(file, {"score": object()})
    assert file.read_text("utf-8") == '{\n  "score": 1\n}\n' and [entry.name for entry in tmp_path.iterdir()] == [
        file.name
    ]
