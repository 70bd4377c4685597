"""Training with the rows of the word table that the texts use is training with the whole table, only faster."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
transformers = pytest.importorskip("transformers", reason="training needs the extra [export]")

from bebert_export.data.batches import EncodedExamples, TrainingSet
from bebert_export.student.bert import Student, StudentConfig
from bebert_export.training.loop import Watcher, fit, predict
from bebert_export.training.loss import Objective
from bebert_export.training.schedule import Schedule
from bebert_export.training.sparse_embeddings import sparse_embeddings

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_labels": 2}
USED = [0, 3, 7, 8, 20, 31, 49]


def data():
    random = np.random.default_rng(0)
    ids = [random.choice(USED[1:], length) for length in random.integers(3, 9, 40)]
    return TrainingSet(EncodedExamples(ids, [np.zeros_like(row) for row in ids]), random.integers(0, 2, 40), 2)


def model(family):
    torch.manual_seed(1)
    if family == "float":
        config = transformers.BertConfig(
            **SIZES, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=16
        )
        return transformers.BertForSequenceClassification(config)
    rest = {"attention_size": 16, "num_heads": 2, "intermediate_size": 32, "num_layers": 1, "max_positions": 16}
    return Student(StudentConfig(family, 1 if family in ("bit", "bibert") else 4, **SIZES, **rest))


@pytest.mark.parametrize("family", ["float", "ternary", "binarybert", "bibert"])
def test_the_result_is_that_of_the_whole_table(family):
    whole, part = (model(family) for _ in range(2))
    schedule = Schedule(3, 8, 1e-3, weight_decay=0.0)
    fit(whole, Objective(data()), schedule, seed=5, watcher=Watcher())
    before = {name: (id(tensor), tensor.detach().clone()) for name, tensor in part.named_parameters()}
    with sparse_embeddings(part, data().encoded):
        tables = [tensor for name, tensor in part.named_parameters() if "word_embeddings" in name]
        assert tables and all(
            tensor.shape == (len(set(np.concatenate([[0], *data().encoded.ids]))), 16) for tensor in tables
        )
        fit(part, Objective(data()), schedule, seed=5, watcher=Watcher())
    for (name, want), got in zip(whole.named_parameters(), part.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=2e-4, msg=name)
        assert id(got) == before[name][0]
        if "word_embeddings" in name:
            unused = np.setdiff1d(np.arange(50), USED)
            assert torch.equal(got[unused], before[name][1][unused])
            assert not torch.equal(got, before[name][1])
    np.testing.assert_allclose(
        predict(part, data().encoded, 2), predict(whole, data().encoded, 2), rtol=1e-2, atol=1e-3
    )


def test_weight_decay_spares_words_that_the_task_does_not_use():
    part = model("float")
    table = part.bert.embeddings.word_embeddings.weight
    before = table.detach().clone()
    with sparse_embeddings(part, data().encoded):
        fit(part, Objective(data()), Schedule(1, 8, 1e-2, weight_decay=0.5), seed=5, watcher=Watcher())
    assert torch.equal(table[30], before[30]) and not torch.equal(table[31], before[31])


def test_bit_centres_by_the_whole_table_and_keeps_it():
    part = model("bit")
    with sparse_embeddings(part, data().encoded):
        assert len(part.bert.embeddings.word_embeddings.weight) == 50


def test_the_full_table_is_back_after_an_error():
    part = model("bibert")
    want = copy.deepcopy(part.state_dict())
    with pytest.raises(KeyboardInterrupt), sparse_embeddings(part, data().encoded):
        raise KeyboardInterrupt
    got = part.state_dict()
    assert list(got) == list(want) and all(torch.equal(got[name], want[name]) for name in want)
    part(torch.tensor([[30, 2]]))  # ids mean what they meant
