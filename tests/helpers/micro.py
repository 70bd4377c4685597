"""A model folder of a few kilobytes with everything in it that a folder can have, and ways to damage it."""

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np

from bebert_infer.artifact.config import (
    CODES,
    FORMAT,
    FORMAT_VERSION,
    LINEARS,
    Config,
    MemberConfig,
    Site,
    TokenizerConfig,
    expected_tensors,
)
from bebert_infer.artifact.folder import write_artifact
from bebert_infer.artifact.values import bit_depths

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "##ly", "the"]
CONFIG, TENSORS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"


def micro_config(members: int = 1, **changes: object) -> Config:
    """One layer of width 8, 4-bit codes and softmax attention; `changes` are fields of every member."""
    signed, unsigned = Site("codes", 4, True), Site("codes", 4, False)
    sites = dict.fromkeys(LINEARS, signed) | {"output": unsigned}
    sites |= dict.fromkeys(CODES, signed) | {"probability_codes": unsigned}
    member = MemberConfig(
        family="bit",
        scheme="1-1-4",
        branches=1,
        row_scales=False,
        hidden_size=8,
        attention_size=8,
        num_attention_heads=2,
        intermediate_size=12,
        num_hidden_layers=1,
        layer_norm_eps=1e-12,
        attention="softmax",
        activation="relu",
        sites=sites,
    )
    return Config(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        vocab_size=len(WORDS),
        max_position_embeddings=8,
        type_vocab_size=2,
        num_labels=2,
        id2label={"0": "negative", "1": "positive"},
        label2id={"negative": 0, "positive": 1},
        problem_type="single_label_classification",
        combination="vote",
        members=[msgspec.structs.replace(member, **changes)] * members,
        tensors_sha256="",
        tensors_bytes=0,
        tokenizer=TokenizerConfig(8),
    )


def random_tensors(config: Config, seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors of any config: steps that spread codes over their range, norms near 1, padding bits 0."""
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    depths = bit_depths(config)
    for name, (kind, shape) in expected_tensors(config).items():
        if kind == "U64":
            tensors[name] = random.integers(0, 2**64, shape, dtype=np.uint64)
            tensors[name][:, -1] &= np.uint64(2**64 - 1 >> -depths[name] % 64)
        elif kind == "F64":
            tensors[name] = random.uniform(0.5, 1, shape)
        elif name.endswith((".step", ".scale")):
            tensors[name] = random.uniform(0.02, 0.3, shape).astype(np.float32)
        elif name.endswith(".clip"):
            tensors[name] = np.array([-2.5, 2.5], np.float32)
        elif name.endswith(".minimum"):
            tensors[name] = np.zeros(shape, np.float32)
        else:
            tensors[name] = (("norm.weight" in name) + 0.3 * random.standard_normal(shape)).astype(np.float32)
    return tensors


def tokenizer_json(words: list[str] = WORDS) -> str:
    """A BERT-uncased WordPiece tokenizer as the library writes it."""
    ids = {word: index for index, word in enumerate(words)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    first, last = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    single = [first, {"Sequence": {"id": "A", "type_id": 0}}, last]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": ids[word], "content": word, **flags, "special": True}
                for word in words
                if word.startswith("[") and "unused" not in word
            ],
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": single + second,
                "special_tokens": {
                    token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
                },
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": ids,
            },
        }
    )


def write_micro(folder: Path, config: Config | None = None, seed: int = 0) -> Path:
    """Write a valid model folder."""
    config = config or micro_config()
    text = tokenizer_json() if config.tokenizer else None
    write_artifact(folder, config, random_tensors(config, seed), text, "card")
    return folder


def edit_json(file: Path, **fields: object) -> None:
    """Replace fields of a JSON object."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def put_tokenizer(folder: Path, text: str) -> None:
    """Replace `tokenizer.json` and make its sha256 in the config right."""
    (folder / TOKENIZER).write_text(text)
    tokenizer = json.loads((folder / CONFIG).read_text())["tokenizer"]
    edit_json(folder / CONFIG, tokenizer=tokenizer | {"sha256": hashlib.sha256(text.encode()).hexdigest()})


def put_tensors(folder: Path, data: bytes, honest: bool = True) -> None:
    """Replace `model.safetensors`; `honest` makes size and sha256 in the config right, so that deeper checks run."""
    (folder / TENSORS).write_bytes(data)
    if honest:
        edit_json(folder / CONFIG, tensors_sha256=hashlib.sha256(data).hexdigest(), tensors_bytes=len(data))


def is_about_texts(error: Exception) -> bool:
    """Whether a sound model refuses a text: damage may leave one of shorter texts, or of token ids only."""
    return any(part in str(error) for part in ("this model accepts at most", "this model has no tokenizer"))


def split(data: bytes) -> tuple[dict, bytes]:
    """Header and data of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: object, data: bytes) -> bytes:
    """A safetensors file of any header, sound or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
