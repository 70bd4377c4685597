"""Values that no model has, absurd configs and foreign files end in one ModelFormatError that names the field."""

import json
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hostile import SECONDS, folder, good, outcome, refused, signs  # noqa: F401  (fixtures)
from micro import (
    CONFIG,
    TENSORS,
    TOKENIZER,
    edit_json,
    micro_config,
    put_tensors,
    random_tensors,
    write_micro,
)
from safetensors.numpy import load_file, save

from bebert_infer import Ensemble
from bebert_infer.artifact.config import CODES, LINEARS, Site
from bebert_infer.artifact.folder import write_artifact

# --- values ---


def _values(folder: Path, **changes: np.ndarray | float) -> None:
    tensors = load_file(folder / TENSORS)
    for name, value in changes.items():
        tensors[name] = np.full_like(tensors[name], value)
    put_tensors(folder, save(tensors, metadata={"format": "bebert-infer"}))


QUERY = "members.0.layers.0.query"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["alphas", f"{QUERY}.0.scale", f"{QUERY}.0.step", "members.0.classifier.bias"])
def test_values_that_are_no_numbers_are_refused_with_the_tensor_named(folder, name, value):
    _values(folder, **{name: value})
    refused(folder, TENSORS, "alphas are" if name == "alphas" else f"{name} holds NaN or infinity")


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-40, -1e-20])
@pytest.mark.parametrize("name", [f"{QUERY}.0.step", "members.0.layers.0.probability_codes.step"])
def test_steps_of_0_and_of_absurd_size_are_refused(folder, name, value):
    _values(folder, **{name: value})
    refused(folder, TENSORS, f"{name} is {np.float32(value):g}; a step may be negative, but not 0")


def test_negative_steps_and_scales_are_models_and_both_backends_agree(folder):
    """Training can end at a negative step; published code divides by it as by any other."""
    tensors = load_file(folder / TENSORS)
    names = [name for name in tensors if name.endswith((".step", ".scale"))]
    _values(folder, **{name: -0.2 for name in names})
    ids = [[2, 4, 5, 6, 3]]
    found = [Ensemble.from_pretrained(folder, backend=name).member_logits(ids) for name in ("native", "reference")]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("combination", "alphas", "message"),
    [("mean", 0.0, "sum must not be 0"), ("median", -1.0, "none below 0"), ("mean", 1e300, "finite numbers up to")],
)
def test_alphas_that_give_no_answer_are_refused(tmp_path, combination, alphas, message):
    config = micro_config()
    labels = {"num_labels": 1, "id2label": {"0": "score"}, "label2id": {"score": 0}}
    config = msgspec.structs.replace(config, problem_type="regression", combination=combination, **labels)
    folder = write_micro(tmp_path / "model", config)
    _values(folder, alphas=alphas)
    refused(folder, TENSORS, "alphas are", message)


def test_a_sum_of_logits_needs_an_alpha_that_is_not_0(folder):
    edit_json(folder / CONFIG, combination="logits")
    _values(folder, alphas=0.0)
    refused(folder, TENSORS, "alphas are all 0")


@pytest.mark.parametrize("name", ["members.0.pooler.bias", f"{QUERY}.0.scale", f"{QUERY}.0.step"])
@pytest.mark.parametrize("value", [3e38, -1e5])
def test_values_of_absurd_size_are_refused(folder, name, value):
    _values(folder, **{name: value})
    refused(folder, TENSORS, f"{name} reaches {abs(np.float32(value)):g}; accepted is ±10000")


@pytest.mark.parametrize("kind", ["sign", "codes", "bool", "shifted_sign", "dynamic"])
def test_the_largest_accepted_values_never_overflow_and_both_backends_agree(tmp_path, kind):
    bits = 8 if kind in ("codes", "dynamic") else 1
    site = Site(kind, bits, kind != "bool", kind in ("codes", "bool", "shifted_sign"))
    sites = dict.fromkeys(LINEARS, site) | dict.fromkeys(CODES[:3], Site("codes", 8, True))
    sites["probability_codes"] = Site("codes", 8, False)
    if kind == "sign":
        config = micro_config(sites=dict.fromkeys(LINEARS, site), attention="boolean", activation="gelu")
    else:
        config = micro_config(sites=sites, hidden_size=128, attention_size=128, intermediate_size=512)
    config = msgspec.structs.replace(config, tokenizer=None)
    random = np.random.default_rng(3)
    for trial in range(5):
        tensors = random_tensors(config, trial)
        for name, tensor in tensors.items():
            if tensor.dtype != np.float32 or random.random() < 0.3 or name.endswith(".clip"):
                continue
            choices = [1e4, -1e4, 1e-18] if name.endswith(".step") else [1e4, -1e4, 0.0, 1e-45]
            size = 1 if trial % 2 else tensor.shape
            tensors[name] = np.broadcast_to(random.choice(choices, size), tensor.shape).astype(np.float32)
        write_artifact(tmp_path / str(trial), config, tensors, None, "")
        models = [Ensemble.from_pretrained(tmp_path / str(trial), backend=name) for name in ("native", "reference")]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns of every overflow
            found = [model.member_logits([[2, 4, 5, 3]]) for model in models]
        assert np.isfinite(found[0]).all()
        np.testing.assert_array_equal(*found)


# --- config.json ---

CONFIGS = {
    "layers": ({"num_hidden_layers": 10**9}, None, "num_hidden_layers"),
    "many layers": ({"num_hidden_layers": 1000}, None, "tensors of"),
    "width": ({"hidden_size": 10**6}, None, "Expected `int` <= 65536"),
    "heads": ({"num_attention_heads": 10**9}, None, "attention_size 8 is no multiple of 1000000000 heads"),
    "eps": ({"layer_norm_eps": 1e-300}, None, "layer_norm_eps"),
    "scheme": ({"scheme": "1-1-__import__('os')"}, None, "scheme"),
    "vocabulary": ({}, {"vocab_size": 10**12}, "Expected `int` <= 2147483647 - at `$.vocab_size`"),
    "large vocabulary": ({}, {"vocab_size": 2**31 - 1}, "tensors of"),
    "positions": ({}, {"max_position_embeddings": 2**31 - 1}, "tensors of"),
    "labels": ({}, {"num_labels": 2**31 - 1}, "id2label has keys ['0', '1']; accepted are 0 to 2147483646"),
    "bytes": ({}, {"tensors_bytes": 2**62}, "tensors_bytes in config.json says 4611686018427387904"),
    "negative bytes": ({}, {"tensors_bytes": -1}, "tensors_bytes"),
    "sha of another type": ({}, {"tensors_sha256": 5}, "Expected `str`, got `int` - at `$.tensors_sha256`"),
    "future version": ({}, {"format_version": 2}, "format_version 2; this release reads 1"),
    "version of another type": ({}, {"format_version": [1] * 999}, "format_version [1, 1"),
    "version true": ({}, {"format_version": True}, CONFIG),
    "other format": ({}, {"format": "../../etc/passwd"}, 'does not say "format"'),
    "tokenizer of another type": ({}, {"tokenizer": "/etc/passwd"}, "$.tokenizer"),
    "labels that are no text": ({}, {"id2label": {"0": 1, "1": 2}}, "id2label"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_absurd_configs_are_refused_at_once_with_the_field_named(folder, name):
    member, fields, message = CONFIGS[name]
    config = json.loads((folder / CONFIG).read_text()) | (fields or {})
    config["members"][0] |= member
    (folder / CONFIG).write_text(json.dumps(config))
    refused(folder, message)


def test_a_million_members_are_refused_at_once(folder):
    config = json.loads((folder / CONFIG).read_text())
    member = config["members"][0]
    (folder / CONFIG).write_text(json.dumps(config | {"members": [member] * 1000}))
    refused(folder, "tensors of")
    (folder / CONFIG).write_text(json.dumps(config | {"members": [0] * 10**6}))
    refused(folder, "JSON values")
    (folder / CONFIG).write_text(json.dumps(config | {"members": [member] * 10**4}))
    refused(folder, "at most 4194304 are accepted")


def _text(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


FOREIGN = {
    "empty": b"",
    "spaces": b"   ",
    "zip": b"PK\x03\x04\x14\x00" + bytes(200),
    "html": b"<!DOCTYPE html><html><title>Sign in</title></html>",
    "gguf": b"GGUF\x03\x00\x00\x00" + bytes(300),
    "pickle": b"cos\nsystem\n(S'touch pwned'\ntR.",
    "torch": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(100),
    "null": b"null",
    "list": b"[]",
    "number": b"1e999",
    "text": b'"bebert-infer"',
    "lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "byte order mark": "\ufeff{}".encode(),
    "latin": '{"format": "é"}'.encode("latin-1"),
    "surrogate": b'{"format": "\\ud800"}',
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "nested lists": b"[" * 100_000,
    "comma bomb": b"[" + b"1," * 2_000_000 + b"1]",
    "key twice": b'{"format": "bebert-infer", "format": "bebert-infer"}',
}


@pytest.mark.parametrize("file", [CONFIG, TENSORS, TOKENIZER])
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_refused(folder, file, name):
    if file == TENSORS:
        put_tensors(folder, FOREIGN[name])
        refused(folder)
        put_tensors(folder, FOREIGN[name] + bytes(20_000))
    else:
        (folder / file).write_bytes(FOREIGN[name])
    refused(folder, file)
    assert not (folder / "pwned").exists() and not Path("pwned").exists()
