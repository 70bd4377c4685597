"""A tiny random BERT encoder with its own vocabulary, and labelled files that it can learn in seconds."""

from pathlib import Path

import numpy as np
import torch
from micro import tokenizer_json as wordpiece_json
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

POSITIVE = ["good", "great", "lovely", "superb"]
NEGATIVE = ["bad", "awful", "boring", "weak"]
NEUTRAL = ["the", "a", "film", "plot", "actor", "scene", "music", "is", "was", "really"]
SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [prefix + letter for prefix in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz,."]


def write_encoder(folder: Path, *, pooler: bool = False, hidden: int = 32, layers: int = 1) -> Path:
    """A random encoder of a few thousand parameters, Hugging Face layout, with a WordPiece tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = SPECIAL + LETTERS + NEUTRAL + POSITIVE + NEGATIVE + ["never", "used"]
    (folder / "tokenizer.json").write_text(tokenizer_json(vocabulary), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=40,
        initializer_range=0.2,
    )
    BertModel(config, add_pooling_layer=pooler).save_pretrained(folder)
    return folder


def write_task(folder: Path, rows: int, dev_rows: int) -> Path:
    """Encoder, train.tsv (a few labels are wrong, so that members err) and dev.tsv in one folder."""
    write_encoder(folder / "encoder")
    write_data(folder / "train.tsv", rows, 1, noise=0.05)
    write_data(folder / "dev.tsv", dev_rows, 2)
    return folder


def tokenizer_json(vocabulary: list[str]) -> str:
    """A BERT-uncased tokenizer over `vocabulary`, as the library spells it."""
    return Tokenizer.from_str(wordpiece_json(vocabulary)).to_str()


def write_data(file: Path, rows: int, seed: int, *, noise: float = 0.0, regression: bool = False) -> Path:
    """Sentences with one or two opinion words; the label is their polarity, wrong in a share of rows."""
    random = np.random.default_rng(seed)
    lines = ["sentence1\tlabel"]
    for _ in range(rows):
        label = int(random.integers(2))
        words = list(random.choice(NEUTRAL, random.integers(2, 6)))
        opinions = random.choice(POSITIVE if label else NEGATIVE, random.integers(1, 3))
        for word in opinions:
            words.insert(random.integers(len(words) + 1), word)
        if random.random() < noise:
            label = 1 - label
        value = f"{(2 * label - 1) * len(opinions):.1f}" if regression else str(label)
        lines.append(" ".join(words) + "\t" + value)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
