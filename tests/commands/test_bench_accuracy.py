"""Accuracy in `bebert bench` is what `bebert eval` says of the same file, for the model and for its parent."""

import json

import msgspec
import numpy as np
import pytest

pytest.importorskip("sklearn")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from click.testing import CliRunner

from bebert_infer import Ensemble
from bebert_infer.bench.accuracy import accuracies
from bebert_infer.bench.engines import model_group
from bebert_infer.bench.records import TextTiming
from bebert_infer.bench.tables import text_table
from bebert_infer.bench.texts import text_rows
from bebert_infer.cli.demo import SENTENCES
from bebert_infer.cli.main import app
from bebert_infer.errors import DataError
from bebert_infer.measure.sample_models import demo_path

LABELS = ["negative", "positive"]


@pytest.fixture
def data(tmp_path):
    """Sentences of the demo, and one longer than the model, which is cut."""
    file = tmp_path / "dev.tsv"
    rows = [*SENTENCES, ("a fine film", "negative"), ("dull " * 99 + "but good", "positive")]
    file.write_text("sentence1\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    return file


@pytest.fixture
def parent(tmp_path):
    from toy import write_encoder

    folder = write_encoder(tmp_path / "full", pooler=True)
    torch.manual_seed(1)
    config = transformers.BertConfig.from_pretrained(
        folder, num_labels=2, id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)}
    )
    config.max_position_embeddings = 64
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_both_accuracies_equal_those_of_eval(data, parent, tmp_path, monkeypatch):
    monkeypatch.setenv("BEBERT_BACKEND", "reference")
    model = demo_path()
    found = accuracies(model, data, parent, 1)
    options = ["--truncate", "--resamples", "100", "--full-precision", str(parent), "--json", str(tmp_path / "f.json")]
    done = CliRunner().invoke(app, ["eval", str(model), str(data), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    said = json.loads((tmp_path / "f.json").read_text())
    packed = said["ensembles"][said["combination"]][-1]["metrics"]["accuracy"]["value"]
    assert found["packed"] == {"metric": "accuracy", "value": packed, "rows": 8}
    assert 0 < packed < 1
    assert found["full precision"]["value"] == said["full_precision"]["metrics"]["accuracy"]["value"]


def test_without_the_parent_there_is_no_guess(data, monkeypatch):
    monkeypatch.setenv("BEBERT_BACKEND", "reference")
    assert set(accuracies(demo_path(), data, None, 1)) == {"packed"}


def test_labels_that_the_model_does_not_have_are_told(data, monkeypatch):
    monkeypatch.setenv("BEBERT_BACKEND", "reference")
    data.write_text("sentence1\tlabel\na film\tso-so\n")
    with pytest.raises(DataError, match="so-so"):
        accuracies(demo_path(), data, None, 1)


def test_real_texts_are_timed_with_all_members_and_with_early_exit(data):
    """Members run are those of the model's own answers to the same texts, and the record reads back."""
    model = Ensemble.from_pretrained(demo_path())
    engines = model_group(demo_path(), "shipped", "shipped", data, None).packed_engines(16)
    (engine,) = engines
    rows = text_rows(engines, {engine.name: engine.load(1)}, data, threads=1, rounds=2, seconds=60.0)
    assert [row["early_exit"] for row in rows] == [None, "exact"] and {row["texts"] for row in rows} == {8}
    texts = [*(text for text, _ in SENTENCES), "a fine film", "dull " * 99 + "but good"]
    asked = [model.predict([text], truncate=True, early_exit="exact")[0].members_run for text in texts]
    assert [row["members_run"] for row in rows] == [2, np.mean(asked)]
    lengths = [len(model.encode([text], truncate=True).input_ids[0]) for text in texts]
    assert all(row["mean_tokens"] == np.mean(lengths) and row["median_ms"] > 0 for row in rows)
    assert msgspec.convert(rows, list[TextTiming])
    table = text_table([{"name": engine.name, "kind": "packed"}], rows)
    assert table.row_count == 2 and [column.header for column in table.columns] == ["engine", "ms", "members run"]
