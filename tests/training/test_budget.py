"""A budget of minutes scales the epochs of all stages by one factor, once, and the run keeps to it."""

# ruff: noqa: E402 - the imports below need the extra

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")
pytest.importorskip("accelerate", reason="training needs the extra [export]")

from rich.console import Console
from safetensors.torch import load_file
from toy import write_task

from bebert_export import train
from bebert_export.pipeline import speed_probe
from bebert_export.pipeline.budget import LEAST, RESERVE, StageCost, scale_epochs
from bebert_export.pipeline.speed_probe import Stopwatch
from bebert_infer.errors import InputError

QUIET = Console(quiet=True)
COSTS = [
    StageCost("full precision", "teacher_epochs", 3.0, 1, 50.0, 100.0, 10.0),
    StageCost("members", "epochs", 2.0, 4, 25.0, 200.0, 20.0),
]  # 1,900 seconds of training, 90 of predictions


def seconds(facts):
    return sum(60 * row["minutes"] for row in facts["stages"])


def test_one_factor_fills_the_budget_and_never_exceeds_what_was_asked():
    ample = scale_epochs(COSTS, 10_000, 60)
    assert (ample["factor"], ample["epochs"]) == (1.0, {"teacher_epochs": 3.0, "epochs": 2.0})
    assert seconds(ample) == pytest.approx(1990)
    short = scale_epochs(COSTS, 1000, 60)
    assert short["epochs"]["teacher_epochs"] / 3 == pytest.approx(short["epochs"]["epochs"] / 2)
    assert seconds(short) + 60 == pytest.approx(1000 * (1 - RESERVE))


def test_a_budget_that_pays_for_nothing_is_refused_and_the_least_is_accepted():
    with pytest.raises(InputError, match=r"budget_minutes is 2; this run needs 3\.0 minutes"):
        scale_epochs(COSTS, 120, 60)
    least = (LEAST * 1900 + 90 + 60) / (1 - RESERVE)
    assert scale_epochs(COSTS, least + 1e-6, 60)["factor"] == pytest.approx(LEAST)


def test_the_stopwatch_adds_up_the_fits_of_a_stage_and_leaves_out_their_first_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(speed_probe.time, "perf_counter", lambda: now[0])
    watch = Stopwatch()
    for duration in (0.5, 2.0):  # a step of 10 examples, in the first and the second fit
        for step in range(1, 21):
            now[0] += duration if step > 3 else 100.0
            watch.step(step, 20, 1.0, 10, 0.1)
    assert watch.seconds_per_example() == pytest.approx(0.05 + 0.2)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("toy"), 200, 20)


def run(toy, out, **changes):
    """Train; returns the steps of full precision and of the member, and the weights of the member."""
    files = {"init": str(toy / "encoder"), "train": toy / "train.tsv", "dev": toy / "dev.tsv", "out": out}
    common = {"members": 1, "max_length": 16, "teacher_epochs": 2.0, "start_epochs": 1.0, "epochs": 2.0}
    common |= {"learning_rate": 5e-3, "teacher_learning_rate": 5e-3, "threads": 1}
    seen = {}

    def finish(options, data, full, first, calibrated, members, *rest):
        seen.update(full=full.facts["steps"], member=members[0].facts["steps"], calibration=calibrated)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_finish", finish)
        train.train(train.TrainOptions(**(files | common | changes)), QUIET)
    return seen, load_file(out / "stages" / "member_0.safetensors")


def test_calibration_measures_every_kind_of_stage_and_changes_no_result(toy, tmp_path):
    free, weights = run(toy, tmp_path / "free", width=0.5, distill="two-stage")
    seen, same = run(toy, tmp_path / "run", width=0.5, distill="two-stage", budget_minutes=1000.0)
    assert [row["stage"] for row in seen["calibration"]["stages"]] == ["full precision", "before members", "members"]
    for row in seen["calibration"]["stages"]:
        assert row["examples_per_second"] > 0 and row["epoch_seconds"] > 0 and row["other_seconds"] > 0
    assert (seen["full"], seen["member"]) == (free["full"], free["member"]) == (12, 24)
    assert all(torch.equal(tensor, same[name]) for name, tensor in weights.items())


def test_a_resumed_run_keeps_its_epochs(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(speed_probe, "measure", lambda *arguments: COSTS)
    short = {"budget_minutes": 1000 / 60, "scheme": "1-1-1", "base": "bit", "teacher_epochs": 3.0}
    with monkeypatch.context() as patch:
        patch.setattr(train, "full_precision", lambda *arguments: 1 / 0)  # dies right after the calibration
        with pytest.raises(ZeroDivisionError):
            run(toy, tmp_path / "run", **short)
    monkeypatch.setattr(speed_probe, "measure", None)
    seen, _ = run(toy, tmp_path / "run", **short)
    assert seen["calibration"]["factor"] == pytest.approx((950 - 90) / 1900, abs=0.01)
    assert (seen["full"], seen["member"]) == (8, 5)  # of 18 and 12
