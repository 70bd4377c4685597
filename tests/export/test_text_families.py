"""Texts that contain each other are held out together: what is judged on a held-out part was not seen in pieces."""

# ruff: noqa: E402 - the imports below need the extra

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="training needs the extra [export]")

from bebert_export.data.text_families import group_ids
from bebert_export.pipeline.data import hold_out

words = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=7), min_size=1, max_size=25)


def contains(longer: list[str], shorter: list[str]) -> bool:
    return any(longer[k : k + len(shorter)] == shorter for k in range(len(longer) - len(shorter) + 1))


@given(words)
def test_a_text_belongs_to_the_first_of_the_longest_that_contain_it(rows):
    found = group_ids([" ".join(row) for row in rows], None, range(len(rows)))
    for i, row in enumerate(rows):
        holders = [j for j, other in enumerate(rows) if contains(other, row)]
        assert found[i] == min(holders, key=lambda j: (-len(rows[j]), j))
    assert (found[found] == found).all(), "who stands for a family stands for itself"


def test_blanks_and_upper_case_do_not_count_and_half_a_word_is_no_part():
    texts = ["A  gripping ,\tfunny film", "funny FILM", "fun", "film , funny", "a gripping , funny film"]
    assert group_ids(texts, None, range(5)).tolist() == [0, 0, 2, 3, 0]


def test_pairs_belong_together_if_both_texts_are_the_same():
    assert group_ids(["a b", "a b", "a b", "b"], ["c", "c", "c d", "c"], range(4)).tolist() == [0, 0, 2, 3]


def test_copies_belong_where_their_original_belongs():
    texts = ["one film", "another film", "a long story about one film", "no story"]
    assert group_ids(texts, None, [0, 0, 2, 2]).tolist() == [2, 2, 2, 2]


@given(words, st.floats(0.01, 0.9), st.integers(0, 99))
def test_families_are_held_out_whole_and_close_to_the_share(rows, share, seed):
    groups = group_ids([" ".join(row) for row in rows], None, range(len(rows)))
    trained, held = hold_out(range(len(rows)), groups, share, seed)
    assert sorted([*trained, *held]) == list(range(len(rows)))
    assert not set(groups[trained]) & set(groups[held])
    wanted, smallest = max(1, round(share * len(rows))), np.bincount(groups)[np.unique(groups)].min()
    assert 1 <= len(held) <= max(wanted, smallest)


def test_without_relatives_a_share_is_drawn_row_by_row_as_it_always_was():
    """So runs on data without relatives, and the records of benchmarks/results/glue.jsonl, stay what they were."""
    for rows, share, seed in ((100, 0.1, 1), (7, 0.3, 0), (5, 0.01, 3)):
        held = np.sort(np.random.default_rng([seed, 2]).permutation(rows)[: max(1, round(share * rows))])
        assert hold_out(range(rows), np.arange(rows), share, seed)[1].tolist() == held.tolist()
    assert len(hold_out(range(9), np.arange(9), 0.0, 0)[1]) == 0
