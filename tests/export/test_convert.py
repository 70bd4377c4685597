"""`bebert convert` reads every published layout, refuses all else in one sentence, and never writes unproven bits."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from toy_checkpoints import FAMILIES, MODEL, ODD, make_checkpoint

from bebert_export.checkpoints.published import find_members, read_checkpoint
from bebert_export.convert import convert
from bebert_infer import Ensemble, InputError
from bebert_infer.errors import CheckpointError, ModelFormatError, ParityError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "checkpoint", ODD)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_with_odd_dimensions_agrees_with_torch(tmp_path, name):
    """A free run, nothing exchanged: labels agree and logits are within rounding of the PyTorch graph."""
    config = FAMILIES[name]
    source = make_checkpoint(tmp_path / "checkpoint", config, seed=3)
    converted = convert([source], tmp_path / "model")
    assert converted.written.parity.label_agreement == 1.0
    assert converted.written.parity.codes > 1000
    model = Ensemble.from_pretrained(tmp_path / "model")
    ids = np.random.default_rng(5).integers(0, config.vocab_size, (1, 21))
    student = read_checkpoint(source / MODEL, source).student
    with torch.no_grad():
        expected = student(torch.from_numpy(ids)).logits.numpy()
    # seeds chosen so that no value lies at a threshold; one flipped code would move logits by more than 1e-2
    np.testing.assert_allclose(model.member_logits(ids)[0], expected, atol=2e-5, rtol=2e-5)


def test_a_wrong_engine_is_refused_and_nothing_is_written(checkpoint, tmp_path, monkeypatch):
    """Parity must notice a mistake in the engine: here, LayerNorm with a doubled bias."""
    from bebert_kernels.reference import floats

    real = floats.layer_norm

    def wrong(x, residual, weight, bias, eps):
        return real(x, residual, weight, 2 * bias, eps)

    monkeypatch.setattr(floats, "layer_norm", wrong)
    with pytest.raises(ParityError, match="nothing was written"):
        convert([checkpoint], tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("field", ["scale", "signs", "step", "bias"])
def test_a_wrong_fold_is_refused(checkpoint, tmp_path, monkeypatch, field):
    """Parity must notice one wrong tensor: a scale, one matrix row, a step, a bias, each off by a little."""
    from bebert_export.pack import write_model as write

    real = write.pack_student

    def wrong(student):
        packed = real(student)
        name = f"layers.1.intermediate.1.{field}" if field != "bias" else "layers.1.intermediate.bias"
        tensor = packed.tensors[name]
        if field == "signs":
            tensor[3, 0] ^= np.uint64(0b1011)
        else:
            tensor *= np.float32(1.02)
        return packed

    monkeypatch.setattr(write, "pack_student", wrong)
    with pytest.raises(ParityError):
        convert([checkpoint], tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_several_folders_make_one_ensemble_with_given_alphas(tmp_path):
    sources = [make_checkpoint(tmp_path / str(i), ODD, seed=i) for i in range(3)]
    convert(sources, tmp_path / "model", alphas=[0.5, 0.3, 0.1], labels=list("abcde"))
    model = Ensemble.from_pretrained(tmp_path / "model")
    assert model.alphas.tolist() == [0.5, 0.3, 0.1]
    assert model.config.combination == "vote" and model.config.labels == list("abcde")


def test_numbered_files_of_one_folder_make_one_ensemble_in_numeric_order(tmp_path):
    """BEBERT saves 0.bin, 1.bin, … 10.bin beside one config."""
    folder = make_checkpoint(tmp_path / "bebert", ODD)
    for name in ("2.bin", "1.bin", "0.bin"):
        torch.save(load_file(folder / MODEL), folder / name)
    (folder / MODEL).unlink()
    assert len(Ensemble(convert_and_read(folder, tmp_path / "model")).members) == 3
    for number in range(3, 12):
        (folder / f"{number}.bin").touch()
    assert [file.name for file, _ in find_members(folder)] == [f"{number}.bin" for number in range(12)]
    (folder / "7.bin").unlink()
    with pytest.raises(
        CheckpointError, match=r"holds the members 0, .*6, 8, .*; accepted are 0, 1, 2, … without a gap"
    ):
        find_members(folder)


def convert_and_read(source: Path, out: Path):
    from bebert_infer.artifact.folder import read_artifact

    convert([source], out)
    return read_artifact(out)


def test_float64_old_names_and_dead_keys_change_nothing(checkpoint, tmp_path):
    state = load_file(checkpoint / MODEL)
    odd = {}
    for key, value in state.items():
        key = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        odd["module." + key] = value.double() if value.dim() < 2 else value
    odd["module.bert.embeddings.position_ids"] = torch.arange(45)[None]
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    save_file(odd, other / MODEL)
    plain, renamed = convert_and_read(checkpoint, tmp_path / "a"), convert_and_read(other, tmp_path / "b")
    assert plain.config.tensors_sha256 == renamed.config.tensors_sha256


def test_a_vocabulary_beside_the_checkpoint_brings_text(checkpoint, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "##ly", "film"]
    (checkpoint / "vocab.txt").write_text("\n".join(words) + "\n")
    convert([checkpoint], tmp_path / "model", max_length=16)
    model = Ensemble.from_pretrained(tmp_path / "model")
    by_text = model.predict(["Badly good FILM", ("good", "film")])
    ids = [[2, 6, 7, 5, 8, 3], [2, 5, 3, 8, 3, 0]]
    mask = [[1] * 6, [1] * 5 + [0]]
    types = [[0] * 6, [0, 0, 0, 1, 1, 0]]
    for text, token in zip(by_text, model.predict_ids(ids, mask, types), strict=True):
        np.testing.assert_array_equal(text.logits, token.logits)
    with pytest.raises(InputError, match="text 1 has 22 tokens; this model accepts at most 16"):
        model.predict(["good", "good " * 20])
    assert len(model.predict(["good " * 20], truncate=True)) == 1
    with pytest.raises(InputError, match="text 1 is empty"):
        model(["good", "  "])


def test_a_tokenizer_of_another_model_is_refused(checkpoint, tmp_path):
    (checkpoint / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + [f"w{i}" for i in range(99)])
    )
    with pytest.raises(InputError, match="has 103 tokens, the checkpoint only 61"):
        convert([checkpoint], tmp_path / "model")


def _state(checkpoint: Path) -> dict:
    return load_file(checkpoint / MODEL)


def _damage(kind: str, checkpoint: Path) -> None:
    weights, config = checkpoint / MODEL, checkpoint / "config.json"
    state, raw = _state(checkpoint), json.loads(config.read_text())
    layer = "bert.encoder.layer.0"
    if kind == "no config":
        config.unlink()
    elif kind == "broken config":
        config.write_text("{")
    elif kind == "no heads":
        config.write_text(json.dumps({k: v for k, v in raw.items() if k != "num_attention_heads"}))
    elif kind == "heads do not divide":
        config.write_text(json.dumps(raw | {"num_attention_heads": 7}))
    elif kind == "contradiction":
        config.write_text(json.dumps(raw | {"hidden_size": 768, "num_hidden_layers": 12}))
    elif kind == "weight bits":
        config.write_text(json.dumps(raw | {"weight_bits": 2}))
    elif kind == "eps":
        config.write_text(json.dumps(raw | {"layer_norm_eps": "1"}))
    elif kind == "nested config":
        config.write_text("[" * 10**5)
    elif kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif kind == "html":
        weights.write_text("<!DOCTYPE html><title>Sign in</title>")
    elif kind == "pickled code":
        weights.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    else:
        if kind == "missing tensor":
            del state[f"{layer}.output.dense_2.bias"]
        elif kind == "wrong shape":
            state[f"{layer}.output.dense_2.bias"] = torch.zeros(3)
        elif kind == "nan":
            state["classifier.weight"][0, 0] = float("nan")
        elif kind == "other type":
            state["classifier.bias"] = torch.ones(5, dtype=torch.int64)
        elif kind == "no matrix":
            state["classifier.weight"] = torch.ones(3)
        elif kind == "unknown family":
            state = {"encoder.block.0.weight": torch.zeros(3, 3)}
        elif kind == "full precision":
            state = {f"{layer}.attention.self.query.weight": torch.zeros(3, 3)}
        elif kind == "quant dump":
            state = {k: v.sign() if v.dim() == 2 and "dense" in k else v for k, v in state.items()}
        elif kind == "foreign head":
            state["qa_outputs.weight"] = torch.zeros(2, 70)
        elif kind == "zero step":
            state[f"{layer}.attention.self.clip_query"] = torch.tensor(0.0)
        save_file(state, weights)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("other type", "classifier.bias has dtype torch.int64, expected torch.float32"),
        ("no matrix", r"classifier.weight has shape \[3\]; accepted are matrices"),
        ("eps", "layer_norm_eps '1'; accepted is"),
        ("nested config", "is not JSON"),
        ("no config", "has no config.json"),
        ("broken config", "is not JSON"),
        ("no heads", "num_attention_heads None"),
        ("heads do not divide", "num_heads 7"),
        ("contradiction", r"hidden_size 768 \(tensors: 70\), num_hidden_layers 12 \(tensors: 3\)"),
        ("weight bits", "weight_bits 2; binarybert tensors have 1"),
        ("truncated", "cannot be read as a state dict"),
        ("html", "cannot be read as a state dict"),
        ("pickled code", "cannot be read as a state dict"),
        ("missing tensor", "output.dense_2.bias is missing"),
        ("wrong shape", r"has shape \[3\], expected \[70\]"),
        ("nan", "classifier.weight holds NaN"),
        ("unknown family", "belong to no known family"),
        ("full precision", "full-precision BERT"),
        ("quant dump", "quant/ dump"),
        ("foreign head", "qa_outputs.weight belongs to no known layer"),
        ("zero step", "clip_query is a step of 0"),
    ],
)
def test_everything_else_is_refused_in_one_sentence_and_nothing_is_written(checkpoint, tmp_path, kind, message):
    _damage(kind, checkpoint)
    with pytest.raises(CheckpointError, match=message):
        convert([checkpoint], tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "pwned").exists() and not Path("pwned").exists()


@pytest.mark.parametrize("name", ["binarybert 1-1-4", "bibert", "bit 1-1-1"])
def test_weights_that_are_exactly_zero_become_plus_one_and_are_counted(tmp_path, name):
    """A bit cannot hold sgn0(0) = 0; a whole neuron of zeros is the hardest case. A row of scale 0 is 0 either way."""
    source = make_checkpoint(tmp_path / "checkpoint", FAMILIES[name])
    state = _state(source)
    key = next(key for key in state if "layer.1.intermediate.dense" in key and key.endswith("weight"))
    if name == "bit 1-1-1":  # centred by the mean of the tensor: make that exactly 0
        state[key] -= state[key].double().mean().float()
        state[key][0, 0] -= state[key].sum()
    state[key][5] = 0
    save_file(state, source / MODEL)
    written = convert([source], tmp_path / "model").written
    assert written.parity.label_agreement == 1
    assert written.config.evidence["weights_exactly_zero"] == written.zeros
    if name == "binarybert 1-1-4":
        assert written.zeros == state[key].shape[1]
        model = Ensemble.from_pretrained(tmp_path / "model")
        signs = model.artifact.tensors["members.0.layers.1.intermediate.0.signs"]
        assert not signs[5].any(), "a zero weight must be stored as +1"


def test_members_must_belong_together(checkpoint, tmp_path):
    other = make_checkpoint(tmp_path / "other", replace(ODD, num_labels=2))
    with pytest.raises(InputError, match=r"num_labels \[5, 2\]"):
        convert([checkpoint, other], tmp_path / "model")
    with pytest.raises(InputError, match="2 alphas for 1 members"):
        convert([checkpoint], tmp_path / "model", alphas=[1.0, 2.0])
    with pytest.raises(InputError, match="2 labels for 5 outputs"):
        convert([checkpoint], tmp_path / "model", labels=["a", "b"])
    with pytest.raises(InputError, match="the labels are a, b, c, a, d; names must differ"):
        convert([checkpoint], tmp_path / "model", labels=list("abcad"))


def test_a_rule_that_there_is_not_is_refused_before_the_work_and_keeps_the_old_model(checkpoint, tmp_path):
    """A typing error passed parity, and the model that took the place of the old one could not be loaded."""
    convert([checkpoint], tmp_path / "model")
    with pytest.raises(
        InputError, match='combination is "logit"; accepted are vote, logits, probabilities, mean, median'
    ):
        convert([tmp_path / "nowhere"], tmp_path / "model", combination="logit")
    Ensemble.from_pretrained(tmp_path / "model")


def test_a_length_that_the_model_cannot_have_is_refused(checkpoint, tmp_path):
    """It was lowered without a word, or ignored where there is no tokenizer."""
    with pytest.raises(
        InputError, match="max_length is 16, but there is no tokenizer: pass one, or leave max_length out"
    ):
        convert([checkpoint], tmp_path / "model", max_length=16)
    (checkpoint / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\n")
    with pytest.raises(InputError, match="max_length is 46; accepted are 1 to 45, the positions of the model"):
        convert([checkpoint], tmp_path / "model", max_length=46)


@pytest.mark.parametrize("place", ["checkpoint", "checkpoint/../checkpoint", ".", "link", "words"])
def test_what_is_read_is_never_replaced(checkpoint, tmp_path, place):
    """`--out` of the checkpoint itself left only the packed model; found before anything is read."""
    (checkpoint / "my_notes.txt").write_text("precious")
    (tmp_path / "link").symlink_to(checkpoint)
    words = convert_and_read(checkpoint, tmp_path / "words").path  # a model folder may be replaced, but not while read
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match='^out is ".*", which is or holds ".*"; choose another place'):
        convert([checkpoint / MODEL], tmp_path / place, tokenizer=words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_taken_or_impossible_place_is_refused_before_the_work(checkpoint, tmp_path, monkeypatch):
    from bebert_export import convert as module

    monkeypatch.setattr(module, "read_checkpoint", lambda *_: pytest.fail("worked first"))
    (tmp_path / "file").write_text("precious")
    for out, message in (
        (Path("/proc/x/y"), 'out is "/proc/x/y", where nothing can be written: No such file or directory; choose'),
        (tmp_path / "file" / "model", "Not a directory"),
        (tmp_path / "file", 'file" exists and is no model folder'),
    ):
        with pytest.raises((InputError, ModelFormatError), match=message):
            convert([checkpoint], out)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint", "file"]


def test_an_old_model_is_replaced_by_a_new_conversion(checkpoint, tmp_path):
    first = convert_and_read(checkpoint, tmp_path / "deep" / "model")
    second = convert_and_read(make_checkpoint(tmp_path / "other", ODD, seed=1), tmp_path / "deep" / "model")
    assert first.config.tensors_sha256 != second.config.tensors_sha256
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["model"]
