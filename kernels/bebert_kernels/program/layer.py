"""A linear layer as data, and the rows that it becomes: for models (`bebert_infer/native`) and for single layers."""

from typing import NamedTuple

import numpy as np

from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.instruction import Encode, Linear
from bebert_kernels.abi.product import Product, ThresholdPlanes, Weights
from bebert_kernels.abi.sink import TO_BYTES, TO_WORDS, Input, Sink
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS, PLANE, STRIP
from bebert_kernels.bitsliced.product import BITSLICED
from bebert_kernels.bitsliced.thresholds import sign_thresholds, threshold_planes
from bebert_kernels.lookup.product import LOOKUP
from bebert_kernels.popcount.product import POPCOUNT
from bebert_kernels.reference.integers import GELU_ZERO
from bebert_kernels.rows.layout import NOWHERE

PRODUCTS = {product.name: product for product in (POPCOUNT, BITSLICED, LOOKUP)}


class Layer(NamedTuple):
    """One or two branches on one or two inputs, all of one depth and with codes of the same bits and lowest code.

    source : slot of the floats that inputs are made of      inputs : how, the second one for a branch that says so
    sinks  : where the outputs go
    """

    source: int
    inputs: list[Input]
    branches: list[Weights]
    sinks: list[Sink]

    @property
    def depth(self) -> int:
        """K."""
        return self.branches[0].depth

    @property
    def bits(self) -> int:
        """Bits of the codes; 0 for signs."""
        return self.branches[0].bits

    @property
    def outputs(self) -> int:
        """N."""
        return len(self.branches[0].signs)

    def encode(self, product: Product) -> Encode:
        """The instruction for `product.encode`."""
        first, triples = self.branches[0], product.triples(self.depth)
        inputs = self.inputs, len(self.inputs)
        return Encode(self.source, self.depth, *inputs, first.planes, not self.bits, triples, first.low)

    def linear(self, product: Product) -> Linear:
        """The instruction for `linear.linear`."""
        thresholds = self._thresholds() if product.thresholds else None
        branches = [product.branch(branch, thresholds) for branch in self.branches]
        return Linear(self.outputs, branches, len(branches), self.sinks, len(self.sinks))

    def shape(self, product: Product) -> "LayerShape":
        """What decides about the memory of a thread."""
        return LayerShape(product, self.depth, self.bits, len(self.inputs), len(self.branches))

    def _thresholds(self) -> ThresholdPlanes | None:
        """Thresholds of the sums of a layer of signs whose sinks all want signs; None if there is no need or no way."""
        branch, outputs = self.branches[0], self.outputs
        if self.bits or branch.add is None or len(self.branches) > 1:
            return None
        shift, floor = np.zeros(outputs, np.float32), np.full(outputs, NOWHERE, np.float32)
        taken = np.zeros(outputs, np.int64)
        for sink in self.sinks:
            columns = slice(sink.start, sink.start + sink.width)
            taken[columns] += 1
            if sink.kind == TO_BYTES and sink.rule in (rule.SIGN, rule.GELU_SIGN) and sink.start == 0:
                shift[columns] = sink.shift
                if sink.rule == rule.GELU_SIGN:
                    floor[columns] = GELU_ZERO
            elif sink.kind != TO_WORDS:
                return None
        if (taken != 1).any():
            return None
        return threshold_planes(sign_thresholds(branch.depth, branch.scale, branch.add, shift, floor))


class LayerShape(NamedTuple):
    """A kind of layers that need the same memory."""

    product: Product
    depth: int
    bits: int
    inputs: int
    branches: int

    def scratch(self, rows: int) -> dict[int, int]:
        """Bytes of the slots of a thread for a block of so many rows."""
        found = self.product.scratch(rows, self.depth, self.bits) | {
            slot.Y: 4 * STRIP * PANEL_OUTPUTS,
            slot.BITS: STRIP * 2 * PLANE,
            slot.NO_ZEROS: rows,
            slot.BYTES: rows * self.depth,
            slot.BYTES_NO_ZEROS: rows,
        }
        of_inputs = {place: size for place, size in found.items() if slot.ENCODED <= place < slot.ENCODED + slot.INPUT}
        if self.inputs > 1:
            found |= {place + slot.INPUT: size for place, size in of_inputs.items()}
        if self.branches > 1:
            found[slot.STATE + 1] = found[slot.STATE]
        return found
