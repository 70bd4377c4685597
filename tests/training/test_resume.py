"""A run that is killed anywhere, started again, ends with the same bits as one that was left alone."""

# ruff: noqa: E402 - the imports below need the extra

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")
pytest.importorskip("accelerate", reason="training needs the extra [export]")

from rich.console import Console
from safetensors.torch import load_file
from toy import write_task

from bebert_export import train
from bebert_export.pipeline import progress
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.training.snapshots import Snapshot
from bebert_infer.errors import InputError

QUIET = Console(quiet=True)
COMMON = {
    "members": 1,
    "max_length": 16,
    "vocabulary_size": 76,
    "teacher_epochs": 3.0,
    "start_epochs": 1.5,
    "epochs": 1.5,
    "learning_rate": 5e-3,
    "teacher_learning_rate": 5e-3,
    "threads": 1,
    "snapshot_minutes": 1e-9,  # after every step
}


class Killed(BaseException):
    """Nothing in the product catches this one."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("toy"), 200, 20)


@pytest.fixture(autouse=True)
def no_packing(monkeypatch):
    """What comes after the last member is another test's matter."""
    monkeypatch.setattr(train, "_finish", lambda *arguments: {})


def options(toy, out, **changes):
    files = {"init": str(toy / "encoder"), "train": toy / "train.tsv", "dev": toy / "dev.tsv", "out": out}
    return train.TrainOptions(**(files | COMMON | changes))


def kill_at(monkeypatch, stage, number):
    """Die in the `number`-th optimizer step of a stage, counted over all fits in it; returns what was seen."""
    seen = []
    real = progress.StageBar.step

    def step(self, *arguments):
        real(self, *arguments)
        if self._stage == stage:
            seen.append(arguments[0])
            if len(seen) == number:
                raise Killed

    monkeypatch.setattr(progress.StageBar, "step", step)
    return seen


def final_states(out):
    files = [*(out / "stages").glob("*.safetensors"), out / "full_precision" / "model.safetensors"]
    return {file.name: load_file(file) for file in files}


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensors in one.items():
        assert tensors.keys() == other[name].keys()
        assert all(torch.equal(tensor, other[name][key]) for key, tensor in tensors.items()), name


@pytest.fixture(scope="module")
def whole_runs(toy, tmp_path_factory):
    """Final weights of runs that nobody interrupts and that keep no snapshots, by their changes of the options."""
    known = {}

    def whole(**changes):
        key = repr(sorted(changes.items()))
        if key not in known:
            out = tmp_path_factory.mktemp("whole") / "run"
            train.train(options(toy, out, **(changes | {"snapshot_minutes": 0.0})), QUIET)
            known[key] = final_states(out)
        return known[key]

    return whole


TWO = {"scheme": "1-1-1", "base": "bit", "distill": "two-stage", "learning_rate": 2e-3}


@pytest.mark.parametrize(
    ("stage", "number", "first_again", "changes"),
    [
        ("full precision", 11, 11, {}),  # in the second epoch of 7 steps
        ("ternary", 3, 3, {}),
        ("member 0", 9, 9, {}),
        ("member 0", 4, 4, TWO),  # in the first of the two fits of a stage
        ("member 0", 12, 3, TWO),  # in the second, of 9 steps each
        ("member 0", 8, 8, {"boosting": "bagging", "patience": 1}),
    ],
)
def test_a_killed_stage_goes_on_in_its_middle(toy, tmp_path, whole_runs, stage, number, first_again, changes):
    chosen = options(toy, tmp_path / "run", **changes)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, stage, number)
        with pytest.raises(Killed):
            train.train(chosen, QUIET)
    with pytest.MonkeyPatch.context() as patch:
        again = kill_at(patch, stage, -1)
        train.train(chosen, QUIET)
    assert again[0] == first_again  # the step in which it died was not in a snapshot yet
    assert_same_weights(final_states(chosen.out), whole_runs(**changes))
    assert not list((chosen.out / "stages").glob(".*"))


def test_a_kill_between_the_last_step_and_the_end_of_a_stage_repeats_no_step(toy, tmp_path, whole_runs):
    """The predictions after training take long too."""
    chosen = options(toy, tmp_path / "run", snapshot_minutes=60)
    with pytest.MonkeyPatch.context() as patch:
        real = RunFolder.save

        def save(self, stage, *arguments):
            if stage == "ternary":
                raise Killed
            real(self, stage, *arguments)

        patch.setattr(RunFolder, "save", save)
        with pytest.raises(Killed):
            train.train(chosen, QUIET)
    with pytest.MonkeyPatch.context() as patch:
        again = kill_at(patch, "ternary", -1)
        train.train(chosen, QUIET)
    assert again == []
    assert_same_weights(final_states(chosen.out), whole_runs())


def test_without_snapshots_the_stage_starts_again(toy, tmp_path):
    chosen = options(toy, tmp_path / "run", snapshot_minutes=0.0)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, "full precision", 5)
        with pytest.raises(Killed):
            train.train(chosen, QUIET)
        again = kill_at(patch, "full precision", 1)
        with pytest.raises(Killed):
            train.train(chosen, QUIET)
    assert again == [1]


def test_snapshots_are_as_far_apart_as_they_should_be(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    snapshot = Snapshot(tmp_path / "x", 300.0)
    now[0] = 299.0
    assert not snapshot.due()
    now[0] = 300.0
    assert snapshot.due()


@pytest.mark.slow
def test_a_process_killed_by_the_system_is_resumed_with_the_same_bits(toy, tmp_path, whole_runs):
    """SIGKILL at whatever the process is doing; nothing is left behind that does not belong there."""
    chosen = options(toy, tmp_path / "run")
    code = (
        "from pathlib import Path; from rich.console import Console; from bebert_export import train\n"
        f"train.train(train.TrainOptions(init={chosen.init!r}, train=Path({str(chosen.train)!r}), "
        f"dev=Path({str(chosen.dev)!r}), out=Path({str(chosen.out)!r}), **{COMMON!r}), Console(quiet=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 120
        while not list((chosen.out / "stages").glob(".running-member_0*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert not (chosen.out / "stages" / "member_0.safetensors").exists()
    train.train(chosen, QUIET)
    assert_same_weights(final_states(chosen.out), whole_runs())
    assert not list((chosen.out / "stages").glob(".*"))


def test_a_run_begun_before_the_training_side_had_rooms_goes_on(tmp_path, monkeypatch):
    """Its options.json, recorded by commit b92e3d7: the same call claims the folder, another is refused by its name."""
    toy = write_task(tmp_path, 160, 40)
    recorded = json.loads((Path(__file__).parents[1] / "data" / "run_options.json").read_text())
    known = {field.name for field in fields(train.TrainOptions)}
    values = {name: tuple(x) if isinstance(x, list) else x for name, x in recorded.items() if name in known}
    chosen = options(toy, tmp_path / "run", **(values | {"init": str(toy / "encoder")}))
    RunFolder(chosen.out).save("full_precision", {}, {})
    encoder = str((toy / "encoder").resolve())
    (chosen.out / "options.json").write_text(json.dumps(recorded | {"init": encoder}))
    monkeypatch.setattr(train, "full_precision", lambda *arguments: 1 / 0)  # the folder is claimed by then
    with pytest.raises(ZeroDivisionError):
        train.train(chosen, QUIET)
    assert json.loads((chosen.out / "options.json").read_text()) == recorded | {"init": encoder}
    with pytest.raises(InputError, match="holds a run with width 0.5, this one has 1.0"):
        train.train(replace(chosen, width=1.0), QUIET)


def test_a_gap_between_finished_members_is_an_error(tmp_path):
    """The one behind it learned from the errors of the missing one; another in its place would fit neither."""
    run = RunFolder(tmp_path)
    for number in (0, 2, 3):
        run.save(f"member_{number}", {}, {})
    run.check_numbered("student")
    with pytest.raises(InputError, match="holds member 0, 2, 3 and lacks 1, .*; put member_1.safetensors back, or rem"):
        run.check_numbered("member")
    (tmp_path / "stages" / "member_0.safetensors").unlink()
    with pytest.raises(InputError, match="holds member 2, 3 and lacks 0"):
        run.check_numbered("member")
    for number in (0, 1):
        run.save(f"member_{number}", {}, {})
    run.check_numbered("member")
