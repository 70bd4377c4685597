"""How kernels read the rows of tables (`abi/table.py`): the same named tuples that programs are written with."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba.core import types

from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.frame import Frame, Phase
from bebert_kernels.abi.instruction import (
    Activate,
    Attend,
    AttendFloats,
    ByRows,
    Classify,
    Combine,
    Embed,
    Encode,
    Gather,
    Linear,
    Measure,
    Norm,
    Quantize,
    Site,
)
from bebert_kernels.abi.rule import Numbers, SoftmaxNumbers
from bebert_kernels.abi.sink import Input, Sink
from bebert_kernels.abi.table import width
from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import F32, I64

Row = TypeVar("Row", bound=tuple)


def reader(kind: type[Row], element: Any = types.int64) -> Callable[[int, int], Row]:
    """Return the function with which kernels read a row: (address of the table, number of the row) -> the named tuple.

    element : Numba's type of all fields, int64 or float32
    """
    fields, size = width(kind), element.bitwidth // 8
    item = I64 if element == types.int64 else F32

    @emitted(types.NamedUniTuple(element, fields, kind))
    def read(e: Emitter, table: Value, number: Value) -> list[Value]:
        first = e.pointer(e.place(table, number, fields * size), 0, item)
        return [e.load(first, i, item, size) for i in range(fields)]

    return read  # type: ignore[no-any-return]


read_frame, read_phase = reader(Frame), reader(Phase)
read_branch, read_input, read_sink = reader(Branch), reader(Input), reader(Sink)
read_numbers, read_softmax_numbers = reader(Numbers, types.float32), reader(SoftmaxNumbers, types.float32)
read_encode, read_linear, read_embed, read_norm = reader(Encode), reader(Linear), reader(Embed), reader(Norm)
read_attend, read_gather, read_classify = reader(Attend), reader(Gather), reader(Classify)
read_by_rows = reader(ByRows)
read_measure, read_quantize = reader(Measure), reader(Quantize)
read_combine, read_activate = reader(Combine), reader(Activate)
read_site, read_attend_floats = reader(Site), reader(AttendFloats)
