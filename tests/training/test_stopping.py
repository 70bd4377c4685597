"""Early stopping keeps the weights that were best on examples nobody trained on, and says which step that was."""

# ruff: noqa: E402 - the imports below need the extra

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("accelerate", reason="training needs the extra [export]")

from bebert_export.data.batches import EncodedExamples, TrainingSet
from bebert_export.pipeline.options import TrainOptions
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.pipeline.settings import check
from bebert_export.training.early_stopping import Stopping, held_out_scores
from bebert_export.training.loop import Watcher, fit, predict
from bebert_export.training.loss import Objective
from bebert_export.training.schedule import Schedule
from bebert_infer.errors import InputError


class Words(torch.nn.Module):
    """Logits = sum of one row per token; starts at zero."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(60, 2)
        torch.nn.init.zeros_(self.table.weight)

    def forward(self, input_ids, attention_mask, token_type_ids):
        """Sum the rows of real tokens."""
        rows = self.table(input_ids) * attention_mask[:, :, None]
        return type("Output", (), {"logits": rows.sum(dim=1)})


def examples(count, seed, noise):
    """Word 1 or 2 decides; one of 50 others is there to be learned by heart where the label is wrong."""
    random = np.random.default_rng(seed)
    truth = random.integers(2, size=count)
    ids = [np.array([1 + label, random.integers(3, 53)]) for label in truth]
    labels = np.where(random.random(count) < noise, 1 - truth, truth)
    return TrainingSet(EncodedExamples(ids, [np.zeros(2, np.int64) for _ in ids]), labels.astype(np.int64), 2)


class Scores(Watcher):
    """Remembers the evaluations, and dies where it is told to."""

    def __init__(self, die_at=None):
        self.seen, self.die_at = [], die_at

    def step(self, step, steps, loss, examples, learning_rate):
        """Die."""
        if step == self.die_at:
            raise KeyboardInterrupt

    def evaluated(self, step, steps, scores):
        """Remember."""
        self.seen.append((step, scores))


TRAIN, HELD = examples(60, 0, 0.3), examples(80, 1, 0.0)


def run(patience, *, epochs=30.0, evaluations=1, **options):
    model, scores = Words(), options.pop("scores", Scores())
    schedule = Schedule(epochs, 10, 0.2, patience=patience, evaluations=evaluations)
    done = fit(model, Objective(TRAIN), schedule, seed=5, watcher=scores, held=HELD, **options)
    return model, scores, done


def test_training_stops_and_goes_back_to_the_best_weights():
    model, scores, done = run(2)
    losses = [entry["held_loss"] for _, entry in scores.seen]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1  # held-out examples get worse while training ones are learned by heart
    assert [step for step, _ in scores.seen] == [6 * (i + 1) for i in range(best + 3)]
    assert (done.steps, done.best_step) == (6 * (best + 3), 6 * (best + 1))
    now = held_out_scores(predict(model, HELD.encoded, 2), HELD.targets)
    assert now == scores.seen[best][1] and {"held_loss", "accuracy"} <= now.keys()


def test_without_patience_nothing_is_evaluated_and_the_last_weights_stay():
    model, scores, done = run(0)
    assert (scores.seen, done.steps, done.best_step) == ([], 180, None)
    alone = Words()
    fit(alone, Objective(TRAIN), Schedule(30, 10, 0.2), seed=5, watcher=Watcher())
    assert torch.equal(model.table.weight, alone.table.weight)


def test_evaluations_do_not_change_the_course_of_training():
    """Best of all 180 steps with endless patience; the steps before it are those of a run without evaluations."""
    _, scores, done = run(1000, epochs=2, evaluations=3)
    assert [step for step, _ in scores.seen] == [2, 4, 6, 8, 10, 12]
    model, _, last = run(0, epochs=2)
    assert done.loss == last.loss
    assert held_out_scores(predict(model, HELD.encoded, 2), HELD.targets) == scores.seen[-1][1]


def test_a_killed_run_remembers_the_best_weights(tmp_path):
    whole, scores, done = run(2)
    best, end = done.best_step, done.steps
    folder = RunFolder(tmp_path, 1e-9)
    with pytest.raises(KeyboardInterrupt):
        run(2, scores=Scores(die_at=best + 5), snapshots=folder.snapshots("x"))
    resumed, again, finished = run(2, snapshots=folder.snapshots("x"))
    assert [step for step, _ in again.seen] == [step for step, _ in scores.seen if step > best]
    assert (finished.steps, finished.best_step, finished.loss) == (end, best, done.loss)
    assert torch.equal(resumed.table.weight, whole.table.weight)


def test_a_loss_that_is_no_number_never_counts_as_better():
    stopping = Stopping(1, 2)
    model = Words()
    assert [stopping.judge(step, loss, model) for step, loss in enumerate((1.0, float("nan"), 2.0))] == [0, 0, 1]
    assert stopping.best_step == 0


def test_patience_needs_something_to_look_at(tmp_path):
    files = {"init": "x", "train": tmp_path / "a", "dev": tmp_path / "b", "out": tmp_path / "c"}
    with pytest.raises(InputError, match=r"patience is 3 with hold_out 0\.0; .*hold_out above 0"):
        check(TrainOptions(**files, patience=3, hold_out=0.0))
    with pytest.raises(InputError, match="patience is -1"):
        check(TrainOptions(**files, patience=-1))
    check(TrainOptions(**files, patience=3, hold_out=0.1))
