"""A full-precision classifier as an ONNX graph: what other engines run, and what ours is compared with."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bebert_export.atomic_writes import write_atomically
from bebert_export.peers.classifier import load_classifier
from bebert_export.peers.loaders import INPUTS
from bebert_infer.errors import BebertError, DataError

OPSET = 17
# Batch, tokens, tokens that are padding in the first sentence: none, all but one, and longer than the traced example.
CHECKS = ((1, 1, 0), (2, 7, 6), (3, 33, 10))
TOLERANCE = 1e-4  # of a logit, relative to the largest: float32 sums in another order, a few layers deep


class OnnxMismatchError(BebertError):
    """ONNX Runtime computes something else than PyTorch."""


@dataclass(frozen=True)
class Exported:
    """The file, its bytes, and the largest difference of a logit from PyTorch's, relative to the largest logit."""

    path: Path
    bytes: int
    difference: float


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        result = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        logits: Tensor = result.logits
        return logits


def export_onnx(folder: Path, out: Path) -> Exported:
    """Write the classifier of a Hugging Face folder as `out`; inputs int64[batch, tokens] of any size, output logits.

    ONNX Runtime's logits are compared with PyTorch's on batches of several sizes, with padding, before the file takes
    its place. Raises DataError for a folder without a classifier, OnnxMismatchError if they differ.
    """
    if out.suffix != ".onnx" or out.is_dir():
        raise DataError(f'out is "{out}"; accepted is a file name that ends in .onnx')
    model = load_classifier(folder)
    if getattr(model.config, "model_type", None) != "bert":
        raise DataError(f'{folder} holds a model of type "{model.config.model_type}"; accepted is "bert"')
    differences: list[float] = []

    def write(temporary: Path) -> None:
        trace(model, temporary)
        differences.append(_difference(model, temporary))
        if differences[0] > TOLERANCE:
            raise OnnxMismatchError(
                f"the ONNX graph of {folder} differs from PyTorch by {differences[0]:.2g} of the largest logit, "
                f"allowed is {TOLERANCE:g}; nothing was written"
            )

    write_atomically(out, write)
    return Exported(out, out.stat().st_size, differences[0])


def trace(model: Any, file: Path) -> None:
    """Write a BERT classifier of transformers as a graph for any batch and length; `bebert bench` runs the same one.

    Inputs INPUTS, int64[batch, tokens]; output "logits", float32[batch, labels]. Nothing is compared here.
    """
    axes = {name: {0: "batch", 1: "tokens"} for name in INPUTS} | {"logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about constants of the trace; `export_onnx` and its tests try other sizes
        torch.onnx.export(
            _Logits(model).eval(),  # the exporter leaves all modules in the mode of this one
            tuple(_batch(model, 2, 5, 2)),
            str(file),
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs onnxscript, and its graph is no faster
        )


def _batch(model: Any, sentences: int, tokens: int, padding: int) -> list[Tensor]:
    """Random ids, mask with padding in the first sentence, and types."""
    random = np.random.default_rng(tokens)
    ids = torch.from_numpy(random.integers(0, model.config.vocab_size, (sentences, tokens)))
    mask = torch.ones_like(ids)
    mask[0, tokens - padding :] = 0
    types = torch.from_numpy(random.integers(0, model.config.type_vocab_size, (sentences, tokens)))
    return [ids, mask, types]


def _difference(model: Any, file: Path) -> float:
    import onnxruntime  # writing a graph for OpenVINO does without it

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    largest = 0.0
    for sentences, tokens, padding in CHECKS:
        batch = _batch(model, sentences, min(tokens, model.config.max_position_embeddings), padding)
        with torch.inference_mode():
            expected = _Logits(model)(*batch).numpy()
        (found,) = session.run(["logits"], {name: x.numpy() for name, x in zip(INPUTS, batch, strict=True)})
        largest = max(largest, float(np.abs(found - expected).max() / np.abs(expected).max()))
    return largest
