"""A native program called instruction by instruction from Python, on one thread: to look at what each one leaves.

Same order, blocks and memory as `bebert_kernels/program/interpreter.py`; a call from Python takes half a microsecond.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from bebert_infer.model.batch import Batch
from bebert_infer.native.program_builder import Program
from bebert_infer.native.workspace import Workspace, check_batch
from bebert_kernels.abi import frame as frames
from bebert_kernels.abi.frame import Frame
from bebert_kernels.abi.instruction import ByRows
from bebert_kernels.abi.stage import PROTOTYPE, Stage
from bebert_kernels.abi.table import width


class Step(NamedTuple):
    """An instruction for a block of rows.

    instruction : its index in the program               stage, arguments : addresses, those that `by_rows` chooses
    domain      : what the rows are, see `abi/frame.py`  first, rows      : of the block
    """

    instruction: int
    stage: int
    arguments: int
    domain: int
    first: int
    rows: int


class Stepper:
    """A program, a batch, and memory of its own."""

    def __init__(self, program: Program, batch: Batch):
        self.program, self._batch = program, batch  # the batch: its arrays are addresses from here on
        self._workspace = Workspace(program.sizes)
        self.logits = self._workspace.prepare(check_batch(batch, program.sizes), threads=1)
        self._barrier = np.zeros(8, np.int64)
        sizes = batch.rows, batch.sentences, 1
        call = Frame(*sizes, self._barrier.ctypes.data, 0, self._workspace.scratch_words, program.block)
        self._frame = np.array(call, np.int64)
        self.slots = self._workspace.slots[0]
        self._functions: dict[int, Callable[..., None]] = {}
        self._nothing = Step(-1, Stage.named("add_in_turn").address, 0, frames.ROWS, 0, 0)  # so many rounds: 0
        self._addresses = self.slots.ctypes.data, self._frame.ctypes.data

    def steps(self) -> Iterator[Step]:
        """All of them, in the order in which they must be called."""
        few_or_many = Stage.named("by_rows").address
        for first, end, domain in self.program.phases.tolist():
            total = self._batch.rows if domain == frames.ROWS else self._batch.sentences
            blocks = -(-total // self.program.block)
            for block in range(blocks):
                row = total * block // blocks
                rows = total * (block + 1) // blocks - row
                for index in range(first, end):
                    fields = self.program.instructions[index]
                    stage, arguments = int(fields[0]), fields[1:].ctypes.data
                    if stage == few_or_many:
                        choice = ByRows(*fields[1 : 1 + width(ByRows)].tolist())
                        few = rows <= choice.limit
                        stage = choice.few if few else choice.many
                        arguments = choice.few_arguments if few else choice.many_arguments
                    yield Step(index, stage, arguments, domain, row, rows)

    def call(self, step: Step) -> None:
        """Call one."""
        function = self._functions.get(step.stage)
        if function is None:
            function = self._functions[step.stage] = PROTOTYPE(step.stage)
        function(step.arguments, *self._addresses, step.domain, step.first, step.rows)

    def call_nothing(self) -> None:
        """A call of a stage that does nothing: what calling takes."""
        self.call(self._nothing)
