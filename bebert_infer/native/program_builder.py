"""The tables of a native program while they are written: instructions, phases, and the arrays that they point to."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.quantizer import Quantizer
from bebert_infer.native.workspace import Sizes
from bebert_kernels.abi import frame
from bebert_kernels.abi.frame import Phase
from bebert_kernels.abi.instruction import FIELDS
from bebert_kernels.abi.rule import Numbers
from bebert_kernels.abi.stage import Stage
from bebert_kernels.abi.table import Table, row, width


class InstructionInfo(NamedTuple):
    """What an instruction does, for those who measure.

    macs      : multiply-adds a row
    adders    : planes that full adders multiply; 0 for products without, and for all that is no product
    few       : rows of a block up to which another product multiplies, without adders
    sentences : whether its rows are sentences
    """

    name: str
    macs: int
    adders: int
    few: int
    sentences: bool


class Program:
    """What the stage `run_program` executes, and what it needs.

    instructions, phases : int64[any, FIELDS] and int64[any, 3], after `finish`; addresses : of both
    instruction_info     : of each instruction
    sizes                : of the workspace
    block                : rows at a time
    releases             : whether weights that it has in a form of its own are given back (`release.py`)
    """

    def __init__(self, sizes: Sizes, releases: bool = False):
        self.releases = releases
        self.instruction_info: list[InstructionInfo] = []
        self.sizes = sizes
        self.block = frame.BLOCK
        self.pinned: dict[int, NDArray] = {}  # every array whose address stands in the tables, by address
        self.instructions, self.phases = _table([], FIELDS), _table([], width(Phase))
        self.addresses = 0, 0
        self._instructions: list[list[int]] = []
        self._phases: list[Phase] = []

    def finish(self) -> None:
        """Make the tables, once all is written."""
        # Not when first needed: a lock would have to be held then, which a fork could leave to the child, locked.
        self.instructions = _table(self._instructions, FIELDS)
        self.phases = _table([list(phase) for phase in self._phases], width(Phase))
        self.addresses = self.instructions.ctypes.data, self.phases.ctypes.data

    def add(self, stage: Stage, arguments: tuple, name: str, macs: int = 0, adders: int = 0, few: int = 0) -> None:
        """Append an instruction: a stage and its arguments, see `bebert_kernels/abi/instruction.py`."""
        self._instructions.append([stage.address, *row(arguments, self.pin)])
        self.instruction_info.append(InstructionInfo(name, macs, adders, few, False))

    def phase(self, domain: int) -> None:
        """End a phase with the instructions since the last one; its rows are those of the domain."""
        first = self._phases[-1].end if self._phases else 0
        self._phases.append(Phase(first, len(self._instructions), domain))
        if domain == frame.SENTENCES:
            infos = self.instruction_info
            infos[first:] = [info._replace(sentences=True) for info in infos[first:]]

    def pin(self, array: NDArray) -> int:
        """Keep an array alive, or a copy that is contiguous and aligned, and return its address."""
        if not (array.flags.c_contiguous and array.flags.aligned):
            array = np.require(array, requirements=("C", "A"))
        address = address_of(array)
        self.pinned[address] = array
        return address


def address_of(array: NDArray) -> int:
    """Where its first value stands. A model has a thousand arrays, and `ctypes.data` takes three times as long."""
    address: int = array.__array_interface__["data"][0]
    return address


def numbers(quantizer: Quantizer) -> NDArray[np.float32]:
    """Step, minimum and limits of a quantizer as kernels read them."""
    low, high = quantizer.range
    return np.array(Numbers(quantizer.step, quantizer.minimum, low, high), np.float32)


def shift(quantizer: Quantizer, columns: int) -> NDArray[np.float32]:
    """The shift of a quantizer, zeros if it has none."""
    return np.zeros(columns, np.float32) if quantizer.shift is None else quantizer.shift


def _table(rows: list[list[int]], fields: int) -> Table:
    """Rows of at most so many fields, the rest of each 0."""
    table = np.zeros((len(rows), fields), np.int64)
    for target, values in zip(table, rows, strict=True):
        target[: len(values)] = values
    return table
