"""The parts of a linear layer, each from calls of its stages that leave one thing out: no code measures inside them.

In a pass of the program each encode stage and each `linear` is called again, on the memory that the pass has left:

    codes in    the encode stage, less the same on codes that are ready (ALREADY_CODED)
    tables      the latter: tables, lists and windows of a look-up; `planes` of the other products
    indices     look-up: the gemm without rows, which unpacks the indices of the weights
    look-ups    the gemm of rows whose groups are one long window (the sums are wrong then), less that of rows without
                windows; `product` of the other products: their gemm
    widening    look-up: the gemm, less that of rows of one long window
    epilogue    look-up: the gemm of rows without windows, less that without rows; else `linear` without sinks, less
                its gemms alone
    codes out   `linear`, less that without sinks; `sums out` or `floats out` if that is what its sink takes

A core does much of this side by side, so a part is what a call would save without it. The weights of these calls are in
the cache. What the pass itself takes longer than all parts, or shorter, is the part `other`.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_infer.native.stepping import Step, Stepper
from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.instruction import Encode, Linear
from bebert_kernels.abi.sink import TO_FLOATS, TO_SUM, Input, Sink
from bebert_kernels.abi.stage import Stage
from bebert_kernels.abi.table import row, width
from bebert_kernels.lookup.layout import WINDOWS, row_layout

PARTS = (
    *("codes in", "tables", "planes", "indices", "look-ups", "widening", "product", "epilogue"),
    *("codes out", "sums out", "floats out"),
)
OUT = {TO_SUM: "sums out", TO_FLOATS: "floats out"}  # by the kind of the sink; the others take codes
Cost = NDArray[np.float64]  # of a call: whatever is measured, nanoseconds and cycles
Rows = NDArray[np.uint16]  # encoded rows of a look-up, [rows, bytes / 2]


class Variants(NamedTuple):
    """Addresses of arguments of a layer that leave something out, beside those of the layer itself.

    ready         : of the encode stage, codes stand ready; its own if they do anyway
    without_sinks : of `linear`      gemms : of `linear`, neither epilogues nor sinks
    """

    encode: Encode
    outputs: int
    branches: list[Branch]
    sink: Sink
    ready: int
    without_sinks: int
    gemms: int


class LinearParts:
    """Runs a program and calls its linear layers in parts while it does.

    measure  : calls what it is given and returns the cost
    layer_of : layer of each instruction that belongs to one, by index; a layer is named by its last instruction
    outputs  : of a row, of each layer, once it has run
    """

    def __init__(self, stepper: Stepper, measure: Callable[[Callable[[], None]], Cost]):
        self._stepper, self._measure = stepper, measure
        self._variants: dict[int, Variants] = {}  # by the address of the arguments of `linear`
        self._kept: list[NDArray] = []  # what variants point to
        self._linear, self._combine, self._look_up = (
            Stage.named(name).address for name in ("linear", "combine_branches", "lookup_gemm")
        )
        self.layer_of = self._layers()
        self.outputs: dict[int, int] = {}

    def one_pass(self) -> dict[tuple[int, str], Cost]:
        """What each part of each layer took, all blocks of rows together."""
        found: dict[tuple[int, str], Cost] = {}
        encode: Step | None = None
        for step in self._stepper.steps():
            layer = self.layer_of.get(step.instruction)
            if layer is None:
                self._stepper.call(step)
                continue
            costs: dict[str, Cost] = {}
            if step.stage == self._linear:
                assert encode is not None, "a layer without an encode stage before it"
                costs = self._layer(layer, encode, step)
            elif step.stage == self._combine:
                costs = {"epilogue": self._cost(step)}
            elif self._stepper.program.instruction_info[step.instruction].name == "encode":
                encode = step  # is called with its layer
            else:
                costs = {"codes in": self._cost(step)}
            for part, cost in costs.items():
                found[layer, part] = cost + found.get((layer, part), 0)
        return found

    def _layers(self) -> dict[int, int]:
        """Encode and `linear` are a layer; of unfused programs all up to `combine_branches` are."""
        found: dict[int, int] = {}
        program, open_layer = self._stepper.program, []
        combined = self._combine in program.instructions[:, 0]
        for index, info in enumerate(program.instruction_info):
            is_last = program.instructions[index, 0] == self._combine if combined else info.macs > 0
            if is_last or info.macs or info.name in ("quantize", "encode"):
                open_layer.append(index)
            if is_last:
                found |= dict.fromkeys(open_layer, index)
                open_layer = []
        return found

    def _cost(self, step: Step) -> Cost:
        return self._measure(lambda: self._stepper.call(step))

    def _warm(self, step: Step) -> Cost:
        """Of a second call: in the first one rows and weights may come from afar, and wide vectors begin slowly."""
        self._stepper.call(step)
        return self._cost(step)

    def _layer(self, layer: int, encode: Step, linear: Step) -> dict[str, Cost]:
        """Encode and multiply, and leave what these two leave."""
        made = self._variants.get(linear.arguments)
        if made is None:
            made = self._variants[linear.arguments] = self._written(encode, linear)
        self.outputs[layer] = made.outputs
        looks_up = made.branches[0].gemm == self._look_up
        self._stepper.call(encode)  # its codes stay where ready ones are read, and so must its flags
        found = {}
        if made.ready == encode.arguments:
            tables = self._cost(encode)
        else:
            self._ready_flags(made, encode.rows)
            tables = self._warm(encode._replace(arguments=made.ready))
            found["codes in"] = self._warm(encode) - tables  # leaves what gemms read: bitsliced rows had no codes there
        found["tables" if looks_up else "planes"] = tables
        gemms = linear._replace(arguments=made.gemms)
        if looks_up:
            headers = self._headers(made, linear.rows)
            with _windows(headers, 0):
                no_groups = self._warm(gemms)
            with _windows(headers, 1):
                no_widening = self._warm(gemms)
            before_sinks = self._warm(gemms)
            found |= {"look-ups": no_widening - no_groups, "widening": before_sinks - no_widening}
            found["indices"] = self._warm(gemms._replace(rows=0))
            found["epilogue"] = no_groups - found["indices"]
        else:
            product = self._warm(gemms)
            before_sinks = self._warm(linear._replace(arguments=made.without_sinks))
            found |= {"product": product, "epilogue": before_sinks - product}
        # Not called twice: it may add to what is there.
        found[OUT.get(made.sink.kind, "codes out")] = self._cost(linear) - before_sinks
        return found

    def _ready_flags(self, made: Variants, rows: int) -> None:
        for i in range(made.encode.input_count):
            to, source = (int(self._stepper.slots[s + slot.INPUT * i]) for s in (slot.BYTES_NO_ZEROS, slot.NO_ZEROS))
            ctypes.memmove(to, source, rows)

    def _headers(self, made: Variants, rows: int) -> list[Rows]:
        """The encoded rows of each input."""
        size, inputs = row_layout(made.encode.depth).size, {branch.input for branch in made.branches}
        places = [int(self._stepper.slots[slot.ENCODED + slot.INPUT * i]) for i in sorted(inputs)]
        return [
            np.ctypeslib.as_array((ctypes.c_uint16 * (rows * size // 2)).from_address(place)).reshape(rows, size // 2)
            for place in places
        ]

    def _written(self, encode: Step, linear: Step) -> Variants:
        coded, layer = Encode(*_read(encode.arguments, Encode)), Linear(*_read(linear.arguments, Linear))
        pinned = self._stepper.program.pinned
        inputs = [Input(*fields) for fields in pinned[coded.inputs].tolist()]
        branches = [Branch(*fields) for fields in pinned[layer.branches].tolist()]
        ready = [Input(rule.ALREADY_CODED) for _ in inputs]
        are_ready = all(one.rule == rule.ALREADY_CODED for one in inputs)
        bare = [branch._replace(epilogue=0, sign_epilogue=0, thresholds=0) for branch in branches]
        return Variants(
            coded,
            layer.outputs,
            branches,
            Sink(*pinned[layer.sinks][0].tolist()),
            encode.arguments if are_ready else self._write(coded._replace(inputs=ready)),
            self._write(layer._replace(sink_count=0)),
            self._write(layer._replace(branches=bare, sink_count=0)),
        )

    def _write(self, arguments: tuple) -> int:
        """The address of such arguments."""

        def pin(array: NDArray) -> int:
            self._kept.append(array)
            return array.ctypes.data

        return pin(np.array(row(arguments, pin), np.int64))


def _read(address: int, kind: type[tuple]) -> list[int]:
    return list((ctypes.c_int64 * width(kind)).from_address(address))


@contextmanager
def _windows(inputs: list[Rows], count: int) -> Iterator[None]:
    """Encoded rows with no window, or with one that has all groups in it, for a while."""
    first, counts = row_layout(1).windows // 2, WINDOWS // 2  # windows stand at the same place for all depths
    before = [(rows[:, counts].copy(), rows[:, first].copy()) for rows in inputs]
    for rows, (windows, _) in zip(inputs, before, strict=True):
        rows[:, first] = rows[np.arange(len(rows)), first + windows.astype(np.int64) - 1]
        rows[:, counts] = count
    yield
    for rows, (windows, ends) in zip(inputs, before, strict=True):
        rows[:, counts], rows[:, first] = windows, ends
