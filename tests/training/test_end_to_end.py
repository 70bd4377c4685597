"""A two-layer model is trained on a few hundred sentences; packed, its ensemble is as accurate as in PyTorch."""

# ruff: noqa: E402 - the imports below need the extra

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from rich.console import Console
from toy import write_data, write_encoder

from bebert_export.data.examples import read_examples
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.train import TrainOptions, train
from bebert_infer import Ensemble
from bebert_infer.combine import combine


@pytest.mark.parametrize(
    ("scheme", "base", "changes"),
    [
        ("1-1-4", "binarybert", {}),
        ("1-1-1", "bibert", {}),
        pytest.param("1-1-1", "bit", {"steps": (2,), "distill": "hidden", "epochs": 8}, marks=pytest.mark.long),
    ],
)
def test_packed_accuracy_is_that_of_pytorch(tmp_path, monkeypatch, scheme, base, changes):
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":  # the reference answers the same, sooner than plain loops
        monkeypatch.setenv("BEBERT_BACKEND", "reference")
    options = TrainOptions(
        init=str(write_encoder(tmp_path / "encoder", layers=2)),
        train=write_data(tmp_path / "train.tsv", 400, 1, noise=0.1),
        dev=write_data(tmp_path / "dev.tsv", 150, 2, noise=0.1),
        out=tmp_path / "run",
        scheme=scheme,
        base=base,
        members=3,
        shrinkage=0.3,
        hold_out=0.2,
        labels=("negative", "positive"),
        max_length=16,
        teacher_epochs=6,
        start_epochs=4,
        teacher_learning_rate=5e-3,
        learning_rate=5e-3,
        dropout=0.0,
        threads=1,
        **({"epochs": 6} | changes),
    )
    results = train(options, Console(quiet=True))
    dev = read_examples(options.dev)
    truth = np.array([int(label) for label in dev.labels])
    run, count = RunFolder(options.out), len(results["members"])
    stored = [run.load(f"member_{i}")[0]["dev_logits"].numpy() for i in range(count)]
    scores = combine("probabilities", np.stack(stored), np.array([facts["alpha"] for facts in results["members"]]))
    in_torch = float(np.mean(scores.argmax(axis=1) == truth))

    model = Ensemble.from_pretrained(options.out / "model", threads=2)
    assert len(model.members) == count > 1
    answers = np.array([prediction.label == "positive" for prediction in model.predict(dev.texts, truncate=True)])
    assert np.mean(answers == truth) == in_torch
    assert results["dev"]["ensemble"]["probabilities"]["accuracy"] == in_torch
    assert in_torch > 0.75  # it did learn: guessing gets 0.5, the right answers 0.9
