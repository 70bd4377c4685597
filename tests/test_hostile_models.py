"""Any bytes given as a model end in a model or in one ModelFormatError that names the file; in time, in bounded memory.

Every damage is tried twice where that makes a difference: as a bad link leaves it (size and sha256 notice), and with
size and sha256 made right again, as an attacker would, so that the checks behind them are reached.
"""

import json
import os
import shutil
import socket
import struct
import time
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from micro import (
    CONFIG,
    TENSORS,
    TOKENIZER,
    edit_json,
    join,
    micro_config,
    put_tensors,
    random_tensors,
    split,
    write_micro,
)
from safetensors import SafetensorError
from safetensors.numpy import load, load_file, save

from bebert_infer import Ensemble, ModelFormatError
from bebert_infer.artifact import read_artifact, read_config, write_artifact
from bebert_infer.config import CODES, LINEARS, Site, expected_tensors
from bebert_infer.tensor_file import split_tensors

SECONDS = 10.0  # for files of a few kilobytes, on the slowest of machines


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_micro(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of few tensors, so that every byte of its header can be tried."""
    sites = dict.fromkeys(LINEARS, Site("sign"))
    config = micro_config(attention="boolean", activation="gelu", sites=sites)
    return write_micro(tmp_path_factory.mktemp("signs") / "model", config)


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def outcome(folder: Path) -> str | None:
    """None for a model that answers, else the error's message; anything else fails the test."""
    started = time.perf_counter()
    try:
        model = Ensemble.from_pretrained(folder, backend="reference", threads=1)
        scores = np.array([prediction.logits for prediction in model.predict(["the good film"])])
        assert np.isfinite(scores).all()
        return None
    except ModelFormatError as error:
        message = str(error)
        assert folder.name in message or any(name in message for name in (CONFIG, TENSORS, TOKENIZER)), message
        assert "\n" not in message.strip() and len(message) < 5000, message
        return message
    finally:
        assert time.perf_counter() - started < SECONDS


def refused(folder: Path, *parts: str) -> None:
    message = outcome(folder)
    assert message is not None, "it was loaded"
    for part in parts:
        assert part in message, message


# --- truncation and flipped bits ---


def test_a_file_that_ends_at_any_512th_byte_or_any_header_byte_is_refused(signs, tmp_path):
    folder = Path(shutil.copytree(signs, tmp_path / "model"))
    data = (folder / TENSORS).read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    for end in [*range(0, len(data), 512), len(data) - 1]:
        shutil.copy(signs / CONFIG, folder)
        put_tensors(folder, data[:end], honest=False)
        with pytest.raises(ModelFormatError, match="an incomplete copy"):
            read_artifact(folder)
        put_tensors(folder, data[:end])
        with pytest.raises(ModelFormatError, match=f"{TENSORS}|tensors_bytes"):
            read_artifact(folder)
    # As a download that reserves its place on the disk first: the rest is zeros.
    expected = expected_tensors(read_config(signs))
    for end in range(header):
        cut = data[:end] + bytes(len(data) - end)
        with pytest.raises(ModelFormatError, match=TENSORS):
            _, faults = split_tensors(np.frombuffer(cut, np.uint8), folder / TENSORS, expected)
            raise ModelFormatError(TENSORS + str(faults)) if faults else AssertionError(end)
        if end % 64 == 0:
            put_tensors(folder, cut)
            refused(folder, TENSORS)


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER])
def test_json_files_that_end_too_early_are_refused(folder, name):
    data = (folder / name).read_bytes().rstrip()
    for end in [*range(0, len(data), 11), *range(len(data) - 20, len(data))]:
        (folder / name).write_bytes(data[:end])
        with pytest.raises(ModelFormatError, match=name):
            read_artifact(folder)


def test_a_flipped_bit_in_the_header_is_refused_or_harmless(signs, tmp_path):
    """Harmless: it is in the free text of the metadata, or makes other JSON of the same meaning."""
    folder = Path(shutil.copytree(signs, tmp_path / "model"))
    data = (folder / TENSORS).read_bytes()
    tensors = load(data)
    random = np.random.default_rng(0)
    loaded = 0
    for place in [*range(60), *range(60, 8 + int.from_bytes(data[:8], "little"), 5)]:
        changed = bytearray(data)
        changed[place] ^= 1 << int(random.integers(8))
        put_tensors(folder, bytes(changed))
        try:
            found = read_artifact(folder).tensors
        except ModelFormatError as error:
            assert TENSORS in str(error)
            continue
        loaded += 1
        assert found.keys() == tensors.keys()
        assert all(sorted(found[name].tobytes()) == sorted(tensors[name].tobytes()) for name in found if place > 60)
    assert loaded < 20


def test_a_flipped_bit_of_a_tensor_is_refused_by_its_sha256_or_by_what_it_makes(folder):
    data = (folder / TENSORS).read_bytes()
    start = len(data) - len(split(data)[1])
    random = np.random.default_rng(1)
    for place in range(start, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1 << int(random.integers(8))
        put_tensors(folder, bytes(changed), honest=False)
        with pytest.raises(ModelFormatError, match="sha256"):
            read_artifact(folder)
        put_tensors(folder, bytes(changed))
        outcome(folder)


# --- the layout of the tensors ---


def _swapped(header: dict) -> None:
    a, b = "members.0.pooler.0.signs", "members.0.pooler.bias"
    header[a]["data_offsets"], header[b]["data_offsets"] = header[b]["data_offsets"], header[a]["data_offsets"]


def _overlapping(header: dict) -> None:
    """Two biases of one shape at one place: every byte of the other is left over."""
    header["members.0.pooler.bias"]["data_offsets"] = header["members.0.layers.0.key.bias"]["data_offsets"]


def _moved(header: dict) -> None:
    begin, end = header["members.0.pooler.bias"]["data_offsets"]
    header["members.0.pooler.bias"]["data_offsets"] = [begin + 4, end + 4]


LAYOUTS = {
    "swapped": (_swapped, "has data_offsets"),
    "overlapping": (_overlapping, "overlap or leave a gap"),
    "moved": (_moved, "overlap or leave a gap"),
    "oversized": (lambda h: h["alphas"].update(shape=[10**12]), "alphas is F64[1000000000000], expected F64[1]"),
    "huge product": (lambda h: h["alphas"].update(shape=[2**63, 2**63]), "alphas is F64"),
    "negative shape": (lambda h: h["alphas"].update(shape=[-1]), "alphas is F64[-1]"),
    "deep shape": (lambda h: h["alphas"].update(shape=[1] * 65), "alphas is F64"),
    "beyond the end": (lambda h: h["alphas"].update(data_offsets=[10**15, 10**15 + 8]), "overlap or leave a gap"),
    "backwards": (lambda h: h["alphas"].update(data_offsets=[8, 0]), "expected are begin and end"),
    "negative offset": (lambda h: h["alphas"].update(data_offsets=[-8, 0]), "expected are begin and end"),
    "offsets of bool": (lambda h: h["alphas"].update(data_offsets=[False, True]), "expected are begin and end"),
    "offset of float": (lambda h: h["alphas"].update(data_offsets=[0.0, 8.0]), "expected are begin and end"),
    "wide dtype": (lambda h: h["alphas"].update(dtype="F32"), "alphas is F32[1], expected F64[1]"),
    "unknown dtype": (lambda h: h["alphas"].update(dtype="PICKLE"), "alphas is PICKLE[1], expected F64[1]"),
    "dtype of list": (lambda h: h["alphas"].update(dtype=[]), "alphas is [][1]"),
    "no dtype": (lambda h: h["alphas"].pop("dtype"), "expected are dtype, shape, data_offsets"),
    "no object": (lambda h: h.update(alphas=7), "expected are dtype, shape, data_offsets"),
    "another field": (lambda h: h["alphas"].update(path="/etc/passwd"), "expected are dtype, shape, data_offsets"),
    "missing": (lambda h: h.pop("alphas"), "alphas is missing"),
    "surprise": (lambda h: h.update(code=h["alphas"]), "code is not expected"),
    "metadata": (lambda h: h.update(__metadata__=[1]), "__metadata__"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_that_is_not_sound_is_refused_with_the_tensor_named(folder, name):
    change, message = LAYOUTS[name]
    header, data = split((folder / TENSORS).read_bytes())
    change(header)
    put_tensors(folder, join(header, data))
    refused(folder, TENSORS, message)


HEADERS = {
    "length of 0": (struct.pack("<Q", 0) + b"{}", "header length is 0"),
    "huge length": (struct.pack("<Q", 2**64 - 1) + b"{}", "header length is 18446744073709551615, accepted are 2 to 2"),
    "one byte too long": (struct.pack("<Q", 3) + b"{}", "header length is 3"),
    "a list": (join([1], b""), "is a list, no object"),
    "key twice": (join(b'{"alphas":{},"alphas":{}}', b""), 'has the key "alphas" twice'),
    "no UTF-8": (join(b'{"\xff\xfe":1}', b""), "is not JSON"),
    "UTF-16": (join("{}".encode("utf-16"), b""), "is not JSON"),
    "NaN": (join(b'{"alphas":NaN}', b""), "is not JSON"),
    "deep": (join(b"[" * 900 + b"]" * 900, b""), "is a list"),
    "deeper": (join(b'{"a":' * 1400 + b"1" + b"}" * 1400, b""), "nested too deep"),
    "many values": (join(b"[" + b"1," * 10**6 + b"1]", b""), "JSON values; accepted are at most"),
    "huge number": (join(b'{"alphas":' + b"9" * 10**5 + b"}", b""), TENSORS),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_not_sound_is_refused(folder, name):
    data, message = HEADERS[name]
    edit_json(folder / CONFIG, tokenizer=None)
    put_tensors(folder, data + bytes(20_000))  # room for what the config asks for
    if "length" in name or "one byte" in name:
        message = message.split(", accepted")[0] if "byte" not in name else "header"
    refused(folder, TENSORS, message)


def test_wherever_the_safetensors_library_sees_damage_so_do_we(signs, tmp_path):
    """Its reader is the reference for what a sound file is; ours may only be stricter."""
    folder = Path(shutil.copytree(signs, tmp_path / "model"))
    data = (folder / TENSORS).read_bytes()
    random = np.random.default_rng(5)
    seen = 0
    for _ in range(300):
        changed = bytearray(data)
        for place in random.integers(0, len(data) // 2, int(random.integers(1, 4))):
            changed[place] = int(random.integers(256))
        try:
            load(bytes(changed))
        except (SafetensorError, Exception):  # the library raises several kinds
            seen += 1
            put_tensors(folder, bytes(changed))
            refused(folder, TENSORS)
    assert seen > 200


def test_a_header_of_any_length_gives_the_same_tensors(folder):
    """Other writers do not pad the header to 8 bytes; tensors must reach the kernels aligned all the same."""
    header, data = split((folder / TENSORS).read_bytes())
    expected = load_file(folder / TENSORS)
    for spaces in range(9):
        put_tensors(folder, join(json.dumps(header).encode() + b" " * spaces, data))
        found = read_artifact(folder).tensors
        for name, tensor in expected.items():
            np.testing.assert_array_equal(found[name], tensor)
            assert found[name].flags.aligned and found[name].flags.c_contiguous
    order = sorted(expected, key=lambda name: (expected[name].itemsize, name))  # words behind an odd number of floats
    places, body = {}, b""
    for name in order:
        raw = expected[name].tobytes()
        kind = {"<u8": "U64", "<f4": "F32", "<f8": "F64"}[expected[name].dtype.str]
        offsets = [len(body), len(body) + len(raw)]
        places[name] = {"dtype": kind, "shape": list(expected[name].shape), "data_offsets": offsets}
        body += raw
    put_tensors(folder, join(places, body))
    for name, tensor in read_artifact(folder).tensors.items():
        np.testing.assert_array_equal(tensor, expected[name])
        assert tensor.flags.aligned


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
    found = [Ensemble.from_pretrained(folder, backend=name).member_logits(ids) for name in ("numba", "reference")]
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
        models = [Ensemble.from_pretrained(tmp_path / str(trial), backend=name) for name in ("numba", "reference")]
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
    "bytes": ({}, {"tensors_bytes": 2**62}, "tensors_bytes in the config says 4611686018427387904"),
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


# --- tokenizer.json ---


def _vocab(tokenizer: dict, **ids: int) -> None:
    tokenizer["model"]["vocab"] |= ids


BOMB = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Removed", "invert": False}
TOKENIZERS = {
    "id beyond the table": (lambda t: _vocab(t, film=9), "model.vocab 9; accepted is 0 to 8"),
    "huge id": (lambda t: _vocab(t, film=2**40), "model.vocab"),
    "negative id": (lambda t: _vocab(t, film=-1), "model.vocab -1"),
    "id twice": (lambda t: _vocab(t, film=5), "one id for two tokens"),
    "id of text": (lambda t: _vocab(t, film="6"), "model.vocab"),
    "too many": (lambda t: t["model"].update(vocab={str(i): i for i in range(9999)}), TOKENIZER),
    "no unknown": (lambda t: t["model"].update(unk_token="[X]"), "model.unk_token [X]"),
    "long words": (lambda t: t["model"].update(max_input_chars_per_word=10**9), "max_input_chars_per_word 1000000000"),
    "byte pairs": (lambda t: t["model"].update(type="BPE"), "model.type BPE; accepted is WordPiece"),
    "merges": (lambda t: t["model"].update(merges=[]), "model fields ['merges']"),
    "no model": (lambda t: t.update(model=None), "model None"),
    "regex before": (lambda t: t.update(pre_tokenizer=BOMB), "pre_tokenizer Split; accepted is one of BertPreTok"),
    "regex inside": (
        lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [BOMB]}),
        "pre_tokenizer.pretokenizers[0] Split",
    ),
    "regex first": (
        lambda t: t.update(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}),
        "normalizer Replace",
    ),
    "sequences in sequences": (
        lambda t: t.update(normalizer={"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": []}]}),
        "normalizer.normalizers[0] Sequence",
    ),
    "growing": (lambda t: t.update(normalizer={"type": "Prepend", "prepend": "x" * 10**6}), "normalizer Prepend"),
    "charsmap": (lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": ""}), "Precompiled"),
    "added id": (lambda t: t["added_tokens"][0].update(id=99), "added_tokens[0].id 99"),
    "empty token": (lambda t: t["added_tokens"][0].update(content=""), "added_tokens[0].content"),
    "segment": (lambda t: t["post_processor"]["pair"][3]["Sequence"].update(type_id=7), "post_processor.pair[3]"),
    "template id": (
        lambda t: t["post_processor"]["special_tokens"]["[SEP]"].update(ids=[10**6]),
        "post_processor.special_tokens[[SEP]].ids 1000000",
    ),
    "long template": (
        lambda t: t["post_processor"].update(single=t["post_processor"]["single"] * 99),
        "post_processor.single",
    ),
    "template of another token": (
        lambda t: t["post_processor"]["single"][0]["SpecialToken"].update(id="[X]"),
        "post_processor.single[0]",
    ),
    "template without text": (lambda t: t["post_processor"]["single"].pop(1), "the sequences []"),
    "second text of one": (
        lambda t: t["post_processor"]["single"][1]["Sequence"].update(id="B"),
        "post_processor.single[1]",
    ),
    "tokens of another number": (
        lambda t: t["post_processor"]["special_tokens"]["[SEP]"].update(tokens=[]),
        "post_processor.special_tokens[[SEP]]",
    ),
    "byte level": (lambda t: t.update(post_processor={"type": "ByteLevel"}), "post_processor ByteLevel"),
    "new part": (lambda t: t.update(code="import os"), "tokenizer fields ['code']"),
    "decoder": (lambda t: t.update(decoder={"type": "Replace"}), "decoder Replace"),
    "padding": (lambda t: t.update(padding={"strategy": {"Fixed": 10**15}}), TOKENIZER),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_that_a_bert_does_not_need_are_refused_with_the_field_named(folder, name):
    change, message = TOKENIZERS[name]
    tokenizer = json.loads((folder / TOKENIZER).read_text())
    change(tokenizer)
    (folder / TOKENIZER).write_text(json.dumps(tokenizer))
    refused(folder, TOKENIZER, message)


def test_truncation_and_padding_of_a_tokenizer_have_no_effect(folder):
    """The model decides about length; libraries save these two as they were last used."""
    tokenizer = json.loads((folder / TOKENIZER).read_text())
    tokenizer["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    padding = {"strategy": {"Fixed": 999}, "direction": "Right", "pad_to_multiple_of": None}
    tokenizer["padding"] = padding | {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    plain = Ensemble.from_pretrained(folder, backend="reference").encode(["the good bad film"])
    (folder / TOKENIZER).write_text(json.dumps(tokenizer))
    found = Ensemble.from_pretrained(folder, backend="reference").encode(["the good bad film"])
    np.testing.assert_array_equal(found.input_ids, plain.input_ids)


# --- links, folders, pipes and devices in place of files ---


@pytest.mark.parametrize("file", [CONFIG, TENSORS, TOKENIZER])
@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "outside", "nowhere", "loop", "unreadable"])
def test_what_is_no_file_of_the_folder_is_refused_without_opening_it(folder, tmp_path, monkeypatch, file, kind):
    place = folder / file
    kept = tmp_path / "kept"
    place.rename(kept)
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        monkeypatch.chdir(folder)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(file)
    elif kind == "unreadable":
        kept.rename(place)
        place.chmod(0)
        if os.access(place, os.R_OK):
            pytest.skip("the super-user reads everything")
    else:
        place.symlink_to({"device": "/dev/zero", "outside": kept, "nowhere": "nowhere", "loop": file}[kind])
    refused(folder, file)


def test_links_inside_the_folder_and_of_a_hub_cache_are_followed(good, tmp_path):
    """Hugging Face caches hold `snapshots/<revision>/config.json -> ../../blobs/<hash>`."""
    repository = tmp_path / "models--me--mine"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    for index, file in enumerate(good.iterdir()):
        shutil.copy(file, repository / "blobs" / f"hash{index}")
        (snapshot / file.name).symlink_to(f"../../blobs/hash{index}")
    assert outcome(snapshot) is None
    shutil.copytree(good, tmp_path / "model")
    (tmp_path / "model" / TENSORS).rename(tmp_path / "model" / "weights")
    (tmp_path / "model" / TENSORS).symlink_to("weights")
    assert outcome(tmp_path / "model") is None
    (tmp_path / "current").symlink_to("model")  # the user's own link
    assert outcome(tmp_path / "current") is None


@pytest.mark.parametrize("name", ["no\0name", "x" * 5000, ""])
def test_paths_that_cannot_be_are_refused(tmp_path, name):
    with pytest.raises(ModelFormatError):
        read_artifact(str(tmp_path / "nowhere") + "/" + name)


# --- damage that nobody thought of ---

HOSTILE = [None, True, -1, 0, 2**31, 2**63, 10**30, 1e308, "", "é" * 99, "\x00", [], {}, [[]], {"a": {}}, "../../x"]


@st.composite
def damages(draw: st.DrawFn) -> list[tuple]:
    raw = st.tuples(
        st.sampled_from(["flip", "cut", "double", "insert", "zero"]),
        st.sampled_from([CONFIG, TENSORS, TOKENIZER]),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 64),
        st.binary(min_size=1, max_size=16),
    )
    values = st.tuples(
        st.just("value"),
        st.sampled_from([CONFIG, TENSORS, TOKENIZER]),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["replace", "drop", "swap"]),
        st.sampled_from(HOSTILE),
    )
    return draw(st.lists(raw | values, min_size=1, max_size=3))


def _damage_bytes(data: bytes, kind: str, where: float, count: int, new: bytes) -> bytes:
    at = int(where * len(data))
    if kind == "flip":
        return data[:at] + bytes(byte ^ new[0] for byte in data[at : at + 1]) + data[at + 1 :]
    if kind == "cut":
        return data[:at] + data[at + count :]
    if kind == "double":
        return data[:at] + data[at : at + count] + data[at:]
    if kind == "insert":
        return data[:at] + new + data[at:]
    return data[:at] + bytes(len(data[at : at + count])) + data[at + count :]


def _damage_value(tree: object, where: float, how: str, new: object) -> object:
    """Change one value anywhere in a tree of JSON."""
    places: list[tuple] = []

    def walk(node: object) -> None:
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in children:
            places.append((node, key))
            walk(child)

    walk(tree)
    if not places:
        return new
    node, key = places[int(where * len(places))]
    if how == "drop":
        del node[key]
    elif how == "swap":
        other, name = places[int(where * 7919) % len(places)]
        node[key], other[name] = other[name], node[key]
    else:
        node[key] = new
    return tree


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(damages(), st.booleans())
def test_any_damage_ends_in_a_model_or_one_error(good, tmp_path, damage, honest):
    folder = Path(shutil.copytree(good, tmp_path / "model", dirs_exist_ok=True))
    for kind, file, where, how, new in damage:
        data = (folder / file).read_bytes()
        if kind != "value":
            changed = _damage_bytes(data, kind, where, how, new)
        else:
            try:
                tree, rest = split(data) if file == TENSORS else (json.loads(data), b"")
                text = json.dumps(_damage_value(tree, where, how, new))
            except (ValueError, RecursionError):  # an earlier damage left no JSON, or a circle
                continue
            changed = join(text.encode(), rest) if file == TENSORS else text.encode()
        (folder / file).write_bytes(changed)
    if honest:
        try:
            put_tensors(folder, (folder / TENSORS).read_bytes())
        except (ValueError, TypeError):
            pass
    outcome(folder)
