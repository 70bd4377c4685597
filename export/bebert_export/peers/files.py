"""Files of the full-precision and int8 engines that a packed model is compared with; `loaders.py` runs them.

All hold the same weights: random ones of a given geometry, or those of a full-precision folder. Files are made once and
kept in a folder, under a name that changes with the weights and the versions of the packages.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from bebert_export.peers.classifier import load_classifier
from bebert_export.peers.engines import Peer
from bebert_export.peers.loaders import LITERT_FILE, TORCH_INT8_FILE, graph_inputs, quantized
from bebert_export.peers.onnx_graph import trace
from bebert_export.quiet_transformers import quiet_transformers
from bebert_infer.artifact.folder import TOKENIZER, read_config
from bebert_infer.atomic_files import staging
from bebert_infer.bench.turns import Geometry
from bebert_infer.errors import DataError

CALIBRATION_SENTENCES = 8  # of random tokens: enough for speed and size, which is all that is measured of NNCF's model
CALIBRATION_TOKENS = 128


@dataclass
class Workshop:
    """Where the files of the peers of one model are made and found.

    geometry       : of the network with random weights
    folder         : where files are kept
    full_precision : a classifier in the Hugging Face layout that takes the place of random weights
    packed         : the packed model that one peer runs as ONNX
    """

    geometry: Geometry
    folder: Path
    full_precision: Path | None = None
    packed: Path | None = None
    _digest: str = field(default="", init=False)

    @cached_property
    def model(self) -> Any:
        """The network in PyTorch; random weights are the same in every run."""
        if self.full_precision is not None:
            return load_classifier(self.full_precision)
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

    def files(self, peer: Peer) -> Path:
        """The folder that this peer runs from, made if need be."""
        makers: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
            "torch": (self._torch, ()),
            "onnx": (self._onnx, ("onnx",)),
            "torch-int8": (self._torch_int8, ()),
            "onnx-int8": (self._onnx_int8, ("onnx", "onnxruntime")),
            "onnx-int4": (self._onnx_int4, ("onnx", "onnxruntime")),
            "openvino-int8": (self._openvino_int8, ("onnx", "openvino", "nncf")),
            "litert-int8": (self._litert_int8, ("ai_edge_litert",)),
        }
        if peer.files == "packed-onnx":
            return self._packed_onnx()
        make, packages = makers[peer.files]
        return self.made(peer.files, make, "torch", "transformers", *packages)

    def made(self, name: str, make: Callable[[Path], None], *packages: str) -> Path:
        """Return a folder filled by `make`, from an earlier run where weights and versions are the same."""
        facts = repr((self.geometry, self._weights(), [(package, version(package)) for package in packages]))
        target = self.folder / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
        if not target.is_dir():
            with staging(target) as made:
                made.mkdir()
                make(made)
        return target

    def _weights(self) -> str:
        """Sha256 over the files of the full-precision folder that hold weights or geometry."""
        if self.full_precision is not None and not self._digest:
            digest = hashlib.sha256()
            for file in sorted(self.full_precision.glob("*")):
                if file.suffix in (".safetensors", ".bin") or file.name == "config.json":
                    with file.open("rb") as stream:
                        digest.update(hashlib.file_digest(stream, "sha256").digest())
            self._digest = digest.hexdigest()
        return self._digest

    def _torch(self, folder: Path) -> None:
        with quiet_transformers():
            self.model.save_pretrained(folder)

    def _onnx(self, folder: Path) -> None:
        trace(self.model, folder / "model.onnx")

    def _torch_int8(self, folder: Path) -> None:
        model = quantized(self.model)
        self.model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / TORCH_INT8_FILE)

    def _onnx_int8(self, folder: Path) -> None:
        """ONNX Runtime's dynamic quantization: signed 8-bit weights, one scale a matrix."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        graph = self.made("onnx", self._onnx, "torch", "transformers", "onnx")
        with _silence():
            quantize_dynamic(graph / "model.onnx", folder / "model.onnx", weight_type=QuantType.QInt8)

    def _onnx_int4(self, folder: Path) -> None:
        """ONNX Runtime's quantization by blocks (MatMulNBits): 4-bit weights, a scale for each 32, 8-bit codes."""
        with _silence():
            import onnx
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

            graph = onnx.load(self.made("onnx", self._onnx, "torch", "transformers", "onnx") / "model.onnx")
            quantizer = MatMulNBitsQuantizer(graph, block_size=32, is_symmetric=True, accuracy_level=4)
            quantizer.process()
            quantizer.model.save_model_to_file(str(folder / "model.onnx"), use_external_data_format=False)

    def _packed_onnx(self) -> Path:
        """The packed model in ONNX, as `bebert export` writes it, without its tokenizer."""
        from bebert_export.packed_onnx.export import export_packed  # needs what other peers do without

        packed = self.packed
        if packed is None:
            raise ValueError("there is no packed model to export")

        def make(folder: Path) -> None:
            export_packed(packed, folder / "model.onnx")
            (folder / TOKENIZER).unlink(missing_ok=True)

        digest = read_config(packed).tensors_sha256
        return self.made(f"packed-onnx-{digest[:12]}", make, "bebert-infer", "onnx", "onnxruntime")

    def _openvino_int8(self, folder: Path) -> None:
        """NNCF's post-training quantization for transformers, calibrated on random token ids."""
        import openvino

        graph = self.made("onnx", self._onnx, "torch", "transformers", "onnx")
        with _silence():
            import nncf

            generator = np.random.default_rng(1)
            words, tokens = self.model.config.vocab_size, min(CALIBRATION_TOKENS, self.geometry.positions)
            sentences = [generator.integers(0, words, (1, tokens)) for _ in range(CALIBRATION_SENTENCES)]
            quantized_model = nncf.quantize(
                openvino.Core().read_model(graph / "model.onnx"),
                nncf.Dataset(sentences, graph_inputs),
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.PERFORMANCE,
                subset_size=CALIBRATION_SENTENCES,
            )
        openvino.save_model(quantized_model, folder / "model.xml", compress_to_fp16=False)

    def _litert_int8(self, folder: Path) -> None:
        """LiteRT's file of int8 weights, written without its converter."""
        from bebert_export.peers.litert_graph import write_litert

        write_litert(self.model, folder / LITERT_FILE)


def geometry_of(folder: Path) -> Geometry:
    """Widths of a full-precision BERT in the Hugging Face layout. Raises DataError for other folders."""
    try:
        config = BertConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f'"{folder}" has no readable config.json: {error}') from None
    if config.model_type != "bert":
        raise DataError(f'{folder} holds a model of type "{config.model_type}"; accepted is "bert"')
    return Geometry(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        labels=config.num_labels or Geometry.labels,
    )


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
