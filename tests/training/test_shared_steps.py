"""One learned step for linears that read the same values: the same mathematics, and inputs that are encoded once."""

# ruff: noqa: E402 - the imports below need the extra

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")

from rich.console import Console
from toy import write_task
from toy_runs import options

from bebert_export.pipeline.settings import check
from bebert_export.student.bert import Student, StudentConfig
from bebert_export.student.weight_splitting import split_student
from bebert_export.train import train
from bebert_infer import Ensemble
from bebert_infer.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_backend")

QUIET = Console(quiet=True)
SIZES = {"hidden_size": 16, "attention_size": 12, "num_heads": 2, "intermediate_size": 31, "num_layers": 2}
GROUPS = (
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    ("attention.output.dense",),
    ("intermediate.dense",),
    ("output.dense",),
)


def student(family: str, shared: bool) -> Student:
    config = StudentConfig(family, 4, vocab_size=50, max_positions=16, dropout=0.0, **SIZES, shared_steps=shared)
    torch.manual_seed(0)
    return Student(config)


def sites(layer: int, group: tuple[str, ...], suffixes: tuple[str, ...]) -> list[str]:
    return [f"bert.encoder.layer.{layer}.{name}{suffix}.input_clip_val" for name in group for suffix in suffixes]


@pytest.mark.parametrize("family", ["ternary", "binarybert", "bwn"])
def test_shared_steps_compute_what_equal_steps_do_and_learn_from_all_their_uses(family):
    shared, own = student(family, True), student(family, False)
    ids = torch.arange(30).reshape(3, 10) % 50
    shared.train()(ids)  # the first batch sets the steps
    own.load_state_dict(shared.state_dict())
    for model in (shared, own):
        model.train()(ids).logits.square().sum().backward()
    np.testing.assert_array_equal(shared(ids).logits.detach(), own(ids).logits.detach())
    ours, theirs = dict(shared.named_parameters()), dict(own.named_parameters())
    assert len(theirs) - len(ours) == {"ternary": 2 * 2, "bwn": 2 * 2, "binarybert": 2 * 8 + 1}[family]
    suffixes = shared.config.rules.suffixes
    for layer in range(2):
        for group in GROUPS:
            names = sites(layer, group, suffixes)
            together = sum(theirs[name].grad for name in names)
            torch.testing.assert_close(ours[names[0]].grad, together, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        ours["bert.embeddings.LayerNorm.weight"].grad, theirs["bert.embeddings.LayerNorm.weight"].grad
    )


def test_a_trace_has_the_codes_of_every_linear():
    model = student("binarybert", True).eval()
    trace: dict = {}
    model(torch.arange(10)[None], trace=trace)
    codes = [trace[f"codes.l0.attn.{name}_{branch}.in"] for name in ("query", "key", "value") for branch in (1, 2)]
    assert all((one == codes[0]).all() for one in codes)


def test_the_split_of_a_parent_that_shares_steps_shares_them():
    parent = student("ternary", True)
    parent.train()(torch.arange(10)[None])
    child = split_student(parent)
    first, *others = sites(0, GROUPS[0], child.config.rules.suffixes)
    parameters = dict(child.named_parameters())
    assert first in parameters and not set(others) & set(parameters)


def test_a_trained_and_packed_model_has_one_step_for_each_group_of_linears(tmp_path):
    folder = write_task(tmp_path, 320, 80)
    chosen = options(folder, tmp_path / "run", scheme="1-1-4", members=1, teacher_epochs=2, start_epochs=1, epochs=1)
    train(replace(chosen, shared_steps=True), QUIET)
    member = Ensemble.from_pretrained(chosen.out / "model").members[0]
    for block in member.blocks:
        for layers in ((block.query, block.key, block.value), (block.attention_output,), (block.output,)):
            assert len({branch.quantizer.step for layer in layers for branch in layer.branches}) == 1


def test_only_learned_steps_can_be_shared(tmp_path):
    folder = write_task(tmp_path, 20, 20)
    chosen = options(folder, tmp_path / "run", scheme="1-1-1", base="bit", members=1)
    with pytest.raises(InputError, match="shared_steps is for base binarybert or bwn, base is bit"):
        check(replace(chosen, shared_steps=True))
    with pytest.raises(ValueError, match="accepted is False"):
        StudentConfig("bit", 4, shared_steps=True)
