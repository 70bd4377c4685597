"""What tests of hostile models share: good models to damage, and what may become of them."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from micro import (
    CONFIG,
    TENSORS,
    TOKENIZER,
    is_about_texts,
    micro_config,
    write_micro,
)

from bebert_infer import Ensemble, InputError, ModelFormatError
from bebert_infer.artifact.config import LINEARS, Site

SECONDS = 10.0  # for files of a few kilobytes, on the slowest of machines


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_micro(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of few tensors, so that every byte of its header can be tried."""
    sites = dict.fromkeys(LINEARS, Site("sign"))
    config = micro_config(attention="boolean", activation="gelu", sites=sites)
    return write_micro(tmp_path_factory.mktemp("signs") / "model", config)


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def outcome(folder: Path) -> str | None:
    """None for a model that answers, else the error's message; anything else fails the test."""
    started = time.perf_counter()
    try:
        model = Ensemble.from_pretrained(folder, backend="reference", threads=1)
        try:
            scores = np.array([prediction.logits for prediction in model.predict(["the good film"])])
        except InputError as error:
            assert is_about_texts(error), error
        else:
            assert np.isfinite(scores).all()
        return None
    except ModelFormatError as error:
        message = str(error)
        assert folder.name in message or any(name in message for name in (CONFIG, TENSORS, TOKENIZER)), message
        assert "\n" not in message.strip() and len(message) < 5000, message
        return message
    finally:
        assert time.perf_counter() - started < SECONDS


def refused(folder: Path, *parts: str) -> None:
    message = outcome(folder)
    assert message is not None, "it was loaded"
    for part in parts:
        assert part in message, message
