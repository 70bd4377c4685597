"""The full-precision starting point: a BERT encoder of a folder or the hub with a new head."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, PretrainedConfig

from bebert_export.checkpoints.published import COMPUTED, other_field
from bebert_export.checkpoints.untrusted_pickle import check_finite, without_pickles
from bebert_export.data.batches import check_rows, load_tokenizer
from bebert_export.data.examples import Examples
from bebert_export.data.vocabulary import trim_vocabulary
from bebert_export.quiet_transformers import quiet_transformers
from bebert_export.training.loop import seed_everything
from bebert_infer.artifact.tokenizer_check import check_tokenizer
from bebert_infer.errors import BebertWarning, DataError

WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # of DataParallel, of torch.compile
HEADS = ("classifier.", "bert.pooler.", "pooler.", "cls.", "qa_outputs.")  # that another task has, or none
HUB_FILES = ["config.json", "*.safetensors", "vocab.txt", "tokenizer.json", "tokenizer_config.json"]
HUB_FILES += ["special_tokens_map.json", "added_tokens.json"]


@dataclass(frozen=True)
class Pretrained:
    """A model ready to fine-tune, its tokenizer, and the share of training word pieces that trimming kept."""

    model: BertForSequenceClassification
    tokenizer: Tokenizer
    coverage: float


def local_folder(init: str, option: str = "init") -> Path:
    """Folder of the pretrained model `init`: itself if it exists, else a snapshot of that hub id.

    Raises DataError, which names the option, if it is neither.
    """
    folder = Path(init)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download  # imported late: a local folder needs no network code

    try:
        return Path(snapshot_download(init, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub client raises many kinds; all mean that there is no model
        raise DataError(
            f'{option} is "{init}", which is no folder here and cannot be fetched from the Hugging Face hub '
            f"({type(error).__name__}); pass a folder with config.json, model.safetensors and tokenizer.json"
        ) from None


def check_init(init: str, *, seen_inside: bool = False) -> None:
    """Raise DataError unless `init` is a BERT encoder with a tokenizer, before a run writes anything.

    seen_inside : whether students learn from what goes on inside it: that teacher computes GELU
    ModelFormatError for a tokenizer that a packed model could not bring.
    """
    folder = local_folder(init)
    config = read_config(folder)
    if seen_inside and config.hidden_act != "gelu":
        raise DataError(
            f"{folder} has hidden_act {config.hidden_act!r:.80} in config.json; students that learn from its inside "
            "need gelu: choose --distill none or prediction, also for --start-distill, or take another encoder"
        )
    tokenizer = load_tokenizer(folder)
    check_rows(tokenizer, folder, config.vocab_size)
    text = tokenizer.to_str().encode()
    # What a packed model may not bring should not be found out when the training is over.
    check_tokenizer(text, folder / "tokenizer.json", config.vocab_size, config.type_vocab_size)


def load_pretrained(
    init: str,
    train: Examples,
    labels: list[str],
    *,
    vocabulary_size: int | None,
    positions: int | None,
    dropout: float,
    seed: int,
    with_head: bool = False,
) -> Pretrained:
    """Load the encoder with a classification head (one output for regression: `labels` has one name).

    A head that came along is kept if it was trained for the same labels, else it is drawn anew: its outputs mean
    something different.

    vocabulary_size : keep this many word pieces (see vocabulary.py); None keeps all
    positions       : cut the position table to this length; None keeps it
    dropout         : of all layers, while training
    with_head       : the head must be there, for these labels, and is kept
    A missing pooler or head is initialised from `seed`. Raises DataError for anything that is not BERT.
    """
    folder = local_folder(init)
    config = read_config(folder)
    tokenizer = load_tokenizer(folder)
    same = _same_labels(config, labels)
    if with_head and not same:
        raise DataError(
            f"{folder} was fine-tuned for the labels {', '.join(_label_names(config))}, this run has "
            f"{', '.join(labels)}; name them so with labels, or fine-tune with teacher_epochs above 0"
        )
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: i for i, name in enumerate(labels)}
    config.problem_type = "regression" if len(labels) == 1 else "single_label_classification"
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    seed_everything(seed)
    model = _load(folder, config, whole=with_head, own_head=not same)
    coverage = 1.0
    if vocabulary_size is not None:
        trimmed = trim_vocabulary(tokenizer, train, vocabulary_size)
        tokenizer, coverage = trimmed.tokenizer, trimmed.coverage
        embeddings = model.bert.embeddings
        embeddings.word_embeddings = _rows(embeddings.word_embeddings, torch.from_numpy(trimmed.kept))
        model.config.vocab_size = len(trimmed.kept)
        model.config.pad_token_id = tokenizer.token_to_id("[PAD]") or 0
    if positions is not None and positions < model.config.max_position_embeddings:
        _cut_positions(model, positions)
    return Pretrained(model, tokenizer, coverage)


def read_config(folder: Path) -> BertConfig:
    """Sizes of a BERT encoder. Raises DataError for a folder that holds none."""
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder} has no config.json; pass a folder of a BERT encoder in the Hugging Face layout")
    raw = PretrainedConfig.get_config_dict(folder)[0]
    kind = raw.get("model_type")
    if kind != "bert":
        raise DataError(f'{folder} holds a model of type "{kind}"; only "bert" can be made binary')
    if other := other_field(raw, COMPUTED | {"chunk_size_feed_forward": (0,)}):
        raise DataError(f"{folder} has {other[0]} in config.json; accepted is {other[1]}")
    return BertConfig.from_pretrained(folder)


def _label_names(config: BertConfig) -> list[str]:
    return [name for _, name in sorted((config.id2label or {}).items())]


def _same_labels(config: BertConfig, labels: list[str]) -> bool:
    """Names such as LABEL_0 are what the library writes where nobody gave any; they say nothing."""
    names = _label_names(config)
    return len(names) == len(labels) and (names == labels or all(name.startswith("LABEL_") for name in names))


def _load(folder: Path, config: BertConfig, whole: bool, own_head: bool) -> BertForSequenceClassification:
    try:
        with quiet_transformers(), without_pickles(folder) as safe:
            wrapped = _wrappers(safe)
            loaded: Any = BertForSequenceClassification.from_pretrained(
                safe,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # told below, in one sentence
                key_mapping={WRAPPERS.pattern: ""} if wrapped else None,
            )
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder} has no readable weights ({error}); put model.safetensors there") from None
    model, report = loaded
    _check_names(folder, report)
    if wrapped:
        warnings.warn(
            f"{folder}: names of weights begin with {wrapped}, which was taken off", BebertWarning, stacklevel=2
        )
    for name, found, wanted in sorted(report["mismatched_keys"]):
        if not (own_head and name.startswith("classifier.")):
            raise DataError(
                f"{folder} has {name} of the shape {tuple(found)}, its config.json makes it {tuple(wanted)}; "
                "put files there that belong together"
            )
    if own_head and "classifier.weight" not in report["missing_keys"]:
        nn.init.normal_(model.classifier.weight, std=config.initializer_range)
        nn.init.zeros_(model.classifier.bias)
    if whole and report["missing_keys"]:
        raise DataError(
            f"{folder} lacks {', '.join(sorted(report['missing_keys']))}; with teacher_epochs 0 it must hold a "
            "fine-tuned classifier, else choose teacher_epochs above 0"
        )
    check_finite(model, folder)
    return model


def _wrappers(folder: Path) -> str:
    """What was put before the names of all weights of a folder; empty if nothing."""
    found = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            found |= {match.group() if (match := WRAPPERS.match(name)) else "" for name in tensors.keys()}  # noqa: SIM118
    return found.pop() if len(found) == 1 else ""


def _check_names(folder: Path, report: dict[str, Any]) -> None:
    """Refuse weights that are not those of the model. Raises DataError.

    transformers draws what is missing at random and leaves out what it does not know. A head may be missing or be that
    of another task.
    """
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(HEADS))
    unknown = sorted(
        name for name in report["unexpected_keys"] if not name.startswith(HEADS) and not name.endswith(".position_ids")
    )
    for names, what in ((missing, "lacks"), (unknown, "has unknown")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            other = f"; it has {', '.join(unknown[:2])}" if what == "lacks" and unknown else ""
            raise DataError(
                f"{folder} {what} weights: {', '.join(names[:3])}{more}{other}; put the weights there that its "
                "config.json describes, under the names that transformers gives them"
            )


def _rows(table: nn.Embedding, index: torch.Tensor) -> nn.Embedding:
    """The rows `index` of an embedding table as a table of their own."""
    return nn.Embedding.from_pretrained(table.weight.detach()[index].clone(), freeze=False)


def _cut_positions(model: BertForSequenceClassification, positions: int) -> None:
    embeddings = model.bert.embeddings
    embeddings.position_embeddings = _rows(embeddings.position_embeddings, torch.arange(positions))
    embeddings.register_buffer("position_ids", embeddings.position_ids[:, :positions].clone(), persistent=False)
    embeddings.register_buffer("token_type_ids", embeddings.token_type_ids[:, :positions].clone(), persistent=False)
    model.config.max_position_embeddings = positions
