"""Proves that ternary weight splitting gives the published weights and keeps what the parent computes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bebert_export.quantizers import BinaryWeight, TernaryWeight  # noqa: E402
from bebert_export.student.bert import Student, StudentConfig  # noqa: E402
from bebert_export.student.weight_splitting import split_state_dict, split_student, split_weight  # noqa: E402

EXACT = {"rtol": 1e-12, "atol": 0.0}  # float64 in both, a few sums of thousands of terms


def test_a_small_matrix_by_hand():
    # mean|w| = 2, threshold 1.4: kept 2 and -4, alpha 3, A = 6; P = 1, N = 1, n0 = 2
    # a = (6 + 1 - 1) / 12 = 1/2;  b = (3 * 4 - 8) / 4 = 1
    split = split_weight(torch.tensor([[2.0, -4.0, 1.0, -1.0]]))
    assert split.first.tolist() == [[1, -2, 2, 1]]
    assert split.second.tolist() == [[1, -2, -1, -2]]
    assert [split.alpha.item(), split.a.item(), split.b.item()] == [3, 0.5, 1]


@pytest.mark.parametrize("rows", [False, True])
def test_the_halves_add_up_in_latent_and_in_quantized_form(rows):
    w = torch.randn(64, 48, generator=torch.manual_seed(0), dtype=torch.float64)
    w[3, ::5] = 0
    split = split_weight(w, rows)
    torch.testing.assert_close(split.first + split.second, w, rtol=0, atol=1e-15)  # float64 rounding near 1
    halves = BinaryWeight(rows)(split.first) + BinaryWeight(rows)(split.second)
    torch.testing.assert_close(halves, TernaryWeight(rows)(w), rtol=0, atol=1e-14)
    for half in (split.first, split.second):
        mean = half.abs().mean(-1, keepdim=True) if rows else half.abs().mean()
        torch.testing.assert_close(mean.expand_as(split.alpha), split.alpha / 2, **EXACT)
        assert (half != 0).all()  # every weight has a sign
    assert ((split.a > 0) & (split.a < 1)).all() and (split.b >= 0).all()


def test_rows_of_zeros_of_equal_weights_and_of_negative_weights_stay_finite():
    w = torch.tensor([[0.0, 0.0, 0.0], [2.0, -2.0, 2.0], [-3.0, -0.1, -0.1]])
    split = split_weight(w, rows=True)
    assert torch.isfinite(split.first).all() and torch.isfinite(split.second).all()
    assert split.first[0].tolist() == split.second[0].tolist() == [0, 0, 0]
    halves = BinaryWeight(True)(split.first) + BinaryWeight(True)(split.second)
    torch.testing.assert_close(halves, TernaryWeight(True)(w.double()), **EXACT)
    assert torch.isfinite(split_weight(torch.zeros(2, 2)).first).all()


@pytest.mark.parametrize(("part", "rows"), [("matrix", False), ("rows", True)])
def test_split_matrix_matches_the_published_code(golden, part, rows):
    with np.load(golden / "binarybert_ternary_tws" / "split_matrix.npz") as file:
        expected = {key.split(".")[1]: torch.from_numpy(file[key]) for key in file.files if key.startswith(part)}
    split = split_weight(expected["w"], rows)
    found = {"w1": split.first, "w2": split.second, "threshold": split.threshold, "alpha": split.alpha}
    found |= {"a": split.a, "b": split.b, "ternary": TernaryWeight(rows)(expected["w"])}
    found |= {"binary1": BinaryWeight(rows)(split.first), "binary2": BinaryWeight(rows)(split.second)}
    for name, value in found.items():
        torch.testing.assert_close(value.reshape(expected[name].shape), expected[name], **EXACT)


def test_split_file_matches_the_published_code(golden):
    folder = golden / "binarybert_ternary_tws"
    parent, expected = (
        torch.load(folder / name / "pytorch_model.bin", weights_only=True) for name in ("parent", "split")
    )
    found = split_state_dict(parent)
    assert set(found) == set(expected)
    for key, value in expected.items():
        # float32 weights: one rounding of a float64 value; the rest is float64
        limit = 1e-6 if value.dtype == torch.float32 else 1e-12
        torch.testing.assert_close(found[key], value, rtol=limit, atol=0, msg=key)


def test_a_split_student_computes_what_its_parent_computes():
    torch.manual_seed(0)
    config = StudentConfig(
        "ternary",
        4,
        vocab_size=30,
        hidden_size=16,
        attention_size=12,
        num_heads=3,
        intermediate_size=20,
        num_layers=2,
        max_positions=10,
    )
    parent = Student(config).train()
    ids = torch.randint(1, 30, (3, 8))
    parent(ids)  # sets the steps
    parent.eval()
    child = split_student(parent).eval()
    assert child.config.family == "binarybert"
    first, second = {}, {}
    with torch.no_grad():
        # float32 sums of two halves instead of one whole; a flipped code would show as 1e-2 or more
        torch.testing.assert_close(child(ids, trace=second).logits, parent(ids, trace=first).logits, rtol=0, atol=1e-5)
    for key in [key for key in first if key.startswith("codes") and key.endswith(".in")]:
        for branch in (1, 2):
            assert np.array_equal(first[key], second[f"{key.removesuffix('.in')}_{branch}.in"]), key


def test_only_a_ternary_parent_can_be_split():
    config = StudentConfig("bit", 1, 9, 4, 4, 1, 4, 1, 4)
    with pytest.raises(ValueError, match="family is 'bit'; accepted is \"ternary\""):
        split_student(Student(config))
