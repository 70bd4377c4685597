"""Proves that one model reproduces every published family code by code, and that all families learn."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from bebert_export.student.bert import FAMILIES, Student, StudentConfig, student_config  # noqa: E402

GOLDEN_MODELS = {
    "binarybert_1_1_4_h64": "binarybert",
    "binarybert_1_1_4_h32": "binarybert",
    "binarybert_1_1_4_regression": "binarybert",
    "binarybert_1_1_8": "binarybert",
    "bebert_binarybert_1_1_4": "binarybert",
    "bebert_negative_step": "binarybert",
    "binarybert_ternary_tws/parent": "ternary",
    "binarybert_ternary_tws/split": "binarybert",
    "bibert_1_1_1": "bibert",
    "bit_1_1_1": "bit",
    "bit_1_1_2": "bit",
    "bit_1_1_4": "bit",
    "ternarybert_2_2_8": "ternarybert",
}
# Float32 sums in another order move hidden states by 1e-6 and logits by 5e-7; the limits leave a factor of 5
# or more. A single wrong code would move logits by 0.01 to 1. Unconstrained weights (regression) lose more.
HIDDEN, LOGITS, SCORES = 2e-5, 1e-5, 5e-5
LOOSE = {"binarybert_1_1_4_regression": (5e-5, 2e-5)}
# Parameters that the published code stores and never uses.
DEAD = (
    "scale",
    "gate",
    "weight_clip_val",
    "act_clip_val",
    "clip_query",
    "clip_key",
    "clip_value",
    "clip_attn",
)

SMALL = {
    "vocab_size": 40,
    "hidden_size": 24,
    "attention_size": 20,
    "num_heads": 4,
    "intermediate_size": 37,
    "num_layers": 2,
    "max_positions": 12,
    "num_labels": 3,
}
SCHEMES = [
    ("binarybert", 4),
    ("binarybert", 8),
    ("ternary", 4),
    ("bwn", 4),
    ("bibert", 1),
    ("bit", 1),
    ("bit", 2),
    ("bit", 4),
    ("ternarybert", 8),
    ("float", 32),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Models this small run several times faster without a second thread to wait for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(family: str, bits: int, **changes) -> Student:
    torch.manual_seed(0)
    return Student(StudentConfig(family, bits, **{**SMALL, **changes}))


def batch(size: int = 4, tokens: int = 9) -> dict:
    """Random sentences of different lengths, padded with token 0."""
    generator = torch.manual_seed(5)
    lengths = torch.tensor([tokens - 2 * (i % 4) for i in range(size)])
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    ids = torch.randint(1, SMALL["vocab_size"], (size, tokens), generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": mask * (torch.arange(tokens) > 3)}


def load(folder, family: str) -> Student:
    """The student of a golden folder, published rule for the minimum, evaluation mode."""
    fields = json.loads((folder / "config.json").read_text())
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    config = student_config(
        family,
        state,
        fields["num_attention_heads"],
        fields["input_bits"],
        layer_norm_eps=fields["layer_norm_eps"],
        minimum="batch",
    )
    student = Student(config).eval()
    own = set(student.state_dict())
    assert own <= set(state)
    for key in set(state) - own:
        assert key.endswith(DEAD) or ".move_" in key, key
    student.load_state_dict({key: state[key] for key in own})
    return student


def run(student: Student, path) -> tuple[dict, np.ndarray, np.ndarray]:
    """Trace, logits and attention mask for a stored batch."""
    with np.load(path) as file:
        inputs = {key: torch.from_numpy(file[key]) for key in file.files}
    trace: dict = {}
    with torch.no_grad():
        logits = student(**inputs, trace=trace).logits
    return trace, logits.numpy(), inputs["attention_mask"].numpy()


def equal_to(found: np.ndarray, expected: np.ndarray, limit: float, name: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=name, strict=True)


def compare(key: str, found, expected, mask, hidden: float) -> None:
    """One stored value against the trace: codes exactly, floats within their limit, scores of real keys."""
    if key.startswith("codes."):
        assert found.dtype == expected.dtype, key
        np.testing.assert_array_equal(found, expected, err_msg=key, strict=True)
    elif key.startswith("scores_"):
        real = mask[:, None, None, :]
        equal_to(found * real, expected * real, SCORES, key)
    else:
        equal_to(np.asarray(found), expected, hidden, key)


@pytest.mark.parametrize("which", ["", "_b1"], ids=["padded", "alone"])
@pytest.mark.parametrize("case", GOLDEN_MODELS)
def test_published_models_are_reproduced_code_by_code(golden, case, which):
    student = load(golden / case, GOLDEN_MODELS[case])
    trace, logits, mask = run(student, golden / case / f"batch{which}.npz")
    with np.load(golden / case / f"expected{which}.npz") as file:
        expected = dict(file)
    hidden, limit = LOOSE.get(case, (HIDDEN, LOGITS))
    if case.endswith("split"):
        # Its float32 scales are off by 1e-4 in the published code; the float64 values are the ones to meet.
        for key in [key for key in expected if key.startswith("hidden_f64")]:
            expected[key.replace("_f64", "")] = expected.pop(key)
        expected = {key: x for key, x in expected.items() if key.startswith(("codes", "hidden", "logits_f64"))}
    else:
        equal_to(logits, expected.pop("logits"), limit, "logits")
    equal_to(logits.astype(np.float64), expected.pop("logits_f64"), limit, "logits_f64")
    for key in [key for key in expected if key.startswith("hidden_f64")]:
        equal_to(trace[key.replace("_f64", "")], expected.pop(key), hidden, key)
    for key, value in expected.items():
        compare(key, trace[key], value, mask, hidden)


@pytest.mark.parametrize("which", ["", "_b1"], ids=["padded", "alone"])
def test_published_ensemble_members_are_reproduced(golden, which):
    folder = golden / "bebert_ensemble"
    with np.load(folder / f"expected{which}.npz") as expected:
        for member in range(3):
            student = load(folder / f"member_{member}", "binarybert")
            trace, logits, _ = run(student, folder / f"batch{which}.npz")
            equal_to(logits, expected["member_logits"][member], LOGITS, f"member {member}")
            for key in [key for key in expected.files if key.startswith(f"member_{member}.hidden")]:
                equal_to(trace[key.split(".")[1]], expected[key], HIDDEN, key)


def test_one_layer_alone_maps_a_stored_state_to_the_next(golden):
    student = load(golden / "bibert_1_1_1", "bibert")
    with np.load(golden / "bibert_1_1_1" / "batch.npz") as file:
        mask = torch.from_numpy(file["attention_mask"])
    with np.load(golden / "bibert_1_1_1" / "expected.npz") as expected, torch.no_grad():
        for index in range(3):
            state = student.layer(index, torch.from_numpy(expected[f"hidden_{index}"]), mask)
            equal_to(state.numpy(), expected[f"hidden_{index + 1}"], HIDDEN, f"layer {index}")


def test_full_precision_family_equals_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=24,
        num_attention_heads=4,
        intermediate_size=37,
        num_hidden_layers=2,
        max_position_embeddings=12,
        num_labels=3,
    )
    torch.manual_seed(0)
    theirs = transformers.BertForSequenceClassification(config).eval()
    state = theirs.state_dict()
    ours = Student(student_config("float", state, 4, 32, layer_norm_eps=config.layer_norm_eps)).eval()
    ours.load_state_dict({key: state[key] for key in ours.state_dict()})
    inputs = batch()
    with torch.no_grad():
        found, expected = ours(**inputs), theirs(**inputs)
    # float32 sums in another order
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("family", "bits"), SCHEMES)
def test_every_family_learns(family, bits):
    """The loss of a tiny model halves on eight sentences, and every parameter but padding gets a gradient."""
    student = small(family, bits, dropout=0.0, num_labels=2).train()
    inputs, labels = batch(8), torch.tensor([0, 1] * 4)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(student(**inputs).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    silent = [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)
    assert min(losses[-5:]) < 0.5 * losses[0]


@pytest.mark.parametrize(("family", "bits"), SCHEMES)
def test_dropout_is_on_in_training_and_off_in_evaluation(family, bits):
    student = small(family, bits, dropout=0.3)
    inputs = batch()
    student.train()(**inputs)  # sets the steps
    assert not torch.equal(student(**inputs).logits, student(**inputs).logits)
    student.eval()
    assert torch.equal(student(**inputs).logits, student(**inputs).logits)


def test_dropout_sits_at_the_published_places():
    student, seen = small("binarybert", 4).train(), []
    for name, module in student.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda _module, _inputs, output, name=name: seen.append((name, output.shape)))
    student(**batch())
    expected = [("bert.embeddings.dropout", (4, 9, 24))]
    for layer in ("bert.encoder.layer.0", "bert.encoder.layer.1"):
        expected.append((f"{layer}.attention.self.dropout", (4, 4, 9, 9)))  # probabilities, not yet quantized
        expected += [(f"{layer}.{place}.dropout", (4, 9, 24)) for place in ("attention.output", "output")]
    assert seen == [*expected, ("dropout", (4, 24))]


@pytest.mark.parametrize(("family", "bits"), [("binarybert", 4), ("bibert", 1), ("bit", 1), ("bit", 4)])
def test_with_the_zero_minimum_a_sentence_does_not_see_its_neighbours(family, bits):
    student = small(family, bits)
    with torch.no_grad():
        for name, values in student.named_parameters():
            if name.endswith(".bias"):  # at 0, many sums of signs are 0 but for rounding, which then decides their sign
                values.normal_(0, 0.1)
    inputs = batch()
    student.train()(**inputs)
    student.eval()
    together: dict = {}
    with torch.no_grad():
        logits = student(**inputs, trace=together).logits
        for i, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
            alone: dict = {}
            own = student(**{key: x[i : i + 1, :length] for key, x in inputs.items()}, trace=alone).logits
            # the same sums in matrices of another shape: float32 rounding
            torch.testing.assert_close(own[0], logits[i], rtol=0, atol=LOGITS)
            for key in [key for key in alone if key.startswith("codes") and key.endswith(".in")]:
                assert np.array_equal(alone[key][0], together[key][i][: alone[key][0].shape[0]]), key


def test_behind_a_shift_the_zero_rule_is_the_published_minimum_once_the_lowest_channel_holds_a_zero(golden):
    """BiT adds ``move`` to a ReLU output: the run-time minimum is min(move), or more if no zero helps."""
    met = 0
    for case in ("bit_1_1_2", "bit_1_1_4"):
        published = load(golden / case, "bit")
        ours = Student(replace(published.config, minimum="zero")).eval()
        ours.load_state_dict(published.state_dict())
        expected, _, _ = run(published, golden / case / "batch.npz")
        found, _, _ = run(ours, golden / case / "batch.npz")
        for layer in range(2):
            move = published.layers[layer].output.branches("dense")[0].move.bias
            key = f"dyn.l{layer}.output.dense.in.min"
            assert found[key] == move.min().item() <= expected[key]
            if (expected[f"l{layer}.ffn_act"][..., int(move.argmin())] == 0).any():
                assert found[key] == expected[key]
                met += 1
            assert found[f"dyn.l{layer}.attn.probs.min"] == 0
    assert met


def test_masked_keys_are_never_attended_and_an_exact_zero_score_is_not_attended():
    student = small("bibert", 1, hidden_size=8, attention_size=2, num_heads=1).eval()
    inputs, trace = batch(), {}
    student(**inputs, trace=trace)
    masked = inputs["attention_mask"].numpy()[:, None, None, :] == 0
    for layer in range(2):
        bits, scores = trace[f"codes.l{layer}.attn.probs"], trace[f"scores_{layer}"]
        assert not (bits * masked).any()
        assert (scores == 0).any()  # heads of two values: half of all dot products are zero
        assert not bits[scores == 0].any()


def test_trace_names_cover_all_layers_and_branches():
    student, trace = small("binarybert", 4).eval(), {}
    student(**batch(), trace=trace)
    sites = [f"attn.{name}_{branch}.in" for name in ("query", "key", "value") for branch in (1, 2)]
    sites += [f"{name}.dense_{branch}.in" for name in ("attn_out", "intermediate", "output") for branch in (1, 2)]
    sites += ["attn.q", "attn.k", "attn.v", "attn.probs"]
    expected = {f"codes.l{layer}.{site}" for layer in (0, 1) for site in sites}
    expected |= {f"codes.pooler.dense_{branch}.in" for branch in (1, 2)}
    unsigned = ["attn.probs", "output.dense_1.in", "output.dense_2.in"]
    expected |= {f"dyn.l{layer}.{site}.min" for layer in (0, 1) for site in unsigned}
    expected |= {f"l{layer}.{name}" for layer in (0, 1) for name in ("context", "ffn_pre", "ffn_act")}
    expected |= {"hidden_0", "hidden_1", "hidden_2", "scores_0", "scores_1", "pooled"}
    assert set(trace) == expected
    assert trace["codes.l0.attn.probs"].dtype == np.uint8
    assert trace["codes.l0.attn.q"].dtype == np.int8
    assert trace["codes.l0.attn.q"].shape == (4, 4, 9, 5)


def test_details_are_kept_in_training_or_on_request():
    student = small("bit", 1)
    assert student.eval()(**batch()).hidden == ()
    for output in (student(**batch(), details=True), student.train()(**batch())):
        assert [len(output.hidden), len(output.scores), len(output.values)] == [3, 2, 2]
        assert output.queries[0].shape == (4, 4, 9, 5)
        assert output.scores[0].shape == (4, 4, 9, 9)


@pytest.mark.parametrize(("family", "bits"), SCHEMES)
def test_sizes_are_read_off_a_state_dict(family, bits):
    student = small(family, bits)
    found = student_config(family, student.state_dict(), SMALL["num_heads"], bits)
    assert found == student.config


def test_a_copy_and_a_reload_compute_the_same():
    student = small("binarybert", 4).train()
    student(**batch())
    student.eval()
    expected = student(**batch()).logits
    twin = Student(student.config).eval()
    twin.load_state_dict(student.state_dict())
    assert torch.equal(twin(**batch()).logits, expected)
    assert torch.equal(copy.deepcopy(student)(**batch()).logits, expected)
    with pytest.raises(ValueError, match="assign"):
        twin.load_state_dict(student.state_dict(), assign=True)


def test_the_padding_row_gets_no_gradient():
    student = small("bit", 1).train()
    student(torch.tensor([[5, 0, 7, 0]])).logits.sum().backward()  # not masked, so it would get one
    table = student.bert.embeddings.word_embeddings.weight
    assert not table.grad[0].any()
    assert table.grad.any()


@pytest.mark.parametrize("labels", [1, 5])
def test_any_number_of_labels_and_one_token_work(labels):
    for family, bits in SCHEMES:
        student = small(family, bits, num_labels=labels).eval()
        assert student(torch.tensor([[7]])).logits.shape == (1, labels)


def test_too_many_tokens_are_refused_with_the_limit():
    with pytest.raises(ValueError, match="13 tokens; the model accepts up to 12"):
        small("bit", 1)(torch.ones(1, 13, dtype=torch.long))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "bert"}, "family is 'bert'; accepted are binarybert"),
        ({"activation_bits": 1}, "activation_bits is 1; binarybert accepts 2 to 8"),
        ({"attention_size": 21}, "attention_size is 21; accepted are multiples of num_heads 4"),
        ({"num_heads": 0}, "num_heads is 0; accepted is 1 or more"),
        ({"minimum": "row"}, "minimum is 'row'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_a_wrong_configuration_names_value_and_choices(changes, message):
    with pytest.raises(ValueError, match=message):
        StudentConfig(**{"family": "binarybert", "activation_bits": 4, **SMALL, **changes})


def test_a_state_dict_of_another_family_is_refused_by_name():
    state = small("bit", 1).state_dict()
    with pytest.raises(ValueError, match="word_embeddings_1.weight"):
        student_config("binarybert", state, 4, 4)
    with pytest.raises(ValueError, match="layers are numbered \\['1'\\]"):
        student_config("bit", {key: x for key, x in state.items() if ".layer.0." not in key}, 4, 1)


def test_every_family_is_tried_here():
    assert {family for family, _ in SCHEMES} == set(FAMILIES)
