"""How the users of PyTorch, ONNX Runtime, OpenVINO and LiteRT load a network from files, and ask it.

Settings are those that were fastest on the machines measured so far, the simplest among equals, and as many threads as
ours.

The file imports NumPy and what an engine needs, nothing of ours: `bebert bench` also runs it as a program, by its path,
in an environment that has the engine and not us.

    python loaders.py NAME FOLDER THREADS TOKENIZER TEXT      TOKENIZER "": ready token ids as JSON in place of TEXT
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # a start pays for nothing that answers do not need
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Call = Callable[[], Any]  # returns logits float32[B, labels]
    OnTokens = Callable[[NDArray[np.int64]], Call]  # token ids int64[B, T] without padding -> a call that classifies
    Load = Callable[[Path | str, int], OnTokens]  # folder, threads

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # of the graph
TORCH_INT8_FILE = "state.pt"
LITERT_FILE = "model.tflite"
LITERT_BATCH = "batch"  # constants of the graph whose first number is the number of sentences


def torch_float32(folder: Path | str, threads: int) -> OnTokens:
    """PyTorch eager with its default attention (SDPA), under `torch.inference_mode`."""
    import torch
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return _torch_engine(model.eval(), threads)


def torch_int8(folder: Path | str, threads: int) -> OnTokens:
    """PyTorch's dynamic quantization of every linear layer; its backends (x86, onednn, fbgemm) are equally fast."""
    import warnings

    import torch
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.initialization import no_init_weights

    with no_init_weights():  # all of them come from the file
        model = BertForSequenceClassification(BertConfig.from_pretrained(folder)).eval()
    model = quantized(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own storage classes are deprecated
        model.load_state_dict(torch.load(f"{folder}/{TORCH_INT8_FILE}", weights_only=True))
    return _torch_engine(model, threads)


def quantized(model: Any) -> Any:
    """A copy of a PyTorch model with int8 linear layers."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


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


def onnxruntime_engine(folder: Path | str, threads: int) -> OnTokens:
    """ONNX Runtime on the exported graph, all of its graph optimizations on (its default)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its threads spin while a call runs, which is faster, but not after it: that would slow down whoever comes next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"])

    def on_tokens(ids: NDArray[np.int64]) -> Call:
        feed = graph_inputs(ids)
        return lambda: session.run(None, feed)[0]

    return on_tokens


def openvino_engine(file: str, precision: str) -> Load:
    """OpenVINO, one stream; the graph is compiled for each batch and length, as its own tools do for fixed inputs."""

    def load(folder: Path | str, threads: int) -> OnTokens:
        import openvino

        core = openvino.Core()
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # pinned threads lose where another process wants the same core
        }
        model = core.read_model(f"{folder}/{file}")

        def on_tokens(ids: NDArray[np.int64]) -> Call:
            fixed = model.clone()
            fixed.reshape(dict.fromkeys(INPUTS, ids.shape))
            request = core.compile_model(fixed, "CPU", settings).create_infer_request()
            feed = graph_inputs(ids)
            return lambda: request.infer(feed)["logits"]

        return on_tokens

    return load


def litert_engine(folder: Path | str, threads: int) -> OnTokens:
    """LiteRT (TensorFlow Lite), which runs on XNNPACK unless told otherwise.

    One interpreter a batch size answers texts of all lengths, as those of its users do: a length other than that of the
    call before costs a new plan of memory, 0.1 ms.
    """
    interpreters: dict[int, Any] = {1: _litert(folder, 1, threads)}
    planned: dict[int, int] = {}  # batch -> rows

    def on_tokens(ids: NDArray[np.int64]) -> Call:
        batch, tokens = ids.shape
        if batch not in interpreters:
            interpreters[batch] = _litert(folder, batch, threads)
        interpreter = interpreters[batch]
        inputs = [tensor["index"] for tensor in interpreter.get_input_details()]
        (output,) = (tensor["index"] for tensor in interpreter.get_output_details())
        positions = np.tile(np.arange(tokens, dtype=np.int32), batch)
        feed = dict(zip(inputs, (ids.reshape(-1).astype(np.int32), positions), strict=True))

        def call() -> NDArray:
            if planned.get(batch) != ids.size:
                for tensor in inputs:
                    interpreter.resize_tensor_input(tensor, [ids.size])
                interpreter.allocate_tensors()
                planned[batch] = ids.size
            for tensor, values in feed.items():
                interpreter.set_tensor(tensor, values)
            interpreter.invoke()
            return interpreter.get_tensor(output)

        return call

    return on_tokens


def _litert(folder: Path | str, batch: int, threads: int) -> Any:
    """An interpreter for a batch; the file is for one sentence, because a shape in it can leave only one size open."""
    from pathlib import Path

    from ai_edge_litert import interpreter, schema_py_generated

    file = Path(folder) / LITERT_FILE
    if batch == 1:
        made = interpreter.Interpreter(str(file), num_threads=threads)
    else:
        content = bytearray(file.read_bytes())
        parts = schema_py_generated.Model.GetRootAs(content, 0)
        graph = parts.Subgraphs(0)
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            if tensor.Name() == LITERT_BATCH.encode():
                parts.Buffers(tensor.Buffer()).DataAsNumpy().view(np.int32)[0] = batch
        made = interpreter.Interpreter(model_content=bytes(content), num_threads=threads)
    for tensor in made.get_input_details():
        made.resize_tensor_input(tensor["index"], [batch])  # a token each, until there are sentences
    with _silent_errors():  # it says that there is XNNPACK, and has no switch for that
        made.allocate_tensors()  # prepares the weights
    return made


@contextmanager
def _silent_errors() -> Iterator[None]:
    """Nothing on the process's standard error, C++ included."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def graph_inputs(ids: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """What the graph takes for token ids int64[B, T] without padding."""
    return dict(zip(INPUTS, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))


LOADERS: dict[str, Load] = {
    "PyTorch fp32": torch_float32,
    "ONNX Runtime fp32": onnxruntime_engine,
    "OpenVINO fp32": openvino_engine("model.onnx", "f32"),
    "OpenVINO bf16": openvino_engine("model.onnx", "bf16"),
    "PyTorch int8 dynamic": torch_int8,
    "ONNX Runtime int8 dynamic": onnxruntime_engine,
    "ONNX Runtime int4 weights": onnxruntime_engine,
    "bebert ONNX": onnxruntime_engine,
    "OpenVINO int8 NNCF": openvino_engine("model.xml", "f32"),
    "LiteRT int8 XNNPACK": litert_engine,
}


def main(name: str, folder: str, threads: str, tokenizer_file: str, given: str) -> None:
    """Load, answer once, and say both on standard output: `bebert_infer.bench.process` has the time and ends this."""
    tokenizer = None
    if tokenizer_file:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(tokenizer_file)
    on_tokens = LOADERS[name](folder, int(threads))
    _say("loaded")
    ids = tokenizer.encode(given).ids if tokenizer else json.loads(given)
    _say(f"answer {on_tokens(np.array([ids]))()}")
    sys.stdin.read()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
