"""A run that goes on from another run's first student: all of its weights but the head, and only if it fits."""

# ruff: noqa: E402 - the imports below need the extra

import json
import shutil
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from toy import write_data, write_task

from bebert_export.pipeline import member_stage, student_stage
from bebert_export.train import TrainOptions, train
from bebert_export.training import distillation
from bebert_infer import Ensemble
from bebert_infer.errors import InputError

QUIET = Console(quiet=True)
pytestmark = pytest.mark.usefixtures("quick_backend")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder with finished runs of scores, one for each kind of first student, and the files of another task."""
    folder = write_task(tmp_path_factory.mktemp("toy"), 160, 40)
    for name, rows, seed in (("train", 160, 3), ("dev", 40, 4)):
        write_data(folder / f"scores-{name}.tsv", rows, seed, regression=True)
    for name, changes in FIRST.items():
        train(scores(folder, name, **changes), QUIET)
    return folder


FIRST = {
    "ternary": {"scheme": "1-1-4"},
    "member_0": {"scheme": "1-1-1", "base": "bibert"},
    "student_2bit": {"scheme": "1-1-1", "base": "bit", "steps": (2,), "distill": "hidden"}
    | {"learning_rate": 2e-3, "start_epochs": 6, "epochs": 8, "dropout": 0.0},  # at 5e-3 it only guesses, or nearly so
}


def scores(folder, name, **changes):
    """Options of the first task: the vocabulary is trimmed there."""
    files = {"train": folder / "scores-train.tsv", "dev": folder / "scores-dev.tsv", "out": folder / name}
    common = {"members": 1, "max_length": 16, "vocabulary_size": 76, "teacher_epochs": 4, "start_epochs": 2}
    common |= {
        "epochs": 3,
        "hold_out": 0.0,
        "learning_rate": 5e-3,
        "teacher_learning_rate": 5e-3,
        "regression": True,
        "threads": 1,
    }
    return TrainOptions(init=str(folder / "encoder"), **(files | common | changes))


def classes(folder, name, out, **changes):
    """Options of the task after it: two classes, from the encoder and the student of the first."""
    files = {"train": folder / "train.tsv", "dev": folder / "dev.tsv", "out": out}
    first = {"init": str(folder / name / "full_precision"), "start_from": folder / name, "vocabulary_size": None}
    return replace(scores(folder, name, **FIRST[name]), **(files | first | {"regression": False} | changes))


@pytest.mark.parametrize("name", FIRST)
def test_the_first_student_starts_with_all_weights_of_the_other_but_the_head(runs, tmp_path, monkeypatch, name):
    seen, real = [], distillation.train_student

    def noted(student, *rest, **more):
        seen.append({key: tensor.clone() for key, tensor in student.state_dict().items()})
        return real(student, *rest, **more)

    monkeypatch.setattr(student_stage, "train_student", noted)
    monkeypatch.setattr(member_stage, "train_student", noted)
    # Bagging takes members that only guess, which one of so little training may do where bfloat16 is fast.
    chosen = classes(runs, name, tmp_path / "run", boosting="bagging")
    results = train(chosen, QUIET)
    other = load_file(runs / name / "stages" / f"{name}.safetensors")
    for key, tensor in seen[0].items():
        if not key.startswith("classifier."):
            assert torch.equal(tensor, other[f"model.{key}"]), key
    assert seen[0]["classifier.weight"].shape[0] == 2, "the head is that of this run's own full precision"
    own = load_file(tmp_path / "run" / "full_precision" / "model.safetensors")
    assert torch.equal(seen[0]["classifier.weight"], own["classifier.weight"])
    assert results["options"]["start_from"] == name
    assert Ensemble.from_pretrained(tmp_path / "run" / "model", threads=1)("good")["label"] in ("0", "1")
    seen.clear()
    assert train(replace(chosen, threads=2), QUIET)["dev"] == results["dev"] and not seen, "a finished run is read"


def test_a_run_whose_student_has_changed_is_not_gone_on_with(runs, tmp_path):
    first = scores(runs, "ternary", out=tmp_path / "first", **FIRST["ternary"])
    train(first, QUIET)
    chosen = classes(runs, "ternary", tmp_path / "run", start_from=tmp_path / "first")
    train(chosen, QUIET)
    file = tmp_path / "first" / "stages" / "ternary.safetensors"
    whole, tensors = file.read_bytes(), load_file(file)
    tensors["model.bert.pooler.dense.bias"][0] += 1
    save_file(tensors, file)
    with pytest.raises(InputError, match="holds a run with start_from_sha256"):
        train(chosen, QUIET)
    file.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="first is no whole run .*; repeat its command to mend it"):
        train(replace(chosen, out=tmp_path / "other"), QUIET)
    file.write_bytes(whole)
    for broken in ("{}", "[]", "null", '{"scheme": "1-1-4"}', "no json"):
        (tmp_path / "first" / "options.json").write_text(broken)
        with pytest.raises(
            InputError, match=r"first is no whole run \(options.json: .*; repeat its command to mend it"
        ):
            train(replace(chosen, out=tmp_path / "other"), QUIET)
    assert not (tmp_path / "other").exists()


def test_a_run_needs_the_other_one_at_its_beginning_only(runs, tmp_path, monkeypatch):
    """It could not be resumed when the other run was cleared or made anew: the file holds seconds, so it differs."""
    first = scores(runs, "ternary", out=tmp_path / "first", **FIRST["ternary"])
    train(first, QUIET)
    chosen = classes(runs, "ternary", tmp_path / "run", start_from=tmp_path / "first", init=str(tmp_path / "encoder"))
    shutil.copytree(tmp_path / "first" / "full_precision", tmp_path / "encoder")
    real = student_stage.train_student

    def killed(*_, **__):
        shutil.rmtree(tmp_path / "first")  # while full precision was trained
        shutil.rmtree(tmp_path / "encoder")
        raise KeyboardInterrupt

    monkeypatch.setattr(student_stage, "train_student", killed)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, QUIET)
    monkeypatch.setattr(student_stage, "train_student", real)
    results = train(chosen, QUIET)
    other = train(classes(runs, "ternary", tmp_path / "other"), QUIET)
    assert results["dev"] == other["dev"] and results["options"]["start_from_sha256"]
    assert results["options"]["start_from_sha256"] == other["options"]["start_from_sha256"]
    train(first, QUIET)  # anew: other seconds, the same student
    assert train(replace(chosen, members=2), QUIET)["options"]["members"] == 2


def larger(runs, folder, name):
    """An encoder with the words of the run "ternary" and twice as much of something."""
    config = json.loads((runs / "ternary" / "full_precision" / "config.json").read_text())
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(config | {name: 2 * config[name]}))
    shutil.copy(runs / "ternary" / "full_precision" / "tokenizer.json", folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("ternary", {"start_from": "nowhere"}, r"nowhere\", which has no stages/ternary.safetensors; pass the folder"),
        ("ternary", {"scheme": "1-1-1", "base": "bibert"}, "has the base binarybert, this run bibert; they must"),
        ("member_0", {"base": "bit"}, "member_0 has the base bibert, this run bit; they must be equal"),
        ("ternary", {"width": 0.5}, "ternary has the width 1.0, this run 0.5; they must be equal"),
        ("student_2bit", {"steps": (2, 1)}, r"student_2bit has the steps \[2\], this run \[2, 1\]"),
        ("ternary", {"vocabulary_size": 70}, "vocabulary_size is 70; the words of the student in .* must stay"),
        ("ternary", {"init": "encoder"}, "the words of .*ternary and of .*encoder differ; pass .*full_precision as"),
        (
            "ternary",
            {"init": "hidden_size"},
            "ternary has the hidden_size 32, .*hidden_size 64; pass .*full_precision as",
        ),
        ("ternary", {"init": "num_hidden_layers"}, "ternary has the num_hidden_layers 1, .*num_hidden_layers 2; pass"),
        ("ternary", {"init": "num_attention_heads"}, "ternary has the num_attention_heads 2, .*_heads 4; pass"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(runs, tmp_path, name, changes, said):
    if "init" in changes:
        own = runs / "encoder" if changes["init"] == "encoder" else larger(runs, tmp_path, changes["init"])
        changes = {"init": str(own)}
    if "start_from" in changes:
        changes = {"start_from": tmp_path / changes["start_from"]}
    with pytest.raises(InputError, match=said):
        train(classes(runs, name, tmp_path / "run", **changes), QUIET)
    assert not (tmp_path / "run").exists()


def test_a_student_of_another_size_is_refused(runs, tmp_path):
    """An encoder with the same words and other layers: what the options cannot tell."""
    file = runs / "ternary" / "stages" / "ternary.safetensors"
    (tmp_path / "first" / "stages").mkdir(parents=True)
    with safe_open(file, framework="pt") as whole:
        facts = whole.metadata()
    tensors = load_file(file)
    name = next(key for key in tensors if key.endswith("position_embeddings.weight"))
    tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, tmp_path / "first" / "stages" / "ternary.safetensors", facts)
    for part in ("options.json", "full_precision"):
        (tmp_path / "first" / part).symlink_to(runs / "ternary" / part)
    assert json.loads((tmp_path / "first" / "options.json").read_text())["scheme"] == "1-1-4"
    with pytest.raises(InputError, match="position_embeddings.weight of .* pass a run of this encoder"):
        train(classes(runs, "ternary", tmp_path / "run", start_from=tmp_path / "first"), QUIET)
