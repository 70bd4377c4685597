"""The weights that --init names are the weights that training begins with, or one sentence says what does not fit."""

import json

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from safetensors.torch import load_file, save_file
from toy import write_encoder

from bebert_export.checkpoints.pretrained import check_init, load_pretrained
from bebert_infer.errors import DataError

CHOICES = {"vocabulary_size": None, "positions": None, "dropout": 0.1, "seed": 0}


def load(folder):
    return load_pretrained(str(folder), None, ["no", "yes"], **CHOICES).model


@pytest.fixture
def encoder(tmp_path):
    return write_encoder(tmp_path / "encoder", layers=2)


def rename(folder, change):
    file = folder / "model.safetensors"
    save_file({name: value for key, value in load_file(file).items() if (name := change(key))}, file, {"format": "pt"})


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_known_wrapper_is_taken_off_and_said(encoder, wrapper):
    wanted = load(encoder).state_dict()
    rename(encoder, lambda key: wrapper + key)
    with pytest.warns(UserWarning, match=f"names of weights begin with {wrapper}, which was taken off"):
        found = load(encoder).state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda key: None if "layer.1." in key else key,
            r"lacks weights: bert.encoder.layer.1.* and \d+ more; put the",
        ),
        (lambda key: "net." + key, r"lacks weights: bert.embeddings.* and \d+ more; it has net\.embeddings"),
        (lambda key: "x" if key.endswith("word_embeddings.weight") else None, "lacks weights: .*; it has x; put"),
        (lambda key: key.replace("layer.1.", "layer.7."), "lacks weights: bert.encoder.layer.1"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(encoder, change, said):
    """Transformers draws what is missing at random: a model was trained from nothing, without a word."""
    rename(encoder, change)
    with pytest.raises(DataError, match=said):
        load(encoder)


def test_weights_that_the_config_does_not_know_are_refused(encoder):
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(
        DataError, match=r"has unknown weights: bert.encoder.layer.1|has unknown weights: encoder.layer.1"
    ):
        load(encoder)


def test_a_bare_encoder_and_the_head_of_another_task_are_fine(encoder):
    load(encoder)
    file = encoder / "model.safetensors"
    head = {"cls.predictions.bias": torch.zeros(5), "qa_outputs.weight": torch.zeros(2, 32)}
    save_file({f"bert.{key}": value for key, value in load_file(file).items()} | head, file, {"format": "pt"})
    load(encoder)


@pytest.mark.parametrize(("field", "value"), [("position_embedding_type", "relative_key_query"), ("is_decoder", True)])
def test_a_field_that_changes_the_answer_is_honoured_or_refused(encoder, field, value):
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(DataError, match=f"has {field} {value!r} in config.json; accepted is"):
        check_init(str(encoder))


def test_a_teacher_that_is_looked_into_computes_gelu(encoder):
    """Its copy with quantizer places would compute GELU, whatever the encoder does."""
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    check_init(str(encoder))
    with pytest.raises(DataError, match="has hidden_act 'relu' .* need gelu: choose --distill none or prediction"):
        check_init(str(encoder), seen_inside=True)
