"""Proves that every quantizer gives the published value, code and gradient: zeros, ties and ends included."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from bebert_export.quantizers import (  # noqa: E402
    BinaryWeight,
    Bool,
    Dynamic,
    Elastic,
    Lsq,
    RowCentredBinaryWeight,
    Sign,
    TensorCentredBinaryWeight,
    TernaryWeight,
)
from bebert_export.quantizers.learned_step import _LearnedStep  # noqa: E402
from bebert_export.student.bert import StudentConfig  # noqa: E402
from bebert_export.student.layers import QuantLinear, gelu  # noqa: E402

# Golden files are float32: values and input gradients differ by a rounding or two of numbers near 1, while
# gradients of scalars and weights are sums of a few hundred products, added in another order.
VALUE = {"rtol": 1e-6, "atol": 1e-6}
SUM = {"rtol": 1e-5, "atol": 2e-6}

WEIGHT_RULES = {
    "bwn_hw": lambda rows: BinaryWeight(rows),
    "twn": lambda rows: TernaryWeight(rows),
    "twn_clipped": lambda rows: TernaryWeight(rows, 2.5),
    "bwn_bit": lambda rows: TensorCentredBinaryWeight(rows),
}
ALL_WEIGHT_RULES = [rule(rows) for rule in WEIGHT_RULES.values() for rows in (False, True)] + [RowCentredBinaryWeight()]


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values[0] if len(values) == 1 else values))


def gradients(quantizer, x: list[float], *parameters: nn.Parameter) -> list[list[float]]:
    """Value and input gradient for an upstream gradient of ones."""
    source = torch.tensor(x, requires_grad=True)
    value = quantizer(source)
    value.sum().backward()
    return [value.tolist(), source.grad.tolist(), *(p.grad.tolist() for p in parameters)]


def cases(golden, name):
    """The numbered cases of one golden file as dicts of tensors."""
    with np.load(golden / "quantizers" / f"{name}.npz") as file:
        return [
            {key.split(".", 1)[1]: torch.from_numpy(file[key]) for key in file.files if key.startswith(f"c{i}.")}
            for i in range(int(file["n_cases"]))
        ]


def test_sign_keeps_zeros_and_its_gradient_band_is_closed_for_linears_and_open_for_heads():
    x = [-1.5, -1.0, -0.0, 0.0, 1.0, 2.0]
    signs = [-1, -1, 0, 0, 1, 1]
    assert gradients(Sign(inclusive=True), x) == [signs, [0, 1, 1, 1, 1, 0]]
    assert gradients(Sign(), x) == [signs, [0, 0, 1, 1, 0, 0]]


def test_the_attention_bit_of_an_exact_zero_is_zero():
    assert gradients(Bool(), [-0.5, 0.0, 1e-30, 0.5, 1.0]) == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]]


def test_learned_step_rounds_half_to_even_and_reaches_minus_eight():
    lsq = Lsq(parameter(1.0), 4, signed=True).eval()
    codes, step, minimum = lsq.codes(torch.tensor([-9.0, -8.4, -2.5, -0.5, 0.5, 1.5, 2.5, 7.4, 9.0]))
    assert codes.tolist() == [-8, -8, -2, 0, 0, 2, 2, 7, 7]
    assert (step, minimum) == (1.0, 0.0)


def test_learned_step_gradients_by_hand():
    # 2 bits, step 2: r = -2.5, -2, 0.3, 1, 1.2 with range -2 ... 1. The step's gradient sums
    # -2 (below), rne(r) - r inside = 0, -0.3, 0, and 1 (above), over sqrt(5 values * 1).
    step = parameter(2.0)
    value, dx, dstep = gradients(Lsq(step, 2, signed=True).eval(), [-5.0, -4.0, 0.6, 2.0, 2.4], step)
    assert value == [-4, -4, 0, 2, 2]
    assert dx == [0, 1, 1, 1, 0]
    assert dstep == pytest.approx((-2 - 0.3 + 1) / 5**0.5, rel=1e-6)  # float32


@pytest.mark.parametrize(("low", "high", "minimum"), [(-8, 7, None), (0, 15, None), (0, 255, -0.17), (-128, 127, None)])
@pytest.mark.parametrize("step", [0.02, 0.3])
def test_a_step_gradient_is_that_of_lsq_within_rounding(low, high, minimum, step):
    torch.manual_seed(0)
    x, gradient = torch.randn(32, 20, 64, requires_grad=True), torch.randn(32, 20, 64)
    learned = torch.tensor(step, requires_grad=True)
    least = None if minimum is None else torch.tensor(minimum)
    _LearnedStep.apply(x, learned, least, low, high, None).backward(gradient)
    ratio = (x.detach() if least is None else x.detach() - least) / learned.detach()
    slope = torch.where(ratio < low, low, torch.where(ratio > high, high, ratio.round() - ratio.double()))
    expected = float((gradient.double() * slope).sum()) / (ratio.numel() * high) ** 0.5
    # Two float32 sums are subtracted. Added one by one, n products make partial sums of typical * sqrt(k / n), each
    # rounded by up to 2**-24 of itself: by chance together typical * sqrt(n / 2) * 2**-24. Lanes only make it less.
    typical = float((gradient.double().square() * ratio.clamp(low, high).square()).sum().sqrt())
    rounding = typical * (ratio.numel() / 2) ** 0.5 * 2**-24
    assert float(learned.grad) == pytest.approx(expected, abs=rounding / (ratio.numel() * high) ** 0.5)
    assert torch.equal(x.grad, torch.where((ratio >= low) & (ratio <= high), gradient, 0))


def test_a_negative_step_mirrors_the_codes_and_keeps_the_value():
    lsq = Lsq(parameter(-0.5), 4, signed=True).eval()
    x = torch.tensor([-10.0, -1.0, 0.2, 3.6, 10.0])
    assert lsq.codes(x)[0].tolist() == [7, 2, 0, -7, -8]
    assert lsq(x).tolist() == [-3.5, -1.0, 0.0, 3.5, 4.0]


def test_unsigned_minimum_is_zero_or_that_of_the_tensor():
    x = torch.tensor([0.6, 1.0, 2.0])
    assert Lsq(parameter(0.5), 4, False, "zero").eval().codes(x)[0].tolist() == [1, 2, 4]
    codes, _, minimum = Lsq(parameter(0.5), 4, False, "batch").eval().codes(x)
    assert codes.tolist() == [0, 1, 3]
    assert minimum == pytest.approx(0.6)


def test_behind_a_shift_the_zero_rule_means_the_smallest_shift():
    shift = parameter(-0.5, 0.25)
    elastic = Elastic(parameter(0.25), 2, False, "zero", shift).eval()
    codes, _, minimum = elastic.codes(torch.tensor([[-0.5, 0.25], [0.1, 9.0]]))
    assert minimum == -0.5
    assert codes.tolist() == [[0, 3], [2, 3]]
    assert elastic.statistics(shift) == {"min": -0.5}


def test_elastic_bit_needs_more_than_half_of_alpha_and_no_minimum():
    elastic = Elastic(parameter(0.8), 1, False, "batch").eval()
    assert elastic(torch.tensor([0.1, 0.4, 0.41, 5.0])).tolist() == pytest.approx([0, 0, 0.8, 0.8])
    assert (elastic.kind, elastic.statistics(torch.ones(1))) == ("bool", {})


@pytest.mark.parametrize("start", [3e-6, -0.4])
def test_elastic_alpha_has_a_floor_that_lets_gradients_through(start):
    alpha = parameter(start)
    elastic = Elastic(alpha, 1, True).eval()
    assert elastic.step_value == pytest.approx(1e-5)
    value, dx, dalpha = gradients(elastic, [-1.0, 0.0, 5e-6], alpha)
    assert value == pytest.approx([-1e-5, 0.0, 1e-5])
    assert dx == [0, 1, 1]
    assert dalpha == 0  # sum of signs


def test_a_step_is_set_once_by_the_first_training_batch_and_only_if_it_is_new():
    x = torch.tensor([-1.0, 3.0])
    new = Lsq(parameter(1.0), 4, signed=True)
    new.eval()(x)
    assert new.step_value == 1.0  # evaluation changes nothing
    new.train()(x)
    assert new.step_value == pytest.approx(2 * 2.0 / 7**0.5)  # 2 mean|x| / sqrt(7)
    new.train()(10 * x)
    assert new.step_value == pytest.approx(2 * 2.0 / 7**0.5)
    loaded = Lsq(parameter(0.9), 4, signed=True)
    loaded.train()(x)
    assert loaded.step_value == pytest.approx(0.9)
    unsigned = Lsq(parameter(1.0), 4, signed=False)
    unsigned.train()(x.abs())
    assert unsigned.step_value == pytest.approx(4 * 2.0 / 15**0.5)
    waiting = Lsq(parameter(1.0), 4, signed=True).train()
    assert waiting(torch.zeros(2)).tolist() == [0, 0]
    waiting(x)  # zeros gave no scale, the next batch does
    assert waiting.step_value == pytest.approx(2 * 2.0 / 7**0.5)


def test_a_dynamic_quantizer_gives_zeros_for_zeros():
    zeros = torch.zeros(3)
    for signed in (True, False):
        assert Dynamic(parameter(-2.5, 2.5), 8, signed)(zeros).tolist() == [0, 0, 0]


def test_fixed_limits_receive_no_gradient():
    clip = parameter(-1.0, 1.0)
    x = torch.tensor([-2.0, 0.5, 3.0], requires_grad=True)
    Dynamic(clip, 8, True, learnable=False)(x).sum().backward()
    assert clip.grad is None
    assert x.grad.tolist() == [0, 1, 0]


@pytest.mark.parametrize("bits", [0, 9])
def test_impossible_bits_are_refused(bits):
    for build in (Lsq, Elastic, Dynamic):
        with pytest.raises(ValueError, match=f"bits is {bits}"):
            build(parameter(1.0), bits, True)
    with pytest.raises(ValueError, match="minimum_rule is 'mean'"):
        Lsq(parameter(1.0), 4, False, "mean")


def test_the_three_binary_rules_differ_as_their_papers_do():
    weight = torch.tensor([[3.0, 1.0], [-1.0, -5.0]])  # mean -0.5, mean magnitude 2.5; row means 2 and -3
    assert BinaryWeight()(weight).tolist() == [[2.5, 2.5], [-2.5, -2.5]]
    assert BinaryWeight(rows=True)(weight).tolist() == [[2, 2], [-3, -3]]
    assert RowCentredBinaryWeight()(weight).tolist() == [[2, -2], [3, -3]]
    assert TensorCentredBinaryWeight()(weight).tolist() == [[2.5, 2.5], [-2.5, -2.5]]
    shifted = TensorCentredBinaryWeight()(weight - 2.0)  # the centre moves along, the scale does not
    assert shifted.sign().tolist() == [[1, 1], [-1, -1]]


def test_ternary_weight_by_hand():
    # mean|w| = 2, threshold 1.4: kept 2 and -4, alpha 3
    assert TernaryWeight()(torch.tensor([[2.0, -4.0, 1.0, -1.0]])).tolist() == [[3, -3, 0, 0]]


def test_the_ternary_threshold_is_compared_in_float64():
    """Else parent and split, which works in float64, would differ in a weight that rounds onto the threshold."""
    generator = torch.manual_seed(4)
    kept = []
    for _ in range(50):
        weight = torch.randn(1, 30, generator=generator)
        others = weight[0, 1:].double().abs().sum()
        weight[0, 0] = 0.7 * others / (30 - 0.7)  # solves w = 0.7 (others + w) / 30 up to float32 rounding
        exact = weight.double().abs() > 0.7 * weight.double().abs().mean()
        assert torch.equal(TernaryWeight()(weight) != 0, exact)
        kept.append(bool(exact[0, 0]))
    assert 10 < sum(kept) < 40  # both sides of the threshold were met


def test_a_zero_weight_is_zero_forward_and_a_counted_plus_one_when_packed():
    weight = torch.tensor([[0.0, -2.0, 4.0, -0.0]])
    assert BinaryWeight()(weight).tolist() == [[0, -1.5, 1.5, 0]]
    (branch,) = BinaryWeight().decompose(weight)
    assert branch.signs.tolist() == [[1, -1, 1, 1]]
    assert (branch.zeros, branch.scale.tolist()) == (2, [1.5])


@pytest.mark.parametrize("rule", ALL_WEIGHT_RULES, ids=str)
def test_a_row_of_zeros_stays_finite(rule):
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.5, -1.0, 2.0]])
    assert torch.isfinite(rule(weight)).all()
    assert all(torch.isfinite(branch.scale).all() for branch in rule.decompose(weight))
    assert torch.isfinite(rule(torch.zeros(2, 3))).all()


@pytest.mark.parametrize("rule", ALL_WEIGHT_RULES, ids=str)
def test_branches_add_up_to_the_forward_value(rule):
    weight = torch.randn(40, 70, generator=torch.manual_seed(1)) * 2
    total = sum(branch.signs * branch.scale[:, None] for branch in rule.decompose(weight))
    # the forward value rounds the float64 scale to float32 once
    torch.testing.assert_close(rule(weight).double(), total, rtol=1e-7, atol=0)
    assert {branch.signs.unique().tolist() == [-1, 1] for branch in rule.decompose(weight)} == {True}


@pytest.mark.parametrize("rule", ALL_WEIGHT_RULES[1::2] + ALL_WEIGHT_RULES[-1:], ids=str)
def test_quantizing_gathered_rows_equals_gathering_quantized_rows(rule):
    table = torch.randn(50, 24, generator=torch.manual_seed(2))
    table = (table + torch.linspace(-1, 1, 50)[:, None]).requires_grad_()  # rows differ in their mean
    ids = torch.tensor([[3, 3, 49], [0, 7, 3]])
    upstream = torch.randn(2, 3, 24, generator=torch.manual_seed(3))
    gathered = rule.gathered(table[ids], table)
    whole = rule(table)[ids]
    assert torch.equal(gathered, whole)
    (first,) = torch.autograd.grad(gathered, table, upstream)
    (second,) = torch.autograd.grad(whole, table, upstream)
    torch.testing.assert_close(first, second, **SUM)  # rows that repeat are added in another order


@pytest.mark.parametrize("name", WEIGHT_RULES)
def test_weights_match_the_published_code(golden, name):
    for case in cases(golden, name):
        weight = case["W"].clone().requires_grad_()
        value = WEIGHT_RULES[name](bool(case["per_row"]))(weight)
        value.backward(case["g"])
        torch.testing.assert_close(value.detach(), case["out"], **VALUE)
        torch.testing.assert_close(weight.grad, case["dW"], **SUM)


def learned(case):
    return nn.Parameter(case["param"].clone())


ACTIVATIONS = {
    "bibert_sign": lambda case: Sign(),
    "bibert_bool": lambda case: Bool(),
    "lsq_sym": lambda case: Lsq(learned(case), int(case["bits"]), True),
    "lsq_asym": lambda case: Lsq(learned(case), int(case["bits"]), False, "batch"),
    "lsq_sym_negative_step": lambda case: Lsq(learned(case), int(case["bits"]), True),
    "sym_dyn_8_pact": lambda case: Dynamic(learned(case), 8, True),
    "asym_dyn_8_pact": lambda case: Dynamic(learned(case), 8, False),
    "sym_dyn_8_fixed_clip": lambda case: Dynamic(nn.Parameter(case["clip"]), 8, True, learnable=False),
    "elastic_signed": lambda case: Elastic(learned(case), int(case["bits"]), True),
    "elastic_unsigned": lambda case: Elastic(learned(case), int(case["bits"]), False, "batch"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_match_the_published_code(golden, name):
    for case in cases(golden, name):
        quantizer = ACTIVATIONS[name](case).eval()
        x = case["x"].clone().requires_grad_()
        value = quantizer(x)
        value.backward(case["g"])
        torch.testing.assert_close(value.detach(), case["out"], **VALUE)
        torch.testing.assert_close(x.grad, case["dx"], **VALUE)
        codes, step, minimum = quantizer.codes(x)
        torch.testing.assert_close(codes * step + minimum, value.detach(), **VALUE)
        assert codes.min() >= quantizer.low and codes.max() <= quantizer.high
        if "code" in case:
            assert torch.equal(codes.to(torch.int16), case["code"])
        if "dparam" in case:
            held = quantizer.clip if isinstance(quantizer, Dynamic) else quantizer.step
            torch.testing.assert_close(held.grad, case["dparam"], **SUM)
        if "alpha_effective" in case:
            assert quantizer.step_value == pytest.approx(float(case["alpha_effective"]), rel=1e-7)


@pytest.mark.parametrize("name", ["lsq_step_init", "elastic_alpha_init"])
def test_first_steps_match_the_published_code(golden, name):
    for case in cases(golden, name):
        build, signed, expected = (
            (Lsq, case["symmetric"], case["step"]) if "step" in case else (Elastic, case["signed"], case["alpha"])
        )
        quantizer = build(parameter(1.0), int(case["bits"]), bool(signed)).train()
        quantizer(case["x"])
        torch.testing.assert_close(quantizer.step.detach(), expected, **SUM)


LINEARS = {
    "bibert_linear_w1a1": lambda case: (StudentConfig("bibert", 1), False),
    "binarybert_linear_w1a4": lambda case: (
        StudentConfig("binarybert", 4, minimum="batch"),
        not case["symmetric"],
    ),
    "bit_linear": lambda case: (StudentConfig("bit", int(case["bits"]), minimum="batch"), not case["signed"]),
}


@pytest.mark.parametrize("name", LINEARS)
def test_whole_linears_match_the_published_code(golden, name):
    for case in cases(golden, name):
        config, unsigned = LINEARS[name](case)
        outputs, inputs = case["W"].shape
        linear = QuantLinear(config, inputs, outputs, unsigned=bool(unsigned)).eval()
        names = {"weight": "W", "bias": "bias", "input_clip_val": "step", "move.bias": "move"}
        if "alpha" in case:
            names["input_clip_val"] = "alpha"
        linear.load_state_dict({key: case[short] for key, short in names.items() if short in case})
        x = case["x"].clone().requires_grad_()
        value = linear(x)
        value.backward(case["g"])
        torch.testing.assert_close(value.detach(), case["out"], **VALUE)
        torch.testing.assert_close(x.grad, case["dx"], **VALUE)
        for key, learned_parameter in linear.named_parameters():
            torch.testing.assert_close(learned_parameter.grad, case["d" + names[key]], **SUM)


def test_bibert_embedding_matches_the_published_code(golden):
    for case in cases(golden, "bibert_embedding_w1"):
        table = case["W"].clone().requires_grad_()
        rows = F.embedding(case["ids"], table, padding_idx=0)
        value = RowCentredBinaryWeight().gathered(rows, table)
        value.backward(case["g"])
        torch.testing.assert_close(value.detach(), case["out"], **VALUE)
        torch.testing.assert_close(table.grad, case["dW"], **SUM)


def test_gelu_has_the_published_sign_on_every_machine(golden):
    with np.load(golden / "quantizers" / "bibert_gelu_sign.npz") as file:
        x, expected, sign = (torch.from_numpy(file[key]) for key in ("x", "gelu", "sign"))
    value = gelu(x)
    assert torch.equal(value.sign().to(torch.int8), sign)
    # near -5.5 the published form is a multiple of 1.6e-7 (|x| / 2 times the spacing of erf below 1)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=2e-7)


def test_a_quantizer_shares_its_step_with_its_owner_and_not_its_state():
    linear = QuantLinear(StudentConfig("bit", 1), 6, 4)
    assert set(linear.state_dict()) == {"weight", "bias", "input_clip_val", "move.bias"}
    twin = copy.deepcopy(linear)
    assert twin.input_quantizer.step is twin.input_clip_val
    assert twin.input_quantizer.step is not linear.input_clip_val
    linear.load_state_dict({**linear.state_dict(), "input_clip_val": torch.tensor(0.25)})
    assert linear.input_quantizer.step_value == 0.25
