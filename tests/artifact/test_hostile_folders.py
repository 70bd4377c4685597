"""Hostile tokenizers, links and devices in place of files, and any damage, end in a model or one ModelFormatError."""

import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from hostile import SECONDS, folder, good, outcome, refused, signs  # noqa: F401  (fixtures)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from micro import (
    CONFIG,
    TENSORS,
    TOKENIZER,
    join,
    put_tensors,
    put_tokenizer,
    split,
)

from bebert_infer import Ensemble, ModelFormatError
from bebert_infer.artifact.folder import read_artifact

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
    put_tokenizer(folder, json.dumps(tokenizer))
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
@example([("value", CONFIG, 0.8594836583891555, "swap", None)], False)  # leaves a model of at most 4 tokens
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
