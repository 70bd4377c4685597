"""A graph of standard ONNX operators, written node by node; equal constants and equal nodes are there once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# The newest operators used are those of opset 18 (bits) and 21 (QuantizeLinear); ONNX Runtime runs opset 21 since 1.18,
# and so does its build for browsers. Files of IR version 10 are the oldest that may hold opset 21.
OPSET, IR_VERSION = 21, 10
Shape = Sequence[int | str | None]
Value = str | NDArray[Any] | np.generic  # name of a tensor of the graph, or a constant


class Graph:
    """Nodes and constants so far. Calling it adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._made: dict[tuple[Any, ...], list[str]] = {}
        self._counts: dict[str, int] = {}
        self._values = 0
        self._scope = ""
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names of what is added inside begin with `name` and a dot."""
        before, self._scope = self._scope, f"{self._scope}{name}."
        try:
            yield
        finally:
            self._scope = before

    def __call__(self, operator: str, *inputs: Value, **attributes: Any) -> str:
        """Add a node with one output. The same node again is the same output.

        An empty text among the inputs is an optional input that is left out.
        """
        return self.several(1, operator, *inputs, **attributes)[0]

    def several(self, outputs: int, operator: str, *inputs: Value, **attributes: Any) -> list[str]:
        """Add a node with so many outputs."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        key = (operator, *names, repr(sorted(attributes.items())))
        if key not in self._made:
            self._made[key] = [self._value() for _ in range(outputs)]
            name = self._node_name(operator)
            self._nodes.append(helper.make_node(operator, names, self._made[key], name=name, **attributes))
        return self._made[key]

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """Name of a constant."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._value()
            self._initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def input(self, name: str, dtype: type[np.generic], shape: Shape) -> str:
        """Add an input of the graph; axes with a name, or None, have any size."""
        self.inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape))
        return name

    def output(self, name: str, value: str, dtype: type[np.generic], shape: Shape) -> None:
        """Make a tensor of the graph an output with a name of its own."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def site(self, name: str, codes: str, zero: int, rank: int, value: str | None, step: Value) -> str:
        """Codes of a quantizer, uint8, on their way to whoever multiplies them; a check puts others in their place.

        name  : of the site, as in a trace of the truth (`Ensemble.trace`)
        zero  : the code that stands for 0;  rank : number of axes
        value : what was divided by `step` and rounded, or of which the sign was taken, then step is 0; None where the
                codes come from integers
        """
        return codes

    def state(self, name: str, value: str) -> None:
        """Floats between quantizers, under their name in a trace; a check looks at them."""

    def model(self, name: str, about: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The whole model, one file without references to others."""
        graph = helper.make_graph(self._nodes, name, self.inputs, self.outputs, self._initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, doc_string=about)
        made.producer_name = "bebert-infer"
        helper.set_model_props(made, dict(metadata))
        return made

    def _value(self) -> str:
        """A short name: those of nodes say where they belong, and stand in the file once."""
        self._values += 1
        return f"v{self._values}"

    def _node_name(self, operator: str) -> str:
        """Where, what, and how many of these were there before."""
        base = f"{self._scope}{operator}"
        self._counts[base] = self._counts.get(base, 0) + 1
        return base if self._counts[base] == 1 else f"{base}_{self._counts[base]}"


def int64s(*values: int) -> NDArray[np.int64]:
    """Shape, axes or indices."""
    return np.array(values, np.int64)


def float32(value: float) -> NDArray[np.float32]:
    """A scalar."""
    return np.array(value, np.float32)


def cast(graph: Graph, value: Value, dtype: type[np.generic]) -> str:
    """Cast to a NumPy type."""
    kind: TensorProto.DataType = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return graph("Cast", value, to=int(kind))
