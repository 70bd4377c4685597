"""Nothing reaches a pointer unchecked: wrong sizes, dtypes, layouts and numbers end in an error on every way there.

`test_guard.py` shows that kernels stay inside arrays whose sizes passed; here are the calls that must not pass.
"""

import numpy as np
import pytest
from kernel_cases import calls

from bebert_infer import Ensemble, InputError, ModelFormatError
from bebert_infer.measure import sample_models as synthetic
from bebert_infer.model.batch import Batch, ragged_batch
from bebert_infer.model.noise import Noise
from bebert_kernels import compiled, packing
from bebert_kernels.abi.stage import available

# Arguments that are no addresses and may have other values: None where an array is left out.
CALLS = [(f"{name} {index}", name, arguments) for index, (name, arguments) in enumerate(calls(0))]
SIGNS = packing.pack_weight_signs(np.ones((5, 70), np.int8))


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


@pytest.mark.parametrize(("name", "arguments"), [call[1:] for call in CALLS], ids=[call[0] for call in CALLS])
def test_every_function_refuses_arrays_that_do_not_fit(name, arguments):
    refused = 0
    for place, value in enumerate(arguments):
        parts = list(value) if isinstance(value, tuple) else [value]
        for part, array in enumerate(parts):
            if not isinstance(array, np.ndarray):
                continue
            for wrong in hostile(array):
                changed = [*parts[:part], wrong, *parts[part + 1 :]]
                given = list(arguments)
                given[place] = tuple(changed) if isinstance(value, tuple) else wrong
                try:
                    found = getattr(compiled, name)(*given)
                except (ValueError, TypeError) as error:
                    assert "accepted" in str(error) or isinstance(error, TypeError), error
                    refused += 1
                else:  # another size that fits, or a shift that is left out
                    assert found is not None
    assert refused >= 4


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("wrong", [-1, 11, 2**40, -(2**62)])
def test_rows_outside_a_table_are_refused(column, wrong):
    arguments = list(next(given for name, given in calls(0) if name == "embed"))
    arguments[column] = arguments[column].copy()
    arguments[column][3] = wrong
    with pytest.raises(ValueError, match=f"holds {wrong}; accepted: 0 to 10"):
        compiled.embed(*arguments)


def test_prepared_weights_are_checked_when_they_are_used():
    """They are plain data: anybody can make them."""
    codes = np.zeros((3, 70), np.int8)
    weights = compiled.code_weights(SIGNS, 70)
    compiled.code_gemm(codes, weights, 4)
    short = np.zeros((1, 3), np.uint64)
    for wrong in (
        weights._replace(depth=6400),
        weights._replace(depth=0),
        weights._replace(signs=SIGNS[:, :1].copy()),
        weights._replace(panels=short),  # refused whether this CPU has panels of its own or not
    ):
        with pytest.raises(ValueError, match="accepted"):
            compiled.code_gemm(codes, wrong, 4)
    with pytest.raises(ValueError, match=r"accepted: C-contiguous int8 or uint8\[M, 70\]"):
        compiled.code_gemm(np.zeros((3, 71), np.int8), weights, 4)


@pytest.mark.skipif(not available(), reason="programs are compiled code")
def test_a_single_layer_refuses_what_does_not_fit():
    from bebert_kernels.tuning.single_layer import OneLayer

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


@pytest.fixture(scope="module")
def model():
    return Ensemble(synthetic.random_model("tiny", "1-1-4", 1, vocab_size=50))


BATCH = ragged_batch(np.arange(8).reshape(2, 4), np.ones((2, 4), bool), np.zeros((2, 4), np.int64))
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


@pytest.mark.skipif(not available(), reason="programs are compiled code")
@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_program_refuses_a_batch_that_is_not_inside_its_tables(model, change):
    parts = {name: getattr(BATCH, name) for name in ("ids", "positions", "types", "offsets")} | change
    with pytest.raises(ValueError, match="accepted|without padding"):
        model.engine.members[0].forward(Batch(**parts))


def test_noise_of_another_width_is_refused(model, monkeypatch):
    monkeypatch.setattr(Noise, "draw", lambda *_: np.zeros((8, 5), np.float32))
    with pytest.raises(ValueError, match=r"noise is .*accepted: C-contiguous float32\[8, 128\]"):
        model.engine.members[0].forward(BATCH, noise=Noise(0.1, 0))


@pytest.mark.parametrize("ids", [[[2**31]], [[-(2**63)]], [[2**63]], [[1, 2, 50]], np.array([[2**64 - 1]], np.uint64)])
def test_token_ids_beyond_any_integer_are_refused(model, ids):
    with pytest.raises(InputError, match="this model accepts 0 to 49"):
        model.logits(ids)


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
