"""The full-precision starting point: a BERT encoder of a folder or the hub with a new head."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, PretrainedConfig

from bebert_export.checkpoints.class_names import class_names
from bebert_export.checkpoints.published import COMPUTED, other_field
from bebert_export.checkpoints.weights import load_weights
from bebert_export.data.batches import check_rows, load_tokenizer
from bebert_export.data.examples import Examples
from bebert_export.data.vocabulary import trim_vocabulary
from bebert_export.training.loop import seed_everything
from bebert_infer.artifact.config import usual_problem
from bebert_infer.artifact.tokenizer_check import check_tokenizer
from bebert_infer.errors import CheckpointError, DataError

HUB_FILES = ["config.json", "*.safetensors", "vocab.txt", "tokenizer.json", "tokenizer_config.json"]
HUB_FILES += ["special_tokens_map.json", "added_tokens.json"]


@dataclass(frozen=True)
class Pretrained:
    """A model ready to fine-tune, its tokenizer, and the share of training word pieces that trimming kept.

    new_head : why its classifier was drawn at random; empty if it came along
    """

    model: BertForSequenceClassification
    tokenizer: Tokenizer
    coverage: float
    new_head: str


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
    problem: str | None = None,
    *,
    vocabulary_size: int | None,
    positions: int | None,
    dropout: float,
    seed: int,
    with_head: bool = False,
) -> Pretrained:
    """Load the encoder with a classification head, one output for each label.

    A head that came along is kept if it was trained for the same labels and problem, else it is drawn anew: its outputs
    mean something different.

    problem         : what they mean, `problem_type` of a config; None: one is a value, several are classes
    vocabulary_size : keep this many word pieces (see vocabulary.py); None keeps all
    positions       : cut the position table to this length; None keeps it
    dropout         : of all layers, while training
    with_head       : the head must be there, for these labels, and is kept
    A missing pooler or head is initialised from `seed`. Raises DataError for anything that is not BERT.
    """
    folder = local_folder(init)
    config = read_config(folder)
    tokenizer = load_tokenizer(folder)
    problem = problem or usual_problem(len(labels))
    meant = config.problem_type or problem
    if with_head and meant != problem:
        raise DataError(
            f"{folder} was fine-tuned for {meant.replace('_', ' ')}, this run is {problem.replace('_', ' ')}; choose "
            "the same, or fine-tune with teacher_epochs above 0"
        )
    same = _same_labels(folder, labels, with_head) and meant == problem
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: i for i, name in enumerate(labels)}
    config.problem_type = problem  # type: ignore[assignment]
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    config.classifier_dropout = None  # as the others
    seed_everything(seed)
    model, new_head = _load(folder, config, whole=with_head, own_head=not same)
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
    return Pretrained(model, tokenizer, coverage, new_head)


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
    # Names of outputs are read where there is a head that they belong to; the library ends at some of them.
    return BertConfig.from_dict({name: value for name, value in raw.items() if name not in ("id2label", "label2id")})


def _same_labels(folder: Path, labels: list[str], with_head: bool) -> bool:
    """Whether a head of the folder has these labels; one without names, or with LABEL_0 and so on, may have them.

    Raises DataError where it must (with_head) and does not; other heads are drawn anew, whatever they are called.
    """
    raw = PretrainedConfig.get_config_dict(folder)[0]
    try:
        names = class_names(raw, None, folder)
    except CheckpointError as error:
        if with_head:
            raise DataError(str(error)) from None
        return False
    same = names == labels or (names is None and len(raw.get("id2label") or labels) == len(labels))
    if with_head and not same:
        raise DataError(
            f"{folder} was fine-tuned for the labels {', '.join(names or raw['id2label'].values())}, this run has "
            f"{', '.join(labels)}; name them so with labels, or fine-tune with teacher_epochs above 0"
        )
    return same


def _load(folder: Path, config: BertConfig, whole: bool, own_head: bool) -> tuple[BertForSequenceClassification, str]:
    """The model, and why its head is new; whole : a head must be there;  own_head : one there means something else."""
    model, report = load_weights(
        BertForSequenceClassification,
        folder,
        "an encoder",
        lacking=("classifier.", "bert.pooler."),
        redrawn="classifier." if own_head else None,
        config=config,
    )
    lacks = "classifier.weight" in report["missing_keys"]
    if own_head and not lacks:
        nn.init.normal_(model.classifier.weight, std=config.initializer_range)
        nn.init.zeros_(model.classifier.bias)
    if whole and report["missing_keys"]:
        raise DataError(
            f"{folder} lacks {', '.join(sorted(report['missing_keys']))}; with teacher_epochs 0 it must hold a "
            "fine-tuned classifier, else choose teacher_epochs above 0"
        )
    return model, "it has none" if lacks else "its own is for other labels" if own_head else ""


def _rows(table: nn.Embedding, index: torch.Tensor) -> nn.Embedding:
    """The rows `index` of an embedding table as a table of their own."""
    return nn.Embedding.from_pretrained(table.weight.detach()[index].clone(), freeze=False)


def _cut_positions(model: BertForSequenceClassification, positions: int) -> None:
    embeddings = model.bert.embeddings
    embeddings.position_embeddings = _rows(embeddings.position_embeddings, torch.arange(positions))
    embeddings.register_buffer("position_ids", embeddings.position_ids[:, :positions].clone(), persistent=False)
    embeddings.register_buffer("token_type_ids", embeddings.token_type_ids[:, :positions].clone(), persistent=False)
    model.config.max_position_embeddings = positions
