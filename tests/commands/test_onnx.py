"""`bebert export` writes a file that answers as PyTorch, or as the engine, for any batch and length, or nothing."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs the extra [bench]")
transformers = pytest.importorskip("transformers", reason="exporting needs the extra [bench]")
onnxruntime = pytest.importorskip("onnxruntime", reason="exporting needs the extra [bench]")
pytest.importorskip("onnx", reason="exporting needs the extra [bench]")

from click.testing import CliRunner
from micro import write_micro

from bebert_export.peers import onnx_graph
from bebert_infer.cli.main import app
from bebert_infer.errors import BebertError, DataError


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "model"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        num_labels=3,
        initializer_range=0.3,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_any_batch_and_length_gives_the_logits_of_pytorch(classifier, tmp_path):
    out = tmp_path / "deep" / "parent.onnx"
    shown = CliRunner().invoke(app, ["export", str(classifier), "--out", str(out)])
    assert shown.exit_code == 0 and f"{out.stat().st_size:,} bytes" in shown.output.replace("\n", "")
    model = transformers.BertForSequenceClassification.from_pretrained(classifier).eval()
    session = onnxruntime.InferenceSession(str(out))
    random = np.random.default_rng(3)
    for shape in ((1, 1), (4, 40), (7, 12)):
        ids, types = random.integers(0, 60, shape), random.integers(0, 2, shape)
        mask = np.ones(shape, np.int64)
        mask[-1, (shape[1] + 1) // 2 :] = 0
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        with torch.inference_mode():
            want = model(**{name: torch.from_numpy(x) for name, x in inputs.items()}).logits.numpy()
        np.testing.assert_allclose(session.run(None, inputs)[0], want, rtol=1e-4, atol=1e-4)
    assert [entry.name for entry in out.parent.iterdir()] == ["parent.onnx"]


def test_a_graph_that_differs_is_not_written(classifier, tmp_path, monkeypatch):
    out = tmp_path / "parent.onnx"
    monkeypatch.setattr(onnx_graph, "TOLERANCE", 0.0)
    monkeypatch.setattr(onnx_graph, "_difference", lambda model, file: 0.01)
    with pytest.raises(onnx_graph.OnnxMismatchError, match="differs from PyTorch by 0.01"):
        onnx_graph.export_onnx(classifier, out)
    assert list(tmp_path.iterdir()) == []


def test_the_check_sees_another_model(classifier, tmp_path):
    """The graph of one model against another one: the difference is far above what is allowed."""
    out = tmp_path / "parent.onnx"
    onnx_graph.export_onnx(classifier, out)
    other = onnx_graph.load_classifier(classifier)
    with torch.no_grad():
        other.bert.encoder.layer[1].output.dense.weight.mul_(1.01)
    assert onnx_graph._difference(other, out) > 5 * onnx_graph.TOLERANCE


def test_mistakes_are_one_sentence(classifier, tmp_path):
    with pytest.raises(DataError, match="ends in .onnx"):
        onnx_graph.export_onnx(classifier, tmp_path / "parent.bin")
    with pytest.raises(DataError, match="no config.json"):
        onnx_graph.export_onnx(tmp_path, tmp_path / "parent.onnx")
    with pytest.raises(Exception, match='format is "tflite"; accepted is onnx'):
        app(["export", str(classifier), "--out", "x.onnx", "--format", "tflite"], standalone_mode=False)


@pytest.fixture
def packed(tmp_path):
    return write_micro(tmp_path / "packed" / "model")


def test_a_packed_model_is_one_file_and_its_tokenizer(packed, tmp_path):
    out = tmp_path / "there" / "model.onnx"
    shown = CliRunner().invoke(app, ["export", str(packed), "--format", "onnx", "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert f"{out.stat().st_size:,} bytes" in shown.output and "and no label of" in shown.output
    assert sorted(entry.name for entry in out.parent.iterdir()) == ["model.onnx", "tokenizer.json"]
    assert (out.parent / "tokenizer.json").read_bytes() == (packed / "tokenizer.json").read_bytes()
    outputs = onnxruntime.InferenceSession(str(out)).get_outputs()
    assert [(one.name, one.shape) for one in outputs] == [
        ("logits", ["batch", 2]),
        ("probabilities", ["batch", 2]),
        ("member_logits", [1, "batch", 2]),
    ]
    first = out.read_bytes()
    assert CliRunner().invoke(app, ["export", str(packed), "--out", str(out)]).exit_code == 0  # replaces it
    assert out.read_bytes() == first


def test_a_packed_model_goes_to_no_bad_place(packed, tmp_path):
    def refused(*arguments) -> str:
        shown = CliRunner().invoke(app, ["export", str(packed), *map(str, arguments)], standalone_mode=False)
        assert isinstance(shown.exception, BebertError), shown.output
        return str(shown.exception)

    assert "ends in .onnx" in refused("--out", tmp_path / "model.bin")
    (tmp_path / "folder.onnx").mkdir()
    assert "ends in .onnx" in refused("--out", tmp_path / "folder.onnx")
    assert 'format is "tflite"; accepted is onnx' in refused("--out", tmp_path / "x.onnx", "--format", "tflite")
    assert "nothing can be written" in refused("--out", "/proc/nowhere/model.onnx")
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text("{}")
    assert "is the tokenizer of another model" in refused("--out", other / "model.onnx")
    assert [entry.name for entry in other.iterdir()] == ["tokenizer.json"]
    (packed / "model.safetensors").write_bytes(b"damaged")
    assert "model.safetensors has 7 bytes" in refused("--out", tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_a_packed_model_needs_no_torch(packed, tmp_path):
    out = tmp_path / "model.onnx"
    code = (
        "import sys; from bebert_infer.cli.main import app\n"
        f"app(['export', {str(packed)!r}, '--out', {str(out)!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'transformers', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]" and out.is_file()
