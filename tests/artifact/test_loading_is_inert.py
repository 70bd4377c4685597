"""Loading runs no code of a file, opens no other path, imports nothing, and needs little more memory than the file.

A child process watches itself with an audit hook, which Python calls before anything that leaves the interpreter.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest
from micro import (
    CONFIG,
    TENSORS,
    TOKENIZER,
    join,
    micro_config,
    put_tensors,
    random_tensors,
    split,
    write_micro,
)

from bebert_infer.artifact.config import TokenizerConfig
from bebert_infer.artifact.folder import write_artifact

# Events that no model may cause, whatever is in it; imports are those of modules that are not there yet.
WATCH = """
    import json, os, sys, traceback
    from bebert_infer import Ensemble, ModelFormatError

    def load(folder):
        model = Ensemble.from_pretrained(folder, backend="reference", threads=1)
        model.predict(["the good film"])

    load(sys.argv[1])  # whatever is imported late is there now
    watched, inside, seen = False, "", []

    def hook(event, arguments):
        if not watched:
            return
        if event == "open":
            if isinstance(arguments[0], int):
                return  # a file that is open already
            path = os.fsdecode(arguments[0])
            own = os.path.dirname(os.path.abspath(path)) == inside
            if not own and not path.startswith(("/proc/", "/sys/fs/cgroup")):
                seen.append([event, path])
        elif event.split(".")[0] in (
            "exec", "compile", "import", "subprocess", "socket", "pickle", "marshal", "ctypes",
            "shutil", "code", "urllib",
        ) or event in (
            "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir", "os.link",
            "os.symlink", "os.chmod", "os.putenv", "builtins.input", "cpython.run_command",
        ):
            seen.append([event, repr(arguments)[:200]])

    sys.addaudithook(hook)
    outcomes = {}
    for folder in sys.argv[2:]:
        inside, watched = os.path.realpath(folder), True
        try:
            load(folder)
            outcome = "model"
        except ModelFormatError as error:
            outcome = str(error)
        watched = False
        outcomes[os.path.basename(folder)] = outcome
    print(json.dumps([outcomes, seen]))
"""


def child(code: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout


def test_whatever_is_in_a_folder_nothing_is_run_imported_or_opened_elsewhere(tmp_path):
    good = write_micro(tmp_path / "good")
    secret = tmp_path / "secret"
    secret.write_text("{}")
    code = b"cos\nsystem\n(S'touch pwned'\ntR."

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    for file in (CONFIG, TENSORS, TOKENIZER):
        (copy(f"pickle as {file}") / file).write_bytes(code)
        linked = copy(f"link as {file}")
        (linked / file).unlink()
        (linked / file).symlink_to(secret)
    config = json.loads((good / CONFIG).read_text())
    names = {"auto_map": {"AutoModel": "evil.Model"}, "__class__": "os.system", "architectures": ["os.system"]}
    paths = {"tensors": str(secret), "tokenizer_file": str(secret), "evidence": {"include": str(secret), "$ref": "x"}}
    (copy("names") / CONFIG).write_text(json.dumps(config | names | paths))
    for name in ("modeling.py", "__init__.py", "sitecustomize.py", "tokenizers.py", "pytorch_model.bin"):
        (tmp_path / "names" / name).write_bytes(b"raise SystemExit(9)")
    header, data = split((good / TENSORS).read_bytes())
    header["__metadata__"] = {"format": "bebert-infer", "code": "__import__('os').system('touch pwned')"}
    put_tensors(copy("metadata"), join(header, data))
    tokenizer = json.loads((good / TOKENIZER).read_text())
    for field, value in (("model", {"type": "WordPiece", "vocab": str(secret)}), ("normalizer", {"type": "os.system"})):
        (copy(f"tokenizer {field}") / TOKENIZER).write_text(json.dumps(tokenizer | {field: value}))

    folders = [str(path) for path in tmp_path.iterdir() if path.is_dir() and path != good]
    outcomes, seen = json.loads(child(WATCH, str(good), *sorted(folders)))
    assert seen == []
    assert len(outcomes) == 10
    loaded = {name for name, outcome in outcomes.items() if outcome == "model"}
    assert loaded == {"names", "metadata"}  # unknown fields are ignored, and so is free text
    for file in (CONFIG, TENSORS, TOKENIZER):
        assert "is a link to" in outcomes[f"link as {file}"]
    assert not list(tmp_path.rglob("pwned"))


def test_the_watch_itself_would_notice(tmp_path):
    """The same child, with a model class that does what must not happen."""
    good = write_micro(tmp_path / "good")
    secret = tmp_path / "secret"
    secret.write_text("")
    acts = {
        f"open({str(secret)!r}).close()": "open",
        "sys.modules.pop('this', 0); __import__('this')": "import",
        "os.system('true')": "os.system",
    }
    for act, event in acts.items():
        bad = WATCH.replace("        model.predict(", f"        {act}\n        model.predict(")
        _, seen = json.loads(child(bad, str(good), str(good)).splitlines()[-1])
        assert event in {name for name, _ in seen}


MEMORY = """
    import resource, sys, tracemalloc
    from bebert_infer.artifact.folder import read_artifact
    from bebert_infer.errors import ModelFormatError

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def load(folder):
        try:
            return read_artifact(folder)
        except ModelFormatError:
            return None

    load(sys.argv[1])
    before = peak()
    kept = load(sys.argv[2])
    print(peak() - before)
"""
CONSTANT = 64 * 2**20  # bytes of interpreter objects, for the most values that JSON files may have


def test_reading_takes_at_most_twice_the_memory_of_the_files(tmp_path):
    small = write_micro(tmp_path / "small")
    config = msgspec.structs.replace(micro_config(hidden_size=64), max_position_embeddings=2**18)
    large = tmp_path / "large"  # 64 MiB, nearly all of it one table
    write_artifact(large, msgspec.structs.replace(config, tokenizer=None), random_tensors(config), None, "")
    size = (large / TENSORS).stat().st_size
    assert size > 64 * 2**20
    assert int(child(MEMORY, str(small), str(large))) < 1.25 * size  # in fact one copy, and a mask of one tensor


BOMBS = {
    CONFIG: b'{"format":"bebert-infer","evidence":[' + b"[]," * (2**17 - 10) + b"[]]}",
    TENSORS: None,
    TOKENIZER: b'{"model":[' + b"[]," * 2**20 + b"[]]}",
}


@pytest.mark.parametrize("file", BOMBS)
def test_json_that_is_small_on_disk_and_large_in_memory_is_bounded(tmp_path, file):
    small, folder = write_micro(tmp_path / "small"), write_micro(tmp_path / "bomb")
    if file == TENSORS:
        put_tensors(folder, join(b"[" + b"[]," * 2**20 + b"[]]", b""))
    elif file == CONFIG:
        (folder / file).write_bytes(BOMBS[file])
    else:
        config = json.loads((folder / CONFIG).read_text())
        assert config["tokenizer"]["max_length"] == TokenizerConfig(8).max_length
        (folder / file).write_bytes(BOMBS[file])
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert int(child(MEMORY, str(small), str(folder))) < 2 * size + CONSTANT


def test_a_folder_of_the_most_tensors_is_bounded(tmp_path):
    """Many tiny tensors: Python needs more for the name of each than the file for its value."""
    small = write_micro(tmp_path / "small")
    config = msgspec.structs.replace(micro_config(num_hidden_layers=400), tokenizer=None)
    write_artifact(tmp_path / "deep", config, random_tensors(config), None, "")
    size = (tmp_path / "deep" / TENSORS).stat().st_size
    assert int(child(MEMORY, str(small), str(tmp_path / "deep"))) < 2 * size + CONSTANT
