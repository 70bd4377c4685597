"""The product of codes by byte look-up as stages of a program (`program/linear.py`).

ENCODED : rows of `layout.row_layout`
STATE   : float32[BLOCK, PANEL_OUTPUTS], outputs of a panel; a second branch adds to those of the first
"""

from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.stage import stage
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS
from bebert_kernels.emit.memory import array, as_float32, as_uint8, floats_at, slots_at
from bebert_kernels.emit.scale import make_add
from bebert_kernels.emit.tables import read_branch, read_encode, read_input, read_numbers
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.lookup.encode import make_encode
from bebert_kernels.lookup.layout import SHAPE, SPAN, EncodedRows, bias_of
from bebert_kernels.lookup.tile import make_multiply
from bebert_kernels.rows.quantize import quantize_row

_LANES = SHAPE.lanes
_SPAN_BYTES = SHAPE.vector_bytes(SPAN)  # of the weights of a vector, for so many codes
_encode, _multiply, _add_panel = make_encode(SHAPE), make_multiply(SHAPE), make_add(PANEL_OUTPUTS)
_bias_of = kernel(bias_of)


@stage
def lookup_encode(arguments: int, slot_address: int, frame: int, domain: int, first: int, rows: int) -> None:
    """Floats or ready codes to rows that can be looked up (ENCODED); BYTES keep the codes."""
    o, slots = read_encode(arguments, 0), slots_at(slot_address)
    x, bias = floats_at(slots, o.source, first, rows, o.depth), _bias_of(o.low, o.planes)
    for i in range(o.input_count):
        input, place = read_input(o.inputs, i), slot.INPUT * i
        codes = array(as_uint8(slots[slot.BYTES + place]), (rows, o.depth))
        if input.rule != rule.ALREADY_CODED:
            shift, numbers = array(as_float32(input.shift), (o.depth,)), read_numbers(input.numbers, 0)
            for r in range(rows):
                quantize_row(x[r], shift, input.rule, numbers, codes[r])
        _encode(slots[slot.BYTES + place], rows, o.depth, o.low, bias, slots[slot.ENCODED + place])


@stage
def lookup_gemm(branches: int, slot_address: int, number: int, start: int, rows: int, outputs: int) -> None:
    """Floats of all rows for PANEL_OUTPUTS outputs: to STATE, or (number 1) added to what is there."""
    branch, slots = read_branch(branches, number), slots_at(slot_address)
    vectors = (min(PANEL_OUTPUTS, outputs - start) + _LANES - 1) // _LANES
    vector_bytes = (branch.depth + SPAN - 1) // SPAN * _SPAN_BYTES
    weights = branch.panels + start // _LANES * vector_bytes
    scale, add, stride = branch.scale + 4 * start, branch.add + 4 * start, 0
    if number:
        if branch.add != 0:  # a second branch has an addend only if its codes have a minimum
            for r in range(rows):
                _add_panel(slots[slot.STATE] + 4 * PANEL_OUTPUTS * r, add)
        add, stride = slots[slot.STATE], 4 * PANEL_OUTPUTS
    encoded = EncodedRows(slots[slot.ENCODED + slot.INPUT * branch.input], rows, branch.depth)
    scratch, out = slots[slot.INDICES], slots[slot.STATE]
    _multiply(encoded, weights, vectors, scratch, scale, add, stride, out)
