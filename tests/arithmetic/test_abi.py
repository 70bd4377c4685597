"""What a program's writer puts into a table is what kernels read: every field of every row, by its name."""

import inspect

import numpy as np
import pytest
from numba import njit

from bebert_kernels.abi import instruction, rule, sink, slot
from bebert_kernels.abi.stage import available
from bebert_kernels.abi.table import row, width
from bebert_kernels.emit import tables

if not available():
    pytest.skip("tables are read by compiled code", allow_module_level=True)

FLOATS = {"read_numbers": rule.Numbers, "read_softmax_numbers": rule.SoftmaxNumbers}
READERS = {name: value for name, value in vars(tables).items() if name.startswith("read_") and name not in FLOATS}


def kind_of(reader):
    return inspect.getclosurevars(reader._defn).nonlocals["result"].instance_class


@pytest.mark.parametrize("name", READERS)
def test_a_row_is_read_as_it_was_written(name):
    read = READERS[name]
    kind = kind_of(read)
    rows = [kind(*range(100 * i, 100 * i + width(kind))) for i in range(3)]
    table = np.array([row(one, lambda array: 0) for one in rows], np.int64)
    found = njit(lambda address, number: read(address, number))
    for i, one in enumerate(rows):
        again = found(table.ctypes.data, i)
        assert type(again) is kind and again == one


def test_numbers_are_read_as_they_were_written():
    for name, kind in FLOATS.items():
        read = getattr(tables, name)
        values = np.array(kind(*np.arange(width(kind)) + 0.5), np.float32)
        assert njit(lambda address, read=read: read(address, 0))(values.ctypes.data) == kind(*values)


def test_arrays_and_lists_stand_in_a_row_by_their_addresses():
    pinned = {}

    def pin(array):
        pinned[array.ctypes.data] = array
        return array.ctypes.data

    shift = np.zeros(3, np.float32)
    inputs = [sink.Input(rule.CODES, None, shift), sink.Input(rule.ALREADY_CODED)]
    written = row(instruction.Encode(slot.HIDDEN, 3, inputs, 2, 4, False, 0, -8), pin)
    table = pinned[written[2]]
    assert written[:2] == [slot.HIDDEN, 3] and written[3:] == [2, 4, 0, 0, -8]
    assert table.tolist() == [[rule.CODES, 0, shift.ctypes.data], [rule.ALREADY_CODED, 0, 0]]


def test_arguments_fit_an_instruction():
    kinds = [value for value in vars(instruction).values() if inspect.isclass(value) and issubclass(value, tuple)]
    assert len(kinds) >= 7
    assert max(map(width, kinds)) < instruction.FIELDS


def test_no_two_slots_are_one():
    """Names that are counts or steps are not slots; of pairs (stores, states, inputs) both ends are looked at."""
    steps = {"STORE", "NONZERO", "FLAGS", "LOCAL", "INPUT", "COUNT"}
    places = [value for name, value in vars(slot).items() if name.isupper() and name not in steps]
    places += [slot.QUERY + slot.STORE + i for i in range(slot.STORE)]
    places += [slot.STATE + 1, *(slot.ENCODED + slot.INPUT + i for i in range(slot.INPUT))]
    assert len(set(places)) == len(places) and max(places) < slot.COUNT
