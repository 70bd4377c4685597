"""What is pushed answers from the hub as it did here; saving is whole; nothing comes out that should stay private."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import OWNER, READER, Hub, card_faults, hub
from micro import CONFIG, TENSORS, TOKENIZER, micro_config, write_micro

from bebert_infer import Ensemble, ModelFormatError
from bebert_infer.artifact.folder import Artifact, read_artifact
from bebert_infer.measure.sample_models import demo_path, random_model

CARD = "README.md"
GOOD_CARD = "---\nlibrary_name: bebert-infer\n---\n\n# Mine\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_micro(tmp_path_factory.mktemp("push") / "model")
    (folder / CARD).write_text(GOOD_CARD)
    return folder


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as running:
        yield running


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def push(server: Hub, home: Path, *arguments: object, token: str = OWNER):
    return server.bebert(home, "push", *arguments, **({"HF_TOKEN": token} if token else {}))


# --- saving ---


def test_a_saved_model_has_the_same_bytes(model, tmp_path):
    config = json.loads((model / CONFIG).read_text()) | {"of another tool": 1}
    source = Path(shutil.copytree(model, tmp_path / "source"))
    (source / CONFIG).write_text(json.dumps(config))
    (source / "notes.txt").write_text("mine")
    ensemble = Ensemble.from_pretrained(source, backend="reference")
    ensemble.save_pretrained(tmp_path / "deep" / "saved")
    files = {name: data for name, data in content(source).items() if name != "notes.txt"}
    assert content(tmp_path / "deep" / "saved") == files
    ensemble.save_pretrained(tmp_path / "deep" / "saved")  # over a model
    assert content(tmp_path / "deep" / "saved") == files
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["saved"]
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("years of work")
    with pytest.raises(ModelFormatError, match="is no model folder; choose another place"):
        ensemble.save_pretrained(taken)
    assert content(taken) == {"thesis.tex": b"years of work"}


def test_a_model_that_became_another_is_not_saved_as_the_one_that_answers(model, tmp_path):
    source = Path(shutil.copytree(model, tmp_path / "source"))
    artifact = read_artifact(source)
    write_micro(source, seed=5)
    from bebert_infer.hub import save

    with pytest.raises(ModelFormatError, match="holds another model now"):
        save(artifact, tmp_path / "saved")
    assert not (tmp_path / "saved").exists() and len(list(tmp_path.iterdir())) == 1


def test_a_model_in_memory_is_saved_with_a_card_that_the_hub_takes(tmp_path):
    made = random_model("tiny", "1-1-4", 1, vocab_size=9)
    model = Ensemble(Artifact(Path("nowhere"), made.config, made.tensors, None), backend="reference")
    model.save_pretrained(tmp_path / "saved")
    again = Ensemble.from_pretrained(tmp_path / "saved", backend="reference")
    assert (again.logits([[1, 2]]) == model.logits([[1, 2]])).all()
    assert not card_faults((tmp_path / "saved" / CARD).read_text())


# --- pushing ---


def test_what_is_pushed_comes_back_the_same_in_one_commit(server, model, tmp_path):
    done = push(server, tmp_path, model, "me/mine", "--message", "First")
    assert done.returncode == 0, done.stderr
    repository = server.repositories["me/mine"]
    (commit,) = repository.commits
    assert done.stdout.strip() == f"{server.url}/me/mine/commit/{commit}"
    assert repository.commits[commit] == content(model) and repository.messages == ["First"]
    assert not repository.private
    code = (
        "import sys; from bebert_infer import Ensemble as E; E.from_pretrained('me/mine').save_pretrained(sys.argv[1])"
    )
    assert server.python(code, tmp_path / "home", tmp_path / "back").returncode == 0
    assert content(tmp_path / "back") == content(model)


def test_python_pushes_to_a_branch_of_a_private_repository(server, model, tmp_path):
    code = (
        "import sys; from bebert_infer import Ensemble; model = Ensemble.from_pretrained(sys.argv[1]); "
        "print(model.push_to_hub('me/mine', private=True, commit_message='v2', revision='v2', token=sys.argv[2])); "
        "print(model.push_to_hub('me/mine', private=True, token=sys.argv[2]))"
    )
    done = server.python(code, tmp_path, model, OWNER)
    assert done.returncode == 0, done.stderr
    repository = server.repositories["me/mine"]
    assert repository.private and set(repository.branches) == {"main", "v2"}
    for branch in ("main", "v2"):
        assert repository.commits[repository.branches[branch]] == content(model)
    assert done.stdout.splitlines()[1].endswith(repository.branches["main"])


def test_what_should_be_private_does_not_come_out_in_a_public_repository(server, model, tmp_path):
    server.add("me/open")
    done = push(server, tmp_path, model, "me/open", "--private")
    assert done.returncode == 2 and "is there and public; nothing was pushed" in done.stderr
    assert not server.repositories["me/open"].commits


def test_what_cannot_be_pushed_is_said_with_what_to_do(server, model, tmp_path):
    done = push(server, tmp_path, model, "me/mine", token="")
    assert done.returncode == 1 and "no token was sent: run `hf auth login`, set HF_TOKEN" in done.stderr
    done = push(server, tmp_path, model, "me/mine", token=READER)
    assert done.returncode == 1 and "refused it (403); the token that was sent has not that right" in done.stderr
    assert READER not in done.stderr and "Traceback" not in done.stderr
    for name in ("mine", "me/mine/x", "me/mine@v1", "./mine"):
        done = push(server, tmp_path, model, name)
        assert done.returncode == 2 and 'accepted is "owner/name"' in done.stderr
    done = push(server, tmp_path, tmp_path / "nothing", "me/mine")
    assert done.returncode == 2 and "there is no model folder" in done.stderr
    odd = Path(shutil.copytree(model, tmp_path / "odd"))
    (odd / CARD).write_text("---\nlanguage: [English]\n---\n")
    done = push(server, tmp_path, odd, "me/mine")
    assert done.returncode == 1 and "language is English" in done.stderr, done.stderr
    damaged = Path(shutil.copytree(model, tmp_path / "damaged"))
    (damaged / TENSORS).write_bytes((damaged / TENSORS).read_bytes()[:-1])
    assert push(server, tmp_path, damaged, "me/mine").returncode == 1
    assert not server.repositories["me/mine"].commits, "nothing of all that came out"
    done = server.bebert(tmp_path, "push", model, "me/mine", HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "while HF_HUB_OFFLINE is set" in done.stderr


def test_a_model_of_token_ids_is_pushed_without_a_tokenizer(server, tmp_path):
    import msgspec

    folder = write_micro(tmp_path / "ids", msgspec.structs.replace(micro_config(), tokenizer=None))
    (folder / CARD).write_text(GOOD_CARD)
    assert push(server, tmp_path, folder, "me/ids").returncode == 0
    (files,) = server.repositories["me/ids"].commits.values()
    assert set(files) == {CONFIG, TENSORS, CARD} and TOKENIZER not in files
    load = "from bebert_infer import Ensemble; print(Ensemble.from_pretrained('me/ids').logits([[1]]).shape)"
    assert server.python(load, tmp_path / "home").stdout.strip() == "(1, 2)"


def test_the_card_of_the_shipped_model_is_what_the_hub_wants(server, tmp_path):
    """By the client's own reader, and by `ModelCard.validate`, which asks the hub."""
    code = (
        "import json, sys; from huggingface_hub import ModelCard; card = ModelCard.load(sys.argv[1]); card.validate(); "
        "print(json.dumps([card.data.to_dict(), [[r.metric_type, r.metric_value, r.dataset_type] for r in "
        "card.data.eval_results]]))"
    )
    done = server.python(code, tmp_path, demo_path() / CARD)
    assert done.returncode == 0, done.stderr
    data, results = json.loads(done.stdout)
    assert "POST /api/validate-yaml" in server.requests
    assert (
        data["license"] == "apache-2.0" and data["language"] == ["en"] and data["pipeline_tag"] == "text-classification"
    )
    assert data["base_model"] and data["datasets"] == ["nyu-mll/glue"] and data["widget"][0]["text"]
    evidence = read_artifact(demo_path()).config.evidence["dev"]["ensemble"]["probabilities"]
    assert ["accuracy", round(evidence["accuracy"], 4), "nyu-mll/glue"] in results
