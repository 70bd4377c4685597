"""Texts in the containers that people have: columns and arrays are texts; tables are refused; nothing is guessed."""

import numpy as np
import pytest
from arrow import arrow

from bebert_infer.errors import InputError
from bebert_infer.limits import InputLimits
from bebert_infer.text.tokenizer import as_texts

TEXTS = ["a gripping film", "dull"]


class Frame(dict):
    """What pandas and polars call a frame: iterating over it gives the names of its columns."""

    columns = ("text", "label")


class Column:
    """A column of a library that is not installed here."""

    def __iter__(self):
        return iter(TEXTS)


def texts(inputs):
    return as_texts(inputs, InputLimits())


@pytest.mark.parametrize(
    "inputs",
    [
        TEXTS,
        iter(TEXTS),
        dict.fromkeys(TEXTS).keys(),
        np.array(TEXTS),
        np.array(TEXTS, object),
        Column(),
        {"text": TEXTS},
        {"text": np.array(TEXTS)},
        [{"text": text} for text in TEXTS],
    ],
    ids=lambda inputs: type(inputs).__name__,
)
def test_columns_and_arrays_of_texts_are_texts(inputs):
    assert texts(inputs) == (TEXTS, False)


def test_columns_of_arrow_are_texts_and_its_tables_are_refused():
    pa = arrow()
    for inputs in (pa.array(TEXTS), pa.chunked_array([TEXTS]), pa.table({"text": TEXTS})["text"]):
        assert texts(inputs) == (TEXTS, False)
    with pytest.raises(InputError, match=r"input is a table \(Table\)"):
        texts(pa.table({"text": TEXTS}))
    with pytest.raises(InputError, match="text 0 is None"):
        texts(pa.array([None, "a"]))


@pytest.mark.parametrize("inputs", [np.array(TEXTS[0]), np.str_(TEXTS[0]), {"text": TEXTS[0]}])
def test_one_text_in_an_array_without_dimensions_is_one_text(inputs):
    assert texts(inputs) == (TEXTS[:1], True)


def test_a_dict_of_lists_holds_rows_not_a_pair():
    """Two texts under one key were answered as one pair."""
    assert texts({"text": TEXTS, "text_pair": ["a", "b"]}) == ([(TEXTS[0], "a"), (TEXTS[1], "b")], False)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (Frame(text=TEXTS), r'input is a table \(Frame\); pass the column of its texts, as table\["text"\]'),
        ({"text": TEXTS, "label": [1, 0]}, 'input has keys .*label.*; accepted are lists under "text" and "text_pair"'),
        ({"text": TEXTS, "text_pair": ["a"]}, '"text" has 2 texts, "text_pair" 1; pass as many of each'),
        ({"text": TEXTS, "text_pair": "a"}, "accepted are lists under"),
        ({"text": 5}, '"text" is 5; accepted are a text or a list of texts'),
        (np.array([1.5, 2]), "text 0 is"),
        (np.array(5), "input is int"),
        ([{"text": TEXTS}], "text 0 is"),
        (b"bytes", "text 0 is 98"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_in_one_sentence(inputs, said):
    with pytest.raises(InputError, match=said):
        texts(inputs)
