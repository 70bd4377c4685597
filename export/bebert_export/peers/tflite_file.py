"""A graph in the file format of LiteRT (TensorFlow Lite), put together operator by operator.

The converter from PyTorch (litert-torch) needs 800 MB of packages and older versions of others; the format itself is
public, and the runtime comes with Python classes of its schema.

Sizes that a caller chooses are ANY: LiteRT works them out from the inputs when these are resized.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

SCHEMA_VERSION, IDENTIFIER = 3, b"TFL3"
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}
ANY = -1
FIRST_NEW_CODE = 127  # stands in the field of one byte for all later operators
# An operator's version says what its kernel must know: this one 8-bit weights of a scale for each output.
VERSIONS = {"FULLY_CONNECTED": 5}


class TfliteGraph:
    """Tensors are numbers, in the order in which they were added."""

    def __init__(self) -> None:
        self._buffers = [schema.BufferT()]  # the first one is empty: that of tensors without constant values
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[str, int] = {}  # operator -> its place in the file's list of operators in use
        self._inputs: list[int] = []

    def input(self, name: str) -> int:
        """An input, int32[n] of any n."""
        self._inputs.append(self._tensor(np.dtype(np.int32), (ANY,), name))
        return self._inputs[-1]

    def constant(self, values: NDArray[Any], scales: NDArray[np.float32] | None = None, name: str = "") -> int:
        """Values float32, int32 or int8; `scales` makes int8[N, K] stand for the floats scales[n] · values[n, k]."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._buffers.append(buffer)
        number = self._tensor(values.dtype, values.shape, name)
        tensor = self._tensors[number]
        tensor.buffer = len(self._buffers) - 1
        if scales is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
        return number

    def add(
        self, operator: str, *inputs: int, shape: Sequence[int], outputs: int = 1, options: str = "", **values: Any
    ) -> Any:
        """An operator by its name in the schema, with its table of options and what differs there from the defaults.

        Returns the number of its output, float32 of `shape`, or a list of several that are alike.
        """
        made = schema.OperatorT()
        made.opcodeIndex = self._codes.setdefault(operator, len(self._codes))
        made.inputs = list(inputs)
        if options:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            made.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in values.items():
                setattr(made.builtinOptions, name, value)
        made.outputs = [self._tensor(np.dtype(np.float32), shape) for _ in range(outputs)]
        self._operators.append(made)
        return made.outputs if outputs > 1 else made.outputs[0]

    def write(self, file: Path, outputs: dict[str, int]) -> None:
        """Write the file; `outputs`: name -> tensor."""
        for name, tensor in outputs.items():
            self._tensors[tensor].name = name
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = self._inputs, list(outputs.values())
        model = schema.ModelT()
        model.version, model.buffers, model.subgraphs = SCHEMA_VERSION, self._buffers, [graph]
        model.operatorCodes = [_code(operator) for operator in self._codes]
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), IDENTIFIER)
        file.write_bytes(builder.Output())

    def _tensor(self, dtype: np.dtype, shape: Sequence[int], name: str = "") -> int:
        tensor = schema.TensorT()
        tensor.type, tensor.name = TYPES[dtype], name
        tensor.shape = [1 if size == ANY else size for size in shape]
        if ANY in shape:
            tensor.shapeSignature = list(shape)
        self._tensors.append(tensor)
        return len(self._tensors) - 1


def _code(operator: str) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = getattr(schema.BuiltinOperator, operator)
    made.deprecatedBuiltinCode = min(made.builtinCode, FIRST_NEW_CODE)
    made.version = VERSIONS.get(operator, 1)
    return made


def int32(values: Sequence[int] | int) -> NDArray[np.int32]:
    """Shapes, axes and orders, as the operators take them."""
    return np.array(values, np.int32)
