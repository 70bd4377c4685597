"""What outputs mean is read from the config; members of one ensemble mean the same, or one sentence says why not."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_checkpoints import ODD, make_checkpoint

from bebert_export.convert import convert
from bebert_infer import Ensemble
from bebert_infer.errors import CheckpointError

THREE = replace(ODD, num_labels=3, num_layers=1)
NAMES = {"0": "bad", "1": "fair", "2": "good"}


def member(folder, seed=0, config=THREE, **fields):
    return make_checkpoint(folder, config, seed=seed, **fields)


def test_members_with_classes_in_another_order_are_combined_by_name(tmp_path):
    """By position, the votes of the second member would count for other classes."""
    turned = {"0": "good", "1": "bad", "2": "fair"}
    first = member(tmp_path / "a", 0, id2label=NAMES)
    second = member(tmp_path / "b", 1, id2label=turned)
    ids = np.random.default_rng(0).integers(0, 61, (4, 9))
    convert([first, second], tmp_path / "both")
    convert([second], tmp_path / "alone")
    both, alone = Ensemble.from_pretrained(tmp_path / "both"), Ensemble.from_pretrained(tmp_path / "alone")
    assert both.config.labels == ["bad", "fair", "good"] and alone.config.labels == ["good", "bad", "fair"]
    votes = [prediction.votes[1] for prediction in both.predict_ids(ids)]
    assert votes == [prediction.label for prediction in alone.predict_ids(ids)]
    np.testing.assert_array_equal(both.member_logits(ids)[1], alone.member_logits(ids)[0][:, [1, 2, 0]])


@pytest.mark.parametrize("other", [{"0": "bad", "1": "fair", "2": "great"}, None])
def test_members_with_other_classes_are_refused_with_both_folders(tmp_path, other):
    sources = [member(tmp_path / "a", 0, id2label=NAMES), member(tmp_path / "b", 1, id2label=other)]
    with pytest.raises(CheckpointError, match=r"a.*has the classes bad, fair, good, .*b.* has .*; members of one"):
        convert(sources, tmp_path / "model")
    convert(sources, tmp_path / "model", labels=["x", "y", "z"])
    assert Ensemble.from_pretrained(tmp_path / "model").config.labels == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"problem_type": "regression"}, "problem_type 'regression' and 3 outputs; accepted are single_label"),
        ({"problem_type": "ranking"}, "problem_type 'ranking'"),
        ({"id2label": {"0": "a", "2": "c"}}, "one name for each output, 0 to 2"),
        ({"id2label": {"0": "a", "1": "b", "2": "c", "3": "d"}}, "one name for each output, 0 to 2"),
        ({"id2label": ["a", "b"]}, "one name for each output, 0 to 2"),
        ({"id2label": {"0": "a", "1": None, "2": "c"}}, "accepted is names that are texts"),
        ({"id2label": {"0": "a", "1": "a", "2": "c"}}, "accepted is names that differ"),
        (
            {"id2label": NAMES, "label2id": {"bad": 2, "fair": 1, "good": 0}},
            "label2id .* accepted is what id2label says",
        ),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'; accepted is absolute"),
        ({"is_decoder": True}, "is_decoder True; accepted is False"),
        ({"hidden_act": "silu"}, "hidden_act 'silu'; accepted is gelu or relu"),
    ],
)
def test_a_config_that_means_something_else_is_refused(tmp_path, fields, said):
    source = member(tmp_path / "a", **fields)
    with pytest.raises(CheckpointError, match=said):
        convert([source], tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("outputs", [1, 3])
def test_outputs_that_do_not_exclude_each_other_are_sigmoids(tmp_path, outputs):
    """Of multi-label models neither a softmax nor a regression is made."""
    config = replace(THREE, num_labels=outputs)
    sources = [
        member(tmp_path / name, seed, config, problem_type="multi_label_classification")
        for seed, name in enumerate("ab")
    ]
    convert(sources, tmp_path / "model", combination="logits", alphas=[1.0, 3.0])
    model = Ensemble.from_pretrained(tmp_path / "model")
    assert model.config.problem_type == "multi_label_classification"
    ids = np.random.default_rng(0).integers(0, 61, (4, 9))
    first, second = model.member_logits(ids).astype(np.float64)
    expected = 1 / (1 + np.exp(-(first + 3 * second) / 4))
    for prediction, shares in zip(model.predict_ids(ids), expected, strict=True):
        np.testing.assert_allclose(list(prediction.probabilities.values()), shares, rtol=1e-12)
        assert sorted(prediction.labels) == [model.config.labels[i] for i in np.flatnonzero(shares > 0.5)]


def test_members_of_two_problems_are_refused(tmp_path):
    sources = [member(tmp_path / "a"), member(tmp_path / "b", 1, problem_type="multi_label_classification")]
    with pytest.raises(CheckpointError, match="a.* is a model of single_label_.*b.* of multi_label_.*; members of one"):
        convert(sources, tmp_path / "model")


def test_one_class_is_refused(tmp_path):
    source = member(tmp_path / "a", config=replace(THREE, num_labels=1), problem_type="single_label_classification")
    with pytest.raises(CheckpointError, match="and 1 output; accepted are regression and multi_label_classification"):
        convert([source], tmp_path / "model")


def test_names_as_a_list_and_generic_ones_are_read(tmp_path):
    convert([member(tmp_path / "a", id2label=["x", "y", "z"])], tmp_path / "list")
    assert Ensemble.from_pretrained(tmp_path / "list").config.labels == ["x", "y", "z"]
    generic = {str(i): f"LABEL_{i}" for i in range(3)}
    sources = [member(tmp_path / "b", id2label=generic), member(tmp_path / "c", 1)]
    convert(sources, tmp_path / "generic")
    assert Ensemble.from_pretrained(tmp_path / "generic").config.labels == list(generic.values())


def test_members_of_two_vocabularies_are_refused(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(40))]
    sources = [member(tmp_path / name, seed) for seed, name in enumerate("ab")]
    for source, order in zip(sources, (1, -1), strict=True):
        (source / "vocab.txt").write_text("\n".join([*words[:5], *words[5:][::order]]) + "\n")
        (source / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    with pytest.raises(CheckpointError, match=r"the tokenizers of .*a and .*b differ"):
        convert(sources, tmp_path / "model")
    (sources[1] / "vocab.txt").write_text((sources[0] / "vocab.txt").read_text())
    convert(sources, tmp_path / "model")
    (sources[1] / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    with pytest.raises(CheckpointError, match=r"the tokenizers of .*a and .*b differ"):
        convert(sources, tmp_path / "other")


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model."])
def test_a_known_wrapper_of_a_checkpoint_is_taken_off_and_said(tmp_path, wrapper):
    from safetensors.torch import load_file, save_file

    file = member(tmp_path / "a") / "model.safetensors"
    save_file({wrapper + name: tensor for name, tensor in load_file(file).items()}, file)
    with pytest.warns(
        UserWarning, match=f"a.model.safetensors: names of weights begin with {wrapper}, which was taken"
    ):
        convert([tmp_path / "a"], tmp_path / "model")
    convert([member(tmp_path / "b")], tmp_path / "plain")
    models = [tmp_path / name / "model.safetensors" for name in ("model", "plain")]
    assert models[0].read_bytes() == models[1].read_bytes()
