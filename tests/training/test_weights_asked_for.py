"""The weights that --init names are the weights that training begins with, or one sentence says what does not fit."""

import json
import re

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from safetensors.torch import load_file, save_file
from toy import write_encoder
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from bebert_export.augmentation.masked_lm import MaskedLanguageModel
from bebert_export.checkpoints.pretrained import check_init, load_pretrained
from bebert_export.peers.classifier import load_classifier
from bebert_export.pipeline.run_folder import RunFolder
from bebert_export.student.schemes import stored_state
from bebert_infer.errors import DataError

CHOICES = {"vocabulary_size": None, "positions": None, "dropout": 0.1, "seed": 0}


WRAPPERS = ["module.", "_orig_mod.", "module._orig_mod.", "model.", "model.module."]


def load(folder):
    return load_pretrained(str(folder), None, ["no", "yes"], **CHOICES).model


@pytest.fixture
def encoder(tmp_path):
    return write_encoder(tmp_path / "encoder", layers=2)


def rename(folder, change):
    file = folder / "model.safetensors"
    save_file({name: value for key, value in load_file(file).items() if (name := change(key))}, file, {"format": "pt"})


@pytest.mark.parametrize("wrapper", WRAPPERS)
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
        (
            lambda key: "model." + key if "layer.0." in key else key,
            r"lacks weights: bert.encoder.layer.0.* it has model",
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("position_embedding_type", "relative_key_query"),
        ("is_decoder", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"load_in_8bit": True}),
        ("auto_map", {"AutoModel": "code.py"}),
    ],
)
def test_a_field_that_changes_the_answer_is_honoured_or_refused(encoder, field, value):
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(DataError, match=f"has {field} {re.escape(repr(value))} in config.json; accepted is"):
        check_init(str(encoder))


def test_a_teacher_that_is_looked_into_computes_gelu(encoder):
    """Its copy with quantizer places would compute GELU, whatever the encoder does."""
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    check_init(str(encoder))
    with pytest.raises(DataError, match="has hidden_act 'relu' .* need gelu: choose --distill none or prediction"):
        check_init(str(encoder), seen_inside=True)


def with_head(folder):
    return load_pretrained(str(folder), None, ["no", "yes"], with_head=True, **CHOICES).model


READERS = [load_classifier, with_head]


@pytest.fixture
def classifier(encoder):
    """The same folder with a head of two classes."""
    load(encoder).save_pretrained(encoder)
    return encoder


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_classifier_of_an_evaluation_and_the_masked_language_model_lose_it_too(tmp_path, encoder, wrapper):
    config = BertConfig.from_pretrained(encoder)
    for kind, read in ((BertForSequenceClassification, load_classifier), (BertForMaskedLM, masked)):
        folder = tmp_path / kind.__name__
        kind(config).save_pretrained(folder)
        for name in ("vocab.txt", "tokenizer.json"):
            (folder / name).write_bytes((encoder / name).read_bytes())
        wanted = read(folder).state_dict()
        rename(folder, lambda key: wrapper + key)
        with pytest.warns(UserWarning, match=f"names of weights begin with {wrapper}, which was taken off"):
            found = read(folder).state_dict()
        assert all(torch.equal(found[name], value) for name, value in wanted.items())
        rename(folder, lambda key: None if "layer.1.output.dense.weight" in key else key)
        with (
            pytest.warns(UserWarning),
            pytest.raises(DataError, match="lacks weights: .*layer.1.output.dense.weight; p"),
        ):
            read(folder)


def masked(folder):
    return MaskedLanguageModel(str(folder), None)._model


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda key: None if key.startswith("classifier.") else key, "lacks .*classifier.bias"),
        (lambda key: key.replace("layer.1.", "layer.2."), "lacks weights: bert.encoder.layer.1"),
        (lambda key: [key, "bert.extra.weight"][key == "classifier.bias"], "lacks weights|has unknown weights"),
    ],
)
def test_a_fine_tuned_classifier_is_whole(classifier, read, change, said):
    rename(classifier, change)
    with pytest.raises(DataError, match=said):
        read(classifier)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"0": "no", "2": "yes"}, "id2label .*one name for each output, 0 to 1"),
        ({"0": "no", "1": None}, "names that are texts"),
        ({"0": "no", "1": "no"}, "names that differ"),
    ],
)
def test_names_of_a_head_that_is_used_are_read_or_refused(classifier, names, said):
    file = classifier / "config.json"
    raw = json.loads(file.read_text())
    file.write_text(json.dumps(raw | {"id2label": names, "label2id": None}))
    with pytest.raises(DataError, match=said):
        load_classifier(classifier)
    with pytest.raises(DataError, match=said):
        load_pretrained(str(classifier), None, ["no", "yes"], with_head=True, **CHOICES)
    assert load_pretrained(str(classifier), None, ["a", "b"], **CHOICES).new_head == "its own is for other labels"


def test_a_list_of_names_is_read(classifier):
    file = classifier / "config.json"
    raw = json.loads(file.read_text())
    file.write_text(json.dumps(raw | {"id2label": ["no", "yes"], "label2id": {"no": 0, "yes": 1}}))
    head = load_pretrained(str(classifier), None, ["no", "yes"], with_head=True, **CHOICES)
    assert not head.new_head
    with pytest.raises(DataError, match="labels no, yes, this run has yes, no; name them so"):
        load_pretrained(str(classifier), None, ["yes", "no"], with_head=True, **CHOICES)


def test_a_new_head_is_said(encoder):
    assert load_pretrained(str(encoder), None, ["no", "yes"], **CHOICES).new_head == "it has none"


@pytest.mark.parametrize("damage", ["cut", "renamed", "reshaped"])
def test_a_stage_of_a_run_that_is_damaged_is_one_sentence(tmp_path, damage):
    run = RunFolder(tmp_path)
    layer = torch.nn.Linear(3, 2)
    run.save("member_0", {f"model.{name}": tensor for name, tensor in layer.state_dict().items()}, {"alpha": 1.0})
    file = tmp_path / "stages" / "member_0.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-5])
        with pytest.raises(DataError, match="member_0.safetensors cannot be read .*; delete it, and the same command"):
            run.load("member_0")
        return
    state = stored_state(run.load("member_0")[0])
    state["bias" if damage == "reshaped" else "bios"] = torch.zeros(7)
    said = "bias of the shape \\(7,\\), expected is \\(2,\\)" if damage == "reshaped" else "unknown weights: bios"
    with pytest.raises(DataError, match=f"member_0.safetensors has {said}; delete it"):
        run.load_into(layer, "member_0", state)


@pytest.mark.parametrize("head", ["BertForTokenClassification", "BertForMultipleChoice"])
def test_a_head_that_means_something_else_is_refused(classifier, head):
    """Its weights have the names and shapes of a classifier of texts."""
    raw = json.loads((classifier / "config.json").read_text())
    (classifier / "config.json").write_text(json.dumps(raw | {"architectures": [head]}))
    for read in READERS:
        with pytest.raises(DataError, match=f"has architectures '{head}', whose outputs do not classify texts"):
            read(classifier)


def test_an_adapter_and_code_of_its_own_are_refused(classifier):
    raw = json.loads((classifier / "config.json").read_text())
    (classifier / "config.json").write_text(json.dumps(raw | {"auto_map": {"AutoModel": "x.py"}}))
    for read in READERS:
        with pytest.raises(DataError, match="has auto_map"):
            read(classifier)
    (classifier / "config.json").write_text(json.dumps(raw))
    (classifier / "adapter_config.json").write_text("{}")
    for read in READERS:
        with pytest.raises(DataError, match=r"holds an adapter .*; merge both"):
            read(classifier)


def test_outputs_are_asked_for_by_name_whatever_the_config_says(classifier):
    raw = json.loads((classifier / "config.json").read_text())
    (classifier / "config.json").write_text(json.dumps(raw | {"return_dict": False}))
    for read in READERS:
        assert read(classifier)(torch.zeros(1, 3, dtype=torch.int64)).logits.shape == (1, 2)
