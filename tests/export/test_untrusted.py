"""A pickle from a stranger runs nothing, fills no memory, takes no time without end, and is refused in one sentence."""

# ruff: noqa: E402 - the imports below need the extra

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pickles are read with torch")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from safetensors.torch import load_file, save_file
from toy import write_encoder
from toy_checkpoints import ODD, make_checkpoint

from bebert_export.checkpoints import unpickle_child
from bebert_export.checkpoints.pretrained import load_pretrained
from bebert_export.checkpoints.published import read_checkpoint
from bebert_export.checkpoints.untrusted_pickle import ProcessLimits, read_pickle, without_pickles
from bebert_export.peers.classifier import load_classifier
from bebert_infer import InputError
from bebert_infer.errors import CheckpointError, DataError
from bebert_kernels.child_python import OTHER_PYTHON

LIMITS = ProcessLimits(memory=128, seconds=20)


class Runs:
    """Unpickled, it would write a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def _rewritten(file: Path, source: Path, pickled: bytes | None = None, deflate: bool = False) -> None:
    """A torch file with another pickle inside, or packed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            data = pickled if pickled is not None and name.endswith("/data.pkl") else old.read(name)
            new.writestr(name, data, zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED)


def _hostile(kind: str, folder: Path) -> tuple[Path, str]:
    """Write a hostile file; returns it and what the error must say."""
    file, marker = folder / "model.bin", folder / "pwned"
    torch.save({"a": torch.arange(1000.0)}, folder / "good.bin")
    unreadable = "cannot be read as a state dict"
    if kind == "code":
        torch.save({"a": Runs(marker)}, file)
    elif kind == "code in a plain pickle":
        file.write_bytes(pickle.dumps(Runs(marker)))
    elif kind == "code in the zip":
        _rewritten(file, folder / "good.bin", f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    elif kind == "own class":
        torch.save(OrderedDict(a=np.float64(1)), file)
        return file, "state dict"
    elif kind == "truncated":
        file.write_bytes((folder / "good.bin").read_bytes()[:1500])
    elif kind == "stride 0":  # stores four bytes, claims 4 TB
        torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, file)
        return file, "claims more than"
    elif kind == "zip bomb":
        torch.save({"a": torch.zeros(2**26)}, folder / "large.bin")  # 256 MiB of zeros, packed
        _rewritten(file, folder / "large.bin", deflate=True)
        (folder / "large.bin").unlink()
        assert file.stat().st_size < 2**21
        return file, "takes more than 128 MiB to read"
    elif kind == "memory in the pickle":  # a list doubled again and again, by the machine that reads pickles
        file.write_bytes(b"\x80\x02" + b"(" * 10 + b"U\xff" + b"x" * 255 + b"2" * 10**7 + b".")
        return file, ""
    elif kind == "long loop":
        file.write_bytes(b"\x80\x02]" + b"(lp0\n" * 3 * 10**6 + b".")
        return file, ""
    elif kind == "no tensors":
        torch.save({"a": [1, 2, 3]}, file)
        return file, "is no state dict of tensors"
    elif kind == "a list":
        torch.save([torch.zeros(3)], file)
        return file, "is no state dict of tensors"
    elif kind == "sparse":
        torch.save({"a": torch.eye(3).to_sparse()}, file)
        return file, "accepted are plain numbers"
    elif kind == "complex":
        torch.save({"a": torch.zeros(3, dtype=torch.complex64)}, file)
        return file, "accepted are plain numbers"
    elif kind == "empty":
        file.write_bytes(b"")
    return file, unreadable


KINDS = [
    *("code", "code in a plain pickle", "code in the zip", "own class", "truncated", "stride 0", "zip bomb"),
    *("memory in the pickle", "long loop", "no tensors", "a list", "sparse", "complex", "empty"),
]


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is a fork of this process, which has torch already, instead of a new one that imports it first."""

    def run(command: list[str], *, stdout: BinaryIO, **_: object) -> subprocess.CompletedProcess:
        child = os.fork()
        if not child:
            code = 1
            try:
                with os.fdopen(os.dup(stdout.fileno()), "w") as sys.stdout:
                    first = command.index(unpickle_child.__file__) + 1
                    code = unpickle_child.main(*command[first : first + 4])
            finally:
                os._exit(code)
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    monkeypatch.setattr("bebert_export.checkpoints.untrusted_pickle.subprocess.run", run)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_pickle_runs_nothing_and_is_refused_in_one_sentence(tmp_path, kind, forked):
    file, message = _hostile(kind, tmp_path)
    with pytest.raises(DataError) as error:
        read_pickle(file, LIMITS)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 700
    assert not (tmp_path / "pwned").exists()


def test_time_has_a_limit(tmp_path, monkeypatch):
    """The child is slowed down as a pickle without end would: it must be stopped by its own limit on CPU time."""
    child = tmp_path / "child.py"
    child.write_text("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass\n")
    monkeypatch.setattr("bebert_export.checkpoints.unpickle_child.__file__", str(child))
    torch.save({"a": torch.zeros(3)}, tmp_path / "model.bin")
    with pytest.raises(DataError, match="takes more than 1 s to read; raise BEBERT_PICKLE_SECONDS"):
        read_pickle(tmp_path / "model.bin", ProcessLimits(seconds=1))


def test_the_child_sets_its_limits(tmp_path):
    """Address space, CPU time, file size and core dumps, in a process of their own."""
    code = (
        "import resource as r, sys; from bebert_export.checkpoints import unpickle_child; "
        "unpickle_child.limit(2**28, 7);"
        "print(*(r.getrlimit(x)[0] for x in (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_CORE)))"
    )
    space, seconds, size, core = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    assert 2**28 < space < 2**40 and 7 < seconds < 120 and size == 2**28 and core == 0


def test_a_good_pickle_is_read_bit_by_bit_in_both_formats(tmp_path, forked):
    state = {"a": torch.randn(100, 7), "b": torch.arange(5), "c": torch.randn(3).to(torch.bfloat16)}
    state |= {"d": state["a"].T, "e": torch.tensor(2.0), "tied": state["a"]}
    for legacy in (False, True):
        torch.save(state, tmp_path / "model.bin", _use_new_zipfile_serialization=not legacy)
        found = read_pickle(tmp_path / "model.bin")
        assert found.keys() == state.keys()
        assert all(
            torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in state.items()
        )


def test_limits_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("BEBERT_PICKLE_MEMORY", "300")
    monkeypatch.setenv("BEBERT_PICKLE_SECONDS", "7")
    assert ProcessLimits.from_environment() == ProcessLimits(300, 7)
    monkeypatch.setenv("BEBERT_PICKLE_SECONDS", "soon")
    with pytest.raises(InputError, match='BEBERT_PICKLE_SECONDS is "soon"; accepted are whole numbers'):
        read_pickle(tmp_path / "model.bin")


def test_a_new_process_reads_a_good_pickle(tmp_path):
    torch.save({"a": torch.arange(3)}, tmp_path / "model.bin")
    assert torch.equal(read_pickle(tmp_path / "model.bin")["a"], torch.arange(3))


def test_convert_names_the_file_and_its_help_names_the_limits(tmp_path):
    from click.testing import CliRunner

    from bebert_infer.cli.main import app

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(tmp_path / "pwned")))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: cannot be read as a state dict"):
        read_checkpoint(tmp_path / "pytorch_model.bin", tmp_path)
    assert not (tmp_path / "pwned").exists()
    text = CliRunner().invoke(app, ["convert", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for word in ("--memory-limit", "BEBERT_PICKLE_MEMORY", "--time-limit", "BEBERT_PICKLE_SECONDS"):
        assert word in text


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """An encoder and classifier as old repositories have them, without safetensors."""
    from transformers import BertConfig, BertForSequenceClassification

    folder = write_encoder(tmp_path / "encoder")
    config = BertConfig.from_pretrained(folder)
    torch.manual_seed(1)
    BertForSequenceClassification(config).save_pretrained(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    return folder


def test_training_and_comparing_take_the_same_road(pickled, tmp_path, forked):
    """`bebert train --init` and `bebert eval --full-precision` of a folder with a pickle."""
    expected = {name: value.clone() for name, value in load_classifier(pickled).state_dict().items()}
    (pickled / "model.safetensors").unlink()
    found = load_classifier(pickled).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    torch.save({"a": Runs(tmp_path / "pwned")}, pickled / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin: cannot be read as a state dict"):
        load_classifier(pickled)
    options = {"vocabulary_size": None, "positions": None, "dropout": 0.0, "seed": 0}
    with pytest.raises(DataError, match=r"pytorch_model\.bin: cannot be read as a state dict"):
        load_pretrained(str(pickled), None, ["a", "b"], **options)
    assert not (tmp_path / "pwned").exists()


def test_weights_that_are_no_numbers_are_refused_before_training(pickled):
    state = load_file(pickled / "model.safetensors")
    state["bert.embeddings.LayerNorm.weight"][3] = float("nan")
    save_file(state, pickled / "model.safetensors", metadata={"format": "pt"})
    options = {"vocabulary_size": None, "positions": None, "dropout": 0.0, "seed": 0}
    with pytest.raises(DataError, match="NaN or infinity in bert.embeddings.LayerNorm.weight"):
        load_pretrained(str(pickled), None, ["a", "b"], **options)


def test_safetensors_are_preferred_and_the_pickle_beside_them_stays_unread(pickled, tmp_path):
    torch.save({"a": Runs(tmp_path / "pwned")}, pickled / "pytorch_model.bin")
    with without_pickles(pickled) as folder:
        assert folder == pickled
    load_classifier(pickled)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(("layers", "message"), [(8, "is missing; .* and .* more"), (1000, "a layer has 16 or more")])
def test_a_small_checkpoint_cannot_ask_for_a_large_student(tmp_path, layers, message):
    """Layers of which only the first has its matrices: shapes are compared before anything is made."""
    folder = make_checkpoint(tmp_path / "checkpoint", ODD)
    state = load_file(folder / "model.safetensors")
    state |= {f"bert.encoder.layer.{index}.x": torch.zeros(1) for index in range(3, layers)}
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder / "model.safetensors", folder)


APPLICATION = """#!/bin/sh
echo started >> {mark}
"""


@pytest.mark.parametrize("name", [None, "", "reviews", "python-reviews", "nowhere/python3"])
def test_no_application_is_started_to_read_a_pickle(tmp_path, monkeypatch, name):
    """One that embeds Python names itself in sys.executable, or nothing: what cannot read is not asked to."""
    file, mark = tmp_path / "model.bin", tmp_path / "mark"
    torch.save({"a": torch.arange(10.0)}, file)
    path = name and str(tmp_path / name)
    if path and "/" not in name:
        Path(path).write_text(APPLICATION.format(mark=mark))
        Path(path).chmod(0o755)
    monkeypatch.setattr(sys, "executable", path)
    with pytest.raises(DataError) as error:
        read_pickle(file, LIMITS)
    said = str(error.value)
    assert said.startswith("is a pickle, which only another process of this Python may read: ") and "\n" not in said
    assert said.endswith("; run bebert with a Python, or save the tensors as model.safetensors")
    assert not mark.exists()


def test_a_pickle_is_read_by_this_python_or_by_none(tmp_path, monkeypatch):
    """An embedding program may name the first python of its PATH, which has other packages."""
    torch.save({"a": torch.arange(10.0)}, tmp_path / "model.bin")
    other = tmp_path / "python3"
    other.write_text(f"#!/bin/sh\nexit {OTHER_PYTHON}\n")
    other.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(other))
    with pytest.raises(DataError, match=f"sys.executable is another one, {other}; run bebert with a Python"):
        read_pickle(tmp_path / "model.bin", LIMITS)


@pytest.mark.parametrize("flags", ["-I", "-OO", "-Werror"])
def test_a_pickle_is_read_whatever_python_is_told(tmp_path, flags):
    """Also where nothing but this process's sys.path says where the packages are."""
    torch.save({"a": torch.arange(10.0)}, tmp_path / "model.bin")
    code = (
        f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; from pathlib import Path; "
        "from bebert_export.checkpoints.untrusted_pickle import read_pickle; "
        f"print(len(read_pickle(Path({str(tmp_path / 'model.bin')!r}))['a']))"
    )
    command = [sys.executable, flags, "-c", code]
    environment = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout == "10\n", done.stderr


def test_a_missing_part_of_sharded_weights_is_an_error(tmp_path):
    """Also without the index, of which a reader of what is there would notice nothing."""
    folder = write_encoder(tmp_path / "encoder")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    files = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    places = {name: files[index % 3] for index, name in enumerate(names)}
    for file in files:
        save_file({name: state[name] for name in names if places[name] == file}, folder / file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    examples = SimpleNamespace(texts=["a"], pairs=None)
    options = {"vocabulary_size": None, "positions": None, "dropout": 0.0, "seed": 0}
    load_pretrained(str(folder), examples, ["a", "b"], **options)
    (folder / files[1]).unlink()
    for _ in range(2):
        with pytest.raises(DataError, match="has no readable weights"):
            load_pretrained(str(folder), examples, ["a", "b"], **options)
        index.unlink(missing_ok=True)
