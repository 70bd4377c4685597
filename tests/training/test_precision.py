"""bfloat16 rounds the matrix products of training, never a threshold, a scale or a prediction."""

# ruff: noqa: E402 - the imports below need the extra

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")
pytest.importorskip("accelerate", reason="training needs the extra [export]")

from rich.console import Console
from toy import write_data, write_encoder

from bebert_export import distributed
from bebert_export.data.batches import EncodedExamples, TrainingSet
from bebert_export.quantizers import ActivationQuantizer
from bebert_export.student.bert import Student, StudentConfig
from bebert_export.train import TrainOptions, train
from bebert_export.training.distillation import KINDS, Distillation, train_student
from bebert_export.training.loop import Watcher, predict
from bebert_export.training.schedule import Schedule

SIZES = {"vocab_size": 40, "hidden_size": 16, "attention_size": 16, "num_heads": 2, "intermediate_size": 32}
FAMILIES = [("ternary", 4), ("binarybert", 4), ("bibert", 1), ("bit", 1), ("ternarybert", 8)]


def student(family, bits):
    torch.manual_seed(1)
    return Student(StudentConfig(family, bits, **SIZES, num_layers=1, max_positions=16, dropout=0.0))


def examples():
    random = np.random.default_rng(0)
    ids = [random.integers(1, 40, length) for length in random.integers(3, 9, 24)]
    return TrainingSet(EncodedExamples(ids, [np.zeros_like(row) for row in ids]), random.integers(0, 2, 24), 2)


@pytest.mark.parametrize(("family", "bits"), FAMILIES)
def test_quantizers_see_float32_and_weights_keep_their_scale(family, bits):
    model, data, inputs = student(family, bits).train(), examples(), []

    def seen(module, arguments, value):
        inputs.append((arguments[0].dtype, value.dtype, torch.is_autocast_enabled("cpu")))

    for module in model.modules():
        if isinstance(module, ActivationQuantizer):
            module.register_forward_hook(seen)
    weights, linear = [], torch.nn.functional.linear

    def noted(x, weight, bias=None):
        weights.append(weight.detach())
        return linear(x, weight, bias)

    index = torch.from_numpy(np.stack([row[:3] for row in data.encoded.ids]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", noted)
        logits = model(index).logits
        exact = [weight for weight in weights]
        weights.clear()
        with distributed.autocast("bfloat16"):
            rounded = model(index).logits
    assert not torch.equal(rounded, logits)  # the products are rounded
    assert rounded.dtype == torch.float32
    assert len(exact) == len(weights) and all(torch.equal(a, b) for a, b in zip(exact, weights, strict=True))
    assert inputs and set(inputs) == {(torch.float32, torch.float32, False)}


@pytest.mark.parametrize("kind", KINDS)
def test_training_in_bfloat16_comes_close_and_predicts_in_float32(kind):
    data, results, weights = examples(), {}, {}
    teacher = student("float", 32).eval()
    with torch.no_grad():
        teacher.classifier.weight.mul_(30)  # a teacher with an opinion
    for precision in ("float32", "bfloat16"):
        model = student("bit", 4)
        distillation = Distillation(kind, None if kind == "none" else predict(teacher, data.encoded, 2), teacher)
        schedule = Schedule(2.0, 8, 1e-3, precision=precision)
        done = train_student(model, data, schedule, distillation=distillation, seed=3, watcher=Watcher())
        results[precision], weights[precision] = done.loss, model.bert.pooler.get_submodule("dense").weight
        logits = predict(model, data.encoded, 2)
        assert logits.dtype == np.float32
        first = torch.from_numpy(data.encoded.ids[0])[None]
        with torch.no_grad():
            assert np.allclose(model(first).logits[0].numpy(), logits[0], atol=1e-6)
    assert results["bfloat16"] == pytest.approx(results["float32"], rel=0.1)
    assert not torch.equal(weights["bfloat16"], weights["float32"])


def test_a_run_in_bfloat16_packs_into_the_same_answers(tmp_path, monkeypatch):
    """Packing checks every code against PyTorch and would raise."""
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        monkeypatch.setenv("BEBERT_BACKEND", "reference")
    write_encoder(tmp_path / "encoder")
    files = {"init": str(tmp_path / "encoder"), "out": tmp_path / "run"}
    files |= {"train": write_data(tmp_path / "train.tsv", 200, 1), "dev": write_data(tmp_path / "dev.tsv", 40, 2)}
    rates = {"learning_rate": 5e-3, "teacher_learning_rate": 5e-3}
    short = {"members": 1, "max_length": 16, "teacher_epochs": 4.0, "start_epochs": 2.0, "epochs": 2.0, "threads": 1}
    results = train(TrainOptions(**files, **rates, **short, precision="bfloat16"), Console(quiet=True))
    assert results["dev"]["packed_against_torch"]["equal_answers"] == 1.0
    assert results["dev"]["packed_against_torch"]["max_logit_difference"] < 1e-3


def test_auto_takes_bfloat16_only_where_the_processor_has_it(monkeypatch):
    assert distributed.chosen_precision("bfloat16") == "bfloat16"
    for flags, wanted in (({"avx2", "avx512f"}, "float32"), ({"avx512_bf16"}, "bfloat16"), ({"amx_bf16"}, "bfloat16")):
        monkeypatch.setattr(distributed, "_processor_flags", lambda flags=flags: flags)
        if distributed.device().type == "cpu":
            assert distributed.chosen_precision("auto") == wanted
        assert distributed.chosen_precision("float32") == "float32"
