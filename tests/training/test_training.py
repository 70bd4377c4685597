"""From a random encoder to a packed ensemble: whole runs, resuming, weights that follow their examples."""

# ruff: noqa: E402 - the imports below need the extra

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from toy import write_data, write_task
from toy_runs import QUIET, options, training_set
from transformers import AutoTokenizer

from bebert_export.checkpoints.pretrained import load_pretrained
from bebert_export.data.batches import TrainingSet, encode, load_tokenizer, read_tokenizer
from bebert_export.data.examples import read_examples
from bebert_export.data.text_families import group_ids
from bebert_export.peers.classifier import load_classifier
from bebert_export.pipeline import member_stage
from bebert_export.pipeline.data import hold_out
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.pipeline.settings import check
from bebert_export.student.schemes import find_scheme, settle_zero_weights, student_from_full_precision
from bebert_export.train import train, train_full_precision
from bebert_export.training.loop import Watcher, _batches, fit, predict
from bebert_export.training.loss import Objective, Weighting, example_losses
from bebert_export.training.schedule import Schedule
from bebert_export.training.width_pruning import prune_width
from bebert_infer import Ensemble
from bebert_infer.cli.main import main
from bebert_infer.errors import DataError, InputError

pytestmark = pytest.mark.usefixtures("quick_backend")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Folder with an encoder, train.tsv (a few labels are wrong, so that members err) and dev.tsv."""
    return write_task(tmp_path_factory.mktemp("toy"), 320, 80)


@pytest.mark.parametrize(
    ("scheme", "base", "changes"),
    [
        ("1-1-4", None, {}),
        ("1-1-4", "binarybert", {"width": 0.5, "distill": "prediction", "combine": "vote"}),
        ("1-1-4", "bit", {}),
        ("1-1-4", "bwn", {"steps": (4,), "start_distill": "hidden", "distill": "prediction", "shared_steps": True}),
        ("1-1-1", None, {"vocabulary_size": None}),
        ("1-1-1", "bit", {}),
    ],
)
def test_a_run_ends_in_a_model_that_answers_as_its_report_says(toy, tmp_path, scheme, base, changes):
    chosen = options(toy, tmp_path / "run", scheme=scheme, base=base, **changes)
    results = train(chosen, QUIET)
    assert json.loads((chosen.out / "results.json").read_text()) == results
    assert results["dev"]["full_precision"]["accuracy"] > 0.9
    assert max(member["accuracy"] for member in results["dev"]["members"]) > 0.8
    assert results["dev"]["packed_against_torch"]["equal_answers"] > 0.95
    assert results["bytes"]["model.safetensors"] == (chosen.out / "model" / "model.safetensors").stat().st_size
    # The model on disk, fed with texts, has the accuracy that the report gives for its rule.
    model = Ensemble.from_pretrained(chosen.out / "model", threads=1)
    dev = read_examples(chosen.dev)
    names = {"0": "negative", "1": "positive"}
    answers = model.predict(dev.texts, truncate=True)
    right = [p.label == names[label] for p, label in zip(answers, dev.labels, strict=True)]
    assert np.mean(right) == results["dev"]["ensemble"][chosen.rule]["accuracy"]
    assert model.alphas.tolist() == [member["alpha"] for member in results["members"]]
    assert str(tmp_path) not in (chosen.out / "model" / "config.json").read_text()  # no private paths leave


def test_regression_is_boosted_by_r2(tmp_path, toy):
    write_data(tmp_path / "train.tsv", 320, 1, regression=True)
    write_data(tmp_path / "dev.tsv", 80, 2, regression=True)
    chosen = options(
        toy,
        tmp_path / "run",
        regression=True,
        labels=None,
        train=tmp_path / "train.tsv",
        dev=tmp_path / "dev.tsv",
    )
    results = train(chosen, QUIET)
    assert results["combination"] == "mean", "the weighted median of two members is always the one of larger alpha"
    assert replace(chosen, members=3).rule == "median"
    assert results["dev"]["ensemble"]["mean"]["pearson"] > 0.6
    assert 0 < results["members"][0]["error"] < 0.5


@pytest.mark.parametrize(
    ("changes", "alphas"),
    [
        ({"boosting": "resample", "warm_start": "previous"}, "samme"),
        ({"boosting": "bagging"}, "one"),
        ({"compat": "published"}, "half"),
        ({"distill": "two-stage", "teacher_epochs": 6, "epochs": 4, "learning_rate": 2e-3}, "samme"),
        ({"distill": "direction"}, "samme"),
    ],
)
def test_other_ways_to_make_an_ensemble(toy, tmp_path, changes, alphas):
    chosen = options(
        toy, tmp_path / "run", scheme="1-1-1", base="bit", **({"teacher_epochs": 3, "epochs": 2} | changes)
    )
    results = train(chosen, QUIET)
    first = results["members"][0]
    odds = np.log((1 - first["error"]) / first["error"])
    want = {"samme": odds, "one": 1.0, "half": odds / 2}[alphas]
    assert first["alpha"] == pytest.approx(want)
    assert results["combination"] == ("vote" if "compat" in changes else "probabilities")
    assert Ensemble.from_pretrained(chosen.out / "model", threads=1).alphas[0] == first["alpha"]


@pytest.mark.parametrize("regression", [False, True])
def test_held_out_examples_are_never_trained_on_and_decide_the_alphas(toy, tmp_path, monkeypatch, regression):
    changes = {}
    if regression:
        write_data(tmp_path / "train.tsv", 320, 1, regression=True)
        write_data(tmp_path / "dev.tsv", 80, 2, regression=True)
        changes = {"train": tmp_path / "train.tsv", "dev": tmp_path / "dev.tsv", "labels": None, "regression": True}
    chosen = options(toy, tmp_path / "run", hold_out=0.25, scheme="1-1-1", base="bit", **changes)
    seen, real = [], member_stage.train_student
    monkeypatch.setattr(
        member_stage, "train_student", lambda student, data, *a, **k: seen.append(data) or real(student, data, *a, **k)
    )
    results = train(chosen, QUIET)
    assert results["held_out_rows"] == 80
    assert {len(data.encoded) for data in seen} == {240}
    # The first alpha, by hand: all held-out examples weigh the same.
    examples = read_examples(chosen.train)
    groups = group_ids(examples.texts, None, examples.origins)
    trained, held = hold_out(examples.origins, groups, 0.25, chosen.seed)
    assert not set(groups[trained]) & set(groups[held])
    whole = encode(load_tokenizer(chosen.out / "full_precision"), examples, chosen.max_length)
    assert [row.tolist() for row in seen[0].encoded.ids] == [whole.ids[i].tolist() for i in range(320) if i not in held]
    # The first alpha, by hand: the packed member's error on the held-out examples, which all weigh the same.
    model = Ensemble.from_pretrained(chosen.out / "model", threads=1)
    logits = np.stack([model.member_logits(whole.ids[i][None])[0, 0] for i in held])
    truth = np.array([float(examples.labels[i]) for i in held])
    if regression:
        deviation = np.abs(logits[:, 0] - truth)
        error = np.mean((deviation / deviation.max()) ** 2)
    else:
        error = np.mean(logits.argmax(axis=1) != truth)
    # The packed engine judged it too; 1e-6 is for targets, which training keeps as float32.
    assert results["members"][0]["error"] == pytest.approx(error, rel=1e-6)
    assert results["members"][0]["alpha"] == pytest.approx(np.log((1 - error) / error), rel=1e-6)


def test_a_fine_tuned_model_is_taken_as_it_is(toy, tmp_path):
    first = options(toy, tmp_path / "first", scheme="1-1-1", base="bit", members=1, epochs=1)
    scores = train(first, QUIET)["dev"]["full_precision"]
    tuned = str(first.out / "full_precision")
    again = replace(first, init=tuned, teacher_epochs=0, vocabulary_size=None, out=tmp_path / "again")
    results = train(again, QUIET)
    assert results["full_precision"]["steps"] == 0
    assert results["dev"]["full_precision"] == scores
    with pytest.raises(DataError, match="fine-tuned for the labels negative, positive, this run has 0, 1"):
        train(replace(again, labels=None, out=tmp_path / "other"), QUIET)
    with pytest.raises(DataError, match="lacks .*classifier.weight.*teacher_epochs above 0"):
        train(replace(first, teacher_epochs=0, labels=("LABEL_0", "LABEL_1"), out=tmp_path / "bare"), QUIET)


def test_a_cased_encoder_stays_cased_also_in_a_run_of_before(toy, tmp_path):
    """Runs of before have no tokenizer_config.json, without which transformers reads any tokenizer.json as uncased."""
    shutil.copytree(toy / "encoder", tmp_path / "encoder")
    (tmp_path / "encoder" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    init = str(tmp_path / "encoder")
    chosen = options(toy, tmp_path / "run", members=0, scheme="1-1-1", base="bit", init=init)
    train_full_precision(chosen, QUIET)
    folder = chosen.out / "full_precision"
    ids = load_tokenizer(folder).encode("Film film").ids
    assert ids == AutoTokenizer.from_pretrained(folder)("Film film")["input_ids"]
    assert ids[1:-2] == [load_tokenizer(folder).token_to_id("[UNK]")]  # no upper case in the vocabulary
    (folder / "tokenizer_config.json").unlink()
    assert read_tokenizer(folder).encode("Film film").ids == ids
    train(replace(chosen, members=1), QUIET)
    assert Ensemble.from_pretrained(chosen.out / "model").encode("Film film").input_ids[0].tolist() == ids


def test_full_precision_alone_and_members_later(toy, tmp_path):
    """`members` 0 stops before the students; called with members, the run goes on from that model."""
    whole = options(toy, tmp_path / "run", members=1, scheme="1-1-1", base="bit", epochs=1)
    alone = replace(whole, members=0)
    facts = train_full_precision(alone, QUIET)
    assert facts["dev"]["accuracy"] > 0.7 and next(iter(facts["dev"])) == "accuracy"
    assert not (alone.out / "model").exists() and not (alone.out / "results.json").exists()
    assert "Full precision only" in (alone.out / "README.md").read_text()
    weights = (alone.out / "full_precision" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="members is 0; accepted are whole numbers of at least 1"):
        train(alone, QUIET)
    assert train(whole, QUIET)["dev"]["full_precision"] == facts["dev"]
    assert (alone.out / "full_precision" / "model.safetensors").read_bytes() == weights
    train_full_precision(whole, QUIET)
    assert "Finished: 1 members" in (alone.out / "README.md").read_text(), "whatever is read of it later"
    with pytest.raises(InputError, match="members is 0; pass teacher_epochs instead"):
        check(replace(alone, budget_minutes=1.0))


def test_the_command_trains_full_precision_alone(toy, tmp_path, monkeypatch, capsys):
    words = ["bebert", "train", "--init", toy / "encoder", "--train", toy / "train.tsv", "--dev", toy / "dev.tsv"]
    words += ["--members", "0", "--teacher-epochs", "1", "--max-length", "16", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="^0$"):
        main()
    said = " ".join(capsys.readouterr().out.split())
    assert "accuracy 0." in said and "full precision only, in" in said
    model = load_classifier(tmp_path / "run" / "full_precision")
    assert model.config.num_labels == 2 and not (tmp_path / "run" / "model").exists()


def loaded(init, labels, toy, **more):
    train = read_examples(options(toy, toy).train)
    choices = {"vocabulary_size": None, "positions": None, "dropout": 0.1, "seed": 3} | more
    return load_pretrained(str(init), train, labels, **choices).model


def test_a_model_fine_tuned_for_other_labels_keeps_its_encoder_and_gets_a_new_head(toy, tmp_path):
    """First MNLI with three classes, then RTE with two: what was learned about pairs of texts is in the encoder."""
    first = loaded(toy / "encoder", ["a", "b", "c"], toy)
    with torch.no_grad():
        first.classifier.weight.fill_(7.0)
        first.classifier.bias.fill_(7.0)
    first.save_pretrained(tmp_path / "tuned")
    (tmp_path / "tuned" / "tokenizer.json").write_bytes((toy / "encoder" / "tokenizer.json").read_bytes())
    pooler = first.bert.pooler.dense.weight
    for labels in (["no", "yes"], ["score"], ["x", "y", "z"]):  # the last ones have the old number of other meaning
        model = loaded(tmp_path / "tuned", labels, toy)
        assert torch.equal(model.bert.pooler.dense.weight, pooler)
        assert model.classifier.weight.shape == (len(labels), pooler.shape[0])
        assert model.classifier.weight.abs().max() < 1 and not model.classifier.bias.any()
        assert torch.equal(model.classifier.weight, loaded(tmp_path / "tuned", labels, toy).classifier.weight)
    assert (loaded(tmp_path / "tuned", ["a", "b", "c"], toy).classifier.weight == 7).all()


def test_weights_that_do_not_fit_their_config_are_one_sentence(toy, tmp_path):
    model = loaded(toy / "encoder", ["a", "b"], toy)
    model.save_pretrained(tmp_path / "odd")
    (tmp_path / "odd" / "tokenizer.json").write_bytes((toy / "encoder" / "tokenizer.json").read_bytes())
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    config["max_position_embeddings"] += 1
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="position_embeddings.weight of the shape .* files there that belong together"):
        loaded(tmp_path / "odd", ["no", "yes"], toy)


def test_the_same_seed_gives_the_same_bytes(toy, tmp_path):
    models = []
    for name in ("a", "b"):
        train(options(toy, tmp_path / name, members=1, epochs=0.5, start_epochs=0.5), QUIET)
        models.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert models[0] == models[1]


def test_a_killed_run_goes_on_after_its_last_member(toy, tmp_path, monkeypatch):
    chosen = options(toy, tmp_path / "run")
    real, trained = member_stage.train_student, []

    def counted(model, data, schedule, *, seed, **rest):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(seed)
        return real(model, data, schedule, seed=seed, **rest)

    monkeypatch.setattr(member_stage, "train_student", counted)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, QUIET)
    first = (chosen.out / "stages" / "member_0.safetensors").read_bytes()
    assert not (chosen.out / "model").exists() and not (chosen.out / "results.json").exists()
    monkeypatch.setattr(
        member_stage, "train_student", lambda *a, seed, **k: trained.append(seed) or real(*a, seed=seed, **k)
    )
    resumed = train(chosen, QUIET)
    # Member 0 once, member 1 once; if it only guesses, on a machine that rounds otherwise, it is tried again.
    assert trained[:2] == [142, 143] and trained[2:] in ([], [1143])
    assert (chosen.out / "stages" / "member_0.safetensors").read_bytes() == first
    whole = train(options(toy, tmp_path / "whole"), QUIET)
    assert resumed["dev"] == whole["dev"]
    assert [m["alpha"] for m in resumed["members"]] == [m["alpha"] for m in whole["members"]]


def test_a_finished_run_with_more_members_keeps_those_it_has(toy, tmp_path, monkeypatch):
    small = train(options(toy, tmp_path / "run", members=1, seed=7), QUIET)
    real, trained = member_stage.train_student, []
    monkeypatch.setattr(
        member_stage, "train_student", lambda *a, seed, **k: trained.append(seed) or real(*a, seed=seed, **k)
    )
    grown = train(options(toy, tmp_path / "run", members=2, seed=7), QUIET)
    assert trained == [108], "member 1 alone is trained"
    assert grown["members"][0] == small["members"][0] and len(grown["members"]) == 2
    whole = train(options(toy, tmp_path / "whole", members=2, seed=7), QUIET)
    packed = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert packed[0] == packed[1] and grown["dev"] == whole["dev"]
    with pytest.raises(InputError, match="a run with members 2, this one has 1"):
        train(options(toy, tmp_path / "run", members=1, seed=7), QUIET)


def test_members_that_share_a_budget_of_time_are_not_joined_by_more(toy, tmp_path):
    train(options(toy, tmp_path / "run", members=1, budget_minutes=0.1), QUIET)
    with pytest.raises(InputError, match="a run with members 1, this one has 2"):
        train(options(toy, tmp_path / "run", members=2, budget_minutes=0.1), QUIET)


def test_other_options_or_files_for_a_used_folder_are_refused(toy, tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.claim({"seed": 1, "train_sha256": "a"}):
        pass
    run.save("full_precision", {}, {})
    with run.claim({"seed": 1, "train_sha256": "a"}):
        pass
    with pytest.raises(InputError, match="a run with seed 1, this one has 2"):
        with run.claim({"seed": 2, "train_sha256": "a"}):
            pass
    with pytest.raises(InputError, match="a run with seed 1, this one has 0"):
        with run.claim({"seed": 0, "train_sha256": "a"}, may_grow=("seed",)):
            pass
    with pytest.raises(InputError, match="a run with members null, this one has 2"):
        with run.claim({"seed": 1, "train_sha256": "a", "members": 2}, may_grow=("members",)):
            pass
    with pytest.raises(InputError, match='train_sha256 "a", this one has "b"'):
        with run.claim({"seed": 1, "train_sha256": "b"}):
            pass
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not empty and holds no training run"):
        with RunFolder(tmp_path / "full").claim({}):
            pass
    with pytest.raises(InputError, match="which is a file"):
        with RunFolder(tmp_path / "full" / "thesis.txt").claim({}):
            pass


def test_a_run_that_was_refused_before_it_trained_does_not_lock_its_folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.claim({"budget_minutes": 1}):
        pass
    run.save("calibration", {}, {})
    with run.claim({"budget_minutes": 1}):
        pass
    assert run.has("calibration"), "the same options go on with the speeds that were measured"
    with run.claim({"budget_minutes": 5}):
        pass
    assert not run.has("calibration") and json.loads((tmp_path / "run" / "options.json").read_text()) == {
        "budget_minutes": 5
    }


def test_a_second_process_waits_until_the_first_one_has_left_the_folder(tmp_path):
    code = (
        "import sys, pathlib, rich.console; from bebert_export.pipeline.run_folder import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).claim({'seed': 1}, console=rich.console.Console()): print('claimed')"
    )
    run = RunFolder(tmp_path / "run")
    with run.claim({"seed": 1}):
        other = [sys.executable, "-u", "-c", code, str(tmp_path / "run")]
        process = subprocess.Popen(other, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == f"another process trains in {tmp_path / 'run'}; waiting for it\n"
        assert process.poll() is None
    assert process.communicate(timeout=60)[0] == "claimed\n"
    with run.claim({"seed": 1}):
        process = subprocess.Popen(other, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        run.save("full_precision", {}, {})
        (tmp_path / "run" / "options.json").write_text('{"seed": 2}')
    assert "holds a run with seed 2, this one has 1" in process.communicate(timeout=60)[1], "what the first one did"


def test_a_folder_of_the_encoder_may_be_spelled_otherwise_on_the_next_call(toy, tmp_path, monkeypatch):
    small = {"members": 1, "epochs": 0.5, "start_epochs": 0.5, "teacher_epochs": 0.5}
    first = train(options(toy, tmp_path / "run", **small), QUIET)
    other = train(options(toy, tmp_path / "run", **small, init=f"{toy}/./encoder/"), QUIET)
    assert other["dev"] == first["dev"]
    monkeypatch.chdir(toy)
    assert train(options(toy, tmp_path / "run", **small, init="encoder"), QUIET)["dev"] == first["dev"]


def test_a_member_without_error_on_few_held_out_examples_still_has_its_own_mistakes_to_teach(toy, tmp_path):
    """Found by reading: one held-out example, answered rightly, ended the boosting whatever was wrong in training."""
    results = train(options(toy, tmp_path / "run", hold_out=0.003, members=2, epochs=1), QUIET)
    assert results["held_out_rows"] == 1 and len(results["members"]) == 2
    first = results["members"][0]
    assert (first["error"], first["status"]) == (0, "useful") and first["train_error"] > 0


def test_bagging_keeps_members_that_boosting_would_not(toy, tmp_path, monkeypatch):
    real = member_stage.boost
    monkeypatch.setattr(
        member_stage, "boost", lambda *a, **k: replace(real(*a, **k), status="weak", advice="only guesses")
    )
    short = {"members": 3, "epochs": 0.5, "start_epochs": 0.5, "teacher_epochs": 0.5}
    results = train(options(toy, tmp_path / "run", boosting="bagging", **short), QUIET)
    assert [member["alpha"] for member in results["members"]] == [1, 1, 1]
    with pytest.raises(member_stage.TrainingError, match="no better than guessing"):
        train(options(toy, tmp_path / "boosted", **short), QUIET)


def test_resampling_draws_anew_in_every_epoch_and_bagging_once(toy):
    lengths = training_set(toy).encoded.lengths
    chances = np.where(np.arange(64) < 32, 1 / 32, 0)
    drawn = _batches(lengths, Weighting(chances=chances), 16, 0)
    epochs = [np.sort(np.concatenate([next(drawn) for _ in range(4)])) for _ in range(3)]
    assert all(len(epoch) == 64 and epoch.max() < 32 for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1]) and set(np.concatenate(epochs)) == set(range(32))
    bag = np.arange(64) // 2
    drawn = _batches(lengths, Weighting(sample=bag), 16, 0)
    assert all(np.array_equal(np.sort(np.concatenate([next(drawn) for _ in range(4)])), bag) for _ in range(2))


def test_weights_follow_their_examples_through_the_shuffle(toy):
    """All weight on one example: the model must learn that example's (wrong) label and no other."""
    data = training_set(toy)
    chosen = 17
    flipped = data.targets.copy()
    flipped[chosen] = 1 - flipped[chosen]
    weights = np.zeros(len(flipped))
    weights[chosen] = 1.0
    torch.manual_seed(0)
    model = Linear(150)
    objective = Objective(TrainingSet(data.encoded, flipped, 2), Weighting(weights))
    fit(model, objective, Schedule(20, 8, 0.1), seed=3, watcher=Watcher())
    assert predict(model, data.encoded, 2).argmax(axis=1)[chosen] == flipped[chosen]
    # Had the weight gone to another example, its true label would have been learned there instead.
    gradient = model.table.weight.detach().abs().sum(dim=1)
    used = set(np.flatnonzero(gradient.numpy() > 1e-3))
    assert used == set(data.encoded.ids[chosen].tolist())


def test_a_sample_is_all_that_a_member_sees(toy):
    """Only words of the sampled examples are learned, each draw counts, and an example may come many times."""
    data = training_set(toy)
    model = Linear(150)
    sample = np.array([5, 5, 5, 9])
    done = fit(model, Objective(data, Weighting(sample=sample)), Schedule(6, 2, 0.1), seed=1, watcher=Watcher())
    assert done.steps == 12
    used = set(np.flatnonzero(model.table.weight.detach().abs().sum(dim=1).numpy() > 1e-3))
    assert used == set(data.encoded.ids[5].tolist()) | set(data.encoded.ids[9].tolist())


class Linear(torch.nn.Module):
    """A bag of words: logits = sum of one row per token; starts at zero."""

    def __init__(self, vocabulary):
        super().__init__()
        self.table = torch.nn.Embedding(vocabulary, 2)
        torch.nn.init.zeros_(self.table.weight)

    def forward(self, input_ids, attention_mask, token_type_ids):
        """Sum the rows of real tokens."""
        rows = self.table(input_ids) * attention_mask[:, :, None]
        return type("Output", (), {"logits": rows.sum(dim=1)})


def test_predictions_come_back_in_the_order_of_the_file(toy):
    data = training_set(toy)
    torch.manual_seed(0)
    model = Linear(150)
    torch.nn.init.normal_(model.table.weight)
    together = predict(model, data.encoded, 2)
    for i in (0, 5, 63):
        alone = model.table.weight.detach().numpy()[data.encoded.ids[i]].sum(axis=0)
        assert np.allclose(together[i], alone, atol=1e-5)


def test_losses_by_hand():
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    log = logits.log_softmax(1)
    hard = example_losses(logits, torch.tensor([1, 1]), None)
    assert torch.allclose(hard, -log[[0, 1], [1, 1]])
    teacher = torch.tensor([[1.0, 1.0], [0.0, 3.0]])
    soft = example_losses(logits, torch.tensor([1, 1]), teacher)
    assert torch.allclose(soft, -(teacher.softmax(1) * log).sum(1))
    values = torch.tensor([[1.0], [3.0]])
    assert example_losses(values, torch.tensor([0.0, 1.0]), None).tolist() == [1.0, 4.0]
    # soft cross-entropy over one logit would be 0 whatever the student says
    assert example_losses(values, torch.tensor([0.0, 1.0]), values + 1).tolist() == [1.0, 1.0]


def test_a_loss_that_explodes_stops_the_run(toy):
    data = TrainingSet(training_set(toy).encoded, np.full(64, 1e30, np.float32), 1)

    class One(Linear):
        """One output."""

        def forward(self, **batch):
            return type("Output", (), {"logits": super().forward(**batch).logits[:, :1]})

    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        fit(One(150), Objective(data), Schedule(1, 8, 0.1), seed=0, watcher=Watcher())


def test_half_width_keeps_the_heads_and_neurons_that_matter(toy):
    torch.manual_seed(0)
    train_examples = read_examples(toy / "train.tsv")
    model = load_pretrained(
        str(toy / "encoder"),
        train_examples,
        ["0", "1"],
        vocabulary_size=None,
        positions=None,
        dropout=0.1,
        seed=0,
    ).model
    layer = model.bert.encoder.layer[0]
    with torch.no_grad():
        layer.attention.output.dense.weight[:, :16] = 0  # head 0 of 2 has no effect
        layer.output.dense.weight[:, ::2] = 0  # nor have the even neurons
        layer.intermediate.dense.weight[::2] = 0
        layer.intermediate.dense.bias[::2] = 0
    data = training_set(toy)
    state, heads = prune_width(model, data, 2, 0.5, seed=0)
    assert heads == 1
    student = student_from_full_precision(state, heads, find_scheme("1-1-4", None), layer_norm_eps=1e-12, dropout=0.0)
    assert (student.config.attention_size, student.config.intermediate_size) == (16, 32)
    # What was cut had no effect, so the narrow full-precision weights compute the same.
    old = {name: tensor for name, tensor in model.state_dict().items() if "layer.0" in name}
    assert torch.equal(
        state["bert.encoder.layer.0.attention.self.query.weight"],
        old["bert.encoder.layer.0.attention.self.query.weight"][16:],
    )
    assert torch.equal(
        state["bert.encoder.layer.0.output.dense.weight"],
        old["bert.encoder.layer.0.output.dense.weight"][:, 1::2],
    )
    with pytest.raises(InputError, match="width is 0.2"):
        prune_width(model, data, 2, 0.2, seed=0)


def test_weights_on_the_threshold_are_settled_and_zero_rows_left_alone(toy):
    from bebert_export.student.bert import Student, StudentConfig

    config = StudentConfig("bibert", 1, 20, 8, 8, 2, 16, 1, 8)
    student = Student(config)
    with torch.no_grad():
        student.bert.embeddings.word_embeddings.weight[0] = 0  # padding: scale 0
        dense = student.bert.pooler.dense
        dense.weight[3] = torch.tensor([1.0, -1, 2, -2, 3, -3, 0, 0])  # the row mean is 0, and so are two weights
    assert settle_zero_weights(student) == 2
    assert (dense.weight_quantizer(dense.weight)[3, 6:] > 0).all()
    assert (student.bert.embeddings.word_embeddings.weight[0] == 0).all()
    assert settle_zero_weights(student) == 0


def test_trimming_slices_the_rows_of_the_pretrained_table(toy):
    examples = read_examples(toy / "train.tsv")
    whole = load_pretrained(
        str(toy / "encoder"), examples, ["0", "1"], vocabulary_size=None, positions=None, dropout=0.1, seed=0
    )
    small = load_pretrained(
        str(toy / "encoder"), examples, ["0", "1"], vocabulary_size=70, positions=16, dropout=0.1, seed=0
    )
    old, new = whole.tokenizer.get_vocab(), small.tokenizer.get_vocab()
    assert len(new) == 70 == small.model.config.vocab_size and small.coverage < 1
    for piece in ("[SEP]", "the", "##a"):
        expected = whole.model.bert.embeddings.word_embeddings.weight[old[piece]]
        assert torch.equal(small.model.bert.embeddings.word_embeddings.weight[new[piece]], expected)
    assert small.model.bert.embeddings.position_embeddings.weight.shape == (16, 32)
    batch = torch.tensor([[new["[CLS]"], new["the"], new["[SEP]"]]])
    old_batch = torch.tensor([[old["[CLS]"], old["the"], old["[SEP]"]]])
    assert torch.equal(small.model.eval()(batch).logits, whole.model.eval()(old_batch).logits)


def test_a_wrong_start_is_one_sentence(toy, tmp_path, monkeypatch):
    examples = read_examples(toy / "train.tsv")

    def load(init):
        load_pretrained(str(init), examples, ["0", "1"], vocabulary_size=None, positions=None, dropout=0.1, seed=0)

    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no config.json"):
        load(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(DataError, match='type "gpt2"; only "bert"'):
        load(tmp_path / "empty")
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(DataError, match="no folder here and cannot be fetched .*ConnectionError"):
        load("nobody/nothing")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"members": 0}, "members is 0"),
        ({"scheme": "1-1-2"}, 'scheme "1-1-2"'),
        ({"scheme": "1-1-1", "base": "binarybert"}, "accepted are 1-1-4 binarybert"),
        ({"combine": "mean"}, "vote, logits, probabilities"),
        ({"distill": "all"}, "none, prediction, hidden, two-stage, direction"),
        ({"boosting": "ada"}, 'boosting is "ada"; accepted: weights, resample, bagging'),
        ({"warm_start": "cold"}, 'warm_start is "cold"; accepted: first, previous, own'),
        ({"warm_start": "own", "scheme": "1-1-1"}, "warm_start is own; base bibert has students before .* with steps"),
        ({"compat": "2023"}, 'compat is "2023"; accepted: published'),
        ({"epochs": 0}, "epochs is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"labels": ("one",)}, "labels are one; .* has the values 0, 1"),
        ({"width": 0.2}, "width is 0.2; .* 2 heads"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296; .* up to 4294967295"),
        ({"compat": "published", "shrinkage": 0.3}, "shrinkage is 0.3; pass shrinkage 1"),
        ({"regression": True, "labels": ("low", "high")}, "labels are low, high; accepted for regression is one name"),
        ({"max_length": 99, "vocabulary_size": None}, "max_length is 99; .* has 40 positions"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(toy, tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        train(options(toy, tmp_path / "run", **changes), QUIET)


def test_a_wrong_start_leaves_no_run_folder(toy, tmp_path):
    """Found by hand: a mistyped encoder left a run folder that then held its options against the corrected command."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no config.json"):
        train(options(toy, tmp_path / "run", init=str(tmp_path / "empty")), QUIET)
    assert not (tmp_path / "run").exists()


def test_the_training_file_is_no_dev_file_and_repeated_rows_are_counted(toy, tmp_path):
    with pytest.raises(DataError, match="training file once more"):
        train(options(toy, tmp_path / "run", dev=toy / "train.tsv"), QUIET)
    lines = (toy / "train.tsv").read_text().splitlines()
    (tmp_path / "dev.tsv").write_text("\n".join([*lines[:4], "never seen\t1"]) + "\n")
    chosen = options(
        toy, tmp_path / "run", dev=tmp_path / "dev.tsv", members=1, teacher_epochs=1, start_epochs=0.1, epochs=0.5
    )
    assert train(chosen, QUIET)["dev_rows_also_in_train"] == 3


def test_a_member_no_better_than_guessing_is_tried_again_and_then_ends_the_boosting(toy, tmp_path, monkeypatch):
    """A first one of that kind is an error, a later one ends the run with those before it."""
    short = {"teacher_epochs": 3, "start_epochs": 2, "epochs": 2}
    chosen = options(toy, tmp_path / "run", members=3, **short)
    real_fit, real_outputs, seeds, outputs = member_stage.train_student, member_stage.outputs_of, [], []

    def noted_fit(model, data, schedule, *, seed, weighting, **rest):
        seeds.append((seed, float(np.ptp(weighting.weights))))
        return real_fit(model, data, schedule, seed=seed, weighting=weighting, **rest)

    def contrary_after_the_first(model, encoded, classes):
        outputs.append(real_outputs(model, encoded, classes))
        truth = np.array(read_examples(toy / "train.tsv").labels, np.int64)
        return outputs[0] if len(outputs) == 1 else np.eye(2, dtype=np.float32)[1 - truth]

    monkeypatch.setattr(member_stage, "train_student", noted_fit)
    monkeypatch.setattr(member_stage, "outputs_of", contrary_after_the_first)
    results = train(chosen, QUIET)
    assert len(results["members"]) == 1
    assert [seed for seed, _ in seeds] == [142, 143, 1143]
    assert seeds[1][1] > 0 and seeds[2][1] == 0  # the second try starts from uniform weights
    seeds.clear()
    train(chosen, QUIET)
    assert not seeds  # a resumed run does not try once more
    with pytest.raises(member_stage.TrainingError, match="no better than guessing"):
        train(options(toy, tmp_path / "other", seed=1, **short), QUIET)
