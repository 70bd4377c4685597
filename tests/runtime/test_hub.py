"""A model of the hub answers by its name as its folder does; what does not come, or comes damaged, is one sentence."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import OWNER, READER, Hub, hub
from micro import CONFIG, TENSORS, TOKENIZER, write_micro

from bebert_infer import Ensemble

LOAD = """
import json, sys
from bebert_infer import BebertError, Ensemble
for text in sys.argv[2:]:
    try:
        print(json.dumps(Ensemble.from_pretrained(text, **json.loads(sys.argv[1])).logits([[1, 2, 3]]).tolist()))
    except BebertError as error:
        print(f"{type(error).__name__} {error.exit_code}: {error}")
"""
IDS = [[1, 2, 3]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_micro(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as running:
        yield running


def load(server: Hub, home: Path, *names: str, environment: dict[str, str] | None = None, **options: object) -> list:
    """What each name gives in one process: logits, or the error."""
    done = server.python(LOAD, home, json.dumps(options), *names, **environment or {})
    assert done.returncode == 0, done.stderr
    return [json.loads(line) if line.startswith("[") else line for line in done.stdout.splitlines()]


def logits(folder: Path) -> list:
    return Ensemble.from_pretrained(folder, backend="reference").logits(IDS).tolist()


# --- what comes ---


def test_a_name_answers_as_the_folder_does_and_only_our_files_are_fetched(server, model, tmp_path):
    repository = server.add("me/mine", model)
    repository.commit({"pytorch_model.bin": b"\x80pickle", "sub/config.json": b"{}", "run.py": b"print()"})
    assert load(server, tmp_path / "home", "me/mine") == [logits(model)]
    fetched = {line.rpartition("/")[2] for line in server.requests if "/resolve/" in line or "/lfs/" in line}
    assert fetched == {CONFIG, TENSORS, TOKENIZER, "README.md"}
    assert any("bebert-infer" in user for user in server.users)
    before = len(server.requests)
    assert load(server, tmp_path / "home", "me/mine") == [logits(model)]
    again = [line for line in server.requests[before:] if "me/mine" in line]
    assert again == ["GET /api/models/me/mine/revision/main"], "what is there is not fetched again"


def test_a_folder_of_that_name_comes_first_and_asks_nobody(server, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "me" / "mine")
    assert load(server, tmp_path / "home", "me/mine") == [logits(model)]
    assert not server.requests
    (found,) = load(server, tmp_path / "home", "me/mine", revision="v1")
    assert found.startswith('InputError 2: "me/mine" is a folder here, and revision "v1"')


def test_revisions_are_branches_and_commits_by_option_or_in_the_name(server, model, tmp_path):
    other = write_micro(tmp_path / "other", seed=1)
    repository = server.add("me/mine", model)
    first = repository.branches["main"]
    repository.branches["v1.0"] = first
    newest = repository.commit({file.name: file.read_bytes() for file in other.iterdir()})
    old, new = logits(model), logits(other)
    assert old != new
    home = tmp_path / "home"
    names = ["me/mine", "me/mine@v1.0", f"me/mine@{first}", f"me/mine@{newest}", "me/mine@main"]
    assert load(server, home, *names) == [new, old, old, new, new]
    assert load(server, home, "me/mine", revision="v1.0") == [old]
    wrong = load(server, home, "me/mine@v2", "me/mine@v1.0", revision="v1.0")
    assert wrong[0].startswith("InputError 2:") and wrong[1].startswith('InputError 2: "me/mine@v1.0" names a revision')
    (wrong,) = load(server, home, "me/mine@v2")
    assert wrong.startswith(f'MissingModelError 2: "me/mine" at {server.url} has no revision "v2"; accepted are')


def test_a_new_commit_is_found_and_its_files_are_of_one_commit(server, model, tmp_path):
    other = write_micro(tmp_path / "other", seed=1)
    repository = server.add("me/mine", model)
    assert load(server, tmp_path / "home", "me/mine") == [logits(model)]
    repository.commit({file.name: file.read_bytes() for file in other.iterdir()})
    assert load(server, tmp_path / "home", "me/mine") == [logits(other)]
    snapshots = tmp_path / "home" / "hub" / "models--me--mine" / "snapshots"
    assert len(list(snapshots.iterdir())) == 2


def test_every_command_that_takes_a_model_takes_a_name(server, model, tmp_path):
    server.add("me/mine", model)
    done = server.bebert(tmp_path / "home", "predict", "me/mine", "good film", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["label"] == Ensemble.from_pretrained(model).predict("good film")[0].label
    done = server.bebert(tmp_path / "home", "inspect", "me/mine@main", "--json", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["members"]
    done = server.bebert(tmp_path / "home", "inspect", "me/other")
    assert done.returncode == 2 and "shows no repository of this name" in done.stderr and len(done.stderr) < 500
    bench = ("bench", "me/mine", "--profile", "--tokens", "4", "--json", "--threads", "1")
    done = server.bebert(tmp_path / "home", *bench, HF_HUB_OFFLINE="1", BEBERT_BACKEND="native")
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), "a model in the cache is read without a bar"


# --- the cache, without network ---


def lay_out(cache: Path, model: Path, *, ref: str, links: bool = True, commit: str = "a" * 40) -> Path:
    """A hub cache made by hand."""
    repository = cache / "models--me--mine"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(ref)
    for file in sorted(model.iterdir()):
        if links:
            blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            shutil.copy(file, blob)
            (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
        else:
            shutil.copy(file, snapshot / file.name)
    return snapshot


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_cache_laid_out_by_hand_answers_without_network(server, model, tmp_path, links, end):
    lay_out(tmp_path / "home" / "hub", model, ref="a" * 40 + end, links=links)
    names = ["me/mine", f"me/mine@{'a' * 40}"]
    offline = {"HF_HUB_OFFLINE": "1"}
    assert load(server, tmp_path / "home", *names, environment=offline) == [logits(model)] * 2
    assert (
        load(server, tmp_path / "nowhere", *names, local_files_only=True, cache_dir=str(tmp_path / "home" / "hub"))
        == [logits(model)] * 2
    )
    assert not server.requests
    gone = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # nobody listens there
    assert load(server, tmp_path / "home", "me/mine", environment=gone) == [logits(model)]
    server.down = True
    assert load(server, tmp_path / "home", "me/mine") == [logits(model)]


def test_files_that_repositories_share_in_a_cache_are_read(server, model, tmp_path):
    """What Xet brings lies once in `blobs/` of the whole cache; a repository's blob is a link to it."""
    cache = tmp_path / "home" / "hub"
    snapshot = lay_out(cache, model, ref="a" * 40)
    blob = snapshot / (snapshot / TENSORS).readlink()
    shared = cache / "blobs" / "be" / ("be" + "0" * 62)
    shared.parent.mkdir(parents=True)
    blob.resolve().rename(shared)
    (cache / "models--me--mine" / "blobs" / blob.name).symlink_to(f"../../blobs/be/{shared.name}")
    offline = {"HF_HUB_OFFLINE": "1"}
    assert load(server, tmp_path / "home", "me/mine", environment=offline) == [logits(model)]
    outside = tmp_path / "blobs" / "be" / shared.name
    outside.parent.mkdir(parents=True)
    shared.rename(outside)
    shared.symlink_to(outside)
    (found,) = load(server, tmp_path / "home", "me/mine", environment=offline)
    assert "is a link to" in found and str(outside) in found


def test_what_the_cache_lacks_is_said_without_network(server, model, tmp_path):
    offline = {"HF_HUB_OFFLINE": "1"}
    (found,) = load(server, tmp_path / "home", "me/mine", environment=offline)
    assert found.startswith('HubError 1: "me/mine" is not in the hub cache "')
    assert str(tmp_path / "home" / "hub") in found and "load it once with network" in found
    snapshot = lay_out(tmp_path / "home" / "hub", model, ref="a" * 40)
    for name in (TENSORS, TOKENIZER, CONFIG):
        kept = (snapshot / name).readlink()
        (snapshot / name).unlink()
        (found,) = load(server, tmp_path / "home", "me/mine", environment=offline)
        assert found.startswith('HubError 1: of "me/mine" the hub cache') and f"lacks {name}" in found
        (snapshot / name).symlink_to(kept)
    (found,) = load(server, tmp_path / "home", "me/mine@../../x", environment=offline)
    assert found.startswith('HubError 1: revision "../../x" of "me/mine" is not in the hub cache')
    gone = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    (found,) = load(server, tmp_path / "home", "you/yours", environment=gone)
    assert found.startswith('HubError 1: "you/yours" at http://127.0.0.1:9 is no folder here, cannot be fetched')
    assert "check the network" in found and "ConnectError" in found


# --- what does not come, or comes wrong ---


def test_what_the_hub_refuses_is_said_with_what_to_do(server, model, tmp_path):
    server.add("me/private", model, private=True)
    server.add("me/gated", model, gated=True)
    server.add("me/empty").commit({"README.md": b"nothing"})
    server.add("me/bert").commit({"config.json": b'{"model_type": "bert"}', TENSORS: b"x" * 1000})
    server.add("me/half").commit({CONFIG: (model / CONFIG).read_bytes()})
    home = tmp_path / "home"
    names = ["me/none", "me/private", "me/gated", "me/empty", "me/bert", "me/half", "a..b/c"]
    none, private, gated, empty, bert, half, odd = load(server, home, *names)
    assert none == private.replace("me/private", "me/none"), "who may not see it does not learn that it is there"
    assert private.startswith(f'MissingModelError 2: "me/private" is no folder here, and {server.url} shows no')
    assert "check the name; if it is private, no token was sent: run `hf auth login`, set HF_TOKEN" in private
    assert (
        gated.startswith(f'HubError 1: "me/gated" at {server.url}')
        and f"ask for access at {server.url}/me/gated" in gated
    )
    assert empty.startswith(f'MissingModelError 2: "me/empty" at {server.url} has no config.json: it holds no packed')
    assert 'does not say "format": "bebert-infer"' in bert and '"me/bert"' in bert
    assert not [line for line in server.requests if "me/bert/resolve" in line and TENSORS in line], "looked at first"
    assert half.startswith(f'MissingModelError 2: "me/half" at {server.url} has no model.safetensors')
    assert odd.startswith('InputError 2: "a..b/c" is no folder here and no name of a repository')
    reader = {"HF_TOKEN": READER}
    private, gated = load(server, home, "me/private", "me/gated", environment=reader)
    assert "if it is private, the token that was sent has not that right" in private
    assert "it is gated" in gated and READER not in private + gated
    (wrong,) = load(server, home, "me/private", token="hf_wrong")
    assert "the hub refused it (401)" in wrong and "hf_wrong" not in wrong
    assert load(server, home, "me/private", token=OWNER) == [logits(model)]
    assert load(server, home, "me/gated", environment={"HF_TOKEN": OWNER}) == [logits(model)]
    server.down = True
    (down,) = load(server, home, "me/other")
    assert "the hub answered 500" in down and "try again later" in down


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


DAMAGE = {
    "a shorter file": (TENSORS, lambda data: data[: len(data) // 2]),
    "an empty file": (TENSORS, lambda data: b""),
    "a changed bit": (TENSORS, flipped),
    "another tokenizer": (TOKENIZER, lambda data: data.replace(b'"good"', b'"doog"')),
    "half a tokenizer": (TOKENIZER, lambda data: data[: len(data) // 2] + b" " * (len(data) - len(data) // 2)),
    "another config": (CONFIG, lambda data: data.replace(b'"tensors_bytes": ', b'"tensors_bytes":1')),
    "half a config": (CONFIG, lambda data: data[: len(data) // 2] + b" " * (len(data) - len(data) // 2)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_download_never_answers_and_the_error_says_how_to_get_it_whole(server, model, tmp_path, kind):
    server.add("me/mine", model)
    file, damage = DAMAGE[kind]
    server.damage = {file: damage}
    (found,) = load(server, tmp_path, "me/mine")
    assert isinstance(found, str), "it answered"
    assert "me/mine" in found and file in found, found
    server.damage = {}
    (again,) = load(server, tmp_path, "me/mine", environment={"HF_HUB_OFFLINE": "1"})
    assert isinstance(again, str) and "me/mine" in again and file in again, "nor from the cache"
    (found,) = load(server, tmp_path, "me/mine")
    if isinstance(found, str):  # it lies in the cache; the error says what to remove
        place = found.partition('remove "')[2].partition('"')[0]
        assert place.endswith("models--me--mine"), found
        shutil.rmtree(place)
        (found,) = load(server, tmp_path, "me/mine")
    assert found == logits(model)


def test_a_connection_that_breaks_is_taken_up_again(server, model, tmp_path):
    server.add("me/mine", model)
    server.breaks, times = True, []

    def once(data: bytes) -> bytes:
        times.append(1)
        return data[: len(data) // 2] if len(times) == 1 else data

    server.damage = {TENSORS: once}
    assert load(server, tmp_path / "once", "me/mine") == [logits(model)] and len(times) == 2


@pytest.mark.long  # the client tries for half a minute
def test_a_connection_that_always_breaks_is_said(server, model, tmp_path):
    server.add("me/mine", model)
    server.breaks = True
    server.damage = {TENSORS: lambda data: data[: len(data) // 2]}
    (found,) = load(server, tmp_path / "always", "me/mine")
    assert found.startswith(f'HubError 1: "me/mine" at {server.url} cannot be fetched (model.safetensors): no answer')


def test_a_tokenizer_of_another_model_is_refused_in_a_folder_too(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    text = (folder / TOKENIZER).read_text()
    (folder / TOKENIZER).write_text(text.replace('"good"', '"doog"'))
    with pytest.raises(ValueError, match=r"tokenizer\.sha256 in config\.json says"):
        Ensemble.from_pretrained(folder)
    config = json.loads((folder / CONFIG).read_text())
    del config["tokenizer"]["sha256"]  # models of before have none
    (folder / CONFIG).write_text(json.dumps(config))
    assert np.isfinite(Ensemble.from_pretrained(folder, backend="reference").logits(IDS)).all()
