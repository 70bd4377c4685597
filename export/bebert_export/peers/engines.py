"""Baselines, loaded from files: full-precision and int8 BERT in PyTorch, ONNX Runtime, OpenVINO and LiteRT.

`loaders.py` loads and runs them, `files.py` makes the files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebert_export.peers.loaders import LOADERS
from bebert_infer.bench.turns import FULL_PRECISION, INT4, INT8, PACKED_ONNX, Call

# Token ids int64[B, T], without padding -> a call that classifies them and returns logits float32[B, labels].
OnTokens = Callable[[NDArray[np.int64]], Call]


@dataclass(frozen=True)
class Peer:
    """One engine to compare with.

    files    : which folder of `bebert_export.peers.files.Workshop` it runs from
    packages : what must be installed to make the files and to run them
    load     : (folder, threads) -> OnTokens
    runtime  : what its user installs to run the files that are made, and to read text
    unavailable : why this CPU or these versions of the packages do not allow it; empty if they do
    """

    kind: str
    files: str
    packages: tuple[str, ...]
    load: Callable[[Path, int], OnTokens]
    runtime: tuple[str, ...]
    unavailable: Callable[[], str] = str


def torch_float32(folder: Path, threads: int) -> OnTokens:
    """Load it without the messages of transformers, which nobody asked for amid tables."""
    from bebert_export.quiet_transformers import quiet_transformers

    with quiet_transformers():
        return LOADERS["PyTorch fp32"](folder, threads)


def _no_dynamic_quantization() -> str:
    import torch

    there = hasattr(getattr(torch.ao, "quantization", None), "quantize_dynamic")
    return "" if there else "torch.ao.quantization.quantize_dynamic is gone from this PyTorch"


def _no_bfloat16() -> str:
    import openvino

    there = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "" if there else "this CPU has no bfloat16 arithmetic"


_TORCH, _ONNX = ("torch", "transformers"), ("torch", "transformers", "onnx")  # the graph is made by PyTorch
# tokenizers reads the text, numpy holds the ids; neither comes with every engine.
_RUN_TORCH, _RUN_OPENVINO = (*_TORCH, "tokenizers"), ("openvino", "tokenizers", "numpy")
_RUN_ONNX = ("onnxruntime", "tokenizers", "numpy")
_RUN_LITERT = ("ai_edge_litert", "tokenizers", "numpy")


PEERS = {
    "PyTorch fp32": Peer(FULL_PRECISION, "torch", _TORCH, torch_float32, _RUN_TORCH),
    "ONNX Runtime fp32": Peer(FULL_PRECISION, "onnx", (*_ONNX, "onnxruntime"), LOADERS["ONNX Runtime fp32"], _RUN_ONNX),
    "OpenVINO fp32": Peer(FULL_PRECISION, "onnx", (*_ONNX, "openvino"), LOADERS["OpenVINO fp32"], _RUN_OPENVINO),
    "OpenVINO bf16": Peer("bf16", "onnx", (*_ONNX, "openvino"), LOADERS["OpenVINO bf16"], _RUN_OPENVINO, _no_bfloat16),
    "PyTorch int8 dynamic": Peer(
        INT8, "torch-int8", _TORCH, LOADERS["PyTorch int8 dynamic"], _RUN_TORCH, _no_dynamic_quantization
    ),
    "ONNX Runtime int8 dynamic": Peer(
        INT8, "onnx-int8", (*_ONNX, "onnxruntime"), LOADERS["ONNX Runtime int8 dynamic"], _RUN_ONNX
    ),
    "ONNX Runtime int4 weights": Peer(
        INT4, "onnx-int4", (*_ONNX, "onnxruntime", "onnx_ir"), LOADERS["ONNX Runtime int4 weights"], _RUN_ONNX
    ),
    "OpenVINO int8 NNCF": Peer(
        INT8, "openvino-int8", (*_ONNX, "openvino", "nncf"), LOADERS["OpenVINO int8 NNCF"], _RUN_OPENVINO
    ),
    "LiteRT int8 XNNPACK": Peer(
        INT8, "litert-int8", (*_TORCH, "ai_edge_litert"), LOADERS["LiteRT int8 XNNPACK"], _RUN_LITERT
    ),
    # The packed model itself, of the group that is measured.
    "bebert ONNX": Peer(PACKED_ONNX, "packed-onnx", (*_ONNX, "onnxruntime"), LOADERS["bebert ONNX"], _RUN_ONNX),
}
BASELINE = "PyTorch fp32"


def missing(peer: Peer) -> str:
    """What to install for a peer; empty where everything is there."""
    absent = [package for package in peer.packages if find_spec(package) is None]
    return f"not installed: pip install {' '.join(absent)}" if absent else ""
