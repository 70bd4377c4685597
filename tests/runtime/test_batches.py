"""Sentences as lists become the batch that their padded arrays become; what a model has no table row for is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bebert_infer import InputError
from bebert_infer.model.batch import ModelBounds, checked_inputs, listed_batch, ragged_batch
from bebert_infer.text.tokenizer import collate

LIMITS = ModelBounds(vocabulary=50, positions=12, types=2)
TOKENS = st.lists(st.tuples(st.integers(0, 49), st.integers(0, 1)), min_size=1, max_size=12)


@given(st.lists(TOKENS, max_size=9))
def test_lists_and_padded_arrays_make_the_same_batch(sentences):
    rows = [([token for token, _ in one], [kind for _, kind in one]) for one in sentences]
    found = listed_batch(rows, LIMITS)
    expected = ragged_batch(*checked_inputs(*collate(rows).arrays, LIMITS))
    for name in ("ids", "positions", "types", "offsets"):
        have, want = getattr(found, name), getattr(expected, name)
        assert have.dtype == want.dtype == np.int64 and have.flags.c_contiguous
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize(
    ("ids", "types", "sentence"),
    [
        ([1, 50], [0, 0], "token id 50; this model accepts 0 to 49"),
        ([-1], [0], "token id -1; this model accepts 0 to 49"),
        ([1], [2], "segment type 2; this model accepts 0 to 1"),
        ([1] * 13, [0] * 13, "13 tokens; this model has 12 positions"),
    ],
)
def test_what_no_table_has_is_refused(ids, types, sentence):
    with pytest.raises(InputError, match=sentence):
        listed_batch([([3], [0]), (ids, types)], LIMITS)
