"""`--teacher`: students learn from a classifier of another kind, with its own tokenizer and order of labels."""

# ruff: noqa: E402 - the imports below need the extra

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
transformers = pytest.importorskip("transformers", reason="training needs the extra [export]")

from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers
from toy import NEGATIVE, NEUTRAL, POSITIVE, write_task
from toy_runs import options

from bebert_export.pipeline import student_stage, teacher_stage
from bebert_export.pipeline.data import read_data
from bebert_export.pipeline.settings import check, data_settings
from bebert_export.train import train
from bebert_export.training.distillation import train_student
from bebert_infer.errors import DataError, InputError

pytestmark = pytest.mark.usefixtures("quick_backend")

QUIET = Console(quiet=True)


def write_teacher(folder, names=("negative", "positive")):
    """An untrained DistilBERT over whole words: another architecture, other token ids, no segment types."""
    words = ["<pad>", "<unk>", *NEUTRAL, *POSITIVE, *NEGATIVE]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")
    fast.model_input_names = ["input_ids", "attention_mask"]
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=len(words), dim=16, hidden_dim=32, n_layers=1, n_heads=2, num_labels=len(names)
    )
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    model = transformers.DistilBertForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("teacher"), 320, 80)


def said_by(folder, texts):
    """Logits of a teacher, one text at a time, in its own order."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        return np.concatenate([model(**tokenizer([text], return_tensors="pt")).logits.numpy() for text in texts])


def short(folder, out, **changes):
    common = {"scheme": "1-1-4", "members": 1, "teacher_epochs": 1, "start_epochs": 1, "epochs": 3}
    # The member learns from labels, so that it learns something: the teacher knows nothing.
    common |= {"start_distill": "prediction", "distill": "none", "labels": ("negative", "positive")}
    return options(folder, out, **(common | changes))


def test_students_learn_from_its_logits_in_the_order_of_the_run(folder, tmp_path, monkeypatch):
    teacher = write_teacher(tmp_path / "teacher", ("POSITIVE", "negative"))
    chosen = short(folder, tmp_path / "run", teacher=teacher)
    learned = []

    def noted(*arguments, distillation, **named):
        learned.append(distillation.logits)
        return train_student(*arguments, distillation=distillation, **named)

    monkeypatch.setattr(student_stage, "train_student", noted)
    results = train(chosen, QUIET)
    data = read_data(data_settings(chosen))
    wanted = said_by(teacher, [data.train.texts[i] for i in data.trained])[:, ::-1]
    np.testing.assert_allclose(learned[0], wanted, atol=1e-5)
    assert results["options"]["teacher"] == "teacher"
    assert "--teacher" in (chosen.out / "README.md").read_text("utf-8")


def test_a_killed_run_goes_on_behind_the_last_part(folder, tmp_path, monkeypatch):
    teacher = write_teacher(tmp_path / "teacher")
    chosen = short(folder, tmp_path / "run", teacher=teacher)
    monkeypatch.setattr(teacher_stage, "BATCH", 16)
    monkeypatch.setattr(teacher_stage, "PART", 4)
    forward, seen = transformers.DistilBertForSequenceClassification.forward, []

    def counted(self, *arguments, **named):
        seen.append(len(named["input_ids"]))
        if len(seen) == 10:
            raise KeyboardInterrupt
        return forward(self, *arguments, **named)

    monkeypatch.setattr(transformers.DistilBertForSequenceClassification, "forward", counted)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, QUIET)
    train(chosen, QUIET)
    batches = 320 // 16 + 80 // 16  # of what is trained on, and of dev
    assert len(seen) == batches + 10 - 8  # eight batches were written, the ninth and the broken one were not
    assert not list((chosen.out / "stages").glob(".running-teacher*"))
    train(replace(chosen, members=2), QUIET)
    assert len(seen) == batches + 2  # kept


@pytest.mark.parametrize(
    ("names", "accepted"),
    [(("LABEL_0", "LABEL_1"), True), (("0", "1"), True), (("good", "bad"), False), (("a", "negative", "c"), False)],
)
def test_labels_are_matched_by_name_or_not_at_all(folder, tmp_path, names, accepted):
    teacher = write_teacher(tmp_path / "teacher", names)
    data = read_data(data_settings(short(folder, tmp_path / "run")))
    if accepted:
        assert teacher_stage.Teacher(teacher, data).order == [0, 1]
        return
    with pytest.raises(DataError, match="accepted are the same names in any order, or LABEL_0"):
        teacher_stage.Teacher(teacher, data)


def test_a_teacher_needs_its_tokenizer_and_a_pupil(folder, tmp_path):
    teacher = write_teacher(tmp_path / "teacher")
    data = read_data(data_settings(short(folder, tmp_path / "run")))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (teacher / name).unlink()
    with pytest.raises(DataError, match="has no tokenizer"):
        teacher_stage.Teacher(teacher, data)
    with pytest.raises(InputError, match="no student learns from one"):
        check(short(folder, tmp_path / "run", teacher=teacher, start_distill="none"))
