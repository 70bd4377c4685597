"""`--warm-start own`: every member starts, and learns, from students of its own."""

# ruff: noqa: E402 - the imports below need the extra

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from toy import write_task
from toy_runs import QUIET, options

from bebert_export.data.batches import encode, load_tokenizer
from bebert_export.data.examples import read_examples
from bebert_export.pipeline import member_stage, student_stage
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.student.schemes import stored_state
from bebert_export.student.weight_splitting import split_student
from bebert_export.train import train
from bebert_export.training.distillation import train_student
from bebert_export.training.loop import predict
from bebert_infer import Ensemble
from bebert_infer.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_backend")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("toy"), 320, 80)


def own(folder, out, **changes):
    """Options of a short run whose members have students of their own."""
    short = {"teacher_epochs": 3, "start_epochs": 2, "epochs": 2, "warm_start": "own"}
    return options(folder, out, **(short | changes))


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({}, "ternary"),
        ({"scheme": "1-1-1", "base": "bit", "steps": (2,), "distill": "prediction"}, "student_2bit"),
    ],
)
def test_each_member_starts_from_its_own_student_also_when_the_run_is_resumed(
    folder, tmp_path, monkeypatch, changes, stage
):
    chosen = own(folder, tmp_path / "run", **changes)
    students, members = [], []

    def student_taught(student, *arguments, **named):
        students.append((student, named["seed"]))
        return train_student(student, *arguments, **named)

    def member_taught(student, *arguments, distillation, **named):
        members.append(({name: x.clone() for name, x in student.state_dict().items()}, distillation))
        if len(members) == 2:
            raise KeyboardInterrupt
        return train_student(student, *arguments, distillation=distillation, **named)

    def mostly_right(model, encoded, classes):  # whether a toy learns anything in 1-1-1 hangs on the processor
        answers = np.array(read_examples(chosen.train).labels, np.int64)
        answers[len(members) :: 10] = 1 - answers[len(members) :: 10]  # another tenth for every member
        return np.eye(2, dtype=np.float32)[answers]

    monkeypatch.setattr(student_stage, "train_student", student_taught)
    monkeypatch.setattr(member_stage, "train_student", member_taught)
    monkeypatch.setattr(member_stage, "outputs_of", mostly_right)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, QUIET)
    stages = {name: chosen.out / "stages" / f"{name}.safetensors" for name in (stage, f"{stage}_of_member_1")}
    made = {name: file.read_bytes() for name, file in stages.items()}
    assert [seed for _, seed in students] == [chosen.seed + 1, chosen.seed + 10_001]

    results = train(chosen, QUIET)
    assert len(students) == 2 and len(members) == 3, "nothing finished is trained again"
    assert all(file.read_bytes() == made[name] for name, file in stages.items())
    tokenizer = load_tokenizer(chosen.out / "full_precision")
    encoded = encode(tokenizer, read_examples(chosen.train), chosen.max_length)
    for (parent, _), (begun, distillation) in zip((students[0], *students[1:] * 2), members, strict=True):
        expected = (split_student(parent) if stage == "ternary" else parent).state_dict()
        same = {name for name in begun if stage == "ternary" or "clip_" not in name}
        assert all(torch.equal(begun[name], expected[name]) for name in same)
        if stage != "ternary":
            assert np.array_equal(distillation.logits, predict(parent, encoded, 2)), "it also learns from its own"

    assert list(results["students"]) == list(stages) and len(results["members"]) == 2
    facts = [results["full_precision"], *results["students"].values(), *results["members"]]
    assert results["seconds"]["training"] == pytest.approx(sum(each["seconds"] for each in facts), abs=0.11)
    card = (chosen.out / "model" / "README.md").read_text()
    assert "--warm-start own" in card and f"| {stage.replace('_', ' ')} of member 1 |" in card


def test_a_member_that_is_added_later_brings_its_own_student_and_changes_no_other(folder, tmp_path):
    one = train(own(folder, tmp_path / "run", members=1), QUIET)
    assert list(one["students"]) == ["ternary"]
    grown = train(own(folder, tmp_path / "run"), QUIET)
    whole = train(own(folder, tmp_path / "whole"), QUIET)
    packed = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert packed[0] == packed[1] and grown["dev"] == whole["dev"] and grown["members"][0] == one["members"][0]
    shared = train(own(folder, tmp_path / "shared", warm_start="first"), QUIET)
    assert shared["dev"]["members"][0] == whole["dev"]["members"][0], "the first member is the same either way"
    assert list(shared["students"]) == ["ternary"]


def test_a_run_that_ended_with_a_weak_member_says_the_same_when_it_is_read_again(folder, tmp_path, monkeypatch):
    """The student of a member that only guessed, and its seconds, were missing from the results of the second call."""
    real, outputs = member_stage.outputs_of, []

    def contrary_after_the_first(model, encoded, classes):
        outputs.append(real(model, encoded, classes))
        truth = np.array(read_examples(folder / "train.tsv").labels, np.int64)
        return outputs[0] if len(outputs) == 1 else np.eye(2, dtype=np.float32)[1 - truth]

    monkeypatch.setattr(member_stage, "outputs_of", contrary_after_the_first)
    first = train(own(folder, tmp_path / "run"), QUIET)
    assert len(first["members"]) == 1 and list(first["students"]) == ["ternary", "ternary_of_member_1"]
    again = train(own(folder, tmp_path / "run"), QUIET)
    assert again["students"] == first["students"]
    assert again["seconds"]["training"] == first["seconds"]["training"]


@pytest.mark.long
def test_a_budget_of_time_counts_the_students_of_all_members(folder, tmp_path):
    chosen = own(folder, tmp_path / "run", budget_minutes=0.2, epochs=40, start_epochs=40)
    train(chosen, QUIET)
    stages = json.loads((chosen.out / "results.json").read_text())["calibration"]["stages"]
    assert [(row["stage"], row["times"]) for row in stages][1:] == [("before members", 2), ("members", 2)]


def test_with_no_epochs_members_are_their_own_students_weighed_by_their_errors(folder, tmp_path, monkeypatch):
    def trained(*arguments, **named):
        raise AssertionError("a member was trained")

    monkeypatch.setattr(member_stage, "train_student", trained)
    changes = {"scheme": "1-1-4", "base": "bwn", "steps": (4,), "start_distill": "prediction", "epochs": 0}
    changes |= {"start_epochs": 8, "teacher_epochs": 8}  # fewer, and students always say one class
    chosen = own(folder, tmp_path / "run", members=2, hold_out=0.2, **changes)
    results = train(chosen, QUIET)
    run = RunFolder(chosen.out)
    for index, stage in enumerate(("student_4bit", "student_4bit_of_member_1")):
        student, member = stored_state(run.load(stage)[0]), stored_state(run.load(f"member_{index}")[0])
        assert student.keys() == member.keys()
        assert all(torch.equal(x, member[name]) for name, x in student.items())
    assert [facts["steps"] for facts in results["members"]] == [0, 0]
    assert all(facts["alpha"] > 0 and facts["loss"] is None for facts in results["members"])
    model = Ensemble.from_pretrained(chosen.out / "model")
    assert len(model.predict(["good", "bad"])) == 2
    # Position rows that training never reached are not in the file.
    assert model.config.max_position_embeddings == model.config.tokenizer.max_length == chosen.max_length < 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warm_start": "first"}, "epochs is 0, .*accepted is that with warm_start own and steps that end in 4"),
        ({"steps": (8,)}, "steps that end in 4, the members' own bits"),
        ({"steps": ()}, "steps"),
        ({"budget_minutes": 1.0}, "leave budget_minutes out"),
    ],
)
def test_no_epochs_need_students_that_can_be_members(folder, tmp_path, changes, message):
    given = {"scheme": "1-1-4", "base": "bwn", "steps": (4,), "epochs": 0} | changes
    with pytest.raises(InputError, match=message):
        train(own(folder, tmp_path / "run", **given), QUIET)
