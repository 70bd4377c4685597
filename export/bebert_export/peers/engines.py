"""Baselines, loaded from files: full-precision and int8 BERT in PyTorch, ONNX Runtime and OpenVINO.

Every loader imports only what its engine needs, so that load time and memory of a process are its own. Settings are
those that were fastest on the machines measured so far, the simplest among equals, and as many threads as ours.
`bebert_export.peers.files` makes the files.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_infer.bench.turns import FULL_PRECISION, INT8, Call

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # of the graph
TORCH_INT8_FILE = "state.pt"

# Token ids int64[B, T], without padding -> a call that classifies them and returns logits float32[B, labels].
OnTokens = Callable[[NDArray[np.int64]], Call]


@dataclass(frozen=True)
class Peer:
    """One engine to compare with.

    files    : which folder of `bebert_export.peers.files.Workshop` it runs from
    packages : what must be installed to make the files and to run them
    load     : (folder, threads) -> OnTokens
    unavailable : why this CPU or these versions of the packages do not allow it; empty if they do
    """

    kind: str
    files: str
    packages: tuple[str, ...]
    load: Callable[[Path, int], OnTokens]
    unavailable: Callable[[], str] = str


def torch_float32(folder: Path, threads: int) -> OnTokens:
    """PyTorch eager with its default attention (SDPA), under `torch.inference_mode`."""
    import torch
    from transformers import BertForSequenceClassification

    from bebert_export.quiet_transformers import quiet_transformers

    with quiet_transformers():
        model = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return _torch_engine(model.eval(), threads)


def torch_int8(folder: Path, threads: int) -> OnTokens:
    """PyTorch's dynamic quantization of every linear layer; its backends (x86, onednn, fbgemm) are equally fast."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.initialization import no_init_weights

    with no_init_weights():  # all of them come from the file
        model = BertForSequenceClassification(BertConfig.from_pretrained(folder)).eval()
    model = quantized(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own storage classes are deprecated
        model.load_state_dict(torch.load(folder / TORCH_INT8_FILE, weights_only=True))
    return _torch_engine(model, threads)


def quantized(model: Any) -> Any:
    """A copy of a PyTorch model with int8 linear layers."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def _no_dynamic_quantization() -> str:
    import torch

    there = hasattr(getattr(torch.ao, "quantization", None), "quantize_dynamic")
    return "" if there else "torch.ao.quantization.quantize_dynamic is gone from this PyTorch"


def _torch_engine(model: Any, threads: int) -> OnTokens:
    import torch

    def on_tokens(ids: NDArray[np.int64]) -> Call:
        tensor = torch.from_numpy(ids)

        def call() -> NDArray:
            torch.set_num_threads(threads)  # of the whole process, so set where it counts
            with torch.inference_mode():
                return model(tensor).logits.numpy()  # no mask: the fastest way to say that nothing is padding

        return call

    return on_tokens


def onnxruntime_engine(folder: Path, threads: int) -> OnTokens:
    """ONNX Runtime on the exported graph, all of its graph optimizations on (its default)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its threads spin while a call runs, which is faster, but not after it: that would slow down whoever comes next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def on_tokens(ids: NDArray[np.int64]) -> Call:
        feed = graph_inputs(ids)
        return lambda: session.run(None, feed)[0]

    return on_tokens


def _openvino(file: str, precision: str) -> Callable[[Path, int], OnTokens]:
    """OpenVINO, one stream; the graph is compiled for each batch and length, as its own tools do for fixed inputs."""

    def load(folder: Path, threads: int) -> OnTokens:
        import openvino

        core = openvino.Core()
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # pinned threads lose where another process wants the same core
        }
        model = core.read_model(folder / file)

        def on_tokens(ids: NDArray[np.int64]) -> Call:
            fixed = model.clone()
            fixed.reshape(dict.fromkeys(INPUTS, ids.shape))
            request = core.compile_model(fixed, "CPU", settings).create_infer_request()
            feed = graph_inputs(ids)
            return lambda: request.infer(feed)["logits"]

        return on_tokens

    return load


def _no_bfloat16() -> str:
    import openvino

    there = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "" if there else "this CPU has no bfloat16 arithmetic"


def graph_inputs(ids: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """What the graph takes for token ids int64[B, T] without padding."""
    return dict(zip(INPUTS, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))


_TORCH, _ONNX = ("torch", "transformers"), ("torch", "transformers", "onnx")  # the graph is made by PyTorch
PEERS = {
    "PyTorch fp32": Peer(FULL_PRECISION, "torch", _TORCH, torch_float32),
    "ONNX Runtime fp32": Peer(FULL_PRECISION, "onnx", (*_ONNX, "onnxruntime"), onnxruntime_engine),
    "OpenVINO fp32": Peer(FULL_PRECISION, "onnx", (*_ONNX, "openvino"), _openvino("model.onnx", "f32")),
    "OpenVINO bf16": Peer("bf16", "onnx", (*_ONNX, "openvino"), _openvino("model.onnx", "bf16"), _no_bfloat16),
    "PyTorch int8 dynamic": Peer(INT8, "torch-int8", _TORCH, torch_int8, _no_dynamic_quantization),
    "ONNX Runtime int8 dynamic": Peer(INT8, "onnx-int8", (*_ONNX, "onnxruntime"), onnxruntime_engine),
    "OpenVINO int8 NNCF": Peer(INT8, "openvino-int8", (*_ONNX, "openvino", "nncf"), _openvino("model.xml", "f32")),
}
BASELINE = "PyTorch fp32"


def missing(peer: Peer) -> str:
    """What to install for a peer; empty where everything is there."""
    absent = [package for package in peer.packages if find_spec(package) is None]
    return f"not installed: pip install {' '.join(absent)}" if absent else ""
