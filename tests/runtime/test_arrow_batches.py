"""Batches of Arrow rows, as Ray and Spark hand them out: answers of `predict` whatever the cut, bad rows as errors."""

from typing import Any

import pytest
from arrow import arrow
from hypothesis import given, settings
from hypothesis import strategies as st

from bebert_infer import Ensemble, InputError
from bebert_infer.bulk.arrow import answer_batch, answer_schema
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.errors import RowError
from bebert_infer.measure.sample_models import demo_path

pa = arrow()
SKIP = BulkOptions(on_error="skip")
TEXTS = ["a gripping, funny film", "dull", "it is what it is", "not bad at all", "naïve 电影 🎬"] * 3


@pytest.fixture(scope="module")
def model() -> Ensemble:
    return Ensemble.from_pretrained(demo_path())


def batch(texts: list[Any], kind: Any = None, **more: list[Any]) -> Any:
    columns = {"id": pa.array(range(len(texts))), "text": pa.array(texts, kind or pa.string())}
    return pa.RecordBatch.from_pydict(columns | {name: pa.array(column) for name, column in more.items()})


def schema_of(model: Ensemble, rows: Any, options: BulkOptions) -> Any:
    return answer_schema(rows.schema, model.config.labels, model.config.problem_type, options)


def answered(model: Ensemble, rows: Any, options: BulkOptions) -> Any:
    return answer_batch(model, rows, schema_of(model, rows, options), options)


@settings(deadline=None, max_examples=20)  # the first call loads the kernels
@given(cuts=st.lists(st.integers(0, len(TEXTS)), max_size=4).map(sorted))
def test_answers_are_those_of_predict_wherever_rows_are_cut(model: Ensemble, cuts: list[int]) -> None:
    ends = [0, *cuts, len(TEXTS)]
    rows = batch(TEXTS)
    parts = [rows.slice(a, b - a) for a, b in zip(ends, ends[1:], strict=False)]
    found = pa.Table.from_batches([answered(model, part, SKIP) for part in parts])
    expected = model.predict(TEXTS)
    assert found["id"].to_pylist() == list(range(len(TEXTS)))
    assert found["text"].to_pylist() == TEXTS
    assert found["label"].to_pylist() == [one.label for one in expected]
    assert found["score"].to_pylist() == [one.score for one in expected]  # the same bits
    assert found["votes"].to_pylist() == [one.votes for one in expected]
    for name in model.config.labels:
        assert found[f"probability_{name}"].to_pylist() == [one.probabilities[name] for one in expected]
    assert found["error"].to_pylist() == [None] * len(TEXTS)


@pytest.mark.parametrize("rows", [0, 2])
def test_what_comes_back_has_the_schema_that_was_foretold(model: Ensemble, rows: int) -> None:
    for options in (SKIP, BulkOptions(on_error="skip", early_exit="exact")):
        part = batch(TEXTS[:rows])
        schema = schema_of(model, part, options)
        answers = answered(model, part, options)
        assert answers.schema == schema and answers.num_rows == rows
        assert ("members_run" in schema.names) == (options.early_exit is not None)


def test_a_bad_row_says_why_and_spoils_no_other(model: Ensemble) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    texts = pa.concat_arrays([pa.array(["good", None, "", "good " * 600, "fine"]), broken])
    part = pa.RecordBatch.from_pydict({"text": texts})
    errors = answered(model, part, SKIP)["error"].to_pylist()
    assert errors[0] is None and errors[4] is None
    assert errors[1] == errors[2] == 'the "text" in this row is missing; write a text, or leave the row out'
    assert "tokens" in errors[3] and errors[3].startswith('the "text" in this row')
    assert errors[5] == 'this row has a "text" that is not UTF-8; write it again as UTF-8'
    with pytest.raises(RowError, match="is missing"):
        answered(model, part, BulkOptions())


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view"])
def test_every_kind_of_string_is_read(model: Ensemble, kind: str) -> None:
    part = batch(TEXTS, getattr(pa, kind)())
    labels = answered(model, part, SKIP)["label"].to_pylist()
    assert labels == [one.label for one in model.predict(TEXTS)]


def test_words_of_a_dictionary_and_columns_of_nulls_are_read(model: Ensemble) -> None:
    words = pa.RecordBatch.from_pydict({"text": pa.array(TEXTS).dictionary_encode()})
    assert answered(model, words, SKIP)["label"].null_count == 0
    assert answered(model, batch([None, None], pa.null()), SKIP)["error"].null_count == 0


def test_pairs_are_read_from_their_columns(model: Ensemble) -> None:
    part = batch(["good", "bad"], text_pair=["film", "play"], other=["x", "y"])
    expected = [one.score for one in model.predict([("good", "film"), ("bad", "play")])]
    assert answered(model, part, SKIP)["score"].to_pylist() == expected
    named = BulkOptions("text", "other", on_error="skip")
    expected = [one.score for one in model.predict([("good", "x"), ("bad", "y")])]
    assert answered(model, part, named)["score"].to_pylist() == expected


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"review": ["a"]}, {}, r"columns review; a column of texts \(sentence1, .*\) is missing: name the columns"),
        ({"text": ["a"]}, {"text_column": "review"}, 'columns text; "review" is missing'),
        ({"text": ["a"]}, {"text_column": "text", "pair_column": "b"}, '"b" is missing'),
        ({"text": [1]}, {}, 'the column "text" holds int64; texts are strings'),
        ({"text": ["a"], "label": [1]}, {}, 'a column "label" already'),
        ({}, {}, "columns none"),
    ],
)
def test_columns_that_do_not_fit_are_refused_before_any_work(
    model: Ensemble, columns: dict[str, list[Any]], options: dict[str, str], message: str
) -> None:
    schema = pa.Table.from_pydict(columns).schema
    with pytest.raises(InputError, match=message):
        answer_schema(schema, model.config.labels, model.config.problem_type, BulkOptions(**options))


def test_a_column_twice_is_refused(model: Ensemble) -> None:
    schema = pa.schema([("text", pa.string()), ("text", pa.string())])
    with pytest.raises(InputError, match='2 columns "text"'):
        answer_schema(schema, model.config.labels, model.config.problem_type, SKIP)
