"""Nothing reaches a pointer unchecked: wrong sizes, dtypes, layouts and numbers end in an error on every way there.

`test_guard.py` shows that kernels stay inside arrays whose sizes passed; here are the calls that must not pass.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from bebert_infer import Ensemble, InputError, ModelFormatError
from bebert_infer.measure import sample_models as synthetic
from bebert_infer.model.batch import Batch, ragged_batch
from bebert_infer.model.noise import Noise
from bebert_kernels import checks, packing
from bebert_kernels.abi.stage import available
from bebert_kernels.tuning.single_layer import OneLayer

compiled = pytest.mark.skipif(not available(), reason="programs are compiled code")
SIGNS = packing.pack_weight_signs(np.ones((5, 70), np.int8))
CODES, NO_ZEROS = np.zeros((3, 70), np.uint8), np.zeros(3, np.uint8)
BATCH = ragged_batch(np.arange(8).reshape(2, 4), np.ones((2, 4), bool), np.zeros((2, 4), np.int64))


def hostile(value: np.ndarray):
    """What a caller may do wrong with an array."""
    yield value[..., :-1]  # one less, and not contiguous
    yield np.ascontiguousarray(value[..., :-1])
    yield value.astype(np.float64 if value.dtype != np.float64 else np.float32)
    yield value.astype(value.dtype.newbyteorder())
    yield value.reshape(-1, 1, *value.shape[1:])
    yield np.lib.stride_tricks.as_strided(value, value.shape, (0,) * value.ndim)
    yield np.asfortranarray(np.stack([value] * 2).T).T[..., 0]
    bytes_ = np.zeros(value.nbytes + 1, np.uint8)
    yield bytes_[1:].view(value.dtype).reshape(value.shape)  # not aligned
    yield value.tolist()
    yield None
    yield value.ctypes.data


@cache
def model() -> Ensemble:
    return Ensemble(synthetic.random_model("tiny", "1-1-4", 1, vocab_size=50))


def run_batch(*arrays: Any) -> Any:
    return model().engine.members[0].forward(Batch(*arrays))


# What an array goes through before its address is used.
ENTRIES: dict[str, tuple[Callable, tuple[np.ndarray, ...]]] = {
    "batch of a program": (run_batch, (BATCH.ids, BATCH.positions, BATCH.types, BATCH.offsets)),
    "weights of a layer": (lambda signs: OneLayer(signs, 70, 4, 3), (SIGNS,)),
    "codes of a layer": (lambda *arrays: OneLayer(SIGNS, 70, 4, 3)(*arrays), (CODES, NO_ZEROS)),
}


@compiled
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_refuses_arrays_that_do_not_fit(entry):
    function, arguments = ENTRIES[entry]
    function(*arguments)
    for place, array in enumerate(arguments):
        refused = 0
        for wrong in hostile(array):
            try:
                function(*arguments[:place], wrong, *arguments[place + 1 :])
            except (ValueError, TypeError) as error:
                assert "accepted" in str(error) or isinstance(error, TypeError), error
                refused += 1
            else:  # fewer weights, or codes, are a smaller layer
                assert wrong.flags.c_contiguous and wrong.dtype == array.dtype
        assert refused >= 9


@compiled
def test_noise_of_another_layout_is_refused(monkeypatch):
    for wrong in hostile(np.zeros((8, 128), np.float32)):
        if wrong is not None:
            monkeypatch.setattr(Noise, "draw", lambda *_, wrong=wrong: wrong)
            with pytest.raises(ValueError, match=r"noise is .*accepted: C-contiguous float32\[8, 128\]"):
                model().engine.members[0].forward(BATCH, noise=Noise(0.1, 0))


@compiled
def test_tensors_of_a_model_made_in_memory_are_refused_or_answered_for():
    """The engine copies what lies in another order or off its border; the truth says what is right."""
    artifact = synthetic.random_model("tiny", "1-1-4", 1, vocab_size=50)
    ids = [[2, 49, 7], [1, 3, 2]]
    for name in ("embeddings.position", "embeddings.norm.weight", "layers.0.query.0.signs", "classifier.weight"):
        refused = 0
        for wrong in hostile(artifact.tensors[f"members.0.{name}"]):
            if wrong is not None and not isinstance(wrong, np.ndarray):
                continue
            given = artifact.tensors | {f"members.0.{name}": wrong}
            broken = artifact.__class__(artifact.path, artifact.config, given, None)
            try:
                found = Ensemble(broken).member_logits(ids)
            except ModelFormatError as error:
                assert name in str(error)
                refused += 1
            else:
                assert np.array_equal(found, Ensemble(broken, backend="reference").member_logits(ids))
        assert refused >= 6


@compiled
@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("wrong", [-1, 512, 2**40, -(2**62)])
def test_rows_outside_a_table_are_refused(column, wrong):
    arrays = [BATCH.ids, BATCH.positions, BATCH.types]
    arrays[column] = arrays[column].copy()
    arrays[column][3] = wrong
    with pytest.raises(ValueError, match=f"holds {wrong}; accepted: 0 to (49|511|1)"):
        run_batch(*arrays, BATCH.offsets)


X = np.zeros((3, 48), np.float32)


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (
            checks.array,
            (X.astype(np.float64), np.float32, ("M", "K")),
            r"x is float64\[3, 48\]; accepted: C-contig.*M, K",
        ),
        (checks.array, (X[:, ::2], np.float32, ("M", "K")), r"x is float32\[3, 24\], not contiguous"),
        (checks.array, (X.T, np.float32, ("M", "K")), r"x is float32\[48, 3\], not contiguous"),
        (checks.array, (X, np.float32, ("M", 4)), r"x is float32\[3, 48\]; accepted: .*float32\[M, 4\]"),
        (checks.array, (X, np.float32, ("H", "Tq", "Tk")), r"x is float32\[3, 48\]; accepted: .*\[H, Tq, Tk\]"),
        (checks.array, (X, (np.int8, np.uint8), ("M", "K")), r"accepted: C-contiguous int8 or uint8\[M, K\]"),
        (checks.array, (X.tolist(), np.float32, ("M", "K")), r"x is list"),
        (checks.whole, (-129, -128, 7), r"x is -129; accepted: an integer from -128 to 7"),
        (checks.whole, (True, 0, 7), r"x is True; accepted"),
        (checks.whole, (3.0, 0, 7), r"x is 3.0; accepted"),
        (checks.rows, (np.array([0, 5]), "M", "a table", 5), r"x holds 5; accepted: 0 to 4, the rows of a table"),
        (checks.rows, (np.array([0, -1]), "M", "a table", 5), r"x holds -1; accepted: 0 to 4"),
        (checks.rows, (np.array([0, 1]), 3, "a table", 5), r"x is int64\[2\]; accepted: .*\[3\]"),
    ],
)
def test_wrong_arguments_are_named(check, arguments, message):
    with pytest.raises(ValueError, match=message):
        check("x", *arguments)


def test_a_checked_array_is_a_view_that_nobody_can_write():
    view = checks.array("x", X, np.float32, ("M", 48))
    assert np.shares_memory(view, X) and X.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1


@compiled
def test_a_single_layer_refuses_what_does_not_fit():
    for wrong in ((SIGNS, 700, 4, 3), (SIGNS, 70, 9, 3), (SIGNS, 70, 4, 0), (SIGNS[:0], 70, 4, 3), (SIGNS, 0, 4, 3)):
        with pytest.raises(ValueError, match="accepted"):
            OneLayer(*wrong)
    layer = OneLayer(SIGNS, 70, 4, 3)
    codes, no_zeros = np.zeros((3, 70), np.uint8), np.zeros(3, np.uint8)
    layer(codes, no_zeros)
    for first, rows in ((1, 3), (-1, 1), (0, 4), (2**40, 1)):
        with pytest.raises(ValueError, match="accepted"):
            layer.multiply(first, rows)
    for wrong in (
        (np.zeros((4, 70), np.uint8), np.zeros(4, np.uint8)),
        (codes[:, :69], no_zeros),
        (codes, no_zeros[:2]),
    ):
        with pytest.raises(ValueError, match="accepted"):
            layer(*wrong)


WRONG = {
    "id": {"ids": np.array([0, 1, 2, 3, 4, 5, 6, 50])},
    "negative id": {"ids": np.array([0, 1, 2, 3, 4, 5, 6, -1])},
    "position": {"positions": np.full(8, 512)},
    "type": {"types": np.full(8, 2)},
    "narrow ids": {"ids": np.arange(8, dtype=np.int32)},
    "ids in steps": {"ids": np.arange(16)[::2]},
    "few positions": {"positions": np.arange(7)},
    "few types": {"types": np.zeros(3, np.int64)},
    "offsets beyond the rows": {"offsets": np.array([0, 4, 9])},
    "offsets that fall": {"offsets": np.array([0, 9, 8])},
    "offsets before the rows": {"offsets": np.array([-4, 4, 8])},
    "an empty sentence": {"offsets": np.array([0, 0, 8])},
    "no sentence": {"offsets": np.array([8])},
    "padding": {"key_mask": np.ones(8, bool)},
}


@compiled
@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_program_refuses_a_batch_that_is_not_inside_its_tables(change):
    parts = {name: getattr(BATCH, name) for name in ("ids", "positions", "types", "offsets")} | change
    with pytest.raises(ValueError, match="accepted|without padding"):
        model().engine.members[0].forward(Batch(**parts))


@pytest.mark.parametrize("ids", [[[2**31]], [[-(2**63)]], [[2**63]], [[1, 2, 50]], np.array([[2**64 - 1]], np.uint64)])
def test_token_ids_beyond_any_integer_are_refused(ids):
    with pytest.raises(InputError, match="this model accepts 0 to 49"):
        model().logits(ids)


def test_a_model_made_in_memory_is_checked_like_one_from_a_folder():
    artifact = synthetic.random_model("tiny", "1-1-1", 1, vocab_size=50)
    for name, wrong in (
        ("members.0.embeddings.position", np.zeros((3, 128), np.float32)),
        ("members.0.classifier.weight", np.zeros((2, 128), np.float64)),
        ("members.0.layers.0.query.0.signs", np.zeros((128, 1), np.uint64)),
    ):
        broken = artifact.__class__(artifact.path, artifact.config, artifact.tensors | {name: wrong}, None)
        with pytest.raises(ModelFormatError, match=f"the model is not valid: {name} is"):
            Ensemble(broken)
