"""Proves that the distillation losses and their gradients are those of the published training scripts."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bebert_export.student.bert import Student, StudentConfig  # noqa: E402
from bebert_export.training.distillation_losses import (  # noqa: E402
    bit_loss,
    direction_matching,
    logit_loss,
    r2b,
    score_loss,
    similarity,
    soft_cross_entropy,
    state_map,
    two_stage,
)

CLOSE = {"rtol": 1e-6, "atol": 1e-12}  # both float64; sums in another order are far below


def read(golden, name: str) -> dict:
    """A golden file in float64, integers as they are."""
    with np.load(golden / "distill" / f"{name}.npz") as file:
        tensors = {key: torch.from_numpy(file[key]) for key in file.files}
    return {key: x.double() if x.is_floating_point() else x for key, x in tensors.items()}


def outputs(values: dict, who: str) -> SimpleNamespace:
    """Student or teacher of a golden file, shaped like a StudentOutput; the student's take gradients."""

    def layers(kind: str) -> tuple:
        keys = [f"{who}_{kind}_{i}" for i in range(9) if f"{who}_{kind}_{i}" in values]
        return tuple(values[key].requires_grad_(who == "student") for key in keys)

    return SimpleNamespace(
        logits=values[f"{who}_logits"].requires_grad_(who == "student"),
        hidden=layers("hidden"),
        scores=layers("scores"),
        queries=layers("query"),
        keys=layers("key"),
        values=layers("value"),
    )


def check_gradients(values: dict, kinds: list[str]) -> None:
    for key, expected in values.items():
        if key.startswith("dstudent") and any(kind in key for kind in kinds):
            torch.testing.assert_close(values[key[1:]].grad, expected, **CLOSE)


def test_soft_cross_entropy_averages_over_classes_too():
    # uniform teacher and student over 2 classes: -(1/2 ln 1/2) twice, mean over 2 = ln 2 / 2
    assert soft_cross_entropy(torch.zeros(3, 2), torch.zeros(3, 2)).item() == pytest.approx(np.log(2) / 2)


def test_one_logit_is_distilled_by_its_squared_error():
    student, teacher = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])
    assert soft_cross_entropy(student, teacher).item() == 0
    assert logit_loss(student, teacher).item() == 2.5


def test_masked_scores_count_as_zero_on_both_sides():
    student, teacher = torch.tensor([[1.0, -10000.0]]), torch.tensor([[0.0, -9999.0]])
    assert score_loss([student], [teacher]).item() == 0.5


def test_r2b_compares_directions_only():
    x = torch.tensor([[3.0, 4.0]])
    assert r2b(x, 5 * x).item() == pytest.approx(0, abs=1e-6)  # float32 square root of a rounding error
    assert r2b(x, -x).item() == pytest.approx(2)
    zero = torch.zeros(1, 2, requires_grad=True)
    r2b(zero, x).backward()
    assert torch.isfinite(zero.grad).all()


def test_state_map_is_even_and_refuses_what_does_not_fit():
    assert state_map(2, 4) == (0, 2, 4)
    assert state_map(3, 3) == (0, 1, 2, 3)
    with pytest.raises(ValueError, match="teacher has 12 layers and the student 5"):
        state_map(5, 12)


def test_soft_cross_entropy_matches_the_published_code(golden):
    values = read(golden, "soft_cross_entropy")
    for i in range(int(values["n_cases"])):
        student = values[f"c{i}.student"].requires_grad_()
        loss = soft_cross_entropy(student, values[f"c{i}.teacher"], float(values[f"c{i}.temperature"]))
        loss.backward()
        torch.testing.assert_close(loss.detach(), values[f"c{i}.loss"], **CLOSE)
        torch.testing.assert_close(student.grad, values[f"c{i}.dstudent"], **CLOSE)


def test_two_stage_and_bit_losses_match_the_published_code(golden):
    values = read(golden, "two_stage")
    student, teacher = outputs(values, "student"), outputs(values, "teacher")
    losses = two_stage(student, teacher)
    found = {"att_loss": losses.attention, "rep_loss": losses.hidden, "stage1_loss": losses.stage1}
    found |= {
        "stage2_loss": losses.stage2,
        "joint_loss": losses.joint,
        "bit_loss": bit_loss(student, teacher),
    }
    for key, loss in found.items():
        torch.testing.assert_close(loss.detach(), values[key], **CLOSE)
    losses.joint.backward()
    check_gradients(values, ["scores", "hidden", "logits"])


@pytest.mark.parametrize("name", ["dmd", "dmd_layer_map"])
def test_direction_matching_matches_the_published_code(golden, name):
    values = read(golden, name)
    student, teacher = outputs(values, "student"), outputs(values, "teacher")
    losses = direction_matching(student, teacher, values["labels"])
    found = {"query_loss": losses.query, "key_loss": losses.key, "value_loss": losses.value}
    found |= {"rep_loss": losses.hidden, "cls_loss": losses.prediction, "total_loss": losses.total}
    for key, loss in found.items():
        torch.testing.assert_close(loss.detach(), values[key], **CLOSE)
    torch.testing.assert_close(similarity(student.queries[0]).detach(), values["student_query_similarity_0"], **CLOSE)
    losses.total.backward()  # the groups share no tensor, so the sum has each group's own gradient
    check_gradients(values, ["query_", "key_", "value_", "hidden", "logits"])


def test_masked_r2b_and_regression_match_the_published_code(golden):
    for name, loss in (("r2b_masked", r2b), ("regression_mse", logit_loss)):
        values = read(golden, name)
        student = values["student"].requires_grad_()
        found = loss(student, values["teacher"])
        found.backward()
        torch.testing.assert_close(found.detach(), values["loss"], **CLOSE)
        torch.testing.assert_close(student.grad, values["dstudent"], **CLOSE)


def test_a_student_learns_from_a_full_precision_teacher_of_twice_the_depth():
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 8, "attention_size": 8, "num_heads": 2, "intermediate_size": 8}
    teacher = Student(StudentConfig("float", 32, num_layers=4, max_positions=6, **sizes)).eval()
    ids, labels = torch.randint(1, 20, (4, 6)), torch.tensor([0, 1, 1, 0])
    with torch.no_grad():
        target = teacher(ids, details=True)
    for family, bits in (("bibert", 1), ("bit", 1), ("binarybert", 4)):
        student = Student(StudentConfig(family, bits, num_layers=2, max_positions=6, **sizes)).train()
        output = student(ids)
        total = direction_matching(output, target, labels).total + two_stage(output, target).joint
        total.backward()
        for name, parameter in student.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name


def test_outputs_without_details_and_wrong_states_are_refused():
    sizes = {"vocab_size": 9, "hidden_size": 4, "attention_size": 4, "num_heads": 1, "intermediate_size": 4}
    model = Student(StudentConfig("float", 32, num_layers=2, max_positions=4, **sizes)).eval()
    ids = torch.tensor([[1, 2]])
    with pytest.raises(ValueError, match="details=True"):
        two_stage(model(ids), model(ids, details=True))
    full = model(ids, details=True)
    for states in ((0, 1), (0, 0, 1), (0, 1, 3)):
        with pytest.raises(ValueError, match="accepted are 3 indices below 3"):
            two_stage(full, full, states)
    assert two_stage(full, full, (0, 1, 2)).stage1.item() == 0
