"""BiT's multi-step distillation: each student starts and learns from the one before, in stages that resume."""

# ruff: noqa: E402 - the imports below need the extra

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from rich.console import Console
from toy import write_task
from toy_runs import options, training_set

from bebert_export.data.batches import encode, load_tokenizer
from bebert_export.data.examples import read_examples
from bebert_export.pipeline import member_stage, student_stage
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.pipeline.settings import check
from bebert_export.student.bert import Student, StudentConfig
from bebert_export.student.schemes import find_scheme, new_member, with_bits
from bebert_export.train import TrainOptions, train
from bebert_export.training import distillation
from bebert_export.training.distillation import Distillation, train_student
from bebert_export.training.loop import Watcher, predict
from bebert_export.training.schedule import Schedule
from bebert_infer.cli.options import listed
from bebert_infer.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_backend")

QUIET = Console(quiet=True)
SIZES = {"hidden_size": 16, "attention_size": 16, "num_heads": 2, "intermediate_size": 32, "num_layers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with an encoder, train.tsv and dev.tsv."""
    return write_task(tmp_path_factory.mktemp("steps"), 320, 80)


def student(family, bits, *, seed=0, labels=2):
    """A random student that can read the toy data."""
    torch.manual_seed(seed)
    config = StudentConfig(family, bits, vocab_size=100, max_positions=16, num_labels=labels, dropout=0.0, **SIZES)
    return Student(config)


def chain(folder, out, **changes):
    """Options of 1-1-4 -> 1-1-2 -> a 1-1-1 member, all short."""
    common = {"scheme": "1-1-1", "base": "bit", "steps": (4, 2), "distill": "prediction", "members": 1}
    return options(folder, out, **(common | {"teacher_epochs": 4, "start_epochs": 3, "epochs": 3} | changes))


def test_a_chain_of_students_ends_in_a_packed_model_and_resumes_between_them(folder, tmp_path, monkeypatch):
    chosen = chain(folder, tmp_path / "run")
    taught = []

    def killed_at_the_member(*arguments, **named):
        raise KeyboardInterrupt

    def noted(pupil, *arguments, distillation, **named):
        before = {name: x.clone() for name, x in pupil.state_dict().items()}
        taught.append((pupil, before, distillation))
        return train_student(pupil, *arguments, distillation=distillation, **named)

    monkeypatch.setattr(student_stage, "train_student", noted)
    monkeypatch.setattr(member_stage, "train_student", killed_at_the_member)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, QUIET)
    stored = {path.stem: path.read_bytes() for path in (chosen.out / "stages").iterdir()}
    assert sorted(stored) == ["full_precision", "student_2bit", "student_4bit"]
    monkeypatch.setattr(member_stage, "train_student", noted)
    results = train(chosen, QUIET)
    assert [pupil.config.activation_bits for pupil, _, _ in taught] == [4, 2, 1]  # nothing twice
    assert all((chosen.out / "stages" / f"{name}.safetensors").read_bytes() == stored[name] for name in stored)

    # Who teaches: full precision, then the student before; where the kind looks inside, that model itself.
    tokenizer = load_tokenizer(chosen.out / "full_precision")
    encoded = encode(tokenizer, read_examples(chosen.train), chosen.max_length)
    (four, _, first), (two, before_two, second), (one, before_one, third) = taught
    assert [distillation.kind for _, _, distillation in taught] == ["hidden", "hidden", "prediction"]
    assert first.teacher.config.family == "float" and second.teacher.config.activation_bits == 4
    assert third.teacher is None
    assert np.array_equal(second.logits, predict(four, encoded, 2))
    assert np.array_equal(third.logits, predict(two, encoded, 2))
    assert not second.teacher.training

    # What is carried over: everything but the steps, which the first batch of the new student sets.
    for parent, pupil, begun in ((four, two, before_two), (two, one, before_one)):
        for name, tensor in parent.state_dict().items():
            if "clip_" in name:
                assert begun[name] == 1.0
                assert pupil.state_dict()[name] not in (1.0, tensor)
            else:
                assert torch.equal(begun[name], tensor), name

    # What is said about them.
    assert list(results["students"]) == ["student_4bit", "student_2bit"]
    for name, facts in results["students"].items():
        dev = RunFolder(chosen.out).load(name)[0]["dev_logits"].numpy().argmax(axis=1)
        labels = [int(line.split("\t")[1]) for line in chosen.dev.read_text().splitlines()[1:]]
        assert facts["dev"]["accuracy"] == np.mean(dev == labels)
        assert facts["steps"] > 0 and facts["distill"] == "hidden"
    card = (chosen.out / "model" / "README.md").read_text()
    assert "--steps 4,2 " in card and "| student 2bit |" in card
    assert json.loads((chosen.out / "results.json").read_text()) == results
    assert results["dev"]["packed_against_torch"]["equal_answers"] > 0.95


def test_the_ternary_student_may_be_distilled_although_members_are_not(folder, tmp_path):
    """As in BEBERT's strategy A, whose ternary student learned in two stages."""
    short = {"members": 1, "teacher_epochs": 4, "start_epochs": 3, "epochs": 2}
    results = train(options(folder, tmp_path / "run", start_distill="two-stage", **short), QUIET)
    assert results["students"]["ternary"]["distill"] == "two-stage"
    assert results["students"]["ternary"]["dev"].keys() == results["dev"]["full_precision"].keys()
    assert results["options"]["distill"] == "none"


@pytest.mark.parametrize(("steps", "knows_more"), [((1,), "full_precision"), ((2, 1), "student_2bit")])
def test_members_learn_from_the_last_model_with_more_bits_than_theirs(folder, tmp_path, monkeypatch, steps, knows_more):
    """A student of their own form knows less than its teacher: it is where they start, no more."""
    taught = []

    def noted(pupil, *arguments, distillation, **named):
        taught.append(distillation)
        return train_student(pupil, *arguments, distillation=distillation, **named)

    monkeypatch.setattr(member_stage, "train_student", noted)
    short = {"teacher_epochs": 2, "start_epochs": 1, "epochs": 1, "steps": steps}
    for kind in ("prediction", "hidden"):
        chosen = chain(folder, tmp_path / kind, distill=kind, start_distill="prediction", **short)
        train(chosen, QUIET)
        stored, _ = RunFolder(chosen.out).load(knows_more)
        assert np.array_equal(taught[-1].logits, stored["train_logits"].numpy())
    bits = {"full_precision": 32, "student_2bit": 2}[knows_more]
    assert taught[-1].teacher.config.activation_bits == bits and taught[0].teacher is None


@pytest.mark.parametrize(("base", "kind"), [("bit", "hidden"), ("bibert", "direction")])
def test_members_may_start_from_a_distilled_student_of_their_own_bits(folder, tmp_path, monkeypatch, base, kind):
    """Nothing changes between the two, so the member keeps the learned quantizer steps as well."""
    begun = []

    def noted(pupil, *arguments, **named):
        begun.append({name: x.clone() for name, x in pupil.state_dict().items()})
        return train_student(pupil, *arguments, **named)

    monkeypatch.setattr(member_stage, "train_student", noted)
    short = {"steps": (1,), "distill": "none", "start_distill": kind, "start_epochs": 3, "epochs": 1}
    train(chain(folder, tmp_path / "run", base=base, **short), QUIET)
    stored, facts = RunFolder(tmp_path / "run").load("student_1bit")
    assert facts["distill"] == kind and begun
    assert all(torch.equal(x, stored[f"model.{name}"]) for name, x in begun[0].items())


def test_bits_of_a_copy():
    parent = student("bit", 2)
    with torch.no_grad():
        for name, parameter in parent.named_parameters():
            if "clip_" in name:
                parameter.fill_(0.3)
    same, other = with_bits(parent, 2), new_member(parent, find_scheme("1-1-1", "bit"))
    assert all(torch.equal(x, same.state_dict()[name]) for name, x in parent.state_dict().items())
    steps = {name: x for name, x in other.state_dict().items() if "clip_" in name}
    assert steps and all(x == 1.0 for x in steps.values())
    ids = torch.randint(1, 70, (4, 8))
    other.train()(ids)
    # One bit, signed: the step is twice the mean magnitude of what the quantizer sees, here embeddings + shift.
    query = other.layers[0].attention.self.query
    seen = other.bert.embeddings(ids, torch.zeros_like(ids)) + query.move.bias
    assert query.input_clip_val.item() == pytest.approx(2 * seen.abs().mean().item(), rel=1e-5)
    with torch.no_grad():
        same.bert.pooler.dense.bias.add_(1)
    assert (parent.bert.pooler.dense.bias == 0).all()  # a copy, not a view


@pytest.mark.parametrize("family", ["bit", "bibert", "binarybert"])
def test_hidden_lessons_pull_logits_and_hidden_states_to_the_teacher(folder, family):
    """Labels are noise here: whatever the student learns comes from its teacher, a quantized one at that."""
    data = training_set(folder)
    noise = replace(data, targets=np.random.default_rng(0).integers(0, 2, len(data.targets)))
    batch = {"input_ids": torch.from_numpy(np.stack([np.resize(ids, 8) for ids in data.encoded.ids]))}
    teacher = student("bit", 2, seed=1)
    with torch.no_grad():
        teacher.train()(**batch)  # sets its steps
        teacher.classifier.bias.copy_(torch.tensor([2.0, -2.0]))  # sure of an answer, as no reading of the labels is
        kept = {name: x.clone() for name, x in teacher.state_dict().items()}
        watched = teacher.eval()(**batch, details=True)
    logits = predict(teacher, data.encoded, 2)
    pupil = student(family, {"bit": 1, "bibert": 1, "binarybert": 4}[family], seed=2)

    @torch.no_grad()
    def distance():
        states = zip(pupil.eval()(**batch, details=True).hidden, watched.hidden, strict=True)
        inside = sum(float((mine - theirs).square().mean()) for mine, theirs in states)
        return inside, float(np.abs(predict(pupil, data.encoded, 2) - logits).mean())

    pupil.train()(**batch)
    begun = distance()
    train_student(
        pupil,
        noise,
        Schedule(10, 16, 1e-2),
        distillation=Distillation("hidden", logits, teacher),
        seed=0,
        watcher=Watcher(),
    )
    ended = distance()
    assert ended[0] < begun[0] / 2 and ended[1] < begun[1] / 2, (begun, ended)
    assert all(torch.equal(x, kept[name]) for name, x in teacher.state_dict().items())


def test_a_score_is_distilled_too(folder):
    """Soft cross-entropy of one logit is 0 whatever it is, so scores are compared by their squares."""
    data = training_set(folder)
    scores = replace(data, targets=np.zeros(len(data.targets), np.float32), classes=1)
    teacher = student("bit", 2, seed=1, labels=1).eval()
    with torch.no_grad():
        teacher.classifier.bias.fill_(5)
    logits = predict(teacher, data.encoded, 1)
    pupil = student("bit", 1, seed=1, labels=1)
    train_student(
        pupil,
        scores,
        Schedule(10, 16, 3e-2),
        distillation=Distillation("hidden", logits, teacher),
        seed=0,
        watcher=Watcher(),
    )
    assert np.abs(predict(pupil, data.encoded, 1) - logits).mean() < np.abs(logits).mean() / 2


@pytest.mark.parametrize(("labels", "weight"), [(2, 0.5), (1, 0.0)])
def test_direction_matching_learns_scores_from_the_teacher_alone(folder, monkeypatch, labels, weight):
    """As published: soft cross-entropy and half of the labels for classes, the squared error of logits for scores."""
    seen = []
    monkeypatch.setattr(distillation, "fit", lambda model, objective, *a, **named: seen.append(objective.labels))
    whole, pupil = training_set(folder), student("bibert", 1, labels=labels)
    data = replace(whole, classes=labels)
    guided = Distillation("direction", np.zeros((len(data.encoded), labels), np.float32), pupil)
    train_student(pupil, data, Schedule(1, 16, 1e-3), distillation=guided, seed=0, watcher=Watcher())
    assert seen == [weight]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": "bibert"}, "steps are 4,2; accepted for bibert 1-1-1 are activation bits from 1 down to 1"),
        ({"scheme": "1-1-4", "base": None}, "steps are not for base binarybert"),
        ({"steps": (2, 4)}, "steps are 2,4; .* each fewer than the one before"),
        ({"steps": (2, 0)}, "steps are 2,0"),
        ({"steps": (32, 2)}, "steps are 32,2; .* from 8 down to 1"),
        ({"scheme": "1-1-4", "steps": (4, 2)}, "for bit 1-1-4 .* from 8 down to 4"),
        ({"steps": (), "start_distill": "hidden"}, "start_distill is hidden; .* only with steps"),
        ({"start_distill": "all"}, 'start_distill is "all"; accepted are none, prediction, hidden'),
    ],
)
def test_steps_that_cannot_work_are_refused_at_once(folder, tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        check(chain(folder, tmp_path / "run", **changes))


def test_the_command_line_reads_a_comma_list():
    for text, steps in (("4, 2", (4, 2)), ("2", (2,)), ("", ())):
        assert listed(TrainOptions, {"steps": text, "labels": None, "seed": 1}) == {
            "steps": steps,
            "labels": None,
            "seed": 1,
        }
    assert listed(TrainOptions, {"steps": None, "labels": "no, yes"}) == {"labels": ("no", "yes")}
    with pytest.raises(InputError, match='steps is "two"'):
        listed(TrainOptions, {"steps": "two"})
