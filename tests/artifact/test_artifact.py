"""A model folder is read completely checked or refused with one exact error, and written whole or not at all."""

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from bebert_infer import Ensemble, ModelFormatError
from bebert_infer.artifact.folder import read_artifact, write_artifact
from bebert_infer.measure.sample_models import random_model


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny valid model folder; tests copy it before they damage it."""
    model = random_model("tiny", "1-1-4", 2, vocab_size=50)
    folder = tmp_path_factory.mktemp("good") / "model"
    write_artifact(folder, model.config, model.tensors, None, "card")
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def _edit(folder: Path, **fields: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def _rewrite_tensors(folder: Path, change: dict[str, np.ndarray | None]) -> None:
    """Replace or drop tensors, with size and sha256 in the config made right again."""
    import hashlib

    file = folder / "model.safetensors"
    tensors = {name: t for name, t in (load_file(file) | change).items() if t is not None}
    save_file(tensors, file, metadata={"format": "bebert-infer"})
    data = file.read_bytes()
    _edit(folder, tensors_sha256=hashlib.sha256(data).hexdigest(), tensors_bytes=len(data))


def test_round_trip_keeps_every_tensor(good):
    model = random_model("tiny", "1-1-4", 2, vocab_size=50)
    artifact = read_artifact(good)
    assert artifact.tensors.keys() == model.tensors.keys()
    for name, tensor in model.tensors.items():
        np.testing.assert_array_equal(artifact.tensors[name], tensor)


def test_writing_twice_gives_the_same_bytes(good, tmp_path):
    artifact = read_artifact(good)
    shuffled = dict(reversed(list(artifact.tensors.items())))
    write_artifact(tmp_path / "again", artifact.config, shuffled, None, "card")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (good / name).read_bytes()


def test_missing_folder_and_foreign_folder_are_told_apart(tmp_path):
    with pytest.raises(ModelFormatError, match="there is no model folder"):
        read_artifact(tmp_path / "nowhere")
    with pytest.raises(ModelFormatError, match="is no bebert model"):
        read_artifact(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelFormatError, match="training checkpoint becomes one with `bebert convert`"):
        read_artifact(tmp_path)
    (tmp_path / "config.json").write_text("<!DOCTYPE html>")
    with pytest.raises(ModelFormatError, match="is not JSON"):
        read_artifact(tmp_path)


def test_future_version_says_to_upgrade(folder):
    _edit(folder, format_version=99)
    with pytest.raises(ModelFormatError, match="format_version 99; this release reads 1"):
        read_artifact(folder)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_truncated_tensors_are_an_incomplete_copy(folder, keep):
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:keep] if keep >= 0 else data[:-1])
    with pytest.raises(ModelFormatError, match="incomplete copy"):
        read_artifact(folder)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(good, tmp_path, position, bit):
    folder = Path(shutil.copytree(good, tmp_path / "model", dirs_exist_ok=True))
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    file.write_bytes(bytes(data))
    with pytest.raises(ModelFormatError, match="sha256"):
        read_artifact(folder)


def test_all_tensor_faults_come_in_one_error(folder):
    signs = load_file(folder / "model.safetensors")["members.0.pooler.0.signs"]
    _rewrite_tensors(
        folder,
        {
            "members.0.pooler.bias": None,
            "members.0.pooler.0.signs": signs[:5],
            "members.9.surprise": np.zeros(3, np.float32),
        },
    )
    with pytest.raises(ModelFormatError) as error:
        read_artifact(folder)
    message = str(error.value)
    assert "model.safetensors is not valid beside its config.json: " in message  # either may be the damaged one
    assert "members.0.pooler.bias is missing" in message
    assert "members.9.surprise is not expected" in message
    assert "members.0.pooler.0.signs is U64[5, 2], expected U64[128, 2]" in message


def test_values_that_would_poison_answers_are_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    bias = tensors["members.1.pooler.bias"].copy()
    bias[3] = np.nan
    _rewrite_tensors(
        folder, {"members.1.pooler.bias": bias, "members.0.layers.0.query.0.step": np.zeros(1, np.float32)}
    )
    with pytest.raises(ModelFormatError) as error:
        read_artifact(folder)
    assert "members.1.pooler.bias holds NaN" in str(error.value)
    assert "members.0.layers.0.query.0.step is 0" in str(error.value)


def test_padding_bits_must_be_zero(tmp_path):
    """A set bit beyond the depth would count as a mismatch in every dot product."""
    artifact = random_model("tiny", "1-1-1", 1, vocab_size=50)
    member = msgspec.structs.replace(artifact.config.members[0], intermediate_size=100)
    config = msgspec.structs.replace(artifact.config, members=[member])
    tensors = dict(artifact.tensors)
    for layer in range(2):
        name = f"members.0.layers.{layer}"
        tensors[f"{name}.intermediate.0.signs"] = tensors[f"{name}.intermediate.0.signs"][:100].copy()
        tensors[f"{name}.intermediate.0.scale"] = tensors[f"{name}.intermediate.0.scale"][:100].copy()
        tensors[f"{name}.intermediate.bias"] = tensors[f"{name}.intermediate.bias"][:100].copy()
        tensors[f"{name}.output.0.signs"] = np.full((128, 2), 2**64 - 1, np.uint64)
    with pytest.raises(ModelFormatError, match="bits set beyond depth 100"):
        write_artifact(tmp_path / "model", config, tensors, None, "")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_labels": 3}, "id2label has keys"),
        ({"combination": "mean"}, "does not fit problem_type"),
        ({"combination": "loudest"}, "Invalid enum value 'loudest'"),
        ({"label2id": {"negative": 1, "positive": 0}}, "not the inverse"),
        ({"id2label": {"0": "a", "1": "a"}, "label2id": {"a": 1}}, "label names must differ"),
        ({"vocab_size": 0}, "Expected `int` >= 1"),
        ({"vocab_size": "many"}, "Expected `int`, got `str`"),
        ({"members": []}, "Expected `array` of length >= 1"),
        ({"tokenizer": {"max_length": 9999}}, "exceeds 512 positions"),
    ],
)
def test_contradicting_configs_are_refused(folder, fields, message):
    _edit(folder, **fields)
    with pytest.raises(ModelFormatError, match=message):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("combination", "loudest", "config.json: Invalid enum value 'loudest'"),
        ("type_vocab_size", 0, "config.json: Expected `int` >= 1"),
    ],
)
def test_a_config_that_could_not_be_read_again_is_not_written(folder, field, value, message):
    """Only reading checked values: a model that nobody can load took the place of a good one."""
    model = random_model("tiny", "1-1-1", 1, vocab_size=50)
    config = msgspec.structs.replace(model.config, **{field: value})
    before = (folder / "config.json").read_bytes()
    with pytest.raises(ModelFormatError, match=message):
        write_artifact(folder, config, model.tensors, None, "")
    assert (folder / "config.json").read_bytes() == before


def test_a_foreign_folder_is_never_overwritten(tmp_path):
    model = random_model("tiny", "1-1-1", 1, vocab_size=50)
    target = tmp_path / "photos"
    target.mkdir()
    (target / "holiday.jpg").write_text("precious")
    with pytest.raises(ModelFormatError, match="exists and is no model folder"):
        write_artifact(target, model.config, model.tensors, None, "")
    assert [file.name for file in target.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("config", ['{"num_labels": 2}', '{"format": "onnx"}', '["bebert-infer"]', "{", ""])
def test_a_config_of_another_kind_does_not_make_a_folder_a_model(tmp_path, config):
    """Every checkpoint has a config.json; it was taken for an old model, and deleted with all beside it."""
    model = random_model("tiny", "1-1-1", 1, vocab_size=50)
    target = tmp_path / "checkpoint"
    target.mkdir()
    (target / "config.json").write_text(config)
    (target / "pytorch_model.bin").write_text("days of training")
    with pytest.raises(ModelFormatError, match="exists and is no model folder; choose another place"):
        write_artifact(target, model.config, model.tensors, None, "")
    assert (target / "pytorch_model.bin").read_text() == "days of training"


def test_what_lies_beside_a_model_in_its_folder_is_not_deleted_with_it(folder):
    model = random_model("tiny", "1-1-1", 1, vocab_size=50)
    (folder / ".git").mkdir()
    (folder / "notes.txt").write_text("precious")
    with pytest.raises(
        ModelFormatError, match=r'model" holds .git, notes.txt beside a model, which replacing it would'
    ):
        write_artifact(folder, model.config, model.tensors, None, "")
    assert (folder / "notes.txt").read_text() == "precious"
    for number in range(9):
        (folder / f"{number}.txt").touch()
    with pytest.raises(ModelFormatError, match="holds .git, 0.txt, 1.txt, 2.txt, 3.txt, … beside a model"):
        write_artifact(folder, model.config, model.tensors, None, "")


def test_a_failed_write_keeps_the_old_model_and_leaves_nothing_behind(folder, monkeypatch):
    model = random_model("tiny", "1-1-1", 1, vocab_size=50)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_artifact(folder, model.config, model.tensors, None, "")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_replacing_a_model_swaps_it_whole(folder):
    model = random_model("tiny", "1-1-1", 1, vocab_size=50)
    write_artifact(folder, model.config, model.tensors, None, "new")
    assert read_artifact(folder).config.members[0].family == "bibert"
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_no_path_in_a_folder_is_followed_and_nothing_is_executed(folder, tmp_path):
    """A pickle beside the model stays unread."""
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    Ensemble.from_pretrained(folder, backend="reference")
    assert not (tmp_path / "pwned").exists()
