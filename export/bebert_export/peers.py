"""What people run today: full-precision and int8 BERT in PyTorch, ONNX Runtime and OpenVINO, for one sentence length.

All peers hold the same random weights. Each gets the settings that were fastest on the machines measured so far, the
simplest ones among equals, shapes fixed at one sentence without padding, and as many threads as ours. Files that take
long to make are kept in a folder and found again by the next run.
"""

import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from bebert_infer.bench import FULL_PRECISION, INT8, Engine, Geometry

CALIBRATION_SENTENCES = 32


class Unavailable(Exception):
    """A peer cannot run on this CPU or with this version of a package; the message says why."""


@dataclass
class Workshop:
    """What every peer is built from.

    ids     : int64[1, T], the sentence that is classified
    threads : of each engine
    folder  : where files are kept between runs
    """

    geometry: Geometry
    ids: NDArray[np.int64]
    threads: int
    folder: Path

    @cached_property
    def model(self) -> BertForSequenceClassification:
        """BERT of this geometry in PyTorch, the same random weights in every run."""
        g = self.geometry
        config = BertConfig(
            vocab_size=g.vocabulary,
            hidden_size=g.hidden,
            num_hidden_layers=g.layers,
            num_attention_heads=g.heads,
            intermediate_size=g.intermediate,
            max_position_embeddings=g.positions,
        )
        config.num_labels = g.labels
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return BertForSequenceClassification(config).eval()

    @cached_property
    def onnx(self) -> Path:
        """The network as `model.onnx`, input int64[1, T]."""

        def make(folder: Path) -> None:
            ids = torch.from_numpy(self.ids)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    _LogitsOnly(self.model).eval(),  # the exporter leaves all modules in the mode of this one
                    (ids,),
                    str(folder / "model.onnx"),
                    input_names=["input_ids"],
                    output_names=["logits"],
                    opset_version=17,
                    dynamo=False,  # the other exporter needs onnxscript, and its graph is no faster
                )

        return self.made("onnx", make, "torch", "transformers", "onnx") / "model.onnx"

    def made(self, name: str, make: Callable[[Path], None], *packages: str) -> Path:
        """Return a folder filled by `make`, from an earlier run where geometry, length and versions are the same."""
        facts = repr((self.geometry, self.ids.shape, [(package, version(package)) for package in packages]))
        target = self.folder / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
        if not target.is_dir():
            unfinished = self.folder / f"{target.name}.{os.getpid()}"
            unfinished.mkdir(parents=True)
            try:
                make(unfinished)
                unfinished.rename(target)
            except OSError:
                if not target.is_dir():  # another run may have been faster
                    raise
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        return target


class _LogitsOnly(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids).logits


def torch_float32(workshop: Workshop) -> Callable[[], NDArray]:
    """PyTorch eager with its default attention (SDPA), under `torch.inference_mode`."""
    return _torch_call(workshop.model, workshop)


def torch_int8(workshop: Workshop) -> Callable[[], NDArray]:
    """PyTorch's dynamic quantization of every linear layer; its backends (x86, onednn, fbgemm) are equally fast."""
    quantize = getattr(getattr(torch.ao, "quantization", None), "quantize_dynamic", None)
    if quantize is None:
        raise Unavailable("torch.ao.quantization.quantize_dynamic is gone from this PyTorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _torch_call(quantize(workshop.model, {nn.Linear}, dtype=torch.qint8), workshop)


def _torch_call(model: nn.Module, workshop: Workshop) -> Callable[[], NDArray]:
    ids = torch.from_numpy(workshop.ids)

    def call() -> NDArray:
        torch.set_num_threads(workshop.threads)  # of the whole process, so set where it counts
        with torch.inference_mode():
            return model(ids).logits.numpy()

    return call


def onnxruntime_float32(workshop: Workshop) -> Callable[[], NDArray]:
    """ONNX Runtime on the exported graph, all of its graph optimizations on."""
    return _onnxruntime_call(workshop.onnx, workshop)


def onnxruntime_int8(workshop: Workshop) -> Callable[[], NDArray]:
    """ONNX Runtime's dynamic quantization: signed 8-bit weights, one scale a matrix."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def make(folder: Path) -> None:
        with _silence():
            quantize_dynamic(workshop.onnx, folder / "model.onnx", weight_type=QuantType.QInt8)

    made = workshop.made("onnx-int8", make, "torch", "transformers", "onnx", "onnxruntime")
    return _onnxruntime_call(made / "model.onnx", workshop)


def _onnxruntime_call(file: Path, workshop: Workshop) -> Callable[[], NDArray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = workshop.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its threads spin while a call runs, which is faster, but not after it: that would slow down whoever comes next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input_ids": workshop.ids})[0]


def openvino_float32(workshop: Workshop) -> Callable[[], NDArray]:
    """OpenVINO on the exported graph, one stream, float32 arithmetic."""
    return _openvino_call(workshop.onnx, workshop, "f32")


def openvino_bfloat16(workshop: Workshop) -> Callable[[], NDArray]:
    """OpenVINO with bfloat16 arithmetic, where the CPU has it."""
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Unavailable("this CPU has no bfloat16 arithmetic")
    return _openvino_call(workshop.onnx, workshop, "bf16")


def openvino_int8(workshop: Workshop) -> Callable[[], NDArray]:
    """OpenVINO after NNCF's post-training quantization for transformers, calibrated on random token ids."""
    import openvino

    def make(folder: Path) -> None:
        with _silence():
            import nncf

            generator = np.random.default_rng(1)
            sentences = [
                generator.integers(0, workshop.geometry.vocabulary, workshop.ids.shape)
                for _ in range(CALIBRATION_SENTENCES)
            ]
            quantized = nncf.quantize(
                openvino.Core().read_model(workshop.onnx),
                nncf.Dataset(sentences, lambda ids: {"input_ids": ids}),
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.PERFORMANCE,
                subset_size=CALIBRATION_SENTENCES,
            )
        openvino.save_model(quantized, folder / "model.xml", compress_to_fp16=False)

    made = workshop.made("openvino-int8", make, "torch", "transformers", "onnx", "openvino", "nncf")
    return _openvino_call(made / "model.xml", workshop, "f32")


def _openvino_call(file: Path, workshop: Workshop, precision: str) -> Callable[[], NDArray]:
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": workshop.threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,  # pinned threads lose where another process wants the same core
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()
    return lambda: request.infer([workshop.ids])[0]


@contextmanager
def _silence() -> Iterator[None]:
    """No log messages, nothing on standard output, and no NNCF that reports its use to its makers."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"  # read when NNCF is imported; there is no other switch
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
        os.environ.pop("NNCF_CI")
        if before is not None:
            os.environ["NNCF_CI"] = before


@dataclass(frozen=True)
class Peer:
    """One engine to compare with: the packages that it needs, and what builds its call."""

    kind: str
    packages: tuple[str, ...]
    build: Callable[[Workshop], Callable[[], NDArray]]


PEERS = {
    "PyTorch fp32": Peer(FULL_PRECISION, ("torch", "transformers"), torch_float32),
    "ONNX Runtime fp32": Peer(FULL_PRECISION, ("onnx", "onnxruntime"), onnxruntime_float32),
    "OpenVINO fp32": Peer(FULL_PRECISION, ("onnx", "openvino"), openvino_float32),
    "OpenVINO bf16": Peer("bf16", ("onnx", "openvino"), openvino_bfloat16),
    "PyTorch int8 dynamic": Peer(INT8, ("torch", "transformers"), torch_int8),
    "ONNX Runtime int8 dynamic": Peer(INT8, ("onnx", "onnxruntime"), onnxruntime_int8),
    "OpenVINO int8 NNCF": Peer(INT8, ("onnx", "openvino", "nncf"), openvino_int8),
}
BASELINE = "PyTorch fp32"


def build_peer(name: str, workshop: Workshop) -> Engine | str:
    """Build the peer called `name` (a key of PEERS), or return one sentence that says why it cannot run here."""
    peer = PEERS[name]
    missing = [package for package in peer.packages if find_spec(package) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        return Engine(name, peer.kind, peer.build(workshop))
    except Unavailable as reason:
        return str(reason)
