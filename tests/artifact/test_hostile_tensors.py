"""Cut, flipped and rearranged tensor files end in a model or in one ModelFormatError that names the file.

Every damage is tried twice where that makes a difference: as a bad link leaves it (size and sha256 notice), and with
size and sha256 made right again, as an attacker would, so that the checks behind them are reached.
"""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hostile import SECONDS, folder, good, outcome, refused, signs  # noqa: F401  (fixtures)
from micro import (
    CONFIG,
    TENSORS,
    TOKENIZER,
    edit_json,
    join,
    put_tensors,
    split,
)
from safetensors import SafetensorError
from safetensors.numpy import load, load_file

from bebert_infer import ModelFormatError
from bebert_infer.artifact.config import expected_tensors
from bebert_infer.artifact.folder import read_artifact, read_config
from bebert_infer.artifact.tensors import split_tensors

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
