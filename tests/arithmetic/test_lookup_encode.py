"""Rows are encoded so that no sum of bytes overflows whatever the weights are, and nothing is looked up in vain.

Here stands what a row holds, code by code in NumPy; that products of it are right is in `test_lookup.py`.
"""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lookup_shapes import EVERY, NAMES, Row, encode, groups_of, random_codes, read_row

from bebert_kernels.lookup import layout
from bebert_kernels.lookup.layout import Shape, bias_of

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the look-up product has no form without JIT")

ALL = pytest.mark.parametrize("shape", EVERY, ids=NAMES)


def encoded(shape: Shape, codes: np.ndarray, low: int = 0, bits: int = 4) -> Row:
    """One row of plain codes."""
    counted = (np.asarray(codes) - low).astype(np.uint8)
    return read_row(encode(shape, counted[None], low, bits)[0], len(counted))


def parts_of(values: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Of each `count` groups: what codes above 0 add up to, and what those below 0 do, negated."""
    together = values.reshape(-1, count * values.shape[1])
    above, below = np.maximum(together, 0).sum(axis=1), np.maximum(-together, 0).sum(axis=1)
    return list(zip(above.tolist(), below.tolist(), strict=True))


def fits(part: tuple[int, int], bias: int) -> bool:
    return part[0] <= 255 - bias and part[1] <= bias


def check_row(row: Row, values: np.ndarray, low: int, bits: int) -> None:
    """Everything that the product relies on, and that windows are as long as they may be."""
    bias = bias_of(low, bits)
    assert row.bias == bias
    used = [number for number in range(len(values)) if values[number].any()]
    assert row.list == [number * layout.ENTRIES for number in used]
    assert row.ends[-1] == len(row.list)
    assert all(a < b for a, b in zip(row.ends, row.ends[1:], strict=False)), "a window without groups"
    for begin, end in zip([0, *row.ends], row.ends, strict=False):
        numbers = [place // layout.ENTRIES for place in row.list[begin:end]]
        window = values[numbers]
        assert fits((np.maximum(window, 0).sum(), np.maximum(-window, 0).sum()), bias), "bytes overflow"
    assert row.ends == longest(values, bias)
    # dot = total - 2 * (16-bit sums - base), and the sums hold the bias once for each window.
    least, most = int(np.minimum(values, 0).sum()), int(np.maximum(values, 0).sum())
    base = row.base - bias * len(row.ends)
    lowest = (least - base + (1 << 15)) % (1 << 16) - (1 << 15)  # the smallest sum less the base, as 16 bits have it
    assert lowest + most - least < 1 << 15, "16-bit sums overflow"
    assert row.total == values.sum() - 2 * (least - lowest)


def longest(values: np.ndarray, bias: int) -> list[int]:
    """Ends of the windows, by taking four groups after four as long as they fit."""
    ends, listed, together = [], 0, (0, 0)
    for number, part in enumerate(parts_of(values, layout.UNIT)):
        more = together[0] + part[0], together[1] + part[1]
        if not fits(more, bias):
            ends.append(listed)
            more = part
        together = more
        listed += int(values[layout.UNIT * number :][: layout.UNIT].any(axis=1).sum())
    return [*ends, listed]


def patterns(low: int, high: int) -> st.SearchStrategy[list[int]]:
    """Rows of codes that a cutter of windows might fall over."""
    depth, code = st.integers(1, 700), st.integers(low, high)
    ends = st.sampled_from([low, high])
    constant = st.tuples(st.one_of(ends, code), depth).map(lambda drawn: [drawn[0]] * drawn[1])
    alternating = st.tuples(st.lists(st.one_of(ends, code), min_size=2, max_size=9), depth).map(
        lambda drawn: (drawn[0] * drawn[1])[: drawn[1]]
    )
    runs = st.lists(st.tuples(st.one_of(st.just(0), ends, code), st.integers(1, 90)), min_size=1, max_size=12).map(
        lambda drawn: [value for value, count in drawn for _ in range(count)]
    )
    any_codes = st.lists(st.one_of(code, ends, st.just(0)), min_size=1, max_size=300)

    @st.composite
    def one_code(draw: st.DrawFn) -> list[int]:
        row = [0] * draw(depth)
        row[draw(st.integers(0, len(row) - 1))] = draw(code)
        return row

    return st.one_of(constant, alternating, runs, any_codes, one_code())


@ALL
@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(0, 15))
def test_no_window_can_overflow_and_none_is_shorter_than_it_need_be(shape, data, bits, below):
    low = -min(below, (1 << bits) - 1)
    codes = np.array(data.draw(patterns(low, low + (1 << bits) - 1)))
    row = encoded(shape, codes, low, bits)
    check_row(row, groups_of((codes - low).astype(np.uint8), low), low, bits)


@ALL
@pytest.mark.parametrize(("low", "code"), [(0, 15), (0, 0), (-8, -8), (-8, 7), (-8, 0), (-15, -15), (-1, 14)])
def test_rows_of_one_code_at_every_tail(shape, low, code):
    for depth in [*range(1, 100), 767, 768, 769, layout.DEEPEST]:
        codes = np.full(depth, code)
        check_row(encoded(shape, codes, low), groups_of((codes - low).astype(np.uint8), low), low, 4)


@ALL
def test_rows_of_a_block_are_encoded_alone(shape):
    """Sums and windows of a row begin anew, whatever the row before was."""
    codes = random_codes(2, 9, 150)
    codes[[0, 4]], codes[[1, 5]], codes[6, 30:] = 15, 0, 8
    rows = encode(shape, codes, -8)
    for number, row in enumerate(rows):
        found = read_row(row, 150)
        check_row(found, groups_of(codes[number], -8), -8, 4)


@ALL
def test_a_row_of_zeros_has_one_window_with_nothing_in_it(shape):
    for low in (0, -8, -15):
        row = encoded(shape, np.zeros(150), low)
        assert (row.ends, row.list, row.tables.any()) == ([0], [], False)


@ALL
def test_one_code_anywhere_is_one_group(shape):
    for place in range(150):
        codes = np.zeros(150, np.int64)
        codes[place] = -3
        row = encoded(shape, codes, -8)
        assert (row.ends, row.list) == ([1], [place // layout.INPUTS * layout.ENTRIES])


@ALL
@pytest.mark.parametrize(
    ("low", "code", "most"), [(0, 1, 255), (-8, 1, 127), (-8, -1, 128), (-15, -1, 240), (-1, 1, 239)]
)
def test_a_window_is_full_at_the_last_sum_that_fits(shape, low, code, most):
    """Codes of 1 or -1, one behind the other, until there is one too many."""
    for count, windows in ((most - 1, 1), (most, 1), (most + 1, 2)):
        codes = np.zeros(300, np.int64)
        codes[:count] = code
        assert len(encoded(shape, codes, low).ends) == windows, count


@ALL
def test_windows_of_ones_by_hand(shape):
    """31 times four groups of four; fifteen such add up to 240. The last four groups of the row are behind its end."""
    row = encoded(shape, np.ones(31 * 16))
    assert row.ends == [60, 120, 124]
    assert row.list == [16 * number for number in range(124)]


@ALL
def test_a_unit_of_the_largest_codes_is_a_window_by_hand(shape):
    assert encoded(shape, np.full(48, 15)).ends == [4, 8, 12]
    assert encoded(shape, np.full(48, -8), -8).ends == [4, 8, 12]
    assert encoded(shape, np.tile([-8, 7], 48), -8).ends == [4 * 2 * i for i in (1, 2, 3)]


@ALL
@pytest.mark.parametrize("relu", [False, True])
def test_usual_codes_need_few_windows(shape, relu):
    """Codes that a quantizer makes of a bell curve: windows are three times as long as they always may be."""
    values = np.random.default_rng(0).normal(size=(50, 768))
    values = np.maximum(values, 0) if relu else values
    low = 0 if relu else -8
    codes = np.clip(np.rint(values / (0.35 if relu else 0.5)), low, low + 15).astype(np.int64)
    count = np.mean([len(encoded(shape, row, low).ends) for row in codes])
    always = layout.groups_of(768) / layout.UNIT
    assert count <= always / 3, (count, always)


@ALL
@pytest.mark.parametrize(("bits", "low"), [(4, 0), (4, -8), (4, -15), (2, -2), (1, 0)])
def test_a_table_holds_the_sums_of_all_choices_of_its_codes(shape, bits, low):
    """Zeros stand behind the last code."""
    depth = 5 * layout.SPAN + 5
    codes = random_codes(7, 3, depth, bits)
    choices = np.arange(layout.ENTRIES)[:, None] >> np.arange(layout.INPUTS) & 1
    for number, row in enumerate(encode(shape, codes, low, bits)):
        wanted = groups_of(codes[number], low) @ choices.T
        assert np.array_equal(read_row(row, depth).tables, wanted.astype(np.int8))


def test_the_layout_of_a_row_by_hand():
    """768 codes: a header, 49 places of ends, 200 of the list, 192 tables of 16 bytes."""
    assert layout.row_layout(768) == (64, 64 + 128, 192 + 448, 640 + 192 * 16)
    assert layout.row_layout(1) == (64, 128, 192, 192 + 8 * 16)
