"""A two-layer model learns real sentences from nothing; packed, its ensemble is exactly as accurate as in PyTorch."""

# ruff: noqa: E402 - the imports below need the extra

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from rich.console import Console
from toy import write_encoder

from bebert_export.examples import read_examples
from bebert_export.run_folder import RunFolder
from bebert_export.train import TrainOptions, train
from bebert_infer import Ensemble
from bebert_infer.combine import combine

SENTENCES = Path(__file__).parent / "data" / "sentences"


@pytest.mark.parametrize(("scheme", "base"), [("1-1-4", "binarybert"), ("1-1-1", "bibert"), ("1-1-1", "bit")])
def test_packed_accuracy_is_that_of_pytorch(tmp_path, monkeypatch, scheme, base):
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":  # the reference answers the same, sooner than plain loops
        monkeypatch.setenv("BEBERT_BACKEND", "reference")
    words = Counter(
        word for text in read_examples(SENTENCES / "train.tsv").texts for word in text.lower().split() if word.isalpha()
    )
    frequent = [word for word, count in words.most_common() if count > 2]
    options = TrainOptions(
        init=str(write_encoder(tmp_path / "encoder", hidden=64, layers=2, words=frequent)),
        train=SENTENCES / "train.tsv",
        dev=SENTENCES / "dev.tsv",
        out=tmp_path / "run",
        scheme=scheme,
        base=base,
        members=3,
        shrinkage=0.3,
        hold_out=0.0,
        labels=("negative", "positive"),
        max_length=32,
        teacher_epochs=6,
        start_epochs=3,
        epochs=3,
        teacher_learning_rate=1e-3,
        learning_rate=1e-3,
        dropout=0.0,
        threads=1,
    )
    results = train(options, Console(quiet=True))
    dev = read_examples(options.dev)
    truth = np.array([int(label) for label in dev.labels])
    run = RunFolder(options.out)
    stored = [run.load(f"member_{i}")[0]["dev_logits"].numpy() for i in range(3)]
    scores = combine("probabilities", np.stack(stored), np.array([facts["alpha"] for facts in results["members"]]))
    in_torch = float(np.mean(scores.argmax(axis=1) == truth))

    model = Ensemble.from_pretrained(options.out / "model", threads=2)
    answers = np.array([prediction.label == "positive" for prediction in model.predict(dev.texts, truncate=True)])
    assert np.mean(answers == truth) == in_torch
    assert results["dev"]["ensemble"]["probabilities"]["accuracy"] == in_torch
    assert in_torch > 0.62  # it did learn: guessing gets 0.5, and 150 sentences have a standard error of 0.04
