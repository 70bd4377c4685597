"""The tables of a native program while they are written: operations, phases, and the arrays that they point to."""

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.quantizer import Quantizer
from bebert_infer.native.workspace import Sizes
from bebert_kernels.abi import layout as at
from bebert_kernels.abi.stage import Stage
from bebert_kernels.tuning.autotune import MANY


class Program:
    """What `bebert_kernels.program.interpreter.run` executes, and what it needs.

    operations, phases : int64[any, COLUMNS] and int64[any, 3], after `finish`
    work     : of each operation its name, multiply-adds a row, planes that full adders multiply (0: look-up product, or
               no product), whether rows are sentences
    sizes    : of the workspace
    block    : rows at a time
    expected : rows that products are chosen for
    """

    def __init__(self, sizes: Sizes):
        self.work: list[tuple[str, int, int, bool]] = []
        self.sizes = sizes
        self.block = at.BLOCK
        self.expected = MANY
        self.kept: dict[int, NDArray] = {}  # every array whose address stands in the tables, by address
        self.operations, self.phases = np.zeros((0, at.COLUMNS), np.int64), np.zeros((0, 3), np.int64)
        self._operations: list[list[int]] = []
        self._phases: list[list[int]] = []

    def finish(self) -> None:
        """Make the tables, once all is written."""
        # Not when first needed: a lock would have to be held then, which a fork could leave to the child, locked.
        self.operations = np.zeros((len(self._operations), at.COLUMNS), np.int64)
        for row, values in zip(self.operations, self._operations, strict=True):
            row[: len(values)] = values
        self.phases = np.array(self._phases, np.int64)

    def add(self, stage: Stage, *values: int, name: str, macs: int = 0, planes: int = 0) -> None:
        """Append an operation with its arguments."""
        self._operations.append([stage.address, *values])
        self.work.append((name, macs, planes, False))

    def phase(self, domain: int) -> None:
        """End a phase with the operations since the last one; its rows are those of the domain."""
        first = self._phases[-1][1] if self._phases else 0
        self._phases.append([first, len(self._operations), domain])
        if domain == at.SENTENCES:
            self.work[first:] = [(name, macs, planes, True) for name, macs, planes, _ in self.work[first:]]

    def keep(self, array: NDArray) -> int:
        """Keep an array alive and return its address."""
        array = np.ascontiguousarray(array)
        self.kept[array.ctypes.data] = array
        return array.ctypes.data

    def numbers(self, quantizer: Quantizer) -> NDArray[np.float32]:
        """Step, minimum and limits of a quantizer as kernels read them, with room for two scales."""
        low, high = quantizer.range
        return np.array([quantizer.step, quantizer.minimum, low, high, 0, 0], np.float32)

    def shift(self, quantizer: Quantizer, width: int) -> int:
        """Address of the shift of a quantizer, zeros if it has none."""
        return self.keep(np.zeros(width, np.float32) if quantizer.shift is None else quantizer.shift)
